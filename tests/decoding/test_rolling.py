# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Videos longer than the sequences that the transformer was trained on."""

import gc
import itertools
import math
import time

import pytest
import torch
from tiny_pipelines import PROMPT_IDS, SMALL, ForwardCalls, H, W, codes_of, generators, random_codes, random_image

from lumos_hf.decoding.approximations import DecodingApproximations
from lumos_hf.token_layout import UNKNOWN_CODE, frame_length


TILES = {"temporal_tile_size": 9, "temporal_overlap": 5}


@pytest.mark.slow
def test_up_to_a_sequence_nothing_changes(code_pipe):
    expected = codes_of(code_pipe, input_ids=PROMPT_IDS)
    assert torch.equal(codes_of(code_pipe, input_ids=PROMPT_IDS, **TILES), expected)
    rolled = codes_of(code_pipe, input_ids=PROMPT_IDS, num_frames=33, **TILES)
    assert rolled.shape == (1, 9, H, W) and (rolled != UNKNOWN_CODE).all()
    assert torch.equal(rolled[:, :3], expected)


@pytest.mark.slow
def test_after_a_join_the_latest_frames_are_given(code_pipe):
    """What follows is what a call makes of them, from the same random numbers."""
    generator = generators(0)[0]
    session = code_pipe.session(
        input_ids=PROMPT_IDS, generator=generator, output_type="latent", **{**SMALL, **TILES, "num_frames": None}
    )
    for _ in range(3):
        session.next()
    state = generator.get_state()
    joined = torch.cat([session.next(), session.next()], dim=1)
    again = torch.Generator()
    again.set_state(state)
    # At its end the temperature of the scheduler is 0, as from the second frame of every video on.
    windows = [session.codes[:, 1:3], session.codes[:, 2:4]]
    for index, window in enumerate(windows):
        fork = code_pipe.session(
            input_ids=PROMPT_IDS, latents=window, generator=again, output_type="latent", **{**SMALL, **TILES}
        )
        fork._decoder.scheduler.temperature = session._decoder.scheduler.temperature
        assert torch.equal([fork.next() for _ in range(3)][-1], joined[:, index : index + 1])


@pytest.mark.slow
def test_with_a_video_tokenizer_their_pixels_are_encoded_again(pipe):
    options = {**SMALL, **TILES, "num_frames": 13, "output_type": "pt"}
    frames = pipe("waves", generator=generators(0)[0], **options).frames
    assert frames.shape == (1, 13, 3, 32, 64)
    with torch.no_grad():
        window = pipe.encode_video((frames[:, 4:9] * 2 - 1).transpose(1, 2))
    with ForwardCalls(pipe.transformer) as calls:
        pipe("waves", generator=generators(0)[0], **options)
    # The join is where a prompt is read with frames.
    length = 3 + 2 * frame_length(H, W)
    joins = [ids[:, -length:] for ids in calls if ids.shape[1] >= length]
    assert len(joins) == 2
    offset = pipe.transformer.config.visual_token_offset
    codes = (joins[0] - offset)[joins[0] >= offset]
    assert torch.equal(codes, window.flatten())


@pytest.mark.slow
@pytest.mark.parametrize("output_type", ["pt", "latent"])
def test_streams_of_long_videos(pipe, output_type):
    options = {**SMALL, **TILES, "num_frames": 25, "output_type": output_type}
    expected = pipe("waves", generator=generators(0)[0], **options).frames
    parts = list(pipe.stream("waves", generator=generators(0)[0], **options))
    assert torch.equal(torch.cat(parts, dim=1), expected)
    endless = pipe.stream("waves", generator=generators(0)[0], **{**options, "num_frames": math.inf})
    parts = list(itertools.islice(endless, 7))
    endless.close()
    assert torch.equal(torch.cat(parts, dim=1), expected)


