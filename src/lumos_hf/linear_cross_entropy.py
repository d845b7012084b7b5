# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Cross entropy of an output head's logits that never holds the logits of more than a chunk of rows.

Two ways, for two kinds of heads, with equal results:
- [`linear_cross_entropy`] for a head that is a matrix: gradients are computed along with the loss, while a chunk's logits
  are there, so that nothing is computed twice;
- [`checkpointed_cross_entropy`] for any other: a chunk's logits are computed again in the backward pass.

Shape suffixes: R rows, D hidden size, V rows of the head's weight, C classes among them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from .onednn_linear import linear


def linear_cross_entropy(
    hidden_states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, classes: slice, rows_per_chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Cross entropy of the logits `hidden_states @ weight[classes].T`, summed over rows.

    Products are in the dtype of `hidden_states`, or that of autocast; everything else, the sum of the weight's gradient
    over chunks included, is in float32 at least. Gradients are first-order only.

    Args:
        hidden_states: `(R, D)`.
        weight: `(V, D)`, the whole of it: its gradient has its shape, and no second one of the size of `classes` exists
            next to it for longer than the backward pass of this function.
        targets: `(R,)`, from 0 to the number of classes - 1.
        classes: the rows of `weight` to choose from.
        rows_per_chunk: how many rows have logits at a time.

    Returns:
        the sum, and how many rows have a cross entropy that isn't exactly 0.
    """
    device_type = hidden_states.device.type
    dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else hidden_states.dtype
    if not torch.is_grad_enabled():
        # Tensors that require no gradient are how the function below learns that none is wanted.
        hidden_states, weight = hidden_states.detach(), weight.detach()
    return _LinearCrossEntropy.apply(hidden_states, weight, targets, classes, rows_per_chunk, dtype)


def checkpointed_cross_entropy(
    compute_logits: Callable[[torch.Tensor], torch.Tensor],
    hidden_states: torch.Tensor,
    targets: torch.Tensor,
    rows_per_chunk: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As [`linear_cross_entropy`], of the logits `compute_logits(hidden_states)`."""
    cross_entropy = partial(_cross_entropy, compute_logits)
    chunks = zip(hidden_states.split(rows_per_chunk), targets.split(rows_per_chunk), strict=True)
    results = [checkpoint(cross_entropy, *chunk, use_reentrant=False) for chunk in chunks]
    loss, num_nonzero = (torch.stack(parts).sum() for parts in zip(*results, strict=True))
    return loss, num_nonzero


def _cross_entropy(
    compute_logits: Callable[[torch.Tensor], torch.Tensor], states_RD: torch.Tensor, targets_R: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    logits_RC = compute_logits(states_RD)
    losses_R = F.cross_entropy(logits_RC.to(_accumulation_dtype(logits_RC.dtype)), targets_R, reduction="none")
    return losses_R.sum(), (losses_R != 0).sum()


class _LinearCrossEntropy(torch.autograd.Function):
    """
    The gradients are those of the sum, whose terms are of the order of 1, so that float16 can hold them; factors, of a
    mean or of a gradient scaler, come in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states_RD: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_R: torch.Tensor,
        classes: slice,
        rows_per_chunk: int,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        needs_hidden_grad, needs_weight_grad, *_ = ctx.needs_input_grad
        sum_dtype = _accumulation_dtype(dtype)
        weight_CD = weight_VD[classes].to(dtype)
        hidden_grad_RD = torch.empty_like(hidden_states_RD) if needs_hidden_grad else None
        weight_grad_CD = torch.zeros_like(weight_CD, dtype=sum_dtype) if needs_weight_grad else None
        loss = hidden_states_RD.new_zeros((), dtype=sum_dtype)
        num_nonzero = torch.zeros_like(loss, dtype=torch.long)

        for start in range(0, len(targets_R), rows_per_chunk):
            rows = slice(start, start + rows_per_chunk)
            states_RD, targets_R1 = hidden_states_RD[rows].to(dtype), targets_R[rows, None]
            # Not by logsumexp: its rounding would give other tokens a loss of exactly 0 than F.cross_entropy does.
            log_probs_RC = torch.log_softmax(linear(states_RD, weight_CD), dim=-1, dtype=sum_dtype)
            losses_R1 = -log_probs_RC.gather(1, targets_R1)
            loss += losses_R1.sum()
            num_nonzero += (losses_R1 != 0).sum()
            if not (needs_hidden_grad or needs_weight_grad):
                continue
            logits_grad_RC = log_probs_RC.exp_().scatter_add_(1, targets_R1, -torch.ones_like(losses_R1)).to(dtype)
            if hidden_grad_RD is not None:
                hidden_grad_RD[rows] = linear(logits_grad_RC, weight_CD.T)
            if weight_grad_CD is not None:
                _add_product(weight_grad_CD, logits_grad_RC.T, states_RD)

        ctx.save_for_backward(hidden_grad_RD, weight_grad_CD)
        ctx.weight_like = {"size": weight_VD.shape, "dtype": weight_VD.dtype, "device": weight_VD.device}
        ctx.classes = classes
        ctx.mark_non_differentiable(num_nonzero)
        return loss, num_nonzero

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_grad: torch.Tensor, _) -> tuple[torch.Tensor | None, ...]:
        hidden_grad_RD, weight_grad_CD = ctx.saved_tensors
        weight_grad_VD = None
        if hidden_grad_RD is not None:
            hidden_grad_RD = hidden_grad_RD * loss_grad
        if weight_grad_CD is not None:
            weight_grad_VD = torch.zeros(**ctx.weight_like)
            torch.mul(weight_grad_CD, loss_grad, out=weight_grad_VD[ctx.classes])
        return hidden_grad_RD, weight_grad_VD, None, None, None, None


def _accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """Adds `a @ b` in the dtype of `total`, which matrix products of a lower precision can't do in one go."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)
