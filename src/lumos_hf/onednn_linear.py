# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Linear layers whose float32 products take the faster of the two libraries that PyTorch brings for x86 processors.

PyTorch multiplies float32 matrices with Intel's MKL, which uses half of the width of AMD's processors with AVX-512. oneDNN,
which PyTorch takes for bfloat16 and for convolutions, uses all of it, and is about twice as fast there. On AMD's processors
with AVX2 alone MKL is the faster one, apart from products with very many columns: those of a large vocabulary. Both compute
in float32; their results differ by rounding alone.

Modules stay plain `torch.nn.Linear`, which quantisation and adapters look for. `torch.backends.mkldnn.flags(enabled=False)`
takes oneDNN out, here as everywhere in PyTorch.
"""

from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import nn


def _is_amd_with(capability: str) -> bool:
    """Whether PyTorch has both libraries and runs on a processor by AMD that has the capability."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return capabilities.get(capability, False) and "AMD" in capabilities.get("cpu_name", "")


_IS_ONEDNN_FASTER = _is_amd_with("avx512_f")
_IS_ONEDNN_FASTER_IF_WIDE = _is_amd_with("avx2")
# Measured at 65,536; at 9,216 the two are equal on AVX2.
_MIN_WIDE_COLUMNS = 2**15
# For fewer, what a call costs by itself, about 10 microseconds more, is not won back.
_MIN_MULTIPLICATIONS = 2**21


def takes_onednn(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether `inputs @ weight.T` is better left to [`product`] than to PyTorch."""
    is_wide = weight.shape[0] >= _MIN_WIDE_COLUMNS
    return (
        (_IS_ONEDNN_FASTER or (_IS_ONEDNN_FASTER_IF_WIDE and is_wide))
        and inputs.ndim > 1
        and inputs.numel() * weight.shape[0] >= _MIN_MULTIPLICATIONS
        and bool(torch.backends.mkldnn.enabled)
        and not torch.compiler.is_compiling()
        # Inside of torch.func and vmap, for which the operation has no rules.
        and not torch._C._are_functorch_transforms_active()
        and not torch.is_autocast_enabled("cpu")
        and all(
            type(tensor) in (torch.Tensor, nn.Parameter)
            and tensor.dtype == torch.float32
            and tensor.device.type == "cpu"
            for tensor in (inputs, weight)
        )
    )


def product(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`inputs @ weight.T + bias` by oneDNN, which reads the weight where it is; without gradients."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        return product(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        needs_input_grad, needs_weight_grad, needs_bias_grad = ctx.needs_input_grad
        grad_rows, input_rows = grad.flatten(0, -2), inputs.flatten(0, -2)
        return (
            linear(grad, weight.T) if needs_input_grad else None,
            linear(grad_rows.T, input_rows.T) if needs_weight_grad else None,
            grad_rows.sum(0) if needs_bias_grad else None,
        )


def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear` by the faster library, with gradients of any order."""
    if not takes_onednn(inputs, weight):
        return F.linear(inputs, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(inputs, weight, bias)
    return product(inputs, weight, bias)


def is_plain_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """
    Whether a call of the module is the product with its weight, and its bias, and nothing else. Adapters and
    quantisation change its class, sharding the class of its weight; offloading and tensor parallelism hook or replace
    its forward.
    """
    return (
        type(module) is nn.Linear
        and type(module.weight) is nn.Parameter
        and module.weight.shape == (module.out_features, module.in_features)
        and not module._forward_pre_hooks
        and not module._forward_hooks
        and "forward" not in vars(module)
    )


def apply_linear(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """`module(inputs)`, by the faster library where that is the product with a weight."""
    if _IS_ONEDNN_FASTER and is_plain_linear(module):
        return linear(inputs, module.weight, module.bias)
    return module(inputs)
