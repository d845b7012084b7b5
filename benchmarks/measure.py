# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What the benchmarks against reference.py share: configurations, options, and how two functions are compared.

The two take turns, and medians are compared: of processor time on CPUs, which other processes disturb least, of
wall-clock time elsewhere. Peak memory is that of one more run of each, above what was there before it, mostly the
weights: that of tensors, as PyTorch counts it. What the system counts for a process depends on its past, since allocators
keep memory. Rows are added to benchmarks/RESULTS.md. Weights are random, which changes nothing about the cost.
"""

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from reference import with_plain_layers
from results import RESULTS, append_rows, table
from torch.profiler import ProfilerActivity, profile

from lumos_hf import LumosConfig, LumosForCausalLM
from lumos_hf.token_layout import prompt_ids


_BODY = {
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 32768,
}
CONFIGURATIONS = {
    # A small body under the vocabulary of the released models: the output head is most of the work.
    "V": _BODY,
    # The same body with body and head in about the proportions of the released 1B model.
    "P": {**_BODY, "vocab_size": 18432, "visual_token_offset": 9216, "visual_vocab_size": 9216},
    # For tests of these scripts.
    "toy": {
        **_BODY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 9216 + 96,
        "visual_token_offset": 9216,
        "visual_vocab_size": 96,
    },
}
FPS = 12
RUN_COLUMNS = ("date", "device", "torch", "transformers", "configuration", "dtype")
COMPARISON_COLUMNS = ("runs", "reference s", "ours s", "ratio (range)", "reference peak MB", "ours peak MB")


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all of these benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configurations", nargs="*", default=["V", "P"], help=f"of {', '.join(CONFIGURATIONS)}")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall-clock", action="store_true", help="not processor time, on CPUs")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--num-frames", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--same-layers", action="store_true", help="of this package in the reference, to compare the rest alone"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def parse_checked(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    options = parser.parse_args(arguments)
    unknown = [name for name in options.configurations if name not in CONFIGURATIONS]
    if unknown:
        parser.error(f"configurations must be among {list(CONFIGURATIONS)}, got {unknown}")
    return options


def build_model(name: str, device: str) -> LumosForCausalLM:
    torch.manual_seed(0)
    return LumosForCausalLM(LumosConfig(**CONFIGURATIONS[name])).to(device).eval()


def text_ids(options: argparse.Namespace) -> list[int]:
    """A prompt of `options.prompt_tokens` without its bos and separator."""
    return list(range(1000, 1000 + options.prompt_tokens - 2))


def prompt(config: LumosConfig, options: argparse.Namespace) -> list[int]:
    return prompt_ids(text_ids(options), config)


def seconds(function: Callable[[], object], device: str, on_the_wall: bool = False) -> float:
    clock = time.process_time if device == "cpu" and not on_the_wall else time.perf_counter
    synchronize(device)
    start = clock()
    function()
    synchronize(device)
    return clock() - start


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize()


def peak_megabytes(function: Callable[[], object], device: str) -> float:
    """Most memory that tensors take at a time during a call, above that before it."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event["args"] for event in events if event["name"] == "[memory]"]
    before = changes[0]["Total Allocated"] - changes[0]["Bytes"]
    return (max(change["Total Allocated"] for change in changes) - before) / 1e6


def device_name(options: argparse.Namespace) -> str:
    if options.device != "cpu":
        return torch.cuda.get_device_name()
    return f"{processor()}, {options.threads} thread{'s' if options.threads > 1 else ''}"


def processor() -> str:
    """With its family, as processors of several generations are called "AMD EPYC", and the instructions that PyTorch takes."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    entries = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    family = f"family {entries['cpu family']}, " if "cpu family" in entries else ""
    return f"{entries.get('model name', platform.machine())} ({family}{torch.backends.cpu.get_cpu_capability()})"


def median_and_range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def run_cells(name: str, options: argparse.Namespace) -> tuple[str, ...]:
    """Cells of `RUN_COLUMNS`."""
    date = datetime.date.today().isoformat()
    configuration = f"{name}, same layers" if options.same_layers else name
    return date, device_name(options), torch.__version__, transformers.__version__, configuration, options.dtype


def reference_model(model: LumosForCausalLM, options: argparse.Namespace) -> LumosForCausalLM:
    """What the reference runs."""
    return model if options.same_layers else with_plain_layers(model)


def comparison_cells(
    theirs: Callable[[], object], ours: Callable[[], object], options: argparse.Namespace
) -> tuple[str, ...]:
    """Cells of `COMPARISON_COLUMNS`."""
    functions = (theirs, ours)
    for function in functions:
        function()
    times = [
        [seconds(function, options.device, options.wall_clock) for function in functions] for _ in range(options.runs)
    ]
    reference_times, our_times = zip(*times, strict=True)
    ratios = [before / after for before, after in times]
    peaks = [peak_megabytes(function, options.device) for function in functions]
    reference_median, our_median = statistics.median(reference_times), statistics.median(our_times)
    return (
        str(options.runs),
        f"{reference_median:.2f}",
        f"{our_median:.2f}",
        f"{reference_median / our_median:.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        *(f"{peak:.0f}" for peak in peaks),
    )


def run(
    title: str,
    columns: Sequence[str],
    measure: Callable[[str, argparse.Namespace], tuple[str, ...]],
    options: argparse.Namespace,
) -> None:
    """Prints one row per configuration and adds the rows to the results."""
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.configurations:
        row = measure(name, options)
        rows.append(row)
        print(", ".join(f"{column}: {cell}" for column, cell in zip(columns, row, strict=True)))
    print("\n" + table(columns, rows))
    append_rows(options.results, title, columns, rows)
