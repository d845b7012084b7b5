# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Weights that were distilled for few steps: written, read, merged, and what they want of a call."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_pipelines import PROMPT_IDS, build_pipeline, codes_of

from lumos_hf import LumosVideoPipeline
from lumos_hf.hub.lora_card import lora_card
from lumos_hf.hub.lora_files import TURBO_METADATA_KEY
from lumos_hf.hub.turbo import write_turbo_weights
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler


FILE = "pytorch_lora_weights.safetensors"
STEPS = [3, 1]


def make_pipe():
    torch.manual_seed(0)
    return build_pipeline(vqvae=None)


def write(directory, **changes):
    torch.manual_seed(1)
    model = get_peft_model(make_pipe().transformer, LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    scheduler = MaskDecodingScheduler(token_temperature=0.8)
    write_turbo_weights(
        directory, model, scheduler, **{"num_inference_steps": STEPS, "base_model": "me/base", **changes}
    )
    return directory


@pytest.fixture
def weights(tmp_path):
    return write(tmp_path / "turbo")


def rewrite(directory, **settings):
    """The same weights with other settings in their header."""
    with safe_open(directory / FILE, "pt") as file:
        header = file.metadata()
    wanted = json.loads(header[TURBO_METADATA_KEY])
    header[TURBO_METADATA_KEY] = json.dumps({name: value for name, value in {**wanted, **settings}.items() if value})
    save_file(load_file(directory / FILE), directory / FILE, metadata=header)


@pytest.mark.slow
def test_weights_are_merged_and_what_they_want_becomes_the_default(weights):
    pipe = make_pipe()
    before = {name: tensor.clone() for name, tensor in pipe.transformer.state_dict().items()}
    pipe.load_turbo_weights(weights)
    assert pipe.config.default_num_inference_steps == STEPS and pipe.config.default_guidance_scale == 1.0
    assert pipe.scheduler.config.token_temperature == 0.8
    assert not pipe.get_list_adapters()
    after = pipe.transformer.state_dict()
    assert before.keys() == after.keys()
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "v_proj", "down_proj"}

    loaded = make_pipe()
    loaded.load_lora_weights(weights)
    loaded.scheduler = MaskDecodingScheduler(token_temperature=0.8)
    call = {"input_ids": PROMPT_IDS, "num_inference_steps": None, "guidance_scale": None}
    expected = codes_of(loaded, input_ids=PROMPT_IDS, num_inference_steps=STEPS, guidance_scale=1.0)
    assert torch.equal(codes_of(pipe, **call), expected)
    # What a call says goes before it.
    longer = codes_of(pipe, input_ids=PROMPT_IDS, num_inference_steps=4, guidance_scale=1.0)
    assert not torch.equal(longer, expected)


@pytest.mark.slow
def test_the_folder_of_the_checkpoint_is_the_default(tmp_path):
    make_pipe().save_pretrained(tmp_path)
    write(tmp_path / "turbo")
    pipe = LumosVideoPipeline.from_pretrained(tmp_path)
    pipe.load_turbo_weights()
    assert pipe.config.default_num_inference_steps == STEPS
    # And it can be saved and loaded as a checkpoint of its own.
    pipe.save_pretrained(tmp_path / "merged")
    again = LumosVideoPipeline.from_pretrained(tmp_path / "merged")
    assert again.config.default_num_inference_steps == STEPS
    call = {"input_ids": PROMPT_IDS, "num_inference_steps": None, "guidance_scale": None}
    again.set_progress_bar_config(disable=True)
    assert torch.equal(codes_of(pipe, **call), codes_of(again, **call))


@pytest.mark.slow
def test_the_card_says_what_they_want(weights):
    text = (weights / "README.md").read_text()
    assert "`num_inference_steps=[3, 1]`** (per latent frame, the last number going on)" in text
    assert "`guidance_scale=1.0`**, that is one branch" in text
    assert 'load_turbo_weights("turbo")' in text and "base_model: me/base" in text
    text = lora_card(write(weights.parent / "one", num_inference_steps=4, guidance_scale=2.0)).text
    assert "`num_inference_steps=4`** (per latent frame) and **`guidance_scale=2.0`**, with the scheduler" in text
    assert json.loads((weights / "scheduler" / "scheduler_config.json").read_text())["token_temperature"] == 0.8


@pytest.mark.slow
def test_other_weights_do_not_say_what_they_want(weights):
    save_file(load_file(weights / FILE), weights / FILE)
    with pytest.raises(ValueError, match="`source` must have weights that say how many steps they want"):
        make_pipe().load_turbo_weights(weights)


@pytest.mark.slow
def test_bad_settings_load_nothing(weights):
    pipe = make_pipe()
    before = pipe.transformer.model.layers[0].self_attn.q_proj.weight.clone()
    for settings, message in (
        ({"num_inference_steps": [3, -1]}, r"`num_inference_steps\[1\]` must be a positive integer, got -1"),
        ({"guidance_scale": "much"}, "`guidance_scale` must be a finite number"),
        ({"scheduler": None}, "must say of its distilled weights `scheduler`"),
        ({"scheduler": {"mask_schedule": "none"}}, "`mask_schedule` must be one of"),
    ):
        write(weights)
        rewrite(weights, **settings)
        with pytest.raises(ValueError, match=message):
            pipe.load_turbo_weights(weights)
    assert torch.equal(pipe.transformer.model.layers[0].self_attn.q_proj.weight, before)
    assert pipe.config.default_num_inference_steps is None and not pipe.get_list_adapters()


@pytest.mark.slow
def test_where_there_are_no_weights(tmp_path, weights):
    with pytest.raises(ValueError, match="`source` must be given to a pipeline that was not loaded from a checkpoint"):
        make_pipe().load_turbo_weights()
    make_pipe().save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=f"`source` must have distilled weights, got '{tmp_path / 'checkpoint'}'"):
        LumosVideoPipeline.from_pretrained(tmp_path / "checkpoint").load_turbo_weights()
    pipe = make_pipe()
    pipe.load_lora_weights(weights)
    with pytest.raises(ValueError, match="comes before other adapters are loaded"):
        pipe.load_turbo_weights(weights)


def test_numbers_are_checked_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="`num_inference_steps` must be a positive integer or a list of them"):
        write(tmp_path / "turbo", num_inference_steps=[])
    assert not (tmp_path / "turbo").exists()
