# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""A session goes on, back and aside, and into another process, to the same bits."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_pipelines import PROMPT_IDS, SMALL, ForwardCalls, H, W, build_pipeline, codes_of, generators

from lumos_hf.decoding.approximations import DecodingApproximations
from lumos_hf.decoding.session_file import FORMAT, checkpoint_fingerprint
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline
from lumos_hf.token_layout import UNKNOWN_CODE


OPTIONS = {name: value for name, value in SMALL.items() if name != "num_frames"}
# Sequences of three latent frames, which begin with two that are given.
ROLLING = {"temporal_tile_size": 9, "temporal_overlap": 5}


def open_session(pipe, prompt="waves", seed=0, **options):
    options = {"generator": generators(seed)[0], "output_type": "pt", **OPTIONS, **ROLLING, **options}
    return pipe.session(prompt, **options)


def take(session, count):
    return torch.cat([session.next() for _ in range(count)], dim=1)


@pytest.mark.slow
def test_a_session_gives_the_frames_of_a_call(pipe):
    expected = pipe("waves", output_type="pt", generator=generators(0)[0], **SMALL).frames
    session = open_session(pipe, num_frames=9)
    parts = list(session)
    assert [part.shape[1] for part in parts] == [1, 4, 4]
    assert torch.equal(torch.cat(parts, dim=1), expected)
    assert torch.equal(session.codes, codes_of(pipe, "waves"))
    with pytest.raises(StopIteration):
        session.next()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
def test_rewinding_gives_the_same_frames_again(pipe, count):
    session = open_session(pipe)
    take(session, 5 - count)
    codes = session.codes
    first = take(session, count)
    session.rewind(count)
    assert session.num_latent_frames == 5 - count and torch.equal(session.codes, codes)
    assert torch.equal(take(session, count), first)


@pytest.mark.slow
def test_rewinding_computes_nothing_again(code_pipe):
    session = open_session(code_pipe, None, input_ids=PROMPT_IDS, output_type="latent", temporal_tile_size=25)
    take(session, 3)
    session.rewind(2)
    with ForwardCalls(code_pipe.transformer) as calls:
        take(session, 1)
    # Three steps of two branches each, which knew the frame before.
    assert len(calls) == 2 * 3


@pytest.mark.slow
@pytest.mark.parametrize("num_frames", [1, 3, 4, 6])
def test_forks_go_on_by_themselves(pipe, num_frames):
    """Before a sequence is full, at a join and after it."""
    unbroken = take(open_session(pipe), num_frames + 3)
    session = open_session(pipe)
    first = take(session, num_frames)
    fork = session.fork()
    fork.prompt = "a red kite"
    other = [fork.next() for _ in range(2)]
    fork.rewind(2)
    again = take(fork, 2)
    assert torch.equal(torch.cat(other, dim=1), again)
    assert torch.equal(torch.cat([first, take(session, 3)], dim=1), unbroken)


@pytest.mark.slow
def test_a_prompt_that_is_set_changes_what_comes(pipe):
    session = open_session(pipe)
    same = session.fork()
    for each in (session, same):
        take(each, 2)
    session.prompt = "a red kite"
    assert session.prompt == "a red kite" and same.prompt == "waves"
    assert not torch.equal(session.next(), same.next())
    assert torch.equal(session.codes[:, :2], same.codes[:, :2])


@pytest.mark.slow
@pytest.mark.parametrize("num_frames", [0, 2, 3, 5])
def test_a_saved_session_goes_on_to_the_same_bits(pipe, tmp_path, num_frames):
    unbroken = open_session(pipe)
    expected = take(unbroken, num_frames + 3)
    session = open_session(pipe)
    start = [session.next() for _ in range(num_frames)]
    session.save(tmp_path / "session.safetensors")
    loaded = pipe.load_session(tmp_path / "session.safetensors")
    frames = torch.cat([*start, take(loaded, 3)], dim=1)
    assert torch.equal(frames, expected)
    assert torch.equal(loaded.codes, unbroken.codes)


@pytest.mark.slow
def test_steps_of_each_frame_in_files_and_on_the_way_back(code_pipe, tmp_path):
    approximations = DecodingApproximations(entropy_bound=8.0)
    options = {"num_inference_steps": (3, 1, 2), "approximations": approximations, "output_type": "latent"}
    session = open_session(code_pipe, None, input_ids=PROMPT_IDS, max_rewind=None, **options)
    expected = take(session, 4)
    session.rewind(3)
    session.save(tmp_path / "session.safetensors")
    assert torch.equal(take(session, 3), expected[:, 1:])
    loaded = code_pipe.load_session(tmp_path / "session.safetensors")
    assert loaded.inputs.num_inference_steps == [3, 1, 2] and loaded.inputs.approximations == approximations
    assert torch.equal(take(loaded, 3), expected[:, 1:])


