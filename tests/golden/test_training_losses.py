# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Training losses and gradients against the official code, each row with its own mask."""

import functools
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from lumos_hf.conversion.lumos import convert_lumos_model


CASES = tuple(
    f"{name}.{variant}" for name in ("video_b1", "image_b2", "video_b2_cfgdrop") for variant in ("seeded", "given")
)
VISUAL_TOKEN_OFFSET = 9216
LOSS_ATOL = 2e-5
GRADIENT_TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}


@functools.cache
def load_references(directory):
    facts = json.loads((directory / "cases.json").read_text(encoding="utf-8"))
    return facts, load_file(directory / "cases.safetensors")


@functools.cache
def load_model(directory, attention):
    facts, _ = load_references(directory)
    model = convert_lumos_model(
        directory / facts["model"], visual_token_offset=VISUAL_TOKEN_OFFSET, visual_vocab_size=240
    )
    model.set_attn_implementation(attention)
    return model


@pytest.fixture(params=CASES)
def case(request, golden):
    """Facts, tensors by their short name, and the inputs of one case."""
    facts, tensors = load_references(golden / "training")
    facts = facts["cases"][request.param]
    how = "perrow" if "perrow" in facts["results"] else "single"
    prefix = f"{request.param}.{how}."
    expected = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    inputs = {
        "input_ids": tensors[f"{request.param}.masked_input_ids"],
        "labels": tensors[f"{request.param}.masked_labels"],
    }
    return facts["results"][how], expected, inputs


@pytest.mark.parametrize("attention", ("eager", "sdpa"))
@torch.no_grad()
def test_loss(case, golden, attention):
    facts, expected, inputs = case
    model = load_model(golden / "training", attention)
    assert model(**inputs).loss.item() == pytest.approx(facts["loss"], abs=LOSS_ATOL)

    labels = inputs["labels"]
    counts = labels >= VISUAL_TOKEN_OFFSET
    # As with labels, attention is without a cache, so that "sdpa" goes without a mask.
    kept = {"logits_to_keep": counts, "visual_logits_only": True, "use_cache": False}
    logits = model(input_ids=inputs["input_ids"], **kept).logits
    assert logits.shape == (len(expected["token_losses"]), 240)
    token_losses = F.cross_entropy(logits, labels[counts] - VISUAL_TOKEN_OFFSET, reduction="none")
    torch.testing.assert_close(token_losses, expected["token_losses"], atol=5e-4, rtol=0)


@pytest.mark.parametrize("checkpointing", (False, True))
def test_gradients(case, golden, checkpointing):
    facts, expected, inputs = case
    model = load_model(golden / "training", "sdpa")
    if checkpointing:
        model.activation_checkpointing_enable()
    model.train()
    model.zero_grad()
    try:
        loss = model(**inputs).loss
        loss.backward()
    finally:
        model.activation_checkpointing_disable()
        model.eval()

    assert loss.item() == pytest.approx(facts["loss"], abs=LOSS_ATOL)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert set(gradients) == set(facts["grad_norms"])
    for name, norm in facts["grad_norms"].items():
        assert gradients[name].norm().item() == pytest.approx(
            norm, rel=GRADIENT_TOLERANCE["rtol"], abs=GRADIENT_TOLERANCE["atol"]
        )
    for name, tensor in expected.items():
        if name.startswith("grad."):
            torch.testing.assert_close(gradients[name.removeprefix("grad.")], tensor, **GRADIENT_TOLERANCE)
    assert not gradients["lm_head.weight"][:VISUAL_TOKEN_OFFSET].any()
