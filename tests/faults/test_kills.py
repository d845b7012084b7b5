# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Whatever writes files is killed at its file operations, or finds the disk full, and is started again."""

import os
import runpy
import shutil
import sys
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file

from lumos_hf import LumosVideoPipeline, convert_original_checkpoint, export_original_checkpoint
from lumos_hf.cli import main
from lumos_hf.conversion.remote_code import export_remote_code
from lumos_hf.data.official_export import export_tokenized_dataset
from lumos_hf.data.official_import import import_tokenized_dataset
from lumos_hf.evaluation.clips import draw_clip, single_specs
from lumos_hf.hub.model_card import model_card, write_card
from lumos_hf.media import write_media
from lumos_hf.training import tokenize_dataset

from .conftest import random_pipeline
from .crash_points import (
    count_operations,
    run_killed_before,
    run_terminated_before,
    run_with_largest_file,
    snapshot,
    spread,
)


# LUMOS_MOST_KILLS makes a longer campaign of it.
MOST_KILLS = int(os.environ.get("LUMOS_MOST_KILLS", 25))
MOST_FULL_DISKS = 6

EXAMPLES = Path(__file__).parents[2] / "examples"

datasets.disable_progress_bars()


def frames_of(value: int) -> list[Image.Image]:
    return [Image.new("RGB", (32, 32), (value, index, 0)) for index in range(5)]


def kill_everywhere(action, directory, start, *, is_intact, read=snapshot):
    """
    Runs `action` on copies of `start` in `directory`, killed at each of its operations or with files that cannot grow to their
    size, then once more to its end.

    `is_intact` gets the files that are left. The second run must end as an unbroken one, by what `read` makes of the directory,
    and leave nothing else.
    """

    def reset():
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(start, directory)

    reset()
    # What is cached outside of the directory is written once.
    count_operations(action)
    reset()
    count = count_operations(action)
    expected, before = read(directory), snapshot(start)
    written = [content for name, content in snapshot(directory).items() if content and before.get(name) != content]
    sizes = sorted(set(map(len, written)))
    assert count > 0 and expected != read(start)
    points = spread(count, MOST_KILLS)
    for point in points:
        reset()
        assert run_killed_before(action, point), f"not killed at {point} of {count}"
        assert is_intact(), f"broken by a kill before operation {point} of {count}"
        count_operations(action)
        assert read(directory) == expected, f"another end after a kill before operation {point} of {count}"
    limits = [sizes[index] - 1 for index in spread(len(sizes), MOST_FULL_DISKS)]
    for limit in limits:
        reset()
        assert not run_with_largest_file(action, limit), f"no error with files of at most {limit} bytes"
        assert is_intact(), f"broken by files that end at {limit} bytes"
        count_operations(action)
        assert read(directory) == expected, f"another end after files that ended at {limit} bytes"
    print(f"{len(points)} kills at {count} operations, {len(limits)} full disks")


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.png"])
def test_media(tmp_path, name):
    start, directory = tmp_path / "start", tmp_path / "work"
    start.mkdir()
    write_media(start / name, frames_of(0))
    write_media(tmp_path / name, frames_of(255))
    both = ((start / name).read_bytes(), (tmp_path / name).read_bytes())
    kill_everywhere(
        partial(write_media, directory / name, frames_of(255)),
        directory,
        start,
        is_intact=lambda: (directory / name).read_bytes() in both,
    )


def test_checkpoints_that_replace_older_ones(tmp_path, checkpoint):
    directory = tmp_path / "work"
    newer = random_pipeline(seed=1)
    states = [newer.transformer.state_dict(), LumosVideoPipeline.from_pretrained(checkpoint).transformer.state_dict()]

    def is_one_of_both():
        loaded = LumosVideoPipeline.from_pretrained(directory).transformer.state_dict()
        return any(all(torch.equal(loaded[name], state[name]) for name in state) for state in states)

    kill_everywhere(partial(newer.save_pretrained, directory), directory, checkpoint, is_intact=is_one_of_both)


def test_lora_weights_that_replace_others(tmp_path, pipe):
    directory, start = tmp_path / "work", tmp_path / "start"
    with torch.no_grad():
        for seed, name in enumerate(["older", "newer"]):
            torch.manual_seed(seed)
            pipe.transformer.add_adapter(
                LoraConfig(r=2 + seed, target_modules=["q_proj"], init_lora_weights=False), adapter_name=name
            )
    pipe.save_lora_weights(start, adapter_name="older")
    pipe.save_lora_weights(tmp_path / "newer", adapter_name="newer")
    both = [pipe.lora_state_dict(path, return_lora_metadata=True) for path in (start, tmp_path / "newer")]

    def is_one_of_both():
        weights, config = pipe.lora_state_dict(directory, return_lora_metadata=True)
        return any(
            config == other_config
            and set(weights) == set(other)
            and all(torch.equal(weights[key], other[key]) for key in other)
            for other, other_config in both
        )

    def read(path):
        """safetensors writes the two entries of its header in any order."""
        weights = {key: tensor.tolist() for key, tensor in load_file(path / "adapter_model.safetensors").items()}
        return {**snapshot(path), "adapter_model.safetensors": weights}

    save = partial(pipe.save_lora_weights, directory, adapter_name="newer")
    kill_everywhere(save, directory, start, is_intact=is_one_of_both, read=read)


def test_cards(tmp_path, checkpoint):
    start = shutil.copytree(checkpoint, tmp_path / "start")
    (start / "README.md").write_text("before", encoding="utf-8")
    directory = tmp_path / "work"
    after = str(model_card(checkpoint, name="me/model"))

    def write_again():
        write_card(directory / "README.md", model_card(directory, name="me/model"))

    kill_everywhere(
        write_again,
        directory,
        start,
        is_intact=lambda: (directory / "README.md").read_text(encoding="utf-8").strip() in ("before", after.strip()),
    )


