# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The scripts in benchmarks/ at a toy size; what they measure is looked at elsewhere."""

import shutil
from pathlib import Path

import pytest
import torch
from assemble import demo_pipeline
from peft import LoraConfig, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from train_tokenizer import demo_tokenizer

from lumos_hf import LumosForCausalLM, LumosVideoPipeline, MaskDecodingScheduler
from lumos_hf.evaluation.vocabulary import demo_config
from lumos_hf.hub.turbo import write_turbo_weights


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


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


def test_a_batch_is_compared_with_single_calls(benchmarks, tmp_path):
    import batch

    results = tmp_path / "RESULTS.md"
    batch.main([*TOY, "--batch-size=2", f"--results={results}"])
    assert "| toy | float32 | 64x32, 5, 3 | 2 | 1 |" in results.read_text().splitlines()[6]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="Earlier commits are in a copy of the repository alone.")
def test_an_earlier_commit_is_compared_with_the_working_tree(benchmarks, tmp_path):
    import decode_commits

    results = tmp_path / "RESULTS.md"
    decode_commits.main(["HEAD", *TOY, f"--results={results}"])
    cells = results.read_text().splitlines()[6].split(" | ")
    assert cells[6:9] == ["64x32, 5, 3", "HEAD", "1"]
    assert cells[-2:] == ["64 of 64", "64 of 64 |"]


def test_the_profile_of_decoding_has_its_products_in_the_floor(benchmarks, capsys):
    import decode_profile

    decode_profile.main([*SMALL, "--runs=1"])
    rows = {
        line.split(" | ")[0]: line.split(" | ")[1:] for line in capsys.readouterr().out.splitlines() if " | " in line
    }
    for kind in ("| products of the body", "| output head"):
        taken, _, _, floor, plain = (float(cell.strip(" |%")) for cell in rows[kind])
        assert taken > 0 and 0 <= floor <= plain
    assert rows["| everything else"][2] == "0.0"


def test_demo_measures_whole_videos(decode, tmp_path):
    import demo

    results = tmp_path / "RESULTS.md"
    demo.main(["--runs=1", "--threads=1", f"--results={results}"])
    assert "| demo | float32 | 128x128, 9, 12 | 1 |" in results.read_text()


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


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import gpu

    return gpu


TOY_GPU = ["--device=cpu", "--models", "toy", "--sizes", "64x32", "--frames", "5", "--prompt-tokens=6"]


def test_gpu_measures_every_kind(gpu, tmp_path, capsys, monkeypatch):
    # A CPU has no CUDA graphs, and inductor takes long there.
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **options: compiled.append((type(self).__name__, options))
    )
    results = tmp_path / "RESULTS.md"
    gpu.main([*TOY_GPU, f"--results={results}"])
    rows = [line.split(" | ") for line in results.read_text().splitlines()[6:]]
    assert [row[6] for row in rows] == ["reference", "ours", "compiled", "list", "turbo", "fp8"]
    assert [row[5] for row in rows[3:5]] == ["64x32, 5, 50, 10", "64x32, 5, 8, 2"]
    assert compiled == [("LumosForCausalLM", {"fullgraph": True, "mode": "reduce-overhead"})]
    assert "scaled_dot_product" in capsys.readouterr().out


