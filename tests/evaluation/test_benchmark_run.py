# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import json
import os
import random
import signal
import subprocess
import sys
import time

import av
import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.cli import app
from lumos_hf.evaluation.clips import draw_clip, single_specs

from .benchmark_files import (
    GENEVAL_LINES,
    I2V_ITEMS,
    OFFICIAL_PROMPTS,
    T2V_PROMPTS,
    longer,
    needs_official_prompts,
    write_geneval,
    write_i2v,
    write_t2v,
    write_t2v_standard,
)


SMALL = ["--height", "32", "--width", "64", "--steps", "1"]


def evaluate(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def run(*arguments):
    result = evaluate(*arguments)
    assert result.exit_code == 0, result.output
    return result


def error_of(*arguments):
    result = evaluate(*arguments)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.output
    return result.stderr[result.stderr.rindex("Error: ") :].strip()


def samples_in(directory):
    """Contents by path, whatever is there."""
    folder = directory / "samples"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 200])
@pytest.mark.parametrize("command", ["geneval", "vbench-t2v", "vbench-i2v", "demo", "report"])
def test_every_help_page_can_be_read(command, columns):
    result = CliRunner(env={"COLUMNS": str(columns), "TERM": "dumb"}).invoke(app, ["evaluate", command, "--help"])
    assert result.exit_code == 0, result.exception
    assert max(map(len, result.output.splitlines())) <= columns
    assert columns < 200 or "--output" in result.output


@pytest.fixture
def geneval(tmp_path, checkpoint):
    prompts = write_geneval(tmp_path / "geneval.jsonl")
    return ["geneval", "--model", checkpoint, "--prompts", prompts, *SMALL, "--num-samples", 2]


@pytest.mark.slow
def test_images_of_geneval(tmp_path, geneval):
    run(*geneval, "--output", tmp_path / "run")
    folder = tmp_path / "run" / "samples"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        f"0000{number}/{name}"
        for number in range(3)
        for name in ("metadata.jsonl", "grid.png", "samples/00000.png", "samples/00001.png")
    }
    with PIL.Image.open(folder / "00001" / "samples" / "00000.png") as image:
        assert (image.size, image.mode, image.format) == ((64, 32), "RGB", "PNG")
    with PIL.Image.open(folder / "00001" / "grid.png") as image:
        assert image.height > 2 * 32 and image.width < 2 * 64
    metadata = (folder / "00001" / "metadata.jsonl").read_text()
    assert not metadata.endswith("\n")
    assert json.loads(metadata) == {**GENEVAL_LINES[1], "exclude": [{"class": "heart", "count": 3}]}


@pytest.mark.slow
def test_a_sample_is_what_a_call_of_the_pipeline_gives(tmp_path, checkpoint, geneval):
    """In a batch with prompts of other lengths."""
    run(*geneval, "--output", tmp_path / "run")
    import torch

    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    seeds = json.loads((tmp_path / "run" / "run.json").read_text())["seeds"]
    file = "00002/samples/00001.png"
    frames = pipe(
        longer(GENEVAL_LINES[2]["prompt"]),
        height=32,
        width=64,
        num_frames=1,
        fps=1,
        num_inference_steps=1,
        guidance_scale=16.0,
        generator=torch.Generator().manual_seed(seeds[file]),
    ).frames[0]
    with PIL.Image.open(tmp_path / "run" / "samples" / file) as image:
        difference = abs(np.asarray(image).astype(int) - np.asarray(frames[0]))
    # The video tokenizer rounds otherwise in a batch.
    assert difference.max() <= 1


@pytest.mark.slow
def test_videos_of_vbench_t2v(tmp_path, checkpoint):
    prompts = write_t2v(tmp_path / "t2v.json")
    run("vbench-t2v", "--model", checkpoint, "--prompts", prompts, *SMALL, "--num-samples", 1, "-o", tmp_path / "run")
    folder = tmp_path / "run" / "samples"
    assert sorted(os.listdir(folder)) == sorted(f"{prompt}-0.mp4" for prompt in T2V_PROMPTS)
    with av.open(str(folder / f"{T2V_PROMPTS[1]}-0.mp4")) as container:
        (stream,) = container.streams.video
        assert (stream.width, stream.height, stream.average_rate) == (64, 32, 12)
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert len(list(container.decode(stream))) == 25


