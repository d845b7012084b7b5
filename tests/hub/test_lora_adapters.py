# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Several adapters, hot swaps, trained rows, hostile files and kills, with random LoRA weights of a tiny pipeline."""

import copy
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from lumos_hf import LumosVideoPipeline
from lumos_hf.hub.lora_loader import lora_scale


ROWS = [5, 9]


@pytest.fixture
def pipe(pipe):
    return LumosVideoPipeline(**{**pipe.components, "transformer": copy.deepcopy(pipe.transformer)})


def write_lora(pipe, directory, seed, **config) -> None:
    """LoRA weights at random, none of them zero."""
    trained = LumosVideoPipeline(**{**pipe.components, "transformer": copy.deepcopy(pipe.transformer)})
    trained.transformer.add_adapter(LoraConfig(**{"r": 4, "target_modules": ["q_proj", "down_proj"], **config}))
    generator = torch.Generator().manual_seed(seed)
    for parameter in trained.transformer.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    trained.save_lora_weights(directory)


def logits(pipe) -> torch.Tensor:
    with torch.no_grad():
        return pipe.transformer(torch.arange(3, 15).view(1, -1)).logits


def logits_with(pipe, directory, **options) -> torch.Tensor:
    """Those of a fresh copy with nothing but these LoRA weights."""
    other = LumosVideoPipeline(**{**pipe.components, "transformer": copy.deepcopy(pipe.transformer)})
    other.load_lora_weights(directory, **options)
    return logits(other)


@pytest.fixture
def loras(pipe, tmp_path):
    for seed, name in enumerate(("first", "second")):
        write_lora(pipe, tmp_path / name, seed)
    return tmp_path / "first", tmp_path / "second"


@pytest.mark.slow
def test_differences_of_adapters_are_added_up_by_weight(pipe, loras):
    before = copy.deepcopy(pipe.transformer)
    for name, directory in zip("ab", loras, strict=True):
        pipe.load_lora_weights(directory, adapter_name=name)
    pipe.set_adapters(["a", "b"], [0.5, -2.0])
    assert pipe.get_active_adapters() == ["a", "b"]
    for name, module in pipe.transformer.named_modules():
        if hasattr(module, "lora_A"):
            weight = before.get_submodule(name).weight
            weight.data += module.get_delta_weight("a").detach() + module.get_delta_weight("b").detach()
    with torch.no_grad():
        expected = before(torch.arange(3, 15).view(1, -1)).logits
    assert torch.allclose(logits(pipe), expected, atol=1e-4)
    pipe.delete_adapters("b")
    pipe.set_adapters("a")
    assert pipe.get_list_adapters() == {"transformer": ["a"]}
    pipe.unload_lora_weights()
    assert torch.equal(logits(pipe), logits_with_nothing(pipe))


def logits_with_nothing(pipe) -> torch.Tensor:
    assert not [name for name, _ in pipe.transformer.named_modules() if "lora" in name]
    return logits(pipe)


@pytest.mark.slow
def test_a_scale_for_a_while_multiplies_that_of_the_adapters(pipe, loras):
    pipe.load_lora_weights(loras[0], adapter_name="a")
    pipe.set_adapters("a", 0.25)
    quarter = logits(pipe)
    pipe.set_adapters("a", 0.5)
    half = logits(pipe)
    with lora_scale(pipe.transformer, 0.5):
        assert torch.equal(logits(pipe), quarter)
    assert torch.equal(logits(pipe), half)


def draw(pipe, **options) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        "A red star.", num_inference_steps=4, generator=generator, output_type="latent", **SIZE, **options
    ).frames


SIZE = {"height": 64, "width": 64, "num_frames": 5}


