# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What each lossy option of decoding costs and saves, on the demo checkpoint.

    python benchmarks/approximations.py                       # all options, the prompts of make demo-score
    python benchmarks/approximations.py --only exact fast
    python benchmarks/approximations.py --split training      # to choose among options, without the held-out prompts
    python benchmarks/approximations.py --diversity           # what turbo draws for one prompt, and the checkpoint itself
    python benchmarks/approximations.py --long-video          # time and memory of compact histories; no quality

The score is the share of clips that are right in everything, one clip per prompt, with the seeds of `make demo-score`;
"lost" and "gained" count the clips that are right without the option and not with it, and the other way round. "turbo" is
the checkpoint with its turbo weights, beside the checkpoint without them. Time is
that of the transformer and the scheduler for one video at a time, in turns with exact decoding, as a median of ratios of
processor time; forward passes are those of the same videos, the prompt's and the history's included. Clips that were
scored before are not made again: see `--records`. Rows are added to benchmarks/RESULTS.md.
"""

import argparse
import datetime
import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
from measure import device_name, seconds
from results import RESULTS, append_rows, table

from lumos_hf import DecodingApproximations, LumosVideoPipeline, demo_checkpoint
from lumos_hf.evaluation.clips import ClipSpec, caption, is_held_out, pair_specs, single_specs
from lumos_hf.evaluation.measure import judge, layout, observe
from lumos_hf.evaluation.score import BATCH_SIZE, NUM_PAIRS, NUM_SINGLES, generate, held_out_prompts


# What a call is given besides the prompt.
OPTIONS: dict[str, dict[str, Any]] = {
    "exact": {},
    "6 steps": {"num_inference_steps": 6},
    "4 steps": {"num_inference_steps": 4},
    "guidance in the first half": {"approximations": DecodingApproximations(guidance_interval=(0.0, 0.5))},
    "residual of 4 steps": {"approximations": DecodingApproximations(unconditional_skip_range=4)},
    "residual of 6 steps, 6 steps": {
        "num_inference_steps": 6,
        "approximations": DecodingApproximations(unconditional_skip_range=6),
    },
    "threshold 0.9": {"approximations": DecodingApproximations(confidence_threshold=0.9)},
    "Halton order": {"approximations": DecodingApproximations(decoding_order="halton")},
    "Halton order, 6 steps": {
        "num_inference_steps": 6,
        "approximations": DecodingApproximations(decoding_order="halton"),
    },
    "history: first frame alone": {"approximations": DecodingApproximations(history_window=0)},
    "history: first frame, 1/3 of the rest": {
        "approximations": DecodingApproximations(history_window=0, history_keep_ratio=1 / 3)
    },
    "steps 12, 3": {"num_inference_steps": [12, 3]},
    "steps 12, 1": {"num_inference_steps": [12, 1]},
    "entropy bound 0.1": {"approximations": DecodingApproximations(entropy_bound=0.1)},
    "entropy bound 1": {"approximations": DecodingApproximations(entropy_bound=1.0)},
    "no guidance, steps 4, 1": {"num_inference_steps": [4, 1], "guidance_scale": 1.0},
    "no guidance, steps 6, 1": {"num_inference_steps": [6, 1], "guidance_scale": 1.0},
    "fast": {"approximations": "fast"},
    "turbo": {},
}
DIVERSITY_PROMPT = "A purple heart floats up by the sea."
LONG_VIDEO_OPTIONS = {
    "exact": {},
    "window 4, 1/4 of the rest": {"approximations": DecodingApproximations(history_window=4, history_keep_ratio=0.25)},
    "window 4": {"approximations": DecodingApproximations(history_window=4)},
}
SCORE_COLUMNS = (
    "date",
    "device",
    "prompts",
    "option",
    "one character",
    "two characters",
    "lost / gained",
    "time ratio (range)",
    "forward passes",
)
DIVERSITY_COLUMNS = ("date", "device", "prompt, clips", "entropy in bits of", "without", "turbo", "ratio")
LONG_VIDEO_COLUMNS = ("date", "device", "latent frames, steps", "option", "seconds", "cache MB", "time ratio (range)")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint directory; default: the packaged one")
    parser.add_argument("--turbo", type=Path, default=None, help="turbo weights; default: those of the checkpoint")
    parser.add_argument("--only", nargs="+", default=list(OPTIONS), help="names of options")
    parser.add_argument("--split", choices=("held-out", "training"), default="held-out")
    parser.add_argument("--singles", type=int, default=NUM_SINGLES)
    parser.add_argument("--pairs", type=int, default=NUM_PAIRS)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--long-video", action="store_true")
    parser.add_argument("--diversity", action="store_true")
    parser.add_argument("--clips", type=int, default=64, help="for --diversity")
    parser.add_argument("--latent-frames", type=int, default=33, help="of the long video")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--records", type=Path, default=Path("outputs/approximations"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.only if name not in OPTIONS]
    if unknown:
        parser.error(f"--only must name some of {list(OPTIONS)}, got {unknown}")
    return options


def load_pipeline(options: argparse.Namespace, name: str = "exact") -> LumosVideoPipeline:
    pipe = LumosVideoPipeline.from_pretrained(options.model or demo_checkpoint()).to(options.device)
    pipe.set_progress_bar_config(disable=True)
    if name == "turbo":
        pipe.load_turbo_weights(options.turbo)
    return pipe


def prompts_of(split: str, specs: list[ClipSpec], count: int) -> list[tuple[ClipSpec, str]]:
    """The first clips and captions of a set that is the same every time."""
    size = NUM_PAIRS if specs[0].relation else NUM_SINGLES
    if split == "held-out":
        return held_out_prompts(specs, size)[:count]
    rng = random.Random(1)
    chosen = rng.sample([spec for spec in specs if not is_held_out(spec)], size)
    return [(spec, caption(spec, rng)) for spec in chosen][:count]


class ForwardCounter:
    """Counts the forward passes of a transformer inside a `with` block; those of its head alone do not count."""

    def __init__(self, transformer: torch.nn.Module):
        self.transformer = transformer
        self.count = 0

    def __enter__(self) -> "ForwardCounter":
        self.handle = self.transformer.register_forward_pre_hook(self._record, with_kwargs=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.remove()

    def _record(self, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.count += "input_ids" in kwargs


def time_ratios(
    pipe: LumosVideoPipeline, exact: LumosVideoPipeline, prompts: list[str], call: dict[str, Any], device: str
) -> tuple[list[float], float]:
    """Per prompt the time of `pipe` with `call` over that of `exact`, and the mean number of forward passes with it."""

    def decode(pipe: LumosVideoPipeline, prompt: str, seed: int, arguments: dict[str, Any]) -> float:
        generator = torch.Generator().manual_seed(seed)
        return seconds(lambda: pipe(prompt, generator=generator, output_type="latent", **arguments), device)

    decode(pipe, prompts[0], 0, call)
    ratios, passes = [], []
    for seed, prompt in enumerate(prompts):
        with ForwardCounter(pipe.transformer) as counter:
            approximate = decode(pipe, prompt, seed, call)
        ratios.append(approximate / decode(exact, prompt, seed, {}))
        passes.append(counter.count)
    return ratios, statistics.mean(passes)


def measure(
    pipe: LumosVideoPipeline, exact: LumosVideoPipeline, name: str, options: argparse.Namespace
) -> dict[str, Any]:
    """What is known of an option from earlier runs, with what this one adds to it; saved after every batch of clips."""
    path = options.records / options.split / f"{name.replace('/', ' of ')}.json"
    call = OPTIONS[name]
    sets = {
        "singles": prompts_of(options.split, single_specs(), options.singles),
        "pairs": prompts_of(options.split, pair_specs(), options.pairs),
    }
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
    else:
        timed = [text for _, text in sets["singles"][: options.runs]]
        ratios, passes = time_ratios(pipe, exact, timed, call, options.device)
        record = {"ratios": ratios, "passes": passes, "singles": [], "pairs": []}
        _save(path, record)
    for kind, prompts in sets.items():
        for start in range(len(record[kind]), len(prompts), BATCH_SIZE):
            record[kind] += verdicts(pipe, prompts[start : start + BATCH_SIZE], start, call)
            _save(path, record)
    return {**record, **{kind: record[kind][: len(prompts)] for kind, prompts in sets.items()}}


def verdicts(
    pipe: LumosVideoPipeline, prompts: list[tuple[ClipSpec, str]], first_seed: int, call: dict[str, Any]
) -> list[bool]:
    """Per prompt: whether its clip is right in everything."""
    clips = generate(pipe, [text for _, text in prompts], first_seed, **call)
    return [judge(spec, observe(clip))["all"] for (spec, _), clip in zip(prompts, clips, strict=True)]


def _save(path: Path, record: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(record), encoding="utf-8")
    unfinished.replace(path)


def score_row(name: str, record: dict[str, Any], exact: dict[str, Any], options: argparse.Namespace) -> list[str]:
    changes = list(zip(exact["singles"] + exact["pairs"], record["singles"] + record["pairs"], strict=True))
    lost, gained = changes.count((True, False)), changes.count((False, True))
    return [
        datetime.date.today().isoformat(),
        device_name(options),
        f"{options.split}, {options.singles} + {options.pairs}",
        name,
        f"{statistics.mean(record['singles']):.3f}",
        f"{statistics.mean(record['pairs']):.3f}",
        f"{lost} / {gained}",
        ratio_cell(record["ratios"]),
        f"{record['passes']:.1f}",
    ]


def ratio_cell(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def score_rows(options: argparse.Namespace) -> list[list[str]]:
    pipe = load_pipeline(options)
    exact = measure(pipe, pipe, "exact", options)
    rows = []
    for name in options.only:
        changed = load_pipeline(options, name) if name == "turbo" else pipe
        rows.append(score_row(name, measure(changed, pipe, name, options), exact, options))
        print(", ".join(f"{column}: {cell}" for column, cell in zip(SCORE_COLUMNS, rows[-1], strict=True)), flush=True)
    return rows


def entropy_bits(values: list[Any]) -> float:
    """Entropy of the values as they are distributed in the list."""
    counts = Counter(values).values()
    return sum(count / len(values) * math.log2(len(values) / count) for count in counts)


def layouts(name: str, options: argparse.Namespace) -> list[list[Any]]:
    """What clips of one prompt choose, each with a seed of its own; kept in the records."""
    path = options.records / "diversity" / f"{name}.json"
    seen = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if len(seen) < options.clips:
        pipe = load_pipeline(options, name)
        seen = [astuple(layout(clip)) for clip in generate(pipe, [DIVERSITY_PROMPT] * options.clips)]
        _save(path, seen)
    return seen[: options.clips]


def diversity_rows(options: argparse.Namespace) -> list[list[str]]:
    """How much clips of one prompt differ, with turbo weights and without."""
    without, turbo = (zip(*layouts(name, options), strict=True) for name in ("exact", "turbo"))
    rows = []
    for title, drawn in zip(("mirrored scene", "position", "size"), zip(without, turbo, strict=True), strict=True):
        entropies = [entropy_bits(list(map(str, values))) for values in drawn]
        rows.append(
            [
                datetime.date.today().isoformat(),
                device_name(options),
                f"{DIVERSITY_PROMPT} {options.clips}",
                title,
                *(f"{entropy:.2f}" for entropy in entropies),
                f"{entropies[1] / entropies[0]:.2f}" if entropies[0] else "",
            ]
        )
    return rows


def cache_megabytes(pipe: LumosVideoPipeline, function: Callable[[], None]) -> float:
    """Memory of the keys and values that a call caches, for both branches."""
    caches = {}

    def record(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if "cache" in kwargs:
            caches[id(kwargs["cache"])] = kwargs["cache"]

    handle = pipe.transformer.register_forward_hook(record, with_kwargs=True)
    function()
    handle.remove()
    layers = [layer for cache in caches.values() for layer in cache.layers]
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers) / 1e6


def long_video_rows(options: argparse.Namespace) -> list[list[str]]:
    """Longer than anything the demo was trained on, so only time and memory mean something."""
    pipe = load_pipeline(options)
    pipe.transformer.config.max_position_embeddings = 2**16
    num_frames = 1 + pipe.transformer.config.temporal_compression * (options.latent_frames - 1)
    steps = pipe.config.default_num_inference_steps

    def decode(name: str) -> None:
        generator = torch.Generator().manual_seed(0)
        # As one sequence, which rolling would cut.
        length = {"num_frames": num_frames, "temporal_tile_size": num_frames}
        call = {**length, "output_type": "latent", **LONG_VIDEO_OPTIONS[name]}
        pipe("A red star jumps in the snow.", generator=generator, **call)

    times = {name: [] for name in LONG_VIDEO_OPTIONS}
    for _ in range(options.runs):
        for name in times:
            times[name].append(seconds(lambda: decode(name), options.device))
    return [
        [
            datetime.date.today().isoformat(),
            device_name(options),
            f"{options.latent_frames}, {steps}",
            name,
            f"{statistics.median(times[name]):.1f}",
            f"{cache_megabytes(pipe, lambda: decode(name)):.1f}",
            ratio_cell([each / exact for each, exact in zip(times[name], times["exact"], strict=True)]),
        ]
        for name in times
    ]


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    if options.long_video:
        title, columns, rows = "Compact histories", LONG_VIDEO_COLUMNS, long_video_rows(options)
    elif options.diversity:
        title, columns, rows = "Diversity", DIVERSITY_COLUMNS, diversity_rows(options)
    else:
        title, columns, rows = "Lossy options", SCORE_COLUMNS, score_rows(options)
    print("\n" + table(columns, rows))
    append_rows(options.results, f"{title} (approximations.py)", columns, rows)


if __name__ == "__main__":
    main()
