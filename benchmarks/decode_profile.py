# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Where the processor's time goes while a video is decoded, against the least that operations and bytes allow.

    python benchmarks/decode_profile.py              # configurations V and P, float32
    python benchmarks/decode_profile.py P --dtype bfloat16

Options are those of decode.py; CPU only. The floor of matrix products and attention is the larger of two times: that of
their operations at the rate of one large product, and that of reading their right-hand sides once per call at the rate of
reading memory; both rates are measured in the same run. The rest has no floor: in principle it could be fused away.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
from decode import ours, parse_arguments
from measure import build_model, prompt
from results import table
from torch.profiler import ProfilerActivity, profile

from lumos_hf import LumosConfig
from lumos_hf.onednn_linear import linear


COLUMNS = ("work", "ms", "share", "GFLOP", "floor ms")
FUSED_ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"
# By PyTorch, whose right-hand side is (inner, columns), and by oneDNN, whose is (columns, inner).
PRODUCT, ONEDNN_PRODUCT = "aten::mm", "mkldnn::_linear_pointwise"


def best_seconds(function: Callable[[], object], runs: int = 5) -> float:
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def machine_rates(dtype: torch.dtype) -> tuple[float, float]:
    """Operations per second of a large product, and bytes per second of reading memory."""
    left, right = torch.randn(2, 2048, 2048).to(dtype)
    large = torch.ones(2**26)
    flops = 2 * 2048**3 / best_seconds(lambda: linear(left, right))
    return flops, large.nbytes / best_seconds(large.sum)


def kind_of_work(event: torch.autograd.profiler_util.FunctionEventAvg, config: LumosConfig) -> str:
    has_logits = any(config.visual_vocab_size in shape for shape in event.input_shapes)
    if event.key in (PRODUCT, ONEDNN_PRODUCT):
        is_of_a_head = config.head_dim in event.input_shapes[1]
        return "output head" if has_logits else "attention" if is_of_a_head else "products of the body"
    if event.key == FUSED_ATTENTION or (event.key == "aten::_softmax" and not has_logits):
        return "attention"
    return "sampling" if has_logits else "everything else"


def operations_and_bytes(event: torch.autograd.profiler_util.FunctionEventAvg, itemsize: int) -> tuple[int, int]:
    """Of all calls of a kind that have these shapes."""
    if event.key in (PRODUCT, ONEDNN_PRODUCT):
        left, right = event.input_shapes[:2]
        operations = 2 * math.prod(left) * math.prod(right) // left[-1]
        return event.count * operations, event.count * math.prod(right) * itemsize
    if event.key == FUSED_ATTENTION:
        (batch, heads, queries, width), (_, key_heads, keys, _) = event.input_shapes[:2]
        operations = 4 * batch * heads * queries * keys * width
        return event.count * operations, event.count * 2 * batch * key_heads * keys * width * itemsize
    return 0, 0


def measure(name: str, options: argparse.Namespace) -> list[tuple[str, ...]]:
    dtype = getattr(torch, options.dtype)
    model = build_model(name, "cpu").to(dtype)
    decode = ours(model, prompt(model.config, options), options, greedy=False)
    decode()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        decode()
    flop_rate, byte_rate = machine_rates(dtype)

    totals: dict[str, list[float]] = {}
    for event in profiler.key_averages(group_by_input_shape=True):
        operations, num_bytes = operations_and_bytes(event, dtype.itemsize)
        total = totals.setdefault(kind_of_work(event, model.config), [0.0, 0, 0.0])
        total[0] += event.self_cpu_time_total / 1e6
        total[1] += operations
        total[2] += max(operations / flop_rate, num_bytes / byte_rate)
    totals = dict(sorted(totals.items(), key=lambda item: -item[1][0]))
    totals["sum"] = [sum(column) for column in zip(*totals.values(), strict=True)]
    print(
        f"\n{name}, {options.dtype}: products at {flop_rate / 1e9:.0f} GFLOP/s, memory at {byte_rate / 1e9:.1f} GB/s\n"
    )
    return [
        (
            kind,
            f"{1e3 * seconds:.0f}",
            f"{seconds / totals['sum'][0]:.1%}",
            f"{operations / 1e9:.1f}",
            f"{1e3 * floor:.0f}",
        )
        for kind, (seconds, operations, floor) in totals.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    for name in options.configurations:
        print(table(COLUMNS, measure(name, options)))


if __name__ == "__main__":
    main()
