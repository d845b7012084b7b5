# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`tp_plan="auto"`: a transformer whose heads and neurons are shared out to two processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from parallel.two_processes import run_in_two_processes
from tiny_pipelines import PROMPT_IDS, SMALL, generators, tiny_transformer
from torch.testing import assert_close

from lumos_hf import LumosForCausalLM, LumosVideoPipeline
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler


# Two key/value heads for two ranks; norms of one, two and four shards of the original model.
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4}
CALLS: dict[str, dict[str, Any]] = {
    "exact": {},
    "batch": {"input_ids": [PROMPT_IDS, PROMPT_IDS + [102]]},
    "fast": {"approximations": "fast"},
    "no guidance": {"guidance_scale": 1.0},
}


def load(directory: Path, **options: Any) -> LumosForCausalLM:
    return LumosForCausalLM.from_pretrained(directory, **options).eval()


def codes_of_calls(transformer: LumosForCausalLM) -> dict[str, torch.Tensor]:
    pipe = LumosVideoPipeline(None, transformer, None, MaskDecodingScheduler())
    pipe.set_progress_bar_config(disable=True)
    codes = {}
    for name, changes in CALLS.items():
        call = {"input_ids": [PROMPT_IDS], **SMALL, **changes}
        seeds = generators(*range(len(call["input_ids"])))
        codes[name] = pipe(generator=seeds, output_type="latent", **call).frames
    return codes


def loss_and_gradients(transformer: LumosForCausalLM) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Of a sequence of one frame, with the gradients of the norms of the first layer."""
    ids = torch.cat([torch.tensor(PROMPT_IDS), 140 + torch.arange(24) % 60])[None]
    frames = (ids >= 140).long() - 1
    positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
    loss = transformer(input_ids=ids, labels=ids, position_ids=positions, frame_ids=frames).loss
    loss.backward()
    attention = transformer.model.layers[0].self_attn
    return loss.detach(), {name: getattr(attention, name).weight.grad for name in ("q_norm", "k_norm")}


def shared_out(directory: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    transformer = load(directory, tp_plan="auto")
    results: dict[str, Any] = {
        "neurons": transformer.model.layers[0].mlp.up_proj.weight.to_local().shape[0],
        "has_plain_head": transformer.has_plain_head,
        "codes": codes_of_calls(transformer),
    }
    results["loss"], results["gradients"] = loss_and_gradients(transformer)
    transformer.save_pretrained(directory / "saved")
    return results


@pytest.mark.parametrize("num_shards", [1, 2, 4])
@pytest.mark.slow
def test_two_processes_make_the_codes_of_one(num_shards: int, tmp_path: Path) -> None:
    whole = tiny_transformer(**HEADS, model_parallel_size=num_shards)
    whole.save_pretrained(tmp_path)
    expected = codes_of_calls(load(tmp_path))
    loss, gradients = loss_and_gradients(load(tmp_path))
    for results in run_in_two_processes(shared_out, tmp_path, tmp_path):
        assert results["neurons"] == whole.config.intermediate_size // 2
        assert results["has_plain_head"]
        for name, codes in expected.items():
            assert torch.equal(results["codes"][name], codes), name
        assert_close(results["loss"], loss)
        assert_close(results["gradients"], gradients, atol=1e-5, rtol=1e-4)
    saved = load(tmp_path / "saved").state_dict()
    assert all(torch.equal(weight, saved[name]) for name, weight in whole.state_dict().items())
