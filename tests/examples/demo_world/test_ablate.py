# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""A grid of two arms in two steps, as `python examples/demo_world/ablate.py` runs it."""

import json

import ablate
import numpy as np
import pytest
import torch

from lumos_hf.evaluation.clips import single_specs
from lumos_hf.evaluation.vocabulary import demo_config, demo_text_tokenizer
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler
from lumos_hf.token_layout import content_positions, derive_layout


pytestmark = pytest.mark.slow


TINY = ["--steps", "2", "--batch-size", "2", "--hidden-size", "64", "--layers", "1", "--max-clips", "4"]
TINY += ["--prompts", "2", "--inference-steps", "1", "--history-mask-ratios", "0", "0.7"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """The folder of a finished grid, and the arguments that made it."""
    folder = tmp_path_factory.mktemp("ablation")
    document = folder / "docs" / "ablation.md"
    document.parent.mkdir()
    document.write_text(f"By hand.\n{ablate.TABLE_BEGIN}old{ablate.TABLE_END}\nAlso by hand.\n")
    arguments = ["--output", str(folder), "--document", str(document), *TINY]
    arguments += ["--arms", "mm_rope-tube", "rope_1d-random", "--seeds", "3"]
    ablate.main(arguments)
    return folder, arguments


def test_every_run_has_losses_by_frame_and_scores_by_history_mask_ratio(grid):
    results = [json.loads(file.read_text()) for file in sorted(grid[0].glob("*-3.json"))]
    assert len(results) == 2
    for result in results:
        assert list(result["losses"]) == ["as in training", "0.0", "0.7"]
        assert all(len(losses) == 3 for losses in result["losses"].values())
        assert list(result["scores"]) == ["0.0", "0.7"]
        assert all(0 <= scores["all"] <= 1 for scores in result["scores"].values())
    assert results[0]["losses"] != results[1]["losses"]


def test_the_report_replaces_the_table_only(grid):
    text = (grid[0] / "docs" / "ablation.md").read_text()
    assert text.startswith("By hand.\n") and text.endswith("\nAlso by hand.\n")
    assert "old" not in text
    assert text.count("\n| mm_rope | tube |") == text.count("\n| rope_1d | random |") == 3
    assert (grid[0] / "docs" / "assets" / "ablation.png").stat().st_size > 0


def test_finished_runs_are_not_repeated(grid):
    folder, arguments = grid
    result = folder / "mm_rope-tube-3.json"
    written = result.stat().st_mtime_ns
    ablate.main(arguments)
    assert result.stat().st_mtime_ns == written


def test_runs_with_other_settings_are_kept_apart(grid):
    with pytest.raises(ValueError, match="`steps` 2 .now 3."):
        ablate.main([*grid[1], "--steps", "3"])


def test_two_layouts_are_trained_on_and_a_third_one_is_measured(tmp_path):
    arguments = ["--output", str(tmp_path), "--document", str(tmp_path / "ablation.md"), *TINY, "--two-layouts"]
    ablate.main([*arguments, "--arms", "rope_1d-tube", "--seeds", "0"])
    result = json.loads((tmp_path / "rope_1d-tube-0.json").read_text())
    lengths = {name: {len(frames) for frames in losses.values()} for name, losses in result["layout_losses"].items()}
    assert lengths == {ablate.SEEN_LAYOUT: {2}, ablate.UNSEEN_LAYOUT: {3}}
    assert np.load(tmp_path / "codes-short.npy").shape[1:] == (2, 8, 6)
    assert (tmp_path / "ablation.md").read_text().count("\n| rope_1d | tube | narrow") == 6


def test_draws_of_two_layouts_differ_in_nothing_else():
    specs = single_specs()[:4]
    whole, short = np.zeros((4, 3, 8, 8), np.uint16), np.ones((4, 2, 8, 6), np.uint16)
    first, second = (ablate.TokenizedClipDataset(specs, [], codes, 40, seed=5) for codes in (whole, short))
    draws = [ablate.TwoLayoutDataset(first, second, seed=5)[index] for index in range(40)]
    assert {draw["codes"].shape for draw in draws} == {(3, 8, 8), (2, 8, 6)}
    for index, draw in enumerate(draws):
        assert draw["caption"] == first[index]["caption"] == second[index]["caption"]


@pytest.fixture(scope="module")
def config():
    return demo_config(visual_vocab_size=1000, spatial_compression=16)


@pytest.fixture
def features():
    codes = np.random.default_rng(0).integers(1000, size=(2, 3, 8, 8)).astype(np.uint16)
    captions = ("A red star jumps in the snow.", "In the meadow, a blue heart gets bigger.")
    return [{"codes": clip, "caption": caption, "fps": 8} for clip, caption in zip(codes, captions)]


def test_the_history_is_masked_as_in_generation(config, features):
    ratio = 0.5
    batches = list(ablate.batches_as_generated(features, config, demo_text_tokenizer(), ratio, 0.7, torch.Generator()))
    assert len(batches) == 3
    history = MaskDecodingScheduler.history_mask_indices(8 * 9, ratio)
    for frame, batch in enumerate(batches):
        _, frame_ids = derive_layout(batch["input_ids"], config, batch["attention_mask"])
        is_masked = batch["input_ids"] == config.mask_token_id
        for other in range(3):
            masked = is_masked[frame_ids == other].view(2, -1)[:, content_positions(8, 8)]
            labelled = (batch["labels"] != -100)[frame_ids == other].view(2, -1)[:, content_positions(8, 8)]
            assert labelled.any() == (other == frame)
            if other < frame:
                assert masked.nonzero()[:, 1].view(2, -1).tolist() == [history.tolist()] * 2
            else:
                assert torch.equal(masked, labelled)
        labels = batch["labels"][batch["labels"] != -100]
        assert set((labels - config.visual_token_offset).tolist()) <= set(
            np.concatenate([feature["codes"][frame].ravel() for feature in features]).tolist()
        )


def made_up_run(loss, score):
    scores = dict.fromkeys((*ablate.PROMISES, "all"), score)
    return {
        "losses": {"0.0": [loss, loss], "0.7": [loss, loss]},
        "layout_losses": {},
        "scores": {"0.0": scores, "0.7": scores},
    }


def test_differences_are_paired_by_seed(tmp_path, capsys):
    import ablation_differences

    for seed, (base, other) in enumerate([(1.0, 1.1), (2.0, 2.2), (3.0, 3.3)]):
        (tmp_path / f"mm_rope-tube-{seed}.json").write_text(json.dumps(made_up_run(base, 0.5)))
        (tmp_path / f"rope_1d-tube-{seed}.json").write_text(json.dumps(made_up_run(other, 0.5)))
    (tmp_path / "rope_1d-tube-7.json").write_text(json.dumps(made_up_run(100.0, 0.5)))
    ablation_differences.main([str(tmp_path)])
    rows = capsys.readouterr().out.splitlines()
    # Differences .1, .2, .3: mean .2, standard deviation .1; the quantile of t with two degrees of freedom is 4.303.
    assert "| rope_1d-tube minus mm_rope-tube | loss | +0.200 | ±0.248 | 3 of 3 | no |" in rows
    assert "| rope_1d-tube minus mm_rope-tube | all | +0.000 | ±0.000 | 0 of 3 | no |" in rows
    assert not any("narrow" in row for row in rows)


def test_a_difference_that_all_seeds_share_is_decided():
    import ablation_differences

    assert ablation_differences.difference_row("a", "b", [0.1, 0.11, 0.09])[2:] == (
        "+0.100",
        "±0.025",
        "3 of 3",
        "yes",
    )
    assert ablation_differences.difference_row("a", "b", [0.1, -0.1])[-1] == "no"


def test_a_grid_of_one_seed_decides_nothing(grid):
    import ablation_differences

    with pytest.raises(SystemExit):
        ablation_differences.main([str(grid[0])])
