# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What official-looking releases are made with; the benchmark of the conversion uses it too."""

import json
import math
import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE


VISUAL_TOKEN_OFFSET = 9216
# As many codes as the golden transformer knows; the weights of the video tokenizer do not depend on them.
LEVELS = [5, 3, 2, 2, 2, 2]
ARCHIVE_PREFIXES = {"encoder.jit": ("encoder.", "quant_conv."), "decoder.jit": ("decoder.", "post_quant_conv.")}
SPECIAL_TOKENS = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", 8196: "<eoss>", 8197: "<racm3:break>"}


def archive_buffers(levels):
    """What official archives hold beside weights."""
    levels = torch.tensor(levels, dtype=torch.int32)
    quantizer = {
        "_levels": levels,
        "_basis": levels.cumprod(0, dtype=torch.int32) // levels,
        "implicit_codebook": torch.zeros(math.prod(levels.tolist()), len(levels)),
    }
    wavelets = {"wavelets": torch.full((2,), 0.5**0.5), "_arange": torch.arange(2)}
    patch_size = {"patch_size_buffer": torch.tensor([4], dtype=torch.int32)}
    return {
        "encoder.jit": {
            **{f"encoder.patcher3d.{name}": tensor for name, tensor in {**wavelets, **patch_size}.items()},
            **{f"quantizer.{name}": tensor for name, tensor in quantizer.items()},
        },
        "decoder.jit": {
            **{f"inv_quant.quantizer.{name}": tensor for name, tensor in quantizer.items()},
            **{f"decoder.unpatcher3d.{name}": tensor for name, tensor in wavelets.items()},
        },
    }


def save_archive(tensors, path):
    """A TorchScript archive whose state dict holds exactly these tensors."""
    root = torch.nn.Module()
    for name, tensor in tensors.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, torch.nn.Module())
            module = module.get_submodule(parent)
        if leaf in ("weight", "bias"):
            module.register_parameter(leaf, torch.nn.Parameter(tensor))
        else:
            module.register_buffer(leaf, tensor)
    torch.jit.script(root).save(path)


def save_archives(weights, directory, levels):
    for name, prefixes in ARCHIVE_PREFIXES.items():
        part = {key: tensor for key, tensor in weights.items() if key.startswith(prefixes)}
        save_archive({**part, **archive_buffers(levels)[name]}, directory / name)


def code_name(code):
    return "VIDVID" + "".join("ABCDEFGHIJ"[int(digit)] for digit in str(code)) + "Z"


def text_tokenizer(num_codes, visual_token_offset=VISUAL_TOKEN_OFFSET):
    """A tokenizer with the official layout of ids: special tokens, reserved ones, texts, visual codes."""
    names = [SPECIAL_TOKENS.get(token_id, f"<reserved{token_id - 4:05d}>") for token_id in range(9006)]
    letters = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
    merges = [("a", "t"), ("Ġ", "c"), ("Ġc", "at"), ("i", "n"), ("in", "g"), ("v", "i"), ("vi", "d")]
    texts = [*letters, *("".join(pair) for pair in merges)]
    unused = [f"<unused{index}>" for index in range(visual_token_offset - len(names) - len(texts))]
    entries = [*names, *texts, *unused, *(code_name(code) for code in range(num_codes))]

    tokenizer = Tokenizer(BPE({entry: index for index, entry in enumerate(entries)}, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # As in the official files; prompts are encoded without it.
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    special = [*SPECIAL_TOKENS.values(), *(name for name in names if "reserved" in name and int(name[9:14]) > 8190)]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return tokenizer


def chameleon_tokenizer():
    """The content of a `tokenizer.json` with the layout of Chameleon's, without its 49,000 merges but a few."""
    names = [SPECIAL_TOKENS.get(token_id, f"<reserved{token_id - 4:05d}>") for token_id in range(16384)]
    names[4:8196] = [f"IMGIMG{''.join('ABCDEFGHIJ'[int(digit)] for digit in str(code))}Z" for code in range(8192)]
    names[8198:8710] = [f"<sentinel:{index}>" for index in range(512)]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [*map(chr, printable), *(chr(256 + index) for index in range(68))]
    pairs = ("t h", "h e", "t he", "Ġ t", "Ġt he", "i n", "Ġ Ġ", "1 2", "V I", "Z x")
    merges = [tuple(pair.split(" ")) for pair in pairs]
    entries = dict.fromkeys([*names, *letters, *("".join(pair) for pair in merges)])
    tokenizer = Tokenizer(BPE({entry: index for index, entry in enumerate(entries)}, merges))
    split = pre_tokenizers.Split
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            split(Regex("<sentinel:[0-9]+>"), "isolated"),
            split(Regex("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"), "isolated"),
            split(Regex("([\t\n]|    |  )"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return json.loads(tokenizer.to_str())


def as_official_script_writes(content, num_codes):
    """`text_tokenizer.json` of a release: another version, and the new tokens as a list in the list of added ones."""
    ids = {code_name(code): 65536 + code for code in range(num_codes)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = {
        "type": "Split",
        "pattern": {"Regex": "(VIDVID)((A|B|C|D|E|F|G|H|I|J){1,5})Z"},
        "behavior": "Isolated",
        "invert": False,
    }
    splits = [*content["pre_tokenizer"]["pretokenizers"], split]
    return {
        **content,
        "version": "2.0",
        "added_tokens": [
            *content["added_tokens"],
            [{"id": token_id, "content": name, **flags} for name, token_id in ids.items()],
        ],
        "pre_tokenizer": {**content["pre_tokenizer"], "pretokenizers": splits},
        "model": {**content["model"], "vocab": {**content["model"]["vocab"], **ids}},
    }


def mended(content):
    """What the official script writes as the library can load it."""
    *tokens, nested = content["added_tokens"]
    return {**content, "version": "1.0", "added_tokens": [*tokens, *nested]}


def save_shards(weights, directory, num_shards=3):
    files = [f"model-{index + 1:05d}-of-{num_shards:05d}.safetensors" for index in range(num_shards)]
    names = sorted(weights)
    weight_map = {name: files[num_shards * index // len(names)] for index, name in enumerate(names)}
    for file in files:
        save_file({name: weights[name] for name in names if weight_map[name] == file}, directory / file)
    write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


class Release(NamedTuple):
    lumos: Path
    cosmos: Path
    text_tokenizer: Path


def release_in(directory):
    return Release(directory / "lumos", directory / "cosmos", directory / "text_tokenizer.json")


def copy_of(release, directory):
    shutil.copytree(release.lumos.parent, directory / "release")
    return release_in(directory / "release")


def change_json(path, **fields):
    content = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**content, **fields})


def read_all(directory):
    return {name: tensor for path in directory.glob("*.safetensors") for name, tensor in load_file(path).items()}


def assert_same_tensors(tensors, expected):
    assert set(tensors) == set(expected)
    for name, tensor in tensors.items():
        assert tensor.dtype == expected[name].dtype, name
        assert torch.equal(tensor, expected[name]), name
