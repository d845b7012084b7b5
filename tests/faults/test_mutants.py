# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Files of every kind with flipped bits, cut short, or with other JSON in them: refused in one line, or harmless."""

import json
import os
import random
import shutil

import pytest
import torch
from typer.testing import CliRunner

from lumos_hf import LumosVideoPipeline
from lumos_hf.cli import app
from lumos_hf.training import load_tokenized_dataset, tokenize_dataset


# LUMOS_NUM_MUTANTS makes a longer campaign of it: of the bytes of a file, and a third as many of each value in JSON.
NUM_MUTANTS = int(os.environ.get("LUMOS_NUM_MUTANTS", 20))

_LEFT_OUT = object()
JSON_VALUES = [
    *(_LEFT_OUT, None, True, -1, 0, 0.5, 3, 10**9, 10**30, 1e400),
    *("", "x", "a" * 300, "../../etc/passwd", [], [[]], {}, {"a": {"b": []}}),
]


def mutants_of(content: bytes, is_json: bool, seed: str) -> list[bytes]:
    """Others than a file's content: of its bytes, and where it is JSON each value of it in turn."""
    if not content:
        return [b"\x00", b"{}"]
    rng = random.Random(seed)
    mutants = [b"", content[: len(content) // 2], content[:-1], content + b"\x00"]
    while len(mutants) < NUM_MUTANTS:
        kind = rng.choice(["cut", "bit", "bit of the header"])
        if kind == "cut":
            mutants.append(content[: rng.randrange(len(content))])
        else:
            end = min(len(content), 600) if kind == "bit of the header" else len(content)
            changed = bytearray(content)
            changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
            mutants.append(bytes(changed))
    return mutants + (_other_json(content, rng) if is_json else [])


def _other_json(content: bytes, rng: random.Random) -> list[bytes]:
    mutants = []
    for index in range(len(list(_places(json.loads(content))))):
        for value in rng.sample(JSON_VALUES, min(NUM_MUTANTS // 3, len(JSON_VALUES))):
            parsed = json.loads(content)
            container, key = list(_places(parsed))[index]
            if value is _LEFT_OUT:
                del container[key]
            else:
                container[key] = value
            mutants.append(json.dumps(parsed).encode())
    return mutants


def _places(parsed):
    keys = parsed if isinstance(parsed, dict) else range(len(parsed))
    for key in keys:
        yield parsed, key
        if isinstance(parsed[key], (dict, list)):
            yield from _places(parsed[key])


CHECKPOINT_FILES = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "transformer/model.safetensors",
    "vqvae/config.json",
    "vqvae/diffusion_pytorch_model.safetensors",
]


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_checkpoints(copied_checkpoint, tmp_path, name):
    """A mutant is refused in one line or makes a video; no weight is left as it was drawn at random."""
    path = copied_checkpoint / name
    content = path.read_bytes()
    # Each word of a vocabulary would be a place of its own.
    is_json = name.endswith(".json") and name != "tokenizer/tokenizer.json"
    failures = []
    for index, mutant in enumerate(mutants_of(content, is_json, seed=name)):
        path.write_bytes(mutant)
        arguments = ["generate", "A red star.", "--model", copied_checkpoint, "--steps", 1, "--num-frames", 1, "-o"]
        result = CliRunner().invoke(app, [str(argument) for argument in [*arguments, tmp_path / "out.png"]])
        if result.exit_code not in (0, 2) or (result.exit_code and not _is_one_line(result)):
            error = result.exception.__cause__ or result.exception
            failures.append(f"mutant {index} ({len(mutant)} bytes): {error!r:.300}")
    assert not failures, "\n".join(failures)


def _is_one_line(result) -> bool:
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return isinstance(result.exception, SystemExit) and len(lines) == 1


@pytest.mark.parametrize("name", ["transformer/model.safetensors", "vqvae/diffusion_pytorch_model.safetensors"])
def test_files_without_all_tensors(copied_checkpoint, name):
    from safetensors.torch import load_file, save_file

    weights = load_file(copied_checkpoint / name)
    for left_out in [*random.Random(0).sample(sorted(weights), 5), None]:
        kept = {} if left_out is None else {key: tensor for key, tensor in weights.items() if key != left_out}
        save_file(kept, copied_checkpoint / name, metadata={"format": "pt"})
        with pytest.raises((ValueError, OSError), match=left_out or "."):
            LumosVideoPipeline.from_pretrained(copied_checkpoint)


@pytest.fixture(scope="module")
def tokenized(checkpoint, tmp_path_factory):
    from PIL import Image

    directory = tmp_path_factory.mktemp("clips")
    for index in range(4):
        Image.new("RGB", (64, 64), (60 * index, 0, 0)).save(directory / f"{index}.png")
        (directory / f"{index}.txt").write_text("A red star.", encoding="utf-8")
    output = tmp_path_factory.mktemp("tokenized") / "set"
    tokenize_dataset(str(directory), str(checkpoint), output, height=64, width=64, num_frames=5, clips_per_shard=2)
    return output


def test_tokenized_sets(tokenized, tmp_path):
    expected = [row["codes"] for row in load_tokenized_dataset(tokenized).with_format(None)]
    failures = []
    for name in [str(path.relative_to(tokenized)) for path in tokenized.rglob("*") if path.is_file()]:
        content = (tokenized / name).read_bytes()
        for index, mutant in enumerate(mutants_of(content, name.endswith(".json"), seed=name)):
            copy = shutil.copytree(tokenized, tmp_path / "copy")
            (copy / name).write_bytes(mutant)
            try:
                rows = [row["codes"] for row in load_tokenized_dataset(copy).with_format(None)]
                if rows != expected:
                    failures.append(f"{name}, mutant {index}: other codes without a word")
            except (ValueError, OSError):
                pass
            except Exception as error:
                failures.append(f"{name}, mutant {index}: {error!r:.300}")
            shutil.rmtree(copy)
    assert not failures, "\n".join(failures)


LORA_FILES = ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize("name", LORA_FILES)
def test_lora_weights(pipe, tmp_path, name):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(pipe.transformer, LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    model.unload()
    path = tmp_path / name
    content = path.read_bytes()
    before = {key: tensor.clone() for key, tensor in pipe.transformer.state_dict().items()}
    failures = []
    for index, mutant in enumerate(mutants_of(content, name.endswith(".json"), seed=name)):
        path.write_bytes(mutant)
        try:
            pipe.load_lora_weights(tmp_path, adapter_name="mutant")
            pipe.unload_lora_weights()
        except (ValueError, OSError):
            pass
        except Exception as error:
            failures.append(f"mutant {index} ({len(mutant)} bytes): {error!r:.300}")
        after = pipe.transformer.state_dict()
        if set(after) != set(before) or not all(torch.equal(after[key], before[key]) for key in before):
            failures.append(f"mutant {index}: the model was changed")
            break
    assert not failures, "\n".join(failures)
