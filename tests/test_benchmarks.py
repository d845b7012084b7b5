# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The scripts in benchmarks/ at a toy size; what they measure is looked at elsewhere."""

from pathlib import Path

import pytest
import torch


@pytest.fixture
def decode(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import decode

    return decode


TOY = ["toy", "--height=32", "--width=64", "--steps=3", "--runs=1", "--prompt-tokens=6"]


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
    model = decode.build_model("toy", "cpu")
    codes = decode.theirs(model, [0, 5, 8710], options, greedy=False)()
    assert codes.shape == (1, 2, 4, 8)
    assert 0 <= codes.min() and codes.max() < model.config.visual_vocab_size


def test_unequal_codes_stop_the_benchmark(decode, monkeypatch):
    monkeypatch.setattr(decode.reference, "decode", lambda *_, **__: torch.zeros(1, 2, 4, 8, dtype=torch.long))
    with pytest.raises(RuntimeError, match="toy: greedy codes differ"):
        decode.main(TOY)


def test_tables_of_several_benchmarks_share_a_file(decode, tmp_path):
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
