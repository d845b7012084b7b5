# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import json
import shutil
from pathlib import Path

import pytest
from card import demo_model_card
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from lumos_hf import demo_checkpoint
from lumos_hf.cli import app
from lumos_hf.hub.model_card import TAGS, model_card


REPOSITORY = Path(__file__).parents[2]


def test_the_card_of_the_demo_is_up_to_date():
    """`python examples/demo_world/card.py` writes it."""
    assert (REPOSITORY / "MODEL_CARD.md").read_text(encoding="utf-8") == str(demo_model_card())


@pytest.mark.slow
def test_the_usage_of_the_demo_runs():
    names = {}
    exec(demo_model_card().text.split("```python\n")[1].split("```")[0], names)
    assert len(names["frames"]) == 9


def test_metadata_sizes_and_settings():
    card = model_card(demo_checkpoint(), name="someone/lumos", license="mit", base_model="someone/base", language="de")
    assert card.data.to_dict() == {
        "license": "mit",
        "base_model": "someone/base",
        "language": "de",
        "library_name": "lumos_hf",
        "pipeline_tag": "text-to-video",
        "tags": list(TAGS),
    }
    assert "| transformer | `LumosForCausalLM` | 3.6 million | 7.3 MB |" in card.text
    assert "3 latent frames of 64 codes. Weights are stored in bfloat16." in card.text
    assert "9 frames of 128x128 pixels at 8 frames per second; guidance 1.5, 12 steps" in card.text
    assert "Not stated" in card.text and "## Scores" not in card.text
    assert "trust_remote_code" not in card.text


def test_settings_of_zero_are_settings(tmp_path):
    shutil.copytree(demo_checkpoint(), tmp_path / "demo")
    index_file = tmp_path / "demo" / "model_index.json"
    index = json.loads(index_file.read_text())
    index_file.write_text(json.dumps({**index, "default_history_mask_ratio": 0.0, "default_guidance_scale": 0.0}))
    text = model_card(tmp_path / "demo").text
    assert "guidance 0.0, 12 steps" in text and "history mask ratio 0.0" in text


def test_given_text_scores_and_samples_are_shown(tmp_path):
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"held-out prompts": {"generated": {"all": 0.5}}}))
    card = model_card(
        demo_checkpoint(),
        scores=scores,
        samples=["assets/red_star.png", "assets/star.mp4"],
        training_data="Procedural clips.",
        limits="It draws five shapes.",
    )
    assert "### Held-out prompts\n\n| clips | all |\n| --- | --- |\n| generated | 0.500 |\n" in card.text
    assert (
        "![red star](assets/red_star.png)" in card.text and '<video controls loop src="assets/star.mp4"' in card.text
    )
    assert "## Training data\n\nProcedural clips.\n" in card.text and "It draws five shapes." in card.text


def test_variants_and_shards_count_once(tmp_path):
    shutil.copytree(demo_checkpoint(), tmp_path / "demo")
    folder = tmp_path / "demo" / "vqvae"
    whole = (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    (folder / "diffusion_pytorch_model.fp16-00001-of-00002.safetensors").write_bytes(whole)
    (folder / "diffusion_pytorch_model.fp16-00002-of-00002.safetensors").write_bytes(whole)
    assert "| 2.6 million | 5.2 MB, 10.4 MB as fp16 |" in model_card(tmp_path / "demo").text


@pytest.mark.parametrize("content", ["[]", '{"title": {}}', '{"title": {"row": {"all": "good"}}}', "no json"])
def test_scores_that_are_none_are_refused(tmp_path, content):
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(ValueError, match="`scores` must be a JSON file of tables .* got '.*scores.json'"):
        model_card(demo_checkpoint(), scores=tmp_path / "scores.json")


def test_directories_without_a_checkpoint_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`directory` must be a checkpoint"):
        model_card(tmp_path)


def test_the_command(tmp_path):
    output = tmp_path / "README.md"
    arguments = [
        "card",
        "--model",
        str(demo_checkpoint()),
        "--output",
        str(output),
        "--name",
        "me/mine",
        "--tag",
        "demo",
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    card = ModelCard.load(output)
    assert card.data.tags == [*TAGS, "demo"] and 'from_pretrained("me/mine")' in card.text