@pytest.mark.slow
def test_a_saved_session_goes_on_in_a_new_process(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "checkpoint")
    loaded = LumosVideoPipeline.from_pretrained(tmp_path / "checkpoint")
    loaded.set_progress_bar_config(disable=True)
    session = open_session(loaded, ["waves", "a red kite"], generator=generators(0, 1))
    take(session, 2)
    session.prompt = ["a cat runs over the grass", "waves"]
    take(session, 2)
    session.save(tmp_path / "session.safetensors")
    expected = take(session, 2)
    code = f"""
import numpy as np, torch
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline
torch.set_num_threads(1)
session = LumosVideoPipeline.from_pretrained({str(tmp_path / "checkpoint")!r}).load_session(
    {str(tmp_path / "session.safetensors")!r}
)
np.save({str(tmp_path / "frames.npy")!r}, torch.cat([session.next(), session.next()], dim=1).numpy())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), expected)


@pytest.mark.slow
def test_sessions_of_codes_with_ids_and_given_codes_are_saved(code_pipe, tmp_path):
    latents = torch.full((1, 4, H, W), 7)
    latents[:, 1:, :, 2:] = UNKNOWN_CODE
    options = {"input_ids": PROMPT_IDS, "latents": latents, "output_type": "latent", "height": None, "width": None}
    expected = take(open_session(code_pipe, None, **options), 6)
    session = open_session(code_pipe, None, **options)
    start = take(session, 2)
    session.save(tmp_path / "session.safetensors")
    loaded = code_pipe.load_session(tmp_path / "session.safetensors")
    assert torch.equal(torch.cat([start, take(loaded, 4)], dim=1), expected)
    assert (expected[:, :4][latents != UNKNOWN_CODE] == 7).all()


@pytest.mark.slow
def test_guidance_may_be_set(code_pipe):
    options = {"input_ids": PROMPT_IDS, "output_type": "latent"}
    session = open_session(code_pipe, None, **options)
    session.guidance_scale = 1.0
    expected = take(open_session(code_pipe, None, guidance_scale=1.0, **options), 2)
    assert torch.equal(take(session, 2), expected)


@pytest.mark.slow
def test_without_a_generator_a_session_has_its_own(code_pipe):
    def codes():
        torch.manual_seed(3)
        return take(open_session(code_pipe, None, input_ids=PROMPT_IDS, output_type="latent", generator=None), 2)

    assert torch.equal(codes(), codes())


# Bad input


def test_rewinds_too_far(code_pipe):
    session = open_session(code_pipe, None, input_ids=PROMPT_IDS, output_type="latent", max_rewind=1)
    take(session, 2)
    for value, message in (
        (3, "`num_frames` must not lead before the first frame, of 2 there are, got 3"),
        (2, "`num_frames` must be at most 1, as far as can be gone back here, got 2"),
        (0, "`num_frames` must be a positive integer, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            session.rewind(value)
    session.rewind(1)
    assert session.num_latent_frames == 1


@pytest.mark.slow
def test_files_that_are_no_session_of_this_checkpoint(code_pipe, tmp_path):
    session = open_session(code_pipe, None, input_ids=PROMPT_IDS, output_type="latent")
    take(session, 1)
    path = tmp_path / "session.safetensors"
    session.save(path)
    other = build_pipeline(tokenizer=None, vqvae=None)
    with torch.no_grad():
        other.transformer.lm_head.weight[3, 5] += 0.5
        other.transformer.model.embed_tokens.weight += 0.5
    with pytest.raises(
        ValueError, match="`path` must be a session of this checkpoint, got .* which is one of another"
    ):
        other.load_session(path)

    whole = path.read_bytes()
    for content, message in (
        (whole[:-10], "`path` must be a whole file of a session"),
        (whole[:5], "`path` must be a whole file of a session"),
        (b"", "`path` must be a whole file of a session"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            code_pipe.load_session(path)
    for tensors, metadata, message in (
        ({}, None, "`path` must be a file of a session, got .* which is another one"),
        ({}, {"settings": "{"}, "`path` must be a whole file of a session"),
        ({}, {"settings": "{}"}, "`path` must be a whole file of a session"),
        ({}, {"settings": None}, "`path` must be a whole file of a session, got .* which misses"),
    ):
        if metadata is not None:
            known = {"checkpoint": checkpoint_fingerprint(code_pipe), "inputs": {}, "layouts": {}}
            metadata = {"format": FORMAT, "settings": metadata["settings"] or json.dumps(known)}
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(ValueError, match=message):
            code_pipe.load_session(path)
    with pytest.raises(FileNotFoundError):
        code_pipe.load_session(tmp_path / "none")


def test_bad_prompts_and_options(pipe):
    session = open_session(pipe)
    for value in ("", ["waves", "waves"], 3):
        with pytest.raises(ValueError, match="`prompt` must"):
            session.prompt = value
    assert session.prompt == "waves"
    with pytest.raises(ValueError, match="`max_rewind` must be an integer of at least 0, got -1"):
        pipe.session("waves", max_rewind=-1)
    with pytest.raises(ValueError, match="`num_frames` must be a positive integer, got inf"):
        pipe("waves", num_frames=math.inf)
