# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Whole videos at the sizes of the released models on one GPU, in bfloat16: seconds, share of the GPU's rate, peak memory.

    python benchmarks/gpu.py                                          # 1B and 3B, two sizes, two lengths
    python benchmarks/gpu.py --models 1B --sizes 672x384 --frames 25

One after another: the plain implementation of the official loop (reference.py), this package, this package compiled with
CUDA graphs, with fewer steps for all frames but the first (`--list-steps`), with the steps and the one branch of turbo
weights (`--turbo-steps`), and with weights kept in 8 bits (float8_e4m3fn, computed in bfloat16; embedding, norms and head
as they are). Weights are random, which changes nothing about the cost.

Lists of steps and turbo are timed as they are. The time of all else is extrapolated: a video is decoded with 1 and with 3 steps per latent frame, and the line through both is followed to
`--steps`. Only this package's cost bends from that line: the two steps between see 0.68 of the codes undecided on average,
those of a long schedule 0.65, so it is slightly overestimated. No configuration is begun after `--budget` seconds.

The rate (MFU) is the same for all: operations that this package needs for the video, by seconds, by the rate of a large
matrix product in the same run. Memory is the peak of everything on the GPU, weights included.
"""

import argparse
import datetime
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import transformers
from decode import GUIDANCE_SCALE, ours, theirs
from diffusers.hooks import apply_layerwise_casting
from measure import CONFIGURATIONS, device_name, prompt, synchronize
from results import RESULTS, append_rows, table
from torch.profiler import profile

from lumos_hf import LumosConfig, LumosForCausalLM, MaskDecodingScheduler
from lumos_hf.generation_defaults import steps_of_frame
from lumos_hf.token_layout import frame_length, grid_size, num_latent_frames
from lumos_hf.training.few_steps import undecided_counts


# The released configurations are not published; these are LLaMA 3.2's, which fit what is known.
MODELS = {
    "1B": {"num_key_value_heads": 8},
    "3B": {
        "hidden_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "toy": CONFIGURATIONS["toy"],
}
# The last one changes the model.
KINDS = ("reference", "ours", "compiled", "list", "turbo", "fp8")
FP8_SKIPPED = ("embed_tokens", "norm", "lm_head")
MEASURED_STEPS = (1, 3)
COLUMNS = (
    "date",
    "device",
    "torch",
    "transformers",
    "model",
    "size, frames, steps",
    "what",
    "s per video",
    "ms per step",
    "MFU",
    "peak GB",
)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["1B", "3B"], choices=MODELS)
    parser.add_argument("--sizes", nargs="+", default=["672x384", "448x256"], help="width x height in pixels")
    parser.add_argument("--frames", nargs="+", type=int, default=[25, 49])
    parser.add_argument("--steps", type=int, default=50, help="per latent frame, extrapolated to")
    parser.add_argument("--list-steps", nargs="+", type=int, default=[50, 10], help="of each latent frame")
    parser.add_argument("--turbo-steps", nargs="+", type=int, default=[8, 2], help="of each latent frame, unguided")
    parser.add_argument("--prompt-tokens", type=int, default=200)
    parser.add_argument("--budget", type=float, default=400.0)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--device", default="cuda", help="cpu is for tests of this script")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def configurations(options: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """What `ours` and `theirs` of decode.py read, for every combination; whatever shares a graph stays together."""
    for name in options.models:
        for size in options.sizes:
            width, height = (int(side) for side in size.split("x"))
            for num_frames in options.frames:
                yield argparse.Namespace(
                    name=name,
                    width=width,
                    height=height,
                    num_frames=num_frames,
                    steps=options.steps,
                    same_layers=False,
                    prompt_tokens=options.prompt_tokens,
                    device=options.device,
                    threads=torch.get_num_threads(),
                )


def layer_operations(config: LumosConfig, num_tokens: int, num_queries: int, num_keys: int) -> int:
    """Of one layer that is fed so many tokens, and goes on with some of them as queries for so many keys."""
    key_value_size = config.num_key_value_heads * config.head_dim
    query_size = config.num_attention_heads * config.head_dim
    keys_and_values = 2 * num_tokens * config.hidden_size * key_value_size
    queries_and_outputs = 2 * num_queries * config.hidden_size * query_size
    mlp = 3 * num_queries * config.hidden_size * config.intermediate_size
    attention = 2 * num_queries * num_keys * query_size
    return 2 * (keys_and_values + queries_and_outputs + mlp + attention)


def pass_operations(config: LumosConfig, num_tokens: int, num_queries: int, num_keys: int) -> int:
    """Of a pass through all layers, the last of which goes on with some tokens only."""
    whole = layer_operations(config, num_tokens, num_tokens, num_keys)
    return (config.num_hidden_layers - 1) * whole + layer_operations(config, num_tokens, num_queries, num_keys)


def video_operations(config: LumosConfig, options: argparse.Namespace, is_guided: bool = True) -> int:
    """What this package needs for a video, multiplications and additions."""
    h, w = grid_size(options.height, options.width, config)
    t = num_latent_frames(options.num_frames, config)
    length = frame_length(h, w)
    undecided = [
        undecided_counts(MaskDecodingScheduler(), steps_of_frame(options.steps, frame), h * w) for frame in range(t)
    ]
    operations = 0
    for num_prefix in (options.prompt_tokens + 3, 3)[: 2 if is_guided else 1]:
        operations += pass_operations(config, num_prefix, num_prefix, num_prefix)
        for frame in range(t):
            num_keys = num_prefix + (frame + 1) * length
            operations += sum(pass_operations(config, length, num_rows, num_keys) for num_rows in undecided[frame])
            if frame < t - 1:
                operations += pass_operations(config, length, 1, num_keys)
    return operations + 2 * sum(map(sum, undecided)) * config.hidden_size * config.visual_vocab_size


def extrapolate(times: tuple[float, ...], num_steps: int) -> tuple[float, float]:
    """Seconds of a video with so many steps, and seconds that one more step takes, from those of `MEASURED_STEPS`."""
    few, many = MEASURED_STEPS
    slope = (times[1] - times[0]) / (many - few)
    return times[0] + (num_steps - few) * slope, slope


def matmul_rate(device: str, size: int) -> float:
    """Operations per second of a large bfloat16 product of random matrices."""
    left, right = torch.randn(2, size, size, device=device).bfloat16()
    for _ in range(3):
        left @ right
    synchronize(device)
    start = time.perf_counter()
    for _ in range(10):
        left @ right
    synchronize(device)
    return 10 * 2 * size**3 / (time.perf_counter() - start)


def attention_kernels(run: Callable[[], float]) -> list[str]:
    """Names of the kernels that scaled dot products ran on."""
    with profile() as profiler:
        run()
    names = {event.key for event in profiler.key_averages()}
    return sorted(name for name in names if name.startswith("aten::_") and "attention" in name)


def measure(kind: str, model: LumosForCausalLM, options: argparse.Namespace, rate: float) -> tuple[str, ...]:
    """One row of results."""
    input_ids = prompt(model.config, options)
    is_guided = kind != "turbo"
    decode = theirs if kind == "reference" else partial(ours, guidance_scale=GUIDANCE_SCALE if is_guided else 1.0)

    def run(num_steps: int | list[int]) -> float:
        function = decode(model, input_ids, argparse.Namespace(**{**vars(options), "steps": num_steps}), greedy=False)
        synchronize(options.device)
        start = time.perf_counter()
        function()
        synchronize(options.device)
        return time.perf_counter() - start

    # The first run compiles and records for its shapes.
    print(f"{kind}: {', '.join(attention_kernels(lambda: run(1)))}", flush=True)
    on_gpu = options.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    num_frames = num_latent_frames(options.num_frames, model.config)
    if isinstance(options.steps, list):
        total = run(options.steps)
        step = num_frames * total / sum(steps_of_frame(options.steps, frame) for frame in range(num_frames))
    else:
        total, step = extrapolate(tuple(run(num_steps) for num_steps in MEASURED_STEPS), options.steps)
    return (
        datetime.date.today().isoformat(),
        device_name(options),
        torch.__version__,
        transformers.__version__,
        options.name,
        f"{options.width}x{options.height}, {options.num_frames}, {options.steps}".replace("[", "").replace("]", ""),
        kind,
        f"{total:.1f}",
        f"{1e3 * step / num_frames:.1f}",
        f"{video_operations(model.config, options, is_guided) / total / rate:.1%}",
        f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if on_gpu else "-",
    )


def build_model(name: str, device: str) -> LumosForCausalLM:
    # Made where it is used: random weights of this size take minutes on a CPU.
    with torch.device(device):
        model = LumosForCausalLM(LumosConfig(**MODELS[name]))
    return model.to(torch.bfloat16).eval()


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA GPU, so there is nothing to measure.")
        return
    start = time.perf_counter()
    rate = matmul_rate(options.device, size=8192 if options.device == "cuda" else 256)
    print(f"bfloat16 products at {rate / 1e12:.2f} TFLOP/s")
    rows, left_out = [], []
    model, built = None, None
    for each in configurations(options):
        if time.perf_counter() - start > options.budget:
            left_out.append(f"{each.name} {each.width}x{each.height}, {each.num_frames}")
            continue
        if built != each.name:
            # Two models do not need to fit.
            model = None
            model, built = build_model(each.name, options.device), each.name
        for kind in options.kinds:
            # The same weights, with graphs and without.
            model._compiled_call_impl = None
            if kind == "compiled":
                model.compile(fullgraph=True, mode="reduce-overhead")
            if kind == "fp8":
                apply_layerwise_casting(
                    model, torch.float8_e4m3fn, torch.bfloat16, skip_modules_pattern=FP8_SKIPPED, non_blocking=True
                )
                # The next configuration begins with other weights.
                built = None
            steps = {"list": options.list_steps, "turbo": options.turbo_steps}.get(kind, options.steps)
            rows.append(measure(kind, model, argparse.Namespace(**{**vars(each), "steps": steps}), rate))
            print(", ".join(f"{column}: {cell}" for column, cell in zip(COLUMNS, rows[-1], strict=True)), flush=True)
    if left_out:
        print(f"Left out for want of time: {'; '.join(left_out)}")
    print("\n" + table(COLUMNS, rows))
    append_rows(options.results, "GPU (gpu.py)", COLUMNS, rows)


if __name__ == "__main__":
    main()
