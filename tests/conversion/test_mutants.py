# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Damaged files of every kind: they are refused in one line that names the file or its directory, or mean what they meant.

Weights in safetensors have no checksum: a flipped bit in a number is another number, so there only the header is changed.
"""

import json
import random
import struct

import pytest
import torch
from safetensors.torch import load_file

from lumos_hf.conversion import convert_cosmos_tokenizer
from lumos_hf.conversion.lumos import open_lumos_checkpoint
from lumos_hf.conversion.text_tokenizer import check_text_tokenizer, load_text_tokenizer
from lumos_hf.conversion.weight_files import read_tensors

from .official_release import LEVELS, VISUAL_TOKEN_OFFSET, assert_same_tensors, copy_of


NUM_MUTANTS = 40
NUM_CODES = 240
VALUES = [None, True, -1, 0, 2**70, 1e400, "text", "", [], [1], {}, {"a": 1}, [[[]]]]


def damaged_bytes(content: bytes, generator: random.Random, end: int | None = None) -> bytes:
    """With a flipped bit, another byte, a piece less or twice, or cut short, before `end`."""
    end = end or len(content)
    start = generator.randrange(end)
    stop = min(end, start + generator.randint(1, 20))
    kind = generator.choice(["flip", "byte", "less", "twice", "cut", "swap"])
    if kind == "flip":
        return content[:start] + bytes([content[start] ^ 1 << generator.randrange(8)]) + content[start + 1 :]
    if kind == "byte":
        return content[:start] + bytes([generator.randrange(256)]) + content[start + 1 :]
    if kind == "less":
        return content[:start] + content[stop:]
    if kind == "twice":
        return content[:stop] + content[start:]
    if kind == "cut":
        return content[:start]
    return content[:start] + content[start:stop][::-1] + content[stop:]


def damaged_json(content: bytes, generator: random.Random) -> bytes:
    """With another value somewhere, a value less, or damaged bytes."""
    if generator.random() < 0.4:
        return damaged_bytes(content, generator)
    root = json.loads(content)
    place = root
    while True:
        key = generator.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], (dict, list)) and place[key] and generator.random() < 0.7:
            place = place[key]
            continue
        if generator.random() < 0.3:
            del place[key]
        else:
            place[key] = generator.choice(VALUES)
        return json.dumps(root).encode()


def damaged_header(content: bytes, generator: random.Random) -> bytes:
    return damaged_bytes(content, generator, end=8 + struct.unpack("<Q", content[:8])[0])


def open_lumos(release):
    layout = {"visual_token_offset": VISUAL_TOKEN_OFFSET, "visual_vocab_size": NUM_CODES}
    return dict(open_lumos_checkpoint(release.lumos, **layout)[1])


def open_cosmos(release):
    return convert_cosmos_tokenizer(release.cosmos).state_dict()


def open_text_tokenizer(release):
    config = open_lumos_checkpoint(
        release.lumos, visual_token_offset=VISUAL_TOKEN_OFFSET, visual_vocab_size=NUM_CODES
    )[0]
    tokenizer, _, path = load_text_tokenizer(release.text_tokenizer)
    check_text_tokenizer(tokenizer, config, path)


FILES = {
    "lumos/config.json": (damaged_json, open_lumos),
    "lumos/model.safetensors.index.json": (damaged_json, open_lumos),
    "lumos/model-00002-of-00003.safetensors": (damaged_header, open_lumos),
    "cosmos/config.json": (damaged_json, open_cosmos),
    "cosmos/encoder.jit": (damaged_bytes, open_cosmos),
    "text_tokenizer.json": (damaged_json, open_text_tokenizer),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name, release, tmp_path):
    copy = copy_of(release, tmp_path)
    damage, open_file = FILES[name]
    path = copy.lumos.parent / name
    content, whole = path.read_bytes(), open_file(copy)
    num_refused = 0
    for seed in range(NUM_MUTANTS):
        path.write_bytes(damage(content, random.Random(f"{name} {seed}")))
        try:
            opened = open_file(copy)
        except (ValueError, OSError) as error:
            message = str(error)
            assert str(path.parent) in message, (seed, message)
            assert "\n" not in message, (seed, message)
            num_refused += 1
            continue
        if path.suffix == ".jit":
            assert_same_tensors(opened, whole)
    assert num_refused > NUM_MUTANTS / 10


@pytest.mark.slow
def test_damaged_pickles(tmp_path, golden_lumos):
    path = tmp_path / "pytorch_model.bin"
    weights = {name: tensor[:2].clone() for name, tensor in load_file(golden_lumos / "model.safetensors").items()}
    torch.save(weights, path)
    content = path.read_bytes()
    for seed in range(NUM_MUTANTS):
        path.write_bytes(damaged_bytes(content, random.Random(seed)))
        try:
            read_tensors(path)
        except (ValueError, OSError) as error:
            assert str(path) in str(error) and "\n" not in str(error), (seed, str(error))


def test_levels_of_the_release_are_small():
    """So that the number of codes above is that of the release."""
    assert torch.tensor(LEVELS).prod() == NUM_CODES
