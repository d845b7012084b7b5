# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What actors of Ray write is what one process writes; `benchmarks/ray_tokenizing.py` does it with 300 clips and kills."""

import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import PIL.Image
import pytest
from typer.testing import CliRunner

from lumos_hf import demo_checkpoint
from lumos_hf.cli import app
from lumos_hf.cli.sample_runs import load_quietly
from lumos_hf.cluster import RayCluster, make_samples_on_ray, write_shards_on_ray
from lumos_hf.data import export_tokenized_dataset, import_tokenized_dataset, tokenize_dataset
from lumos_hf.evaluation.clips import FPS, caption, draw_clip, single_specs
from lumos_hf.evaluation.prompt_run import PromptOptions, PromptRun
from lumos_hf.media import read_settings, write_media


NUM_CLIPS = 6
SETTINGS = {"num_frames": 1, "num_inference_steps": 2}
PROMPTS = ["A red star jumps in the snow.", "A blue heart waits.", "A green circle slides to the right."]
RECORDS = ("run.json", "timings.jsonl")


def files_of(directory: Path) -> dict[str, bytes]:
    """All but the records of who made what, and when."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in RECORDS
    }


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    specs = single_specs()
    for index in range(NUM_CLIPS):
        spec = specs[37 * index % len(specs)]
        frames = [PIL.Image.fromarray(frame).reduce(2) for frame in draw_clip(spec)]
        write_media(folder / f"{index}.mp4", frames[:5], fps=FPS)
        (folder / f"{index}.txt").write_text(caption(spec, random.Random(index)))
    (folder / "broken.png").touch()
    return folder


@pytest.fixture
def prompt_file(tmp_path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("\n\n".join(PROMPTS) + "\n")
    return path


class DiesOnce:
    """Makes what `make_worker` makes, and has the first piece of work of all actors end with its process."""

    def __init__(self, make_worker, mark: Path):
        self.make_worker, self.mark = make_worker, mark

    def __call__(self):
        work = self.make_worker()

        def dying(number: int) -> None:
            if not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            work(number)

        return dying


class FragileCluster(RayCluster):
    """Whose actors die once."""

    mark: Path

    def run(self, make_worker, numbers, done):
        super().run(DiesOnce(make_worker, self.mark), numbers, done)


@pytest.mark.slow
def test_actors_write_the_files_of_one_process(clips, tmp_path, monkeypatch):
    # Among other work, as here, nice processes hardly come to do any.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    # Names of sockets may have 107 characters, and TMPDIR may be long.
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    # Actors find this module by its name.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    tokenizing = {"data": clips, "model": demo_checkpoint(), "height": 64, "width": 64, "num_frames": 5}
    tokenizing |= {"clips_per_shard": 2, "batch_size": 2}
    tokenize_dataset(**tokenizing, output=tmp_path / "one")
    export_tokenized_dataset(tmp_path / "one", tmp_path / "official", model=demo_checkpoint())
    importing = {"source": tmp_path / "official", "model": demo_checkpoint(), "clips_per_shard": 2}
    import_tokenized_dataset(**importing, output=tmp_path / "imported")
    options = partial(PromptOptions, demo_checkpoint(), prompts=tuple(PROMPTS), settings=SETTINGS, batch_size=2)
    load = partial(load_quietly, demo_checkpoint(), None, "cpu")
    one = PromptRun(options(tmp_path / "images"), "cpu", "float32", "here")
    assert one.make_samples(load) == 0

    with FragileCluster(num_actors=2) as cluster:
        cluster.mark = tmp_path / "died"
        summary = write_shards_on_ray(cluster, tokenize_dataset, {**tokenizing, "output": tmp_path / "ray"}, {})
        imported = write_shards_on_ray(
            cluster, import_tokenized_dataset, {**importing, "output": tmp_path / "ray imported"}, {}
        )
        make_run = partial(PromptRun, options(tmp_path / "ray images"), "cpu", "float32", "an actor")
        assert make_samples_on_ray(cluster, make_run(), make_run, load) == 0
    assert (tmp_path / "died").exists()
    assert (summary.num_rows, len(summary.skipped), summary.num_unfinished_shards) == (NUM_CLIPS, 1, 0)
    assert imported.num_rows == NUM_CLIPS
    for name in ("one", "imported", "images"):
        other = "ray" if name == "one" else f"ray {name}"
        assert files_of(tmp_path / other) == files_of(tmp_path / name)


@pytest.mark.slow
def test_a_file_of_prompts_by_one_process_and_by_two(prompt_file, tmp_path):
    settings = ["--prompts", prompt_file, "--num-frames", 1, "--steps", 2, "--seed", 5, "--num-videos-per-prompt", 2]
    result = run("generate", *settings, "-o", tmp_path / "one")
    assert result.exit_code == 0, result.output
    samples = sorted((tmp_path / "one" / "samples").iterdir())
    assert [path.name for path in samples][::2] == [
        "00000-a-red-star-jumps-in-the-snow-0.png",
        "00001-a-blue-heart-waits-0.png",
        "00002-a-green-circle-slides-to-the-right-0.png",
    ]
    assert [read_settings(path)["seed"] for path in samples] == [5, 6, 7, 8, 9, 10]
    assert [read_settings(path)["prompt"] for path in samples][::2] == PROMPTS

    command = [sys.executable, "-m", "lumos_hf", "generate", *map(str, settings), "-o", str(tmp_path / "two")]
    # As many threads as this process has, whose number decides how sums are rounded.
    shared = {**os.environ, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    environments = [{**shared, "RANK": str(rank)} for rank in range(2)]
    processes = [subprocess.Popen(command, env=environment) for environment in environments]
    assert [process.wait() for process in processes] == [0, 0]
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")

    (tmp_path / "one" / "samples" / samples[2].name).unlink()
    assert "All 6 samples" in run("generate", *settings, "-o", tmp_path / "one").output
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")
    prompt_file.write_text("Another one.")
    assert "that of the same run" in run("generate", *settings, "-o", tmp_path / "one").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A star.", "--prompts", "FILE"], "`--prompts` cannot be given with `prompt`"),
        (["--prompts", "FILE"], "`--output` must be one directory with `--prompts`, got 0"),
        (["--prompts", "FILE", "-o", "a.mp4"], "`--output` must be a directory with `--prompts`, got 'a.mp4'"),
        (["--prompts", "EMPTY", "-o", "a"], "must have from 1 to 10000000 lines of text, got 0"),
        (["--prompts", "FILE", "-o", "a", "--num-actors", "2"], "`--num-actors` goes with `--ray`, got 2 without it"),
        (["A star.", "--ray"], "must be given, or `--prompts`, which `--ray` goes with"),
        ([], "must be given, or `--prompts`"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, prompt_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty.txt"
    empty.touch()
    files = {"FILE": prompt_file, "EMPTY": empty}
    result = run("generate", *(files.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.output


def test_ray_among_the_processes_of_a_launcher(prompt_file, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = run("generate", "--prompts", prompt_file, "-o", tmp_path / "run", "--ray")
    assert result.exit_code == 2
    assert "`--ray` starts processes by itself" in result.output


def test_an_address_may_be_left_out():
    from lumos_hf.cli.command import _with_address

    assert _with_address(["--ray", "-o", "a"]) == ["--ray", "local", "-o", "a"]
    assert _with_address(["clips", "--ray"]) == ["clips", "--ray", "local"]
    assert _with_address(["--ray", "clips/"]) == ["--ray", "local", "clips/"]
    for address in ("local", "auto", "10.0.0.1:6379", "head-node:6379"):
        assert _with_address(["--ray", address, "clips"]) == ["--ray", address, "clips"]
