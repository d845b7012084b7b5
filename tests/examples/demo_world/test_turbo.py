# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The turbo weights of the demo, from its command."""

import shutil

import pytest
import turbo

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.evaluation.clips import caption, is_held_out, pair_specs, single_specs
from lumos_hf.hub.lora_files import read_turbo_settings


@pytest.mark.slow
def test_no_caption_is_a_held_out_one():
    import random

    held_out = [spec for spec in single_specs() + pair_specs() if is_held_out(spec)]
    wordings = {caption(spec, random.Random(seed)) for spec in held_out[::97] for seed in range(4)}
    captions = turbo.training_captions(turbo.NUM_PROMPTS)
    assert len(captions) == turbo.NUM_PROMPTS and not wordings & set(captions)


@pytest.mark.slow
def test_the_command_writes_weights_beside_the_checkpoint(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(demo_checkpoint(), model, ignore=shutil.ignore_patterns("turbo"))
    turbo.main(["--model", str(model), "--output", str(tmp_path / "run"), "--steps", "1", "--num-prompts", "2"])
    written = {path.relative_to(model / "turbo").as_posix() for path in (model / "turbo").rglob("*") if path.is_file()}
    assert written == {*turbo.INSTALLED, "README.md"}
    assert "2 clips that the checkpoint made itself" in (model / "turbo" / "README.md").read_text()
    pipe = LumosVideoPipeline.from_pretrained(model)
    pipe.load_turbo_weights()
    assert pipe.config.default_num_inference_steps == list(turbo.STUDENT_STEPS)
    assert pipe.scheduler.config.token_temperature == turbo.STUDENT_TOKEN_TEMPERATURE


def test_the_packaged_weights_are_of_this_command():
    settings = read_turbo_settings(demo_checkpoint() / "turbo" / turbo.INSTALLED[0])
    assert settings["num_inference_steps"] == list(turbo.STUDENT_STEPS) and settings["guidance_scale"] == 1.0
    assert settings["scheduler"]["confidence_temperature"] == turbo.STUDENT_CONFIDENCE_TEMPERATURE
    assert settings["scheduler"]["token_temperature"] == turbo.STUDENT_TOKEN_TEMPERATURE
    assert f"{turbo.NUM_PROMPTS} clips" in (demo_checkpoint() / "turbo" / "README.md").read_text()
