# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The whole way of `make demo-train`, in a few steps: clips, tokenizer, generator, checkpoint, video."""

import shutil

import assemble
import numpy as np
import pytest
import torch
import train_generator
import train_tokenizer
import training_run

from lumos_hf import LumosVideoPipeline
from lumos_hf.evaluation.clips import RELATIONS
from lumos_hf.evaluation.vocabulary import demo_config, demo_text_tokenizer
from lumos_hf.token_layout import codes_from_frame_ids, frame_length
from lumos_hf.training.data_collator import IGNORED_LABEL, DataCollatorForDiffusionForcing


pytestmark = pytest.mark.slow


def contents(folder):
    """Bytes and times of all files below `folder`."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def checkpoint(training):
    vqvae, transformer = str(training / "vqvae"), str(training / "transformer")
    train_tokenizer.main(["--output", vqvae, "--steps", "2", "--batch-size", "2"])
    generator = ["--vqvae", vqvae, "--output", transformer, "--max-clips", "8", "--batch-size", "2"]
    train_generator.main([*generator, "--steps", "2"])
    train_generator.main([*generator, "--steps", "2", "--refine", transformer, "--output", str(training / "refined")])
    output = training / "checkpoint"
    assemble.main(["--training", str(training), "--output", str(output)])
    return output


def test_the_trained_checkpoint_makes_a_video(checkpoint):
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe("A red star jumps in the snow.", num_inference_steps=2).frames[0]
    assert len(frames) == 9
    assert frames[0].size == (128, 128)


def test_turbo_weights_stay_with_the_transformer_that_they_fit(checkpoint, training, tmp_path):
    output, turbo = tmp_path / "checkpoint", tmp_path / "checkpoint" / "turbo" / "pytorch_lora_weights.safetensors"
    shutil.copytree(checkpoint, output)
    turbo.parent.mkdir()
    turbo.touch()
    assemble.main(["--training", str(training), "--output", str(output)])
    assert turbo.is_file()
    refined = tmp_path / "refined"
    shutil.copytree(training / "vqvae", refined / "vqvae")
    shutil.copytree(training / "refined", refined / "transformer")
    assemble.main(["--training", str(refined), "--output", str(output)])
    assert not turbo.parent.exists()


def test_a_finished_command_changes_nothing(checkpoint, training, capsys):
    before = contents(training)
    train_tokenizer.main(["--output", str(training / "vqvae"), "--steps", "2", "--batch-size", "2"])
    train_generator.main(
        ["--vqvae", str(training / "vqvae"), "--output", str(training / "transformer"), "--max-clips", "8"]
        + ["--batch-size", "2", "--steps", "2"]
    )
    assert capsys.readouterr().out.count("finished: nothing was changed") == 2
    assert contents(training) == before


def test_a_finished_run_with_other_settings_is_refused(checkpoint, training):
    with pytest.raises(ValueError, match=r"finished run with .*'steps': 2.*; choose another directory"):
        train_tokenizer.main(["--output", str(training / "vqvae"), "--steps", "3", "--batch-size", "2"])


@pytest.mark.parametrize("last_checkpoint", [1, 2])
def test_a_killed_run_ends_in_the_weights_of_an_unbroken_one(
    checkpoint, training, tmp_path, monkeypatch, last_checkpoint
):
    """Killed after its first checkpoint, or between its last one and the weights."""
    monkeypatch.setattr(training_run, "SAVE_STEPS", 1)
    command = ["--vqvae", str(training / "vqvae"), "--max-clips", "8", "--batch-size", "2", "--steps", "2"]
    for name in ("unbroken", "killed"):
        train_generator.main([*command, "--output", str(tmp_path / name)])
    killed = tmp_path / "killed"
    (killed / "finished.json").unlink()
    (killed / "model.safetensors").unlink()
    for step in range(last_checkpoint + 1, 3):
        shutil.rmtree(killed / "trainer" / f"checkpoint-{step}")
    train_generator.main([*command, "--output", str(killed)])
    assert (killed / "model.safetensors").read_bytes() == (tmp_path / "unbroken" / "model.safetensors").read_bytes()


def test_given_frames_are_neither_masked_nor_in_the_loss():
    specs = train_generator.continued_training_specs()[:4]
    codes = np.random.default_rng(0).integers(0, 1000, (4, 3, 8, 8)).astype(np.uint16)
    config, tokenizer = demo_config(1000, 16), demo_text_tokenizer()
    dataset = train_generator.TokenizedClipDataset(specs, [], codes[[0, 1, 2, 3, 0, 1, 2, 3]], 16, continued=specs)
    items = [dataset[index] for index in range(16)]
    assert {item.get("num_given", 0) for item in items} == {0, 1, 2}
    collator = train_generator.CollatorWithGivenFrames(DataCollatorForDiffusionForcing(config, tokenizer))
    batch = collator(items)
    for item, input_ids, labels in zip(items, batch["input_ids"], batch["labels"]):
        start = int((input_ids == config.image_start_token_id).nonzero()[0])
        length = frame_length(8, 8)
        for frame in range(3):
            ids, frame_labels = (row[start + frame * length :][:length] for row in (input_ids, labels))
            restored = codes_from_frame_ids(ids, 8, 8, config).numpy()
            is_given = frame < item.get("num_given", 0)
            assert (restored == item["codes"][frame]).all() == is_given
            assert (frame_labels == IGNORED_LABEL).all() == is_given


def test_a_draw_of_the_data_set_depends_on_its_index_only():
    singles, pairs = (specs[:4] for specs in train_generator.training_specs())
    codes = torch.arange(8 * 3 * 8 * 8).view(8, 3, 8, 8).numpy()
    dataset, longer = (train_generator.TokenizedClipDataset(singles, pairs, codes, size) for size in (16, 32))
    assert [dataset[i]["caption"] for i in range(16)] == [longer[i]["caption"] for i in range(16)]
    assert len({dataset[i]["caption"] for i in range(16)}) >= 4


@pytest.mark.parametrize("pair_share", [0.0, 1.0])
def test_the_share_of_clips_with_two_characters(pair_share):
    singles, pairs = (specs[:4] for specs in train_generator.training_specs())
    codes = np.zeros((12, 3, 8, 8), np.uint16)
    dataset = train_generator.TokenizedClipDataset(
        singles, pairs, codes, 16, continued=train_generator.continued_training_specs()[:4], pair_share=pair_share
    )
    relations = tuple(f" {relation} " for relation in RELATIONS.values())
    assert {any(relation in dataset[i]["caption"] for relation in relations) for i in range(16)} == {bool(pair_share)}
