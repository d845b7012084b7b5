# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Damaged checkpoints are refused by the name of the file, on one line; none is loaded with weights at random."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lumos_hf import LumosVideoPipeline
from lumos_hf.conversion.weight_files import WeightFiles


TRANSFORMER = "transformer/model.safetensors"
VQVAE = "vqvae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def intact(pipe, tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    pipe.save_pretrained(directory)
    return directory


@pytest.fixture
def checkpoint(intact, tmp_path):
    return shutil.copytree(intact, tmp_path / "checkpoint")


def json_files(checkpoint) -> list[str]:
    return sorted(path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*.json"))


def refusal(checkpoint) -> str:
    with pytest.raises((ValueError, OSError)) as error:
        LumosVideoPipeline.from_pretrained(checkpoint)
    assert "\n" not in str(error.value).strip()
    return str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", [TRANSFORMER, VQVAE])
def test_missing_tensors_are_named(checkpoint, name):
    weights = load_file(checkpoint / name)
    dropped = sorted(weights)[0]
    del weights[dropped]
    save_file(weights, checkpoint / name, metadata={"format": "pt"})
    assert name in (message := refusal(checkpoint)) and f"1 are missing: ['{dropped}']" in message


@pytest.mark.parametrize("name", [TRANSFORMER, VQVAE])
def test_an_empty_file_of_weights_is_refused(checkpoint, name):
    save_file({}, checkpoint / name, metadata={"format": "pt"})
    assert f"{name}' must have every tensor of the model" in refusal(checkpoint)


@pytest.mark.slow
def test_missing_tensors_of_a_shard_are_named(checkpoint):
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.save_pretrained(checkpoint, max_shard_size="100KB")
    index = checkpoint / "transformer" / "model.safetensors.index.json"
    shard = checkpoint / "transformer" / sorted(json.loads(index.read_text())["weight_map"].values())[0]
    weights = load_file(shard)
    weights.pop(sorted(weights)[0])
    save_file(weights, shard, metadata={"format": "pt"})
    assert "the shards in" in refusal(checkpoint)


@pytest.mark.parametrize(
    "shard", ["../elsewhere.safetensors", "{}/elsewhere.safetensors", "..", "elsewhere.bin", "", 3]
)
@pytest.mark.parametrize("name", [TRANSFORMER, VQVAE])
def test_shards_lie_beside_their_index(checkpoint, name, shard):
    """Also where whole weights that would be loaded instead lie there."""
    weights = load_file(checkpoint / name)
    shutil.copy(checkpoint / name, checkpoint / "elsewhere.safetensors")
    shard = shard.format(checkpoint) if isinstance(shard, str) else shard
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, shard)}
    (checkpoint / f"{name}.index.json").write_text(json.dumps(index))
    assert "must name a file *.safetensors beside it for every tensor" in refusal(checkpoint)
    with pytest.raises(ValueError, match="beside it for every tensor"):
        WeightFiles((checkpoint / name).parent, [f"{Path(name).name}.index.json"])


def test_tensors_of_another_shape_are_named(checkpoint):
    weights = load_file(checkpoint / TRANSFORMER)
    weights["model.norm.weight"] = torch.ones(3)
    save_file(weights, checkpoint / TRANSFORMER, metadata={"format": "pt"})
    assert "the tensor model.norm.weight as (3,)" in refusal(checkpoint)


@pytest.mark.parametrize("name", [TRANSFORMER, VQVAE])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_named(checkpoint, name, share):
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[: int(share * len(content))])
    assert f"{name}' is no safetensors file that can be read" in refusal(checkpoint)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"[]", b"\xff", b'{"a":', b"[" * 100_000])
def test_json_that_is_none_is_named(checkpoint, damage):
    names = json_files(checkpoint)
    assert len(names) >= 6
    for name in names:
        content = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(damage)
        assert name in refusal(checkpoint)
        (checkpoint / name).write_bytes(content)


@pytest.mark.slow
def test_mutants_are_refused_on_one_line_or_keep_the_weights(checkpoint):
    """Changed bits of headers and JSON; `make test-faults` has more of them."""
    expected = LumosVideoPipeline.from_pretrained(checkpoint).transformer.state_dict()
    rng = random.Random(0)
    num_refused = 0
    for name in [TRANSFORMER, *json_files(checkpoint)] * 2:
        content = (checkpoint / name).read_bytes()
        end = 8 + int.from_bytes(content[:8], "little") if name.endswith("safetensors") else len(content)
        mutant = bytearray(content)
        mutant[rng.randrange(end)] ^= 1 << rng.randrange(8)
        (checkpoint / name).write_bytes(mutant)
        try:
            loaded = LumosVideoPipeline.from_pretrained(checkpoint).transformer.state_dict()
        except (ValueError, OSError) as error:
            num_refused += 1
            assert "\n" not in str(error).strip(), name
        else:
            assert all(torch.equal(loaded[key], expected[key]) for key in expected), name
        (checkpoint / name).write_bytes(content)
    assert num_refused >= 5