@pytest.mark.slow
def test_a_call_takes_the_scale_of_its_adapters(pipe, loras):
    without = draw(pipe)
    pipe.load_lora_weights(loras[0], adapter_name="a")
    whole = draw(pipe)
    pipe.set_adapters("a", 0.5)
    half = draw(pipe)
    pipe.set_adapters("a", 1.0)
    assert not torch.equal(half, whole) and not torch.equal(without, half)
    assert torch.equal(draw(pipe, attention_kwargs={"scale": 0.0}), without)
    assert torch.equal(draw(pipe, attention_kwargs={"scale": 0.5}), half)
    frames = pipe.stream(
        "A red star.",
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        attention_kwargs={"scale": 0.5},
        **SIZE,
    )
    first = next(frames)
    # Between two frames of a stream, others are drawn by the weights as they are.
    assert torch.equal(draw(pipe), whole)
    assert torch.equal(torch.cat([first, *frames], dim=1), half)


@pytest.mark.parametrize(
    "value",
    [{"ip_adapter": 1}, ["scale"], {"scale": "0.5"}, {"scale": float("nan")}, {"scale": None}, {"scale": 10**400}],
)
def test_what_is_no_scale_is_refused(pipe, value):
    with pytest.raises(ValueError, match="`attention_kwargs` must"):
        draw(pipe, attention_kwargs=value)


@pytest.mark.slow
def test_hot_swaps(pipe, loras, tmp_path):
    write_lora(pipe, tmp_path / "rank 8", seed=2, r=8)
    expected = [logits_with(pipe, directory) for directory in (*loras, tmp_path / "rank 8")]
    plain = copy.deepcopy(pipe)
    plain.load_lora_weights(loras[0], adapter_name="a")
    plain.load_lora_weights(loras[1], adapter_name="a", hotswap=True)
    assert torch.equal(logits(plain), expected[1])
    with pytest.raises(ValueError, match="there is room for .* `enable_lora_hotswap"):
        plain.load_lora_weights(tmp_path / "rank 8", adapter_name="a", hotswap=True)
    assert torch.equal(logits(plain), expected[1])
    with pytest.raises(ValueError, match="must be one of the loaded adapters"):
        plain.load_lora_weights(loras[0], adapter_name="b", hotswap=True)

    pipe.enable_lora_hotswap(target_rank=8)
    pipe.load_lora_weights(loras[0], adapter_name="a")
    assert torch.allclose(logits(pipe), expected[0], atol=1e-5)
    pipe.load_lora_weights(tmp_path / "rank 8", adapter_name="a", hotswap=True)
    assert torch.allclose(logits(pipe), expected[2], atol=1e-5)


@pytest.mark.slow
def test_trained_rows_come_and_go_with_their_adapter(pipe, tmp_path):
    before = logits(pipe)
    names = pipe.transformer.state_dict().keys()
    embedding = pipe.transformer.get_input_embeddings().weight.clone()
    write_lora(pipe, tmp_path, seed=0, trainable_token_indices={"embed_tokens": ROWS})
    pipe.load_lora_weights(tmp_path, adapter_name="a")
    with_rows = pipe.transformer.get_input_embeddings()(torch.arange(12))
    changed = [row for row in range(12) if not torch.equal(with_rows[row], embedding[row])]
    assert changed == ROWS
    pipe.set_adapters("a", 0.5)
    assert torch.equal(pipe.transformer.get_input_embeddings()(torch.arange(12)), with_rows)
    pipe.unload_lora_weights()
    assert torch.equal(logits(pipe), before)
    assert pipe.transformer.state_dict().keys() == names
    assert list(pipe.transformer.get_input_embeddings().children()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"megatron_config": {"a": 1}, "megatron_core": "antigravity"},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": ["loftq"]},
        {"modules_to_save": ["lm_head"]},
        {"layer_replication": [[0, 2], [1, 2]]},
        {"peft_type": "LOHA"},
        {"peft_type": ["LORA"]},
        {"target_modules": "(("},
        {"target_modules": {"q_proj": 1}},
        {"target_modules": ["no_such_layer"]},
        {"trainable_token_indices": {"embed_tokens": [10**9]}},
        {"rank_pattern": {"q_proj": 7}},
        {"rank_pattern": "q_proj"},
        {"r": 0},
        {"r": -4},
        {"r": "4"},
        {"r": 10**400},
        {"lora_alpha": "much"},
        {"lora_alpha": None},
        {"lora_dropout": "none"},
        {"bias": "all of them"},
    ],
    ids=str,
)
def test_configurations_that_do_not_fit_or_do_more_are_refused(pipe, loras, changes):
    before = logits(pipe)
    file = loras[0] / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(ValueError, match="`pretrained_model_name_or_path`"):
        pipe.load_lora_weights(loras[0])
    assert "antigravity" not in sys.modules
    assert pipe.get_list_adapters() == {}
    assert torch.equal(logits_with_nothing(pipe), before)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"r": ', b"[" * 100_000])