def test_remote_code(tmp_path, checkpoint):
    kill_new_directory(tmp_path, partial(export_remote_code, checkpoint))


def test_conversion_and_export(tmp_path, release):
    kill_new_directory(tmp_path, partial(convert_original_checkpoint, *release))
    converted = convert_original_checkpoint(*release, tmp_path / "converted")
    kill_new_directory(tmp_path, partial(export_original_checkpoint, converted))


def kill_new_directory(tmp_path, write):
    """Kills a function that writes the directory it is given, which must be there whole or not at all."""
    start, directory = tmp_path / "empty", tmp_path / "work"
    start.mkdir(exist_ok=True)
    kill_everywhere(
        lambda: write(directory / "new"), directory, start, is_intact=lambda: not (directory / "new").exists()
    )


@pytest.fixture
def clips(tmp_path):
    directory = tmp_path / "clips"
    directory.mkdir()
    for index, spec in enumerate(single_specs()[::400][:5]):
        frames = [Image.fromarray(frame).resize((64, 64)) for frame in np.asarray(draw_clip(spec))[:5]]
        write_media(directory / f"{index}.mp4", frames, fps=8)
        (directory / f"{index}.txt").write_text("A red star.", encoding="utf-8")
    return directory


def test_tokenizing(tmp_path, checkpoint, clips):
    start, directory = tmp_path / "start", tmp_path / "work"
    start.mkdir()
    settings = {"height": 64, "width": 64, "num_frames": 5, "clips_per_shard": 2, "batch_size": 2}
    kill_everywhere(
        partial(tokenize_dataset, str(clips), str(checkpoint), directory / "set", **settings),
        directory,
        start,
        is_intact=lambda: True,
    )


def test_official_sets_out_and_in(tmp_path, checkpoint, clips):
    start, directory = tmp_path / "start", tmp_path / "work"
    tokenize_dataset(str(clips), str(checkpoint), start / "set", height=64, width=64, num_frames=5, clips_per_shard=2)
    kill_everywhere(
        partial(export_tokenized_dataset, directory / "set", directory / "official", model=checkpoint),
        directory,
        start,
        is_intact=lambda: True,
    )
    export_tokenized_dataset(start / "set", start / "official", model=checkpoint)
    kill_everywhere(
        partial(import_tokenized_dataset, directory / "official", directory / "again", model=checkpoint),
        directory,
        start,
        is_intact=lambda: True,
    )


def command(*words):
    """A program in a fork: `lumos-hf` with its arguments, or a script with its own."""

    def run():
        sys.argv = list(map(str, words))
        try:
            if words[0] == "lumos-hf":
                main()
            else:
                runpy.run_path(str(words[0]), run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                raise

    return run


def generate(checkpoint, work, request):
    arguments = ("--model", checkpoint, "--num-frames", 5, "--steps", 1, "--seed", 0)
    return command("lumos-hf", "generate", "A red star.", *arguments, "-o", work / "a.mp4", "-o", work / "a.png")


def tokenize(checkpoint, work, request):
    sizes = ("--height", 64, "--width", 64, "--num-frames", 5, "--clips-per-shard", 2)
    clips = request.getfixturevalue("clips")
    return command("lumos-hf", "tokenize", clips, "--model", checkpoint, *sizes, "-o", work / "set")


def convert(checkpoint, work, request):
    release = request.getfixturevalue("release")
    sources = ("--lumos", release.lumos, "--cosmos", release.cosmos, "--text-tokenizer", release.text_tokenizer)
    return command("lumos-hf", "convert", *sources, "-o", work / "new")


def export(checkpoint, work, request):
    source = convert_original_checkpoint(*request.getfixturevalue("release"), work.parent / "converted")
    return command("lumos-hf", "export", "--model", source, "-o", work / "new")


def finetune(checkpoint, work, request):
    tokenized = work.parent / "set"
    clips = request.getfixturevalue("clips")
    tokenize_dataset(str(clips), str(checkpoint), tokenized, height=64, width=64, num_frames=5)
    options = ("--max_steps", 2, "--save_steps", 1, "--eval_clips", 1, "--use_cpu", "True", "--disable_tqdm", "True")
    paths = ("--model", checkpoint, "--data", tokenized, "--output_dir", work / "run")
    return command(EXAMPLES / "finetune.py", *paths, *options)


def weights_of_run(directory):
    """Beside the weights, a run holds times and the order of what happened."""
    return snapshot(directory / "run" / "transformer")


@pytest.mark.parametrize(
    ("program", "read"),
    [(generate, snapshot), (tokenize, snapshot), (convert, snapshot), (export, snapshot), (finetune, weights_of_run)],
)
def test_termination(tmp_path, checkpoint, request, program, read):
    """SIGTERM ends a command as Ctrl+C does, with what it had begun removed; the next run ends as an unbroken one."""
    work = tmp_path / "work"
    run = program(checkpoint, work, request)

    def reset():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()

    reset()
    # What is cached outside of the directory is written once.
    count_operations(run)
    reset()
    count = count_operations(run)
    expected = read(work)
    assert expected
    for point in spread(count, max(2, MOST_KILLS // 4)):
        reset()
        assert run_terminated_before(run, point) == 130, f"another status at operation {point} of {count}"
        assert not [name for name in snapshot(work) if ".partial" in name], f"leftovers at {point} of {count}"
        count_operations(run)
        assert read(work) == expected, f"another end after SIGTERM before operation {point} of {count}"
