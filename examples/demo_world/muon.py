# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Muon for matrices and AdamW for everything else, as one optimizer that a stock `Trainer` can take."""

from collections.abc import Callable

import torch
from torch import nn


# Keller Jordan's quintic, chosen for the steepest slope at zero (https://kellerjordan.github.io/posts/muon/).
_QUINTIC = (3.4445, -4.7750, 2.0315)


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon on the hidden weight matrices, AdamW on embeddings, output heads, norms and biases.

    `torch.optim.Muon` takes matrices only, and a `Trainer` takes one optimizer only. Convolution kernels count as
    matrices of shape `(out_channels, everything else)`. Updates of Muon are scaled to the size of AdamW's
    (`0.2 * sqrt(max(rows, columns))`, arXiv 2502.16982), so that one learning rate serves both.

    Args:
        model: the module to optimise; parameters without gradient are left out.
        lr: peak learning rate.
        weight_decay: decoupled weight decay on the matrices.
        momentum: momentum of Muon.
        betas: coefficients of AdamW.
        adamw_modules: module types whose weights AdamW takes although they are matrices.
        adamw_names: endings of module names of which the same is true.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        adamw_modules: tuple[type[nn.Module], ...] = (nn.Embedding,),
        adamw_names: tuple[str, ...] = ("lm_head",),
    ) -> None:
        apart = {
            id(parameter)
            for name, module in model.named_modules()
            if isinstance(module, adamw_modules) or name.endswith(adamw_names)
            for parameter in module.parameters(recurse=False)
        }
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim >= 2 and id(parameter) not in apart]
        chosen = {id(parameter) for parameter in matrices}
        others = [parameter for parameter in trained if id(parameter) not in chosen]
        groups = [
            {"params": matrices, "muon": True, "weight_decay": weight_decay},
            {"params": others, "muon": False, "weight_decay": 0.0},
        ]
        super().__init__(
            [group for group in groups if group["params"]], {"lr": lr, "momentum": momentum, "betas": betas}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon_update if group["muon"] else self._adamw_update
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(group["lr"] * update(parameter, group))
        return loss

    def _muon_update(self, parameter: torch.Tensor, group: dict) -> torch.Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        nesterov = parameter.grad.lerp(state["momentum"], group["momentum"])
        matrix = orthogonalize(nesterov.flatten(1))
        return (0.2 * max(matrix.shape) ** 0.5 * matrix).to(parameter.dtype).view_as(parameter)

    def _adamw_update(self, parameter: torch.Tensor, group: dict, eps: float = 1e-8) -> torch.Tensor:
        state = self.state[parameter]
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["mean"].lerp_(parameter.grad, 1 - beta1)
        state["square"].lerp_(parameter.grad.square(), 1 - beta2)
        mean = state["mean"] / (1 - beta1 ** state["step"])
        square = state["square"] / (1 - beta2 ** state["step"])
        return mean / (square.sqrt() + eps)


def orthogonalize(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrix, roughly, by Newton-Schulz iterations in bfloat16.

    Args:
        matrix: `(rows, columns)`.
        steps: number of iterations; after five, singular values lie between about 0.7 and 1.2.
    """
    a, b, c = _QUINTIC
    x = matrix.bfloat16()
    transposed = x.shape[0] > x.shape[1]
    if transposed:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if transposed else x