def test_configurations_that_are_none_are_refused(pipe, loras, content):
    (loras[0] / "adapter_config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        pipe.load_lora_weights(loras[0])


def test_no_code_in_pickled_weights_is_run(pipe, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "attacked"),)

    torch.save({"transformer.x": Attack()}, tmp_path / "lora.bin")
    with pytest.raises(ValueError, match="no file of tensors that can be read"):
        pipe.load_lora_weights(tmp_path / "lora.bin")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4, 3), (64, 4, 1), ()])
def test_tensors_of_another_shape_or_kind_are_refused(pipe, loras, shape):
    file = loras[0] / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "lora_A" in name)
    for wrong in (torch.ones(shape), torch.ones(weights[name].shape, dtype=torch.int64)):
        save_file({**weights, name: wrong}, file)
        with pytest.raises(ValueError, match="does not fit the transformer: tensor"):
            pipe.load_lora_weights(loras[0])
    assert pipe.get_list_adapters() == {}


@pytest.mark.slow
def test_state_dicts_of_given_layers(pipe, loras, tmp_path):
    from peft import get_peft_model_state_dict

    pipe.load_lora_weights(loras[0], adapter_name="a")
    expected = logits(pipe)
    layers = get_peft_model_state_dict(pipe.transformer, adapter_name="a")
    LumosVideoPipeline.save_lora_weights(
        tmp_path / "given",
        transformer_lora_layers=layers,
        transformer_lora_adapter_metadata=pipe.transformer.peft_config["a"].to_dict(),
    )
    pipe.unload_lora_weights()
    assert (tmp_path / "given" / "pytorch_lora_weights.safetensors").is_file()
    state_dict = LumosVideoPipeline.lora_state_dict(tmp_path / "given")
    assert all(name.startswith("transformer.") for name in state_dict)
    assert torch.equal(logits_with(pipe, tmp_path / "given"), expected)
    assert pipe.get_list_adapters() == {}


# Saves LoRA weights over others in copies of a directory; each time a forked process dies one operation on files later.
KILLED = """
import os, sys
import torch
from lumos_hf.hub.lora_files import write_lora_directory
torch.set_num_threads(1)
def save_until(operation, directory):
    left = operation
    def die(event, arguments):
        nonlocal left
        writes = event != "open" or arguments[1] not in (None, "r", "rb")
        if writes and event in ("open", "os.rename", "os.link", "os.remove", "os.mkdir"):
            left -= 1
            if left == 0:
                os._exit(9)
    sys.addaudithook(die)
    write_lora_directory(directory, {"base_model.model.x": torch.full((2,), 2.0)}, {"r": 2})
    os._exit(0)
from pathlib import Path
for operation, directory in enumerate(sys.argv[1:], 1):
    if os.fork() == 0:
        save_until(operation, Path(directory))
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_killed_save_leaves_the_old_or_the_new_weights(tmp_path):
    from lumos_hf.hub.lora_files import find_lora_file, read_lora_file, write_lora_directory

    write_lora_directory(tmp_path / "old", {"base_model.model.x": torch.full((1,), 1.0)}, {"r": 1})
    directories = [shutil.copytree(tmp_path / "old", tmp_path / str(operation)) for operation in range(1, 21)]
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, directories)], capture_output=True, text=True, check=True
    )
    statuses = process.stdout.split()
    ranks = []
    for directory in directories:
        weights, config = read_lora_file(find_lora_file(directory))
        assert weights["base_model.model.x"].tolist() == [config["r"]] * config["r"]
        ranks.append(config["r"])
    assert ranks == sorted(ranks) and set(ranks) == {1, 2}
    assert statuses.count("9") >= 8 and statuses[-1] == "0"