@pytest.mark.slow
def test_batches_of_long_videos_with_unlike_holes_and_segments(pipe):
    latents = random_codes(2, 6, H, W)
    latents[0, 1:, :, 3:] = UNKNOWN_CODE
    latents[1, 1:, 2:] = UNKNOWN_CODE
    prompts = ["waves", "a red kite"]
    rows = [
        [{"start_frame": 9, "text": "grass"}],
        [{"start_frame": 21, "text": "a cat runs over the grass"}],
    ]
    options = {**TILES, "num_frames": 29}
    batch = codes_of(pipe, prompts, latents=latents, prompt_segments=rows, generator=generators(0, 1), **options)
    for row in range(2):
        single = codes_of(
            pipe,
            prompts[row],
            latents=latents[row : row + 1],
            prompt_segments=rows[row],
            generator=generators(row),
            **options,
        )
        assert torch.equal(batch[row], single[0])
    assert torch.equal(batch[:, :6][latents != UNKNOWN_CODE], latents[latents != UNKNOWN_CODE])


@pytest.mark.slow
@pytest.mark.parametrize("num_given", [3, 4, 7])
def test_long_given_videos_go_on(pipe, num_given):
    video = [random_image(32, 64, seed=index) for index in range(1 + 4 * (num_given - 1))]
    codes = codes_of(pipe, "waves", video=video, num_frames=33, **TILES)
    assert codes.shape[1] == 9
    pixels = pipe.video_processor.preprocess_video(video, 32, 64)
    with torch.no_grad():
        assert torch.equal(codes[:, :num_given], pipe.encode_video(pixels))


def tensor_bytes():
    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if type(each) is torch.Tensor:
            storage = each.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 1])
def test_positions_stay_in_the_range_of_a_sequence(code_pipe, window):
    highest = []

    def record(module, args, kwargs):
        if kwargs.get("position_ids") is not None:
            highest.append(int(kwargs["position_ids"].max()))

    approximations = DecodingApproximations(history_window=window)
    options = {"input_ids": PROMPT_IDS, "approximations": approximations, **TILES}
    handle = code_pipe.transformer.register_forward_pre_hook(record, with_kwargs=True)
    codes_of(code_pipe, **options, num_frames=9)
    limit = max(highest)
    codes = codes_of(code_pipe, **options, num_frames=41)
    handle.remove()
    assert max(highest) == limit and (codes != UNKNOWN_CODE).all()


@pytest.mark.slow
def test_memory_and_time_per_frame_stay_the_same(pipe):
    """400 latent frames."""
    options = {**SMALL, **TILES, "num_frames": math.inf, "output_type": "pt", "num_inference_steps": 2}
    positions, memory, seconds = [], {}, []

    def record(module, args, kwargs):
        if kwargs.get("position_ids") is not None:
            positions.append(int(kwargs["position_ids"].max()))

    handle = pipe.transformer.register_forward_pre_hook(record, with_kwargs=True)
    stream = pipe.stream("waves", generator=generators(0)[0], **options)
    for frame in range(1, 401):
        start = time.process_time()
        next(stream)
        seconds.append(time.process_time() - start)
        if frame == 3:
            limit = max(positions)
        if frame in (20, 400):
            memory[frame] = tensor_bytes()
    handle.remove()
    stream.close()
    assert memory[400] == pytest.approx(memory[20], rel=0.02)
    assert max(positions) == limit
    early, late = (sorted(part)[len(part) // 2] for part in (seconds[10:110], seconds[300:400]))
    assert late < 1.1 * early


BAD_TILES = {
    "tile of no frames": ({"temporal_tile_size": 1}, "`temporal_tile_size` must be an integer of at least 5, got 1"),
    "tile between latent frames": (
        {"temporal_tile_size": 10},
        "`temporal_tile_size` must be 1 plus a multiple of 4, got 10",
    ),
    "overlap between latent frames": (
        {"temporal_overlap": 4},
        "`temporal_overlap` must be 1 plus a multiple of 4, got 4",
    ),
    "overlap of everything": (
        {"temporal_tile_size": 9, "temporal_overlap": 9},
        r"`temporal_overlap` must be less than `temporal_tile_size` \(9\), got 9",
    ),
}


@pytest.mark.parametrize("options, message", BAD_TILES.values(), ids=BAD_TILES.keys())
def test_bad_tiles(code_pipe, options, message):
    with pytest.raises(ValueError, match=message):
        codes_of(code_pipe, input_ids=PROMPT_IDS, **options)