@pytest.mark.slow
def test_the_standard_protocol_makes_25_videos_for_flickering(tmp_path, checkpoint):
    prompts = write_t2v_standard(tmp_path / "standard.json")
    options = ["--prompts", prompts, *SMALL, "--num-frames", 1, "--standard", "--dimensions", "temporal_flickering"]
    run("vbench-t2v", "--model", checkpoint, *options, "-o", tmp_path / "run")
    assert set(samples_in(tmp_path / "run")) == {f"{T2V_PROMPTS[0]}-{index}.mp4" for index in range(25)}


@pytest.mark.slow
def test_videos_of_vbench_i2v_begin_with_their_image(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    image = draw_clip(single_specs()[0])[0]
    PIL.Image.fromarray(image).save(images / "a star.png")
    options = ["--prompts", write_i2v(tmp_path / "i2v.json"), "--images", images, "--num-samples", 1]
    options += ["--height", 128, "--width", 128, "--num-frames", 5, "--steps", 1, "--guidance-scale", 1]
    run("vbench-i2v", "--model", demo_checkpoint(), *options, "-o", tmp_path / "run")
    folder = tmp_path / "run" / "samples"
    assert sorted(os.listdir(folder)) == sorted(f"{item['prompt_en']}-0.mp4" for item in I2V_ITEMS)
    for path in folder.iterdir():
        with av.open(str(path)) as container:
            first = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
        # What the tokenizer and the encoding leave of it.
        assert abs(first - image).mean() < 8


@pytest.mark.slow
def test_run_json_says_how_samples_came_to_be(tmp_path, geneval):
    run(*geneval, "--output", tmp_path / "run")
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    assert content["made_by"]["settings"] == {
        "height": 32,
        "width": 64,
        "num_frames": 1,
        "fps": 1,
        "num_inference_steps": 1,
        "guidance_scale": 16.0,
        "history_mask_ratio": 0.7,
    }
    assert content["made_by"]["revision"].startswith("sha256:")
    (machine,) = content["made_on"]
    assert machine["num_samples"] == len(content["seeds"]) == 6
    assert machine["seconds_per_sample"] > 0 and "cpu" in machine["device"] and "torch" in machine["versions"]


@pytest.mark.slow
def test_a_run_goes_on_with_what_is_missing(tmp_path, geneval):
    run(*geneval, "--output", tmp_path / "whole")
    run(*geneval, "--output", tmp_path / "run", "--limit", 1)
    kept = tmp_path / "run" / "samples" / "00000" / "samples" / "00000.png"
    made_at = kept.stat().st_mtime_ns
    run(*geneval, "--output", tmp_path / "run")
    assert samples_in(tmp_path / "run") == samples_in(tmp_path / "whole")
    assert kept.stat().st_mtime_ns == made_at
    lines = [json.loads(line) for line in (tmp_path / "run" / "timings.jsonl").read_text().splitlines()]
    files = [file for line in lines for file in line["files"]]
    assert len(files) == len(set(files)) == 6
    # All there: no weights are loaded.
    assert "All 6 samples" in run(*geneval, "--output", tmp_path / "run").output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--steps", 2], "num_inference_steps': 2"),
        (["--fast"], "'fast'"),
        (["--batch-size", 3], "batch_size 4 \\(now 3\\)"),
    ],
)
def test_the_output_of_another_run_is_refused(tmp_path, geneval, options, named):
    run(*geneval, "--output", tmp_path / "run", "--limit", 1)
    before = samples_in(tmp_path / "run")
    with pytest.raises(AssertionError, match=f"`--output` must be .* whose samples were made with .*{named}"):
        raise AssertionError(error_of(*geneval, "--output", tmp_path / "run", *options))
    assert samples_in(tmp_path / "run") == before


@pytest.mark.slow
def test_the_output_of_another_checkpoint_is_refused(tmp_path, checkpoint, geneval):
    run(*geneval, "--output", tmp_path / "run", "--limit", 1)
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.transformer.lm_head.weight.data[0] += 1
    pipe.save_pretrained(tmp_path / "other")
    message = error_of(*geneval, "--model", tmp_path / "other", "--output", tmp_path / "run")
    assert "`--output` must be a new directory or that of the same run" in message and "revision" in message


