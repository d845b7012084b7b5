# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The scripts in benchmarks/ at a toy size; what they measure is looked at elsewhere."""

from pathlib import Path

import pytest
import torch


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture
def decode(benchmarks):
    import decode

    return decode


@pytest.fixture
def train_step(benchmarks):
    import train_step

    return train_step


SMALL = ["toy", "--height=32", "--width=64", "--runs=1", "--prompt-tokens=6"]
TOY = [*SMALL, "--steps=3"]


def test_decode_measures_what_gives_the_same_codes(decode, tmp_path, capsys):
    results = tmp_path / "RESULTS.md"
    for _ in range(2):
        decode.main([*TOY, f"--results={results}"])
    assert "ratio (range)" in capsys.readouterr().out
    lines = results.read_text().splitlines()
    assert lines[2] == "## Decoding (decode.py)"
    assert lines[4].startswith("| date | device |") and len(lines) == 8
    assert all("| toy | float32 | 64x32, 5, 3 | 6 | 1 |" in line for line in lines[6:])


def test_the_reference_completes_sampled_videos(decode):
    options = decode.parse_arguments(TOY)
    from measure import build_model

    model = build_model("toy", "cpu")
    codes = decode.theirs(model, [0, 5, 8710], options, greedy=False)()
    assert codes.shape == (1, 2, 4, 8)
    assert 0 <= codes.min() and codes.max() < model.config.visual_vocab_size


def test_unequal_codes_stop_the_benchmark(decode, monkeypatch):
    monkeypatch.setattr(decode.reference, "decode", lambda *_, **__: torch.zeros(1, 2, 4, 8, dtype=torch.long))
    with pytest.raises(RuntimeError, match="toy: greedy codes differ"):
        decode.main(TOY)


def test_train_step_measures_what_gives_the_same_gradients(train_step, tmp_path, capsys):
    results = tmp_path / "RESULTS.md"
    train_step.main([*SMALL, f"--results={results}"])
    assert "ratio (range)" in capsys.readouterr().out
    lines = results.read_text().splitlines()
    assert lines[2] == "## Training step (train_step.py)"
    # 6 + 3 + 2 * 40 + 2 tokens; of 36 content tokens per frame 29 are masked, the same in both, and 26 of them are codes.
    assert "| toy | float32 | 64x32, 5 | 91 | 52 | 1 |" in lines[6]


@pytest.mark.parametrize("wrong", ("loss", "gradients"))
def test_unequal_training_steps_stop_the_benchmark(train_step, monkeypatch, wrong):
    training_loss = train_step.reference.training_loss

    def other_loss(*inputs):
        loss = training_loss(*inputs)
        return loss + 1e-4 if wrong == "loss" else 1.001 * loss - 0.001 * loss.detach()

    monkeypatch.setattr(train_step.reference, "training_loss", other_loss)
    with pytest.raises(RuntimeError, match="toy: the loss is"):
        train_step.main(SMALL)


def test_tables_of_several_benchmarks_share_a_file(benchmarks, tmp_path):
    import results

    path = tmp_path / "RESULTS.md"
    results.append_rows(path, "First", ["a", "b"], [["1", "2"]])
    results.append_rows(path, "Second", ["c"], [["3"]])
    results.append_rows(path, "First", ["a", "b"], [["4", "5"]])
    assert path.read_text() == (
        "# Results of the benchmarks\n"
        "\n## First\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n| 4 | 5 |\n"
        "\n## Second\n\n| c |\n| --- |\n| 3 |\n"
    )
