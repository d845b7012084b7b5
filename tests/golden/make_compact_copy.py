# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Writes `tests/golden/data`, the part of the golden reference data that this repository carries:
`python tests/golden/make_compact_copy.py ../shared/golden`.

Whole cases are left out, and of the kept ones some tensors or rows of them; what is kept keeps its values and precision.
`left_out.json` lists the cases and configurations that are gone, and `tests/conftest.py` deselects their tests.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


MODEL = "a_h64_l2_mha"
MODEL_CASES = ("text_only", "t2v_1f", "t2v_3f", "masked_history_incomplete", "batch2_cfgdrop")
DECODE_CASES = ("i2v_64x64_greedy", "t2i_64x96_greedy", "t2v_32x64_greedy", "t2v_32x64_sampled", "vp2_32x96_greedy")
TOKENIZER = "dv4x8x8_c8_m122_r1"
# An image, two videos in a batch, and one whose last frames are repeated.
TOKENIZER_CASES = (0, 2, 4)

VISUAL_TOKEN_OFFSET = 9216
EMBEDDINGS = "model.embed_tokens.weight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="directory of the whole golden data")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / "data")
    arguments = parser.parse_args()
    make_compact_copy(arguments.source, arguments.target)


def make_compact_copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for directory in ("prompt", "decode/units"):
        shutil.copytree(source / directory, target / directory)
    copy_tokenizer(source / "tokenizer" / TOKENIZER, target / "tokenizer" / TOKENIZER)
    copy_training(source / "training", target / "training")
    for case in DECODE_CASES:
        copy_decode_case(source / "decode" / case, target / "decode" / case)
    copy_model(source / "model" / MODEL, target / "model" / MODEL)
    split_off_used_embeddings(target / "model" / MODEL, used_token_ids(target))
    write_json(target / "left_out.json", left_out_names(source))


def copy_tokenizer(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(source / name, target)
    facts = json.loads((source / "cases.json").read_text(encoding="utf-8"))
    left_out = [case["case"] for case in facts["cases"] if case["case"] not in TOKENIZER_CASES]
    facts["cases"] = [case for case in facts["cases"] if case["case"] in TOKENIZER_CASES]
    write_json(target / "cases.json", facts)
    prefixes = tuple(f"c{case}." for case in left_out)
    copy_tensors(source / "cases.safetensors", target, lambda name: not name.startswith(prefixes))


def copy_training(source: Path, target: Path) -> None:
    """Leaves out what the official code computes for a batch with masks that leak between its rows."""
    target.mkdir(parents=True)
    shutil.copy(source / "cases.json", target)
    copy_tensors(source / "cases.safetensors", target, lambda name: ".batched." not in name)


def copy_decode_case(source: Path, target: Path) -> None:
    """Keeps the guided logits of the last recorded step, and no logits of single branches."""
    target.mkdir(parents=True)
    shutil.copy(source / "case.json", target)
    tensors = load_file(source / "tensors.safetensors")
    tensors = {
        name: tensor for name, tensor in tensors.items() if not name.startswith(("cond_", "uncond_", "branch_"))
    }
    for name in ("logits_at", "cfg_logits"):
        tensors[name] = tensors[name][-1:].contiguous()
    save_file(tensors, target / "tensors.safetensors")


def copy_model(source: Path, target: Path) -> None:
    """Keeps the cases of `MODEL_CASES`; of two rows the result of each on its own."""

    def is_kept(name: str) -> bool:
        case, _, rest = name.partition(".")
        is_large_extra = rest.startswith("logits_full") and case != "t2v_1f"
        return case in MODEL_CASES and not rest.startswith("batched.") and not is_large_extra

    target.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "rope.safetensors"):
        shutil.copy(source / name, target)
    facts = json.loads((source / "cases.json").read_text(encoding="utf-8"))
    facts["cases"] = {case: facts["cases"][case] for case in MODEL_CASES}
    write_json(target / "cases.json", facts)
    copy_tensors(source / "cases.safetensors", target, is_kept)


def split_off_used_embeddings(directory: Path, token_ids: list[int]) -> None:
    """Keeps the embeddings of tokens that a case holds, nearly half of the weights being embeddings of the others."""
    weights = load_file(directory / "model.safetensors")
    embeddings = weights.pop(EMBEDDINGS)
    save_file(weights, directory / "model.safetensors")
    used = {"token_ids": torch.tensor(token_ids), "rows": embeddings[token_ids]}
    save_file(used, directory / "used_embeddings.safetensors")


def used_token_ids(target: Path) -> list[int]:
    """All visual tokens, and every other one that a tensor of token ids in the copy holds."""
    vocab_size = json.loads((target / "model" / MODEL / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    ids = set(range(VISUAL_TOKEN_OFFSET, vocab_size))
    for path in target.glob("**/*.safetensors"):
        for name, tensor in load_file(path).items():
            if name.endswith(("input_ids", "prefix_ids", "final_ids", "history_update_ids")):
                ids.update(tensor.flatten().tolist())
    return sorted(ids)


def left_out_names(source: Path) -> list[str]:
    configurations = {path.name for family in ("model", "tokenizer") for path in (source / family).iterdir()}
    decode_cases = {path.parent.name for path in source.glob("decode/*/case.json")}
    model_facts = json.loads((source / "model" / MODEL / "cases.json").read_text(encoding="utf-8"))
    names = configurations | decode_cases | set(model_facts["cases"])
    return sorted(names - {MODEL, TOKENIZER, *MODEL_CASES, *DECODE_CASES})


def copy_tensors(source: Path, target_directory: Path, is_kept: Callable[[str], bool]) -> None:
    tensors = {name: tensor for name, tensor in load_file(source).items() if is_kept(name)}
    save_file(tensors, target_directory / source.name)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
