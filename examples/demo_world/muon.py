# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Muon for matrices and AdamW for everything else, as one optimizer that a stock `Trainer` can take."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon on the hidden weight matrices, AdamW on embeddings, output heads, norms and biases.

    `torch.optim.Muon` and `torch.optim.AdamW` do the work. The former takes matrices only, and a `Trainer` takes one
    optimizer only: this one shows convolution kernels to Muon as matrices of shape `(out_channels, everything else)`, and
    shares its state and its groups with both. Updates of Muon are scaled to the size of AdamW's
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
        self._matrices, self._parts = matrices, []
        if matrices:
            settings = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
            with _as_matrices(matrices):
                groups = [{"params": matrices, "muon": True}]
                self._parts.append(torch.optim.Muon(groups, adjust_lr_fn="match_rms_adamw", **settings))
        if others:
            groups = [{"params": others, "muon": False}]
            self._parts.append(torch.optim.AdamW(groups, lr=lr, betas=betas, weight_decay=0.0))
        super().__init__([part.param_groups[0] for part in self._parts], {})
        self._share()

    def _share(self) -> None:
        """Lets both parts work on the state and the groups that a scheduler, `state_dict` and its loading see."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.state, part.param_groups = self.state, [group]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what `state_dict()` of an equal optimizer gave."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with _as_matrices(self._matrices):
            for part in self._parts:
                part.step()
        return loss


@contextmanager
def _as_matrices(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Parameters and their gradients are matrices meanwhile, over the same memory."""
    shapes = [parameter.shape for parameter in parameters]
    for parameter in parameters:
        _reshape(parameter, (parameter.shape[0], -1))
    try:
        yield
    finally:
        for parameter, shape in zip(parameters, shapes, strict=True):
            _reshape(parameter, shape)


def _reshape(parameter: nn.Parameter, shape: Sequence[int]) -> None:
    gradient, parameter.grad = parameter.grad, None
    parameter.data = parameter.data.view(shape)
    if gradient is not None:
        parameter.grad = gradient.reshape(shape)
