# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The scripts in benchmarks/ at a toy size; what they measure is looked at elsewhere."""

from pathlib import Path

import pytest
import torch

from lumos_hf import LumosForCausalLM
from lumos_hf.demo.assemble import demo_pipeline
from lumos_hf.demo.train_tokenizer import demo_tokenizer
from lumos_hf.demo.vocabulary import demo_config


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


@pytest.fixture
def approximations(decode):
    import approximations

    return approximations


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The demo's pipeline with random weights and few steps."""
    directory = tmp_path_factory.mktemp("checkpoint")
    vqvae = demo_tokenizer()
    config = demo_config(vqvae.codebook_size, vqvae.config.spatial_compression_ratio)
    pipe = demo_pipeline(LumosForCausalLM(config), vqvae)
    pipe.register_to_config(default_num_inference_steps=2)
    pipe.save_pretrained(directory)
    return directory


def test_approximations_are_scored_once(approximations, checkpoint, tmp_path, capsys):
    results, records = tmp_path / "RESULTS.md", tmp_path / "records"
    arguments = ["--only", "fast", "--pairs=1", "--runs=1", f"--model={checkpoint}"]
    arguments += [f"--results={results}", f"--records={records}"]
    approximations.main([*arguments, "--singles=1"])
    # Twice the prompt and two frames of history, and for three frames one step of both branches.
    assert "option: fast, " in capsys.readouterr().out
    assert results.read_text().splitlines()[-1].endswith("| 12.0 |")
    before = {path: path.read_bytes() for path in records.rglob("*.json")}
    approximations.main([*arguments, "--singles=1"])
    assert {path: path.read_bytes() for path in records.rglob("*.json")} == before
    approximations.main([*arguments, "--singles=2"])
    assert all(len(approximations.json.loads(path.read_text())["singles"]) == 2 for path in before)
    assert [path.stem for path in sorted(before)] == ["exact", "fast"]


def test_long_videos_with_compact_histories(approximations, checkpoint, tmp_path):
    results = tmp_path / "RESULTS.md"
    arguments = ["--long-video", "--latent-frames=6", "--runs=1", f"--model={checkpoint}", f"--results={results}"]
    approximations.main(arguments)
    rows = results.read_text().splitlines()[-3:]
    assert [row.split(" | ")[3] for row in rows] == ["exact", "window 4, 1/4 of the rest", "window 4"]


def test_unknown_approximations_are_refused(approximations, capsys):
    with pytest.raises(SystemExit):
        approximations.parse_arguments(["--only", "slow"])
    assert "--only must name some of ['exact'" in capsys.readouterr().err
