# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Seconds and memory of one training step, forward and backward: this package against what the official step computes.

    python benchmarks/train_step.py                  # configurations V and P, float32
    python benchmarks/train_step.py P --num-frames 17

A batch is one video, as in the official training, with as many tokens masked as there on average. The two must give the
same loss and gradients in float32 first. They are compared as measure.py says. Peak memory is above the weights and
includes all gradients, which are as large as the weights on either side; no optimizer runs.
"""

import argparse
from collections.abc import Callable

import reference
import torch
from measure import (
    COMPARISON_COLUMNS,
    FPS,
    RUN_COLUMNS,
    argument_parser,
    build_model,
    comparison_cells,
    parse_checked,
    reference_model,
    run,
    run_cells,
    text_ids,
)

from lumos_hf import DataCollatorForDiffusionForcing, LumosConfig, LumosForCausalLM
from lumos_hf.token_layout import grid_size, num_latent_frames


# Mean of the rates that training draws.
MASK_RATIO = 0.8
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
COLUMNS = (*RUN_COLUMNS, "size, frames", "tokens", "tokens in the loss", *COMPARISON_COLUMNS)


def build_batch(config: LumosConfig, options: argparse.Namespace) -> dict[str, torch.Tensor]:
    shape = (num_latent_frames(options.num_frames, config), *grid_size(options.height, options.width, config))
    codes = torch.randint(config.visual_vocab_size, shape, generator=torch.Generator().manual_seed(0))
    # A minimum that the seed's own draw stays below.
    collator = DataCollatorForDiffusionForcing(
        config, minimum_mask_ratio=MASK_RATIO, prompt_drop_probability=0, seed=0
    )
    batch = collator([{"codes": codes, "text_ids": text_ids(options), "fps": FPS}])
    return {name: tensor.to(options.device) for name, tensor in batch.items()}


LossFunction = Callable[[], torch.Tensor]


def loss_functions(
    model: LumosForCausalLM, batch: dict[str, torch.Tensor], options: argparse.Namespace
) -> tuple[LossFunction, LossFunction]:
    """Of the reference and of this package, on the same parameters."""
    plain = reference_model(model, options)
    return (
        lambda: reference.training_loss(plain, batch["input_ids"], batch["labels"]),
        lambda: model(**batch).loss,
    )


def training_step(loss_function: LossFunction, model: LumosForCausalLM) -> Callable[[], None]:
    def step() -> None:
        loss_function().backward()
        model.zero_grad()

    return step


def check_equality(name: str, model: LumosForCausalLM, theirs: LossFunction, ours: LossFunction) -> None:
    expected_loss, expected_gradients = _loss_and_gradients(theirs, model)
    loss, gradients = _loss_and_gradients(ours, model)
    differing = [
        parameter_name
        for parameter_name, expected in expected_gradients.items()
        if (gradients[parameter_name] - expected).norm() > GRADIENT_TOLERANCE * expected.norm()
    ]
    if abs(loss - expected_loss) > LOSS_TOLERANCE or differing:
        raise RuntimeError(
            f"{name}: the loss is {loss} and the reference's {expected_loss}, gradients differ at {differing}, so there "
            "is nothing to compare."
        )


def _loss_and_gradients(loss_function: LossFunction, model: LumosForCausalLM) -> tuple[float, dict[str, torch.Tensor]]:
    loss = loss_function()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    return loss.item(), gradients


def measure(name: str, options: argparse.Namespace) -> tuple[str, ...]:
    """One row of results."""
    model = build_model(name, options.device).train()
    batch = build_batch(model.config, options)
    check_equality(name, model, *loss_functions(model, batch, options))

    model = model.to(getattr(torch, options.dtype))
    steps = (training_step(loss_function, model) for loss_function in loss_functions(model, batch, options))
    return (
        *run_cells(name, options),
        f"{options.width}x{options.height}, {options.num_frames}",
        str(batch["input_ids"].shape[1]),
        str(int((batch["labels"] >= model.config.visual_token_offset).sum())),
        *comparison_cells(*steps, options),
    )


def main(arguments: list[str] | None = None) -> None:
    options = parse_checked(argument_parser(__doc__), arguments)
    run("Training step (train_step.py)", COLUMNS, measure, options)


if __name__ == "__main__":
    main()