def test_gpu_says_so_without_one(gpu, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main([])
    assert "no CUDA GPU" in capsys.readouterr().out


def test_gpu_begins_nothing_after_its_budget(gpu, tmp_path, capsys):
    gpu.main([*TOY_GPU, "--budget=0", f"--results={tmp_path / 'RESULTS.md'}"])
    assert "Left out for want of time: toy 64x32, 5" in capsys.readouterr().out


def test_operations_are_those_that_torch_counts(gpu, decode):
    (options,) = gpu.configurations(gpu.parse_arguments([*TOY_GPU, "--steps=3"]))
    model = gpu.build_model("toy", "cpu")
    run = decode.ours(model, decode.prompt(model.config, options), options, greedy=False)
    # The counter does not know the CPU's kernel, but what that is made of.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    assert gpu.video_operations(model.config, options) == counter.get_total_flops()


def test_operations_of_turbo_are_those_that_torch_counts(gpu, decode):
    (options,) = gpu.configurations(gpu.parse_arguments(TOY_GPU))
    options.steps = [3, 1]
    model = gpu.build_model("toy", "cpu")
    run = decode.ours(model, decode.prompt(model.config, options), options, greedy=False, guidance_scale=1.0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    assert gpu.video_operations(model.config, options, is_guided=False) == counter.get_total_flops()


def test_few_steps_are_extrapolated_on_a_line(gpu):
    assert gpu.MEASURED_STEPS == (1, 3)
    assert gpu.extrapolate((5.0, 9.0), 50) == (5.0 + 49 * 2.0, 2.0)


def test_memory_of_codes_and_pixels(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import memory

    results = tmp_path / "RESULTS.md"
    memory.main(
        [
            *("--configuration=toy", "--sizes", "64x32", "--frames", "1", "5", "--streamed-frames", "1", "3"),
            *("--streamed-size=32x32", "--prompt-tokens=6", f"--results={results}"),
        ]
    )
    text = results.read_text()
    assert "| toy | 64x32, 1 |" in text and "| toy | 64x32, 5 |" in text
    assert "| 32x32, 1 |" in text and "| 32x32, 3 |" in text


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


def test_turbo_and_what_it_draws(approximations, checkpoint, tmp_path, capsys):
    model = get_peft_model(
        LumosVideoPipeline.from_pretrained(checkpoint).transformer, LoraConfig(r=1, target_modules=["q_proj"])
    )
    write_turbo_weights(tmp_path / "turbo", model, MaskDecodingScheduler(), num_inference_steps=[2, 1])
    arguments = [f"--model={checkpoint}", f"--turbo={tmp_path / 'turbo'}", f"--results={tmp_path / 'RESULTS.md'}"]
    more = ["--only", "turbo", "--pairs=1", "--singles=1", "--runs=1", f"--records={tmp_path}"]
    approximations.main([*arguments, *more])
    # The prompt, two frames of history, and 2 + 1 + 1 steps of one branch.
    assert (tmp_path / "RESULTS.md").read_text().splitlines()[-1].endswith("| 7.0 |")
    approximations.main([*arguments, "--diversity", "--clips=1", f"--records={tmp_path}"])
    rows = [line.split(" | ") for line in (tmp_path / "RESULTS.md").read_text().splitlines()[-3:]]
    assert [row[3] for row in rows] == ["mirrored scene", "position", "size"]
    assert all(row[4:6] == ["0.00", "0.00"] for row in rows)


def test_the_curve_has_the_last_full_row_of_each_option(approximations, tmp_path):
    import turbo_curve

    results, picture = tmp_path / "RESULTS.md", tmp_path / "turbo.png"
    rows = [
        ["2026-11-01", "cpu", "held-out, 200 + 100", "old", "1.000", "1.000", "0 / 0", "1.00 (1.00-1.00)", "78.0"],
        ["2026-12-01", "cpu", "held-out, 200 + 100", "exact", "0.990", "1.000", "0 / 0", "1.00 (1.00-1.00)", "78.0"],
        ["2026-12-01", "cpu", "held-out, 200 + 100", "turbo", "0.900", "1.000", "9 / 0", "0.20 (0.10-0.30)", "11.0"],
        ["2026-12-02", "cpu", "held-out, 200 + 100", "turbo", "0.960", "1.000", "6 / 0", "0.15 (0.10-0.30)", "11.0"],
        ["2026-12-02", "cpu", "held-out, 1 + 1", "fast", "1.000", "1.000", "0 / 0", "0.47 (0.46-0.49)", "36.0"],
    ]
    approximations.append_rows(results, "Lossy options (approximations.py)", approximations.SCORE_COLUMNS, rows)
    points = {point.option: point for point in turbo_curve.read_points(results, "2026-12-01")}
    assert points.keys() == {"exact", "turbo"}
    assert points["turbo"].time == 0.15 and points["turbo"].score == pytest.approx(292 / 300)
    turbo_curve.main([f"--results={results}", f"--output={picture}", "--since=2026-12-01"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="`since` must leave a row of exact decoding"):
        turbo_curve.read_points(results, "2026-12-02")


def test_entropies_in_bits(approximations):
    assert approximations.entropy_bits([1, 1, 1]) == 0
    assert approximations.entropy_bits(["a", "b", "a", "b"]) == 1
    assert approximations.entropy_bits([(0, 1), None, (2, 1), (3, 3)]) == 2


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


def test_text_alone_loads_faster_and_gives_the_same_ids(benchmarks, tmp_path, capsys):
    import tokenizer_loading
    from conversion.official_release import as_official_script_writes, chameleon_tokenizer, write_json

    write_json(tmp_path / "text_tokenizer.json", as_official_script_writes(chameleon_tokenizer(), 2000))
    arguments = [f"{tmp_path / 'text_tokenizer.json'}", "--runs=1", "--texts=20"]
    tokenizer_loading.main([*arguments, f"--results={tmp_path / 'RESULTS.md'}"])
    assert (tmp_path / "RESULTS.md").read_text().splitlines()[-1].endswith("| 20 |")
    assert "with visual codes" in capsys.readouterr().out


def test_visitors_of_an_app_in_its_own_process_get_their_own(benchmarks):
    pytest.importorskip("gradio", reason="gradio, of the extra `app`, is not installed")
    import app_visitors

    outcome = app_visitors.main(["--visitors=3", "--calls=2", "--frames=1", "--steps=2"])
    assert (outcome.num_lost, outcome.num_wrong) == (0, 0)
    assert outcome.growth < 0.05


def test_a_click_on_the_page_is_timed(benchmarks, tmp_path):
    pytest.importorskip("gradio", reason="gradio, of the extra `app`, is not installed")
    pytest.importorskip("playwright", reason="playwright is not installed")
    import app_page

    if not any(map(shutil.which, app_page.BROWSERS)):
        pytest.skip(f"there is none of the browsers {', '.join(app_page.BROWSERS)} on the PATH")
    app_page.main(["--runs=1", f"--results={tmp_path / 'RESULTS.md'}"])
    *_, shown, first, whole, plain = (tmp_path / "RESULTS.md").read_text().splitlines()[-1].strip("| ").split(" | ")
    assert 0 < float(first.split()[0]) < float(whole.split()[0])
    assert float(shown.split()[0]) > 0
    assert float(plain.split()[0]) > 0
