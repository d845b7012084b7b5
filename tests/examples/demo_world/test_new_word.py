# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The whole way of teaching the demo a word, in two steps, and what its training set holds back."""

import json

import new_word
import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

from lumos_hf.evaluation.clips import SIZE, draw_clip
from lumos_hf.evaluation.measure import judge, observe
from lumos_hf.evaluation.vocabulary import SIZE_TOKEN_OFFSET


pytestmark = pytest.mark.slow


ARGUMENTS = ["--num-clips", "2", "--num-prompts", "1", "--steps", "2"]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    output = tmp_path_factory.mktemp("new_word")
    new_word.main(["--output", str(output), *ARGUMENTS])
    return output


def test_scores_and_a_picture_are_written(output):
    scores = json.loads((output / "scores.json").read_text())
    assert {when: list(groups) for when, groups in scores.items()} == dict.fromkeys(
        ("before", "after"), ["twin", "one character", "two characters"]
    )
    assert (output / "new_word.png").is_file()


def test_the_new_word_and_its_embedding_are_saved_and_loaded(output):
    untaught, taught = new_word.load_checkpoint(), new_word.load_taught(output / "twin")
    word = taught.tokenizer.convert_tokens_to_ids("twin")
    assert word == len(untaught.tokenizer) < SIZE_TOKEN_OFFSET
    assert taught.tokenizer("A red Twin star", add_special_tokens=False).input_ids[2] == word
    ids = torch.arange(untaught.transformer.config.vocab_size)
    before, after = (pipe.transformer.get_input_embeddings()(ids) for pipe in (untaught, taught))
    assert (before != after).any(dim=-1).nonzero().flatten().tolist() == [word]
    saved = load_file(output / "twin" / "adapter_model.safetensors")
    (embedding,) = (tensor for name, tensor in saved.items() if "embed_tokens" in name)
    assert torch.equal(embedding[0].to(after.dtype), after[word])


def test_a_second_run_computes_nothing_again(output):
    weights = (output / "twin" / "adapter_model.safetensors").read_bytes()
    files = [*output.glob("*.npy"), *(output / "trainer").glob("*/adapter_model.safetensors")]
    times = {file: file.stat().st_mtime_ns for file in files}
    assert len(times) == 5
    # As if it was killed before its last line: what earlier runs have computed stays.
    (output / "finished.json").unlink()
    new_word.main(["--output", str(output), *ARGUMENTS])
    assert {file: file.stat().st_mtime_ns for file in files} == times
    assert (output / "twin" / "adapter_model.safetensors").read_bytes() == weights


def test_a_finished_run_changes_nothing(output, capsys):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    new_word.main(["--output", str(output), *ARGUMENTS])
    assert "finished: nothing was changed" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_the_directory_of_other_settings_is_refused(output):
    with pytest.raises(ValueError, match=r"`--output` .* holds a run with .*'steps': 2.*; choose another directory"):
        new_word.main(["--output", str(output), *ARGUMENTS[:-1], "3"])


def test_held_out_prompts_are_distinct_and_of_kinds_that_no_training_clip_shows():
    prompts = new_word.held_out_twin_prompts(new_word.NUM_PROMPTS)
    assert len({prompt for _, prompt in prompts}) == new_word.NUM_PROMPTS
    assert {spec.characters[0] for spec, _ in prompts} == set(new_word.held_out_kinds())
    training = new_word.training_prompts(new_word.NUM_CLIPS)
    assert not {spec.characters[0] for spec, _ in training} & set(new_word.held_out_kinds())
    assert len({spec for spec, _ in training}) == new_word.NUM_CLIPS
    for spec, prompt in [*prompts, *training]:
        (shape, colour), _ = spec.characters
        assert f"{colour} twin {shape}" in prompt


def test_drawn_twins_score_one():
    for spec, _ in new_word.held_out_twin_prompts(new_word.NUM_PROMPTS):
        assert judge(spec, observe(draw_clip(spec)))["all"]


def test_the_picture_shows_before_above_after(tmp_path):
    before, after = (np.full((3, 9, SIZE, SIZE, 3), value, np.uint8) for value in (50, 200))
    new_word.save_comparison(tmp_path / "sheet.png", before, after, rows=2, columns=2)
    sheet = np.asarray(PIL.Image.open(tmp_path / "sheet.png").convert("L"))
    first_column = sheet[SIZE // 2 :: SIZE + 4, SIZE // 2]
    assert first_column.tolist() == [50, 200, 50, 200]
