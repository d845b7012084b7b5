# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Where the processor's time goes while a video is decoded, against the least that operations and bytes allow.

    python benchmarks/decode_profile.py              # configurations V and P, float32
    python benchmarks/decode_profile.py P --dtype bfloat16

Options are those of decode.py; CPU only. The floor is the time of the same matrix products alone, those of attention among
them: each shape by the fastest of what PyTorch brings for it, measured in the same run. That is its own choice, oneDNN, and
oneDNN with a weight that was packed beforehand, which would have to be held twice. The rest has no floor: in principle it
could be fused away.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from decode import ours, parse_arguments
from measure import build_model, device_name, prompt, seconds
from results import table
from torch.profiler import ProfilerActivity, profile

from lumos_hf import LumosConfig
from lumos_hf.onednn_linear import product


COLUMNS = ("work", "ms", "share", "GFLOP", "floor ms", "nothing packed, ms")
FUSED_ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"
# By PyTorch, whose right-hand side is (inner, columns), and by oneDNN, whose is (columns, inner).
PRODUCT, ONEDNN_PRODUCT = "aten::mm", "mkldnn::_linear_pointwise"
# So many weights take turns, as those of layers do.
NUM_WEIGHTS = 4


def seconds_of_second_call(function: Callable[[], object]) -> float:
    function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@cache
def product_seconds(rows: int, inner: int, columns: int, dtype: torch.dtype) -> tuple[float, float, float]:
    """Of a product `(rows, inner) @ (columns, inner).T` alone: by PyTorch's choice, oneDNN, oneDNN with packed weights."""
    left = torch.randn(rows, inner).to(dtype)
    weights = list(torch.randn(NUM_WEIGHTS, columns, inner).to(dtype))
    packed = [torch.ops.mkldnn._reorder_linear_weight(weight, rows) for weight in weights]
    ways = (
        lambda: [F.linear(left, weight) for weight in weights],
        lambda: [product(left, weight) for weight in weights],
        lambda: [product(left, weight) for weight in packed],
    )
    return tuple(seconds_of_second_call(way) / NUM_WEIGHTS for way in ways)


def kind_of_work(event: torch.autograd.profiler_util.FunctionEventAvg, config: LumosConfig) -> str:
    has_logits = any(config.visual_vocab_size in shape for shape in event.input_shapes)
    if event.key in (PRODUCT, ONEDNN_PRODUCT):
        is_of_a_head = config.head_dim in event.input_shapes[1]
        return "output head" if has_logits else "attention" if is_of_a_head else "products of the body"
    if event.key == FUSED_ATTENTION or (event.key == "aten::_softmax" and not has_logits):
        return "attention"
    return "sampling" if has_logits else "everything else"


def products_of(event: torch.autograd.profiler_util.FunctionEventAvg) -> list[tuple[int, int, int]]:
    """Rows, inner size and columns of every matrix product in a call."""
    if event.key == PRODUCT:
        (rows, inner), (_, columns) = event.input_shapes[:2]
        return [(rows, inner, columns)]
    if event.key == ONEDNN_PRODUCT:
        left, (columns, inner) = event.input_shapes[:2]
        return [(math.prod(left[:-1]), inner, columns)]
    if event.key == FUSED_ATTENTION:
        (batch, heads, queries, width), (_, _, keys, _) = event.input_shapes[:2]
        return [(queries, width, keys), (queries, keys, width)] * batch * heads
    return []


def floors_of(
    event: torch.autograd.profiler_util.FunctionEventAvg, kind: str, dtype: torch.dtype
) -> tuple[float, float]:
    """Seconds of the products alone, of all calls of a kind with these shapes, and the same if nothing is packed."""
    ways = [product_seconds(*shape, dtype) for shape in products_of(event)]
    plain = event.count * sum(min(by_torch, by_onednn) for by_torch, by_onednn, _ in ways)
    # What attention multiplies changes with every call, so that packing it beforehand is not to be had.
    return (plain if kind == "attention" else event.count * sum(min(way) for way in ways)), plain


def sums_by_kind(figures: list[tuple[str, tuple[float, ...]]]) -> dict[str, list[float]]:
    """Of each column, the kind with the largest first sum first, and of all kinds together."""
    kinds = dict.fromkeys(kind for kind, _ in figures)
    sums = {
        kind: [sum(column) for column in zip(*(f for k, f in figures if k == kind), strict=True)] for kind in kinds
    }
    ordered = dict(sorted(sums.items(), key=lambda item: -item[1][0]))
    return ordered | {"sum": [sum(column) for column in zip(*sums.values(), strict=True)]}


def measure(name: str, options: argparse.Namespace) -> list[tuple[str, ...]]:
    dtype = getattr(torch, options.dtype)
    model = build_model(name, "cpu").to(dtype)
    decode = ours(model, prompt(model.config, options), options, greedy=False)
    decode()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        decode()
    events = [(kind_of_work(event, model.config), event) for event in profiler.key_averages(group_by_input_shape=True)]
    taken = sums_by_kind(
        [
            (kind, (event.self_cpu_time_total / 1e6, event.count * sum(2 * math.prod(p) for p in products_of(event))))
            for kind, event in events
        ]
    )
    # The clock of a processor changes within minutes, so both are measured in turns.
    whole, floors = [], []
    for _ in range(options.runs):
        whole.append(seconds(decode, "cpu"))
        product_seconds.cache_clear()
        floors.append(sums_by_kind([(kind, floors_of(event, kind, dtype)) for kind, event in events]))
    best, plain = (
        {kind: statistics.median(floor[kind][column] for floor in floors) for kind in taken} for column in (0, 1)
    )
    shares = [
        statistics.median(floor["sum"][column] / time for floor, time in zip(floors, whole, strict=True))
        for column in (0, 1)
    ]
    print(
        f"\n{name}, {options.dtype}, {device_name(options)}: {statistics.median(whole):.2f} s of processor time without the "
        f"profiler, {shares[0]:.1%} of them the floor, {shares[1]:.1%} if nothing is packed\n"
    )
    return [
        (
            kind,
            f"{1e3 * time:.0f}",
            f"{time / taken['sum'][0]:.1%}",
            f"{operations / 1e9:.1f}",
            f"{1e3 * best[kind]:.0f}",
            f"{1e3 * plain[kind]:.0f}",
        )
        for kind, (time, operations) in taken.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    for name in options.configurations:
        print(table(COLUMNS, measure(name, options)))


if __name__ == "__main__":
    main()
