# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Cards of LoRA weights, and that cards hold nothing but text, whatever is in the files that they describe."""

import itertools
import json
import re
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from lumos_hf import demo_checkpoint
from lumos_hf.cli import app
from lumos_hf.hub.lora_card import lora_card, write_lora_card
from lumos_hf.hub.lora_files import write_lora_directory
from lumos_hf.hub.model_card import TAGS, model_card


HOSTILE = '"]) <script>alert(1)</script> ![x](http://a) | `b` \n# heading\n---\nlicense: mit'


@pytest.fixture
def lora(tmp_path):
    config = {"r": 4, "lora_alpha": 8, "base_model_name_or_path": "someone/base"}
    write_lora_directory(tmp_path / "lora", {"base_model.model.lora_A.weight": torch.ones(4, 3)}, config)
    return tmp_path / "lora"


def change_json(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def headings(card: ModelCard) -> list[str]:
    return [line for line in card.text.splitlines() if line.startswith("#")]


def test_what_files_say_is_told(lora):
    card = lora_card(lora, name="me/star", license="mit")
    assert card.data.to_dict() == {
        "license": "mit",
        "base_model": "someone/base",
        "language": "en",
        "library_name": "lumos_hf",
        "pipeline_tag": "text-to-video",
        "tags": [*TAGS, "lora"],
    }
    assert "12 parameters in 1 tensors, rank 4, alpha 8." in card.text
    assert 'from_pretrained("someone/base")' in card.text and 'load_lora_weights("me/star")' in card.text


def test_new_words_are_named(lora):
    tokens = [{"id": 7, "content": "twin"}, {"id": 8, "content": "other"}]
    (lora / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    change_json(lora / "adapter_config.json", trainable_token_indices={"embed_tokens": [7]})
    text = lora_card(lora).text
    assert "New words in prompts: `twin`." in text and 'AutoTokenizer.from_pretrained("lora")' in text


def test_a_path_is_no_base_model(lora):
    change_json(lora / "adapter_config.json", base_model_name_or_path=str(lora))
    assert lora_card(lora).data.base_model is None
    write_lora_card(lora, base_model=str(lora), replace=True)
    assert ModelCard.load(lora / "README.md").data.base_model is None


def test_a_card_that_is_there_stays(lora):
    (lora / "README.md").write_text("Mine.")
    write_lora_card(lora)
    assert (lora / "README.md").read_text() == "Mine."
    write_lora_card(lora, replace=True)
    assert "LoRA weights for" in (lora / "README.md").read_text()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *itertools.product(["adapter_config.json", "tokenizer.json"], ["", "[]", "[" * 100_000]),
        ("tokenizer.json", '{"added_tokens": 3}'),
    ],
)
def test_damaged_files_are_named(lora, file, content):
    change_json(lora / "adapter_config.json", trainable_token_indices={"embed_tokens": [7]})
    (lora / file).write_text(content)
    with pytest.raises(ValueError, match=file):
        lora_card(lora)


def test_hostile_lora_weights_are_text(lora):
    tokens = [{"id": 7, "content": HOSTILE}]
    (lora / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    change_json(
        lora / "adapter_config.json",
        base_model_name_or_path=HOSTILE,
        r=HOSTILE,
        lora_alpha=HOSTILE,
        trainable_token_indices={"embed_tokens": [7]},
    )
    expected = headings(lora_card(lora))
    card = lora_card(lora, name=HOSTILE, base_model=HOSTILE)
    check_harmless(card, expected)


def test_hostile_checkpoints_are_text(tmp_path):
    shutil.copytree(demo_checkpoint(), tmp_path / "demo")
    expected = headings(model_card(tmp_path / "demo"))
    index = json.loads((tmp_path / "demo" / "model_index.json").read_text())
    change_json(tmp_path / "demo" / "model_index.json", tokenizer=[index["tokenizer"][0], HOSTILE])
    change_json(tmp_path / "demo" / "vqvae" / "config.json", levels=[HOSTILE])
    change_json(tmp_path / "demo" / "scheduler" / "scheduler_config.json", token_temperature=HOSTILE)
    check_harmless(model_card(tmp_path / "demo", name=HOSTILE), expected)


def check_harmless(card: ModelCard, expected: list[str]) -> None:
    """The same headings but for the first, which is a name; no markup of HTML; metadata and code that can be read."""
    assert headings(card)[1:] == expected[1:] and headings(card)[0].startswith("# ")
    outside_code = re.sub(r"(```|`).*?\1", "", card.text, flags=re.DOTALL)
    assert "alert" in outside_code and not re.search(r"(?<!\\)<script", outside_code)
    assert ModelCard(str(card)).data.license is None
    compile(card.text.split("```python\n")[1].split("```")[0], "card", "exec")


@pytest.mark.slow
def test_the_command(lora):
    arguments = ["card", "--model", str(lora), "--name", "me/star", "--base-model", "me/base", "--tag", "star"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    card = ModelCard.load(lora / "README.md")
    assert card.data.base_model == "me/base" and card.data.tags == [*TAGS, "star", "lora"]
    for wrong in (["--scores", str(lora / "README.md")], ["--sample", "a.png"], ["--base-model", "me/other"]):
        result = CliRunner().invoke(app, [*arguments, *wrong])
        assert result.exit_code == 2 and f"`{wrong[0]}`" in result.stderr