@pytest.mark.slow
def test_a_directory_with_other_files_is_refused(tmp_path, geneval):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    message = error_of(*geneval, "--output", tmp_path / "photos")
    assert "`--output` must be a new directory or that of a run" in message
    assert os.listdir(tmp_path / "photos") == ["cat.png"]


def test_a_missing_image_is_refused_before_any_work(tmp_path, checkpoint):
    prompts = write_i2v(tmp_path / "i2v.json")
    (tmp_path / "images").mkdir()
    options = ["--model", checkpoint, "--prompts", prompts, "--images", tmp_path / "images", "-o", tmp_path / "run"]
    message = error_of("vbench-i2v", *options)
    assert "`--images` must be the folder of the benchmark's images" in message
    assert "1 of 1 are missing, among them 'a star.png'" in message
    assert not (tmp_path / "run").exists()


def test_images_belong_to_vbench_i2v_alone(tmp_path, geneval):
    assert "`--images` goes with vbench-i2v" in error_of(*geneval, "--images", tmp_path, "-o", tmp_path / "run")
    options = ["--model", geneval[2], "--prompts", write_i2v(tmp_path / "i2v.json"), "-o", tmp_path / "run"]
    assert "`--images` must be given for vbench-i2v" in error_of("vbench-i2v", *options)


@pytest.mark.slow
def test_names_that_differ_by_capitals_need_a_file_system_that_tells_them(tmp_path, checkpoint):
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"A star.mp4": "A star.", "a star.mp4": "a star"}))
    options = ["--model", checkpoint, "--prompts", prompts, *SMALL, "--num-frames", 1, "--num-samples", 1]
    run("vbench-t2v", *options, "-o", tmp_path / "run")
    assert set(samples_in(tmp_path / "run")) == {"A star-0.mp4", "a star-0.mp4"}
    # What is seen on one that does not.
    (tmp_path / "run" / "RUN.JSON").touch()
    assert "tells capitals from small letters" in error_of("vbench-t2v", *options, "-o", tmp_path / "run")


def start(command, rank=0, world_size=1):
    environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(world_size), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "lumos_hf", "evaluate", *map(str, command)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_ten_kills_and_other_numbers_of_processes_give_the_same_bytes(tmp_path, checkpoint):
    prompts = write_geneval(tmp_path / "geneval.jsonl")
    command = ["geneval", "--model", checkpoint, "--prompts", prompts, *SMALL, "--num-samples", 40, "--batch-size", 2]
    run(*command, "--output", tmp_path / "whole")
    expected = samples_in(tmp_path / "whole")
    output = tmp_path / "run"
    rng = random.Random(0)
    num_killed = 0
    for attempt in range(10):
        world_size = attempt % 3 + 1
        processes = [start([*command, "--output", output], rank, world_size) for rank in range(world_size)]
        # Most of the time goes into imports; the kills should hit the work after them.
        deadline = time.monotonic() + 120
        done = len(samples_in(output))
        while len(samples_in(output)) <= done and time.monotonic() < deadline:
            if all(process.poll() is not None for process in processes):
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        num_killed += any(process.poll() is None for process in processes)
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        whole = {
            name: content for name, content in samples_in(output).items() if not name.split("/")[-1].startswith(".")
        }
        assert whole.items() <= expected.items()
    assert num_killed >= 8
    assert all(start([*command, "--output", output], rank, 3).wait() == 0 for rank in range(3))
    assert samples_in(output) == expected


@pytest.mark.slow
@needs_official_prompts
def test_all_folders_of_geneval_at_a_tiny_size(tmp_path, checkpoint):
    prompts = OFFICIAL_PROMPTS / "geneval_evaluation_metadata.jsonl"
    options = ["--height", 32, "--width", 32, "--steps", 1, "--guidance-scale", 1, "--batch-size", 32]
    run("geneval", "--model", checkpoint, "--prompts", prompts, *options, "--output", tmp_path / "run")
    standard = (OFFICIAL_PROMPTS / "geneval_standard.jsonl").read_text().splitlines()
    made = samples_in(tmp_path / "run")
    assert len(made) == 553 * 6
    for number, line in enumerate(standard):
        assert json.loads(made[f"{number:05d}/metadata.jsonl"]) == json.loads(line)
        assert {f"{number:05d}/samples/{index:05d}.png" for index in range(4)} <= made.keys()
