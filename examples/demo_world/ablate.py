# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Does the order of Lumos-1's ablations hold on the demo's clips? `python examples/demo_world/ablate.py --help`

Trains a small generator for every position encoding, mask strategy and seed, on clips of one character, and measures each
on held-out combinations: the loss of every latent frame, and clips read back from their pixels, at several history mask
ratios. Notable:

- Arms of one seed share their initial weights, clips and captions, so that their differences are paired.
- Seeds are the outermost loop: a grid that is cut short is still balanced.
- A finished run is a JSON file in the output folder and is not repeated; a killed one resumes from its checkpoint.
- `--two-layouts` trains on clips of two sizes and lengths, and measures a third that training never saw as well.
- The report covers all runs in the output folder, also those of earlier calls.
"""

import argparse
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from assemble import demo_pipeline
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from train_generator import TokenizedClipDataset, tokenize_clips
from training_run import computed_once, train
from transformers import PreTrainedTokenizerBase

from lumos_hf import CosmosVideoTokenizer, LumosConfig, LumosForCausalLM, MaskDecodingScheduler
from lumos_hf.configuration_lumos import POSITION_ENCODINGS
from lumos_hf.demo import demo_checkpoint
from lumos_hf.evaluation.clips import BACKGROUNDS, FPS, NUM_FRAMES, ClipSpec, draw_clip, is_held_out, single_specs
from lumos_hf.evaluation.measure import observe
from lumos_hf.evaluation.score import generate, held_out_prompts, summarise
from lumos_hf.evaluation.vocabulary import demo_config, demo_text_tokenizer
from lumos_hf.termination import interrupt_on_termination
from lumos_hf.token_layout import (
    content_positions,
    derive_layout,
    frame_length,
    prompt_ids,
    prompt_text,
    sequence_from_codes,
    video_duration,
    visual_positions,
)
from lumos_hf.training.callbacks import frame_losses
from lumos_hf.training.data_collator import IGNORED_LABEL, STRATEGIES, DataCollatorForDiffusionForcing


ARMS = tuple(f"{encoding}-{strategy}" for encoding in POSITION_ENCODINGS for strategy in STRATEGIES)
DEFAULT_ARMS = ("mm_rope-tube", "mm_rope-random", "rope_3d-tube", "rope_1d-tube")
HEAD_DIM = 64
LOSS_BATCH_SIZE = 25
# Random masks are not the same for all strategies, so that each clip needs several.
NUM_TRAINING_MASKS = 4
TRAINING_MASKS = "as in training"
PROMISES = ("count", "colour", "shape", "motion")
REPORTED_SCORES = (*PROMISES, "all")
TABLE_BEGIN, TABLE_END = "<!-- table of examples/demo_world/ablate.py -->", "<!-- end of the table -->"

# Of the usual 128 columns, those that a single character needs in the narrow layouts, and the frames of the short one.
NARROW = slice(16, 112)
SHORT = 5
SEEN_LAYOUT, UNSEEN_LAYOUT = "narrow, 2 latent frames, trained", "narrow, 3 latent frames, never trained"

Batch = dict[str, torch.Tensor]
Feature = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Clips:
    """
    What all runs share.

    Args:
        training: clips to train on.
        codes: theirs, uint16 `(clips, t, h, w)`.
        held_out: clips whose combinations training never sees.
        features: theirs, with a caption, as [`DataCollatorForDiffusionForcing`] takes them.
        short_codes: of the training clips in the narrow and short layout, with `--two-layouts`.
        other_layouts: the held-out features in other layouts, by a name for each.
    """

    training: list[ClipSpec]
    codes: np.ndarray
    held_out: list[ClipSpec]
    features: list[Feature]
    short_codes: np.ndarray | None = None
    other_layouts: dict[str, list[Feature]] = field(default_factory=dict)


class TwoLayoutDataset(Dataset):
    """Draws of two sets that differ in the layout of their clips alone; `seed` and index say of which."""

    def __init__(self, first: TokenizedClipDataset, second: TokenizedClipDataset, seed: int) -> None:
        self.layouts, self.seed = (first, second), seed

    def __len__(self) -> int:
        return len(self.layouts[0])

    def __getitem__(self, index: int) -> Feature:
        return random.Random(f"layout/{self.seed}/{index}").choice(self.layouts)[index]


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parse(arguments)
    if args.hidden_size < HEAD_DIM or args.hidden_size % HEAD_DIM != 0:
        raise ValueError(f"`--hidden-size` must be a multiple of {HEAD_DIM}, got {args.hidden_size}.")
    args.output.mkdir(parents=True, exist_ok=True)
    check_settings(args)
    vqvae = CosmosVideoTokenizer.from_pretrained(demo_checkpoint() / "vqvae", torch_dtype=torch.float32).eval()
    clips = tokenized_clips(args, vqvae)
    # Halves the time of decoding.
    vqvae = CosmosVideoTokenizer.from_pretrained(demo_checkpoint() / "vqvae", torch_dtype=torch.bfloat16)
    for seed, arm in itertools.product(args.seeds, args.arms):
        result_file = args.output / f"{arm}-{seed}.json"
        if not result_file.exists():
            result = run(arm, seed, args, vqvae, clips)
            write_whole(result_file, lambda path: path.write_text(json.dumps(result, indent=2)))
        write_report(read_results(args.output), args.document)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--arms", nargs="+", choices=ARMS, default=list(DEFAULT_ARMS), help="position encoding-mask strategy")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--output", type=Path, default=Path("outputs/ablation"), help="runs and their results")
    add("--document", type=Path, default=Path("outputs/ablation/ablation.md"), help="gets the table; plot in assets/")
    add("--steps", type=int, default=300)
    add("--batch-size", type=int, default=8)
    add("--learning-rate", type=float, default=2e-3)
    add("--minimum-mask-ratio", type=float, default=0.7, help="floor of the mask rate in training")
    add("--hidden-size", type=int, default=128, help=f"a multiple of {HEAD_DIM}, the width of a head")
    add("--layers", type=int, default=2)
    add("--scenes", nargs="+", choices=BACKGROUNDS, default=["meadow", "night"])
    add("--max-clips", type=int, default=None, help="to train on; default: all of one character in these scenes")
    add("--two-layouts", action="store_true", help=f"train also on {SHORT} frames of a narrower picture")
    add("--prompts", type=int, default=60, help="held-out clips for losses and scores")
    add("--history-mask-ratios", nargs="+", type=float, default=[0.0, 0.3, 0.7], help="at inference")
    add("--inference-steps", type=int, default=8)
    add("--guidance-scale", type=float, default=1.0)
    return parser.parse_args(arguments)


def check_settings(args: argparse.Namespace) -> None:
    """
    Keeps runs that cannot be compared out of one folder.

    Raises:
        ValueError: if `args.output` has runs with other settings than `args`, apart from the grid.
    """
    free = ("output", "document", "arms", "seeds")
    settings = {name: value for name, value in vars(args).items() if name not in free}
    settings_file = args.output / "settings.json"
    if not settings_file.exists():
        write_whole(settings_file, lambda path: path.write_text(json.dumps(settings, indent=2)))
    earlier = json.loads(settings_file.read_text())
    differing = [
        f"`{name}` {earlier.get(name)} (now {settings[name]})"
        for name in settings
        if earlier.get(name) != settings[name]
    ]
    if differing:
        raise ValueError(f"`--output` {args.output} must be a new folder: its runs have {', '.join(differing)}.")


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` write to a temporary name that then becomes `path`, so that there is all of a file or none of it."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    write(unfinished)
    os.replace(unfinished, path)


def tokenized_clips(args: argparse.Namespace, vqvae: CosmosVideoTokenizer) -> Clips:
    """The clips of the chosen scenes, not mirrored, with their codes, which are stored in the output folder."""
    specs = [spec for spec in single_specs() if spec.background in args.scenes and not spec.mirrored]
    training = [spec for spec in specs if not is_held_out(spec)][: args.max_clips]
    num_held_out = sum(is_held_out(spec) for spec in specs)
    if not 0 < args.prompts <= num_held_out:
        raise ValueError(f"`--prompts` must be from 1 to {num_held_out} in these scenes, got {args.prompts}.")
    held_out, captions = zip(*held_out_prompts(specs, args.prompts))

    def codes_of(name: str, specs: list[ClipSpec], draw: Callable[[ClipSpec], np.ndarray]) -> np.ndarray:
        return computed_once(args.output / name, lambda: tokenize_clips(specs, vqvae, draw=draw))

    def features(held_out_codes: np.ndarray) -> list[Feature]:
        return [
            {"codes": clip_codes, "caption": caption, "fps": FPS}
            for clip_codes, caption in zip(held_out_codes, captions, strict=True)
        ]

    codes = codes_of("codes.npy", [*training, *held_out], draw_clip)
    clips = Clips(training, codes[: len(training)], list(held_out), features(codes[len(training) :]))
    if not args.two_layouts:
        return clips
    short = codes_of("codes-short.npy", [*training, *held_out], lambda spec: draw_clip(spec)[:SHORT, :, NARROW])
    narrow = codes_of("codes-narrow.npy", list(held_out), lambda spec: draw_clip(spec)[:, :, NARROW])
    others = {SEEN_LAYOUT: features(short[len(training) :]), UNSEEN_LAYOUT: features(narrow)}
    return replace(clips, short_codes=short[: len(training)], other_layouts=others)


def training_set(clips: Clips, size: int, seed: int) -> Dataset:
    """Draws of the training clips, of both layouts if there are two."""
    whole = TokenizedClipDataset(clips.training, [], clips.codes, size, seed)
    if clips.short_codes is None:
        return whole
    return TwoLayoutDataset(whole, TokenizedClipDataset(clips.training, [], clips.short_codes, size, seed), seed)


def run(arm: str, seed: int, args: argparse.Namespace, vqvae: CosmosVideoTokenizer, clips: Clips) -> Result:
    """Trains one model and measures it."""
    print(f"{arm}, seed {seed}", flush=True)
    encoding, strategy = arm.split("-")
    start, cpu_start = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    model = LumosForCausalLM(
        demo_config(
            vqvae.quantizer.codebook_size,
            vqvae.config.spatial_compression_ratio,
            position_encoding=encoding,
            hidden_size=args.hidden_size,
            intermediate_size=args.hidden_size * 5 // 2,
            num_hidden_layers=args.layers,
            num_attention_heads=args.hidden_size // HEAD_DIM,
        )
    )
    collator = DataCollatorForDiffusionForcing(
        model.config, demo_text_tokenizer(), strategy, minimum_mask_ratio=args.minimum_mask_ratio
    )
    train(
        model,
        training_set(clips, args.steps * args.batch_size, seed),
        collator,
        args.output / f"{arm}-{seed}",
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        seed=seed,
    )
    trained = time.perf_counter()
    model.eval()
    losses = held_out_losses(model, strategy, args, clips.features)
    layout_losses = {
        name: held_out_losses(model, strategy, args, features) for name, features in clips.other_layouts.items()
    }
    scores = held_out_scores(model, args, vqvae, clips)
    return {
        "parameters": model.num_parameters(),
        # Since the last start of a run that was resumed.
        "training_seconds": trained - start,
        "evaluation_seconds": time.perf_counter() - trained,
        "cpu_seconds": time.process_time() - cpu_start,
        "losses": losses,
        "layout_losses": layout_losses,
        "scores": scores,
    }


def held_out_losses(
    model: LumosForCausalLM, strategy: str, args: argparse.Namespace, features: list[Feature]
) -> dict[str, list[float]]:
    """
    Mean cross entropy of the masked tokens of each latent frame, in nats.

    Once under the masks of training, whose imbalance between frames AR-DF is to cure, and for every history mask ratio
    as in generation: earlier frames masked as the pipeline masks them, the frame itself at a rate of the training.
    """
    groups = [features[start : start + LOSS_BATCH_SIZE] for start in range(0, len(features), LOSS_BATCH_SIZE)]
    tokenizer = demo_text_tokenizer()
    collator = DataCollatorForDiffusionForcing(
        model.config,
        tokenizer,
        strategy,
        minimum_mask_ratio=args.minimum_mask_ratio,
        prompt_drop_probability=0,
        seed=0,
    )
    losses = {TRAINING_MASKS: frame_losses(model, [collator(group) for group in groups * NUM_TRAINING_MASKS])}
    for ratio in args.history_mask_ratios:
        generator = torch.Generator().manual_seed(0)
        batches = itertools.chain.from_iterable(
            batches_as_generated(group, model.config, tokenizer, ratio, args.minimum_mask_ratio, generator)
            for group in groups
        )
        losses[str(ratio)] = frame_losses(model, list(batches))
    return losses


def batches_as_generated(
    features: list[Feature],
    config: LumosConfig,
    tokenizer: PreTrainedTokenizerBase,
    history_mask_ratio: float,
    minimum_mask_ratio: float,
    generator: torch.Generator,
) -> Iterator[Batch]:
    """One batch per latent frame: that frame is to be predicted, those before it are masked as a history."""
    input_ids, attention_mask = _padded_rows(features, config, tokenizer)
    _, frame_ids = derive_layout(input_ids, config, attention_mask)
    scheduler = MaskDecodingScheduler()
    num_frames, h, w = features[0]["codes"].shape
    content, visual = content_positions(h, w), visual_positions(h, w)
    history = torch.zeros(frame_length(h, w), dtype=torch.bool)
    history[content[scheduler.history_mask_indices(len(content), history_mask_ratio)]] = True
    nowhere = torch.zeros_like(input_ids, dtype=torch.bool)
    for frame in range(num_frames):
        rates = scheduler.sample_mask_ratio(torch.rand(len(features), generator=generator), minimum_mask_ratio)
        target = torch.zeros(len(features), len(history), dtype=torch.bool)
        target[:, visual] = scheduler.training_mask(rates, torch.rand(len(features), h * w, generator=generator))
        is_target = nowhere.masked_scatter(frame_ids == frame, target)
        is_earlier = (0 <= frame_ids) & (frame_ids < frame)
        is_history = nowhere.masked_scatter(is_earlier, history.repeat(len(features) * frame))
        yield {
            "input_ids": input_ids.masked_fill(is_target | is_history, config.mask_token_id),
            "labels": input_ids.masked_fill(~is_target, IGNORED_LABEL),
            "attention_mask": attention_mask,
        }


def _padded_rows(
    features: list[Feature], config: LumosConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[torch.LongTensor, torch.LongTensor]:
    """Whole sequences without masks, `(B, L)`, and their attention mask."""
    duration = video_duration(NUM_FRAMES, FPS)
    height, width = (side * config.spatial_compression for side in features[0]["codes"].shape[1:])
    texts = [
        prompt_text(feature["caption"], height=height, width=width, duration=duration, fps=FPS) for feature in features
    ]
    rows = [
        sequence_from_codes(
            prompt_ids(text_ids, config), torch.from_numpy(feature["codes"].astype(np.int64)), duration, FPS, config
        )
        for text_ids, feature in zip(tokenizer(texts, add_special_tokens=False)["input_ids"], features, strict=True)
    ]
    input_ids = pad_sequence(rows, batch_first=True, padding_value=config.pad_token_id)
    lengths = torch.tensor([len(row) for row in rows])
    return input_ids, (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()


def held_out_scores(
    model: LumosForCausalLM, args: argparse.Namespace, vqvae: CosmosVideoTokenizer, clips: Clips
) -> dict[str, dict[str, float]]:
    """Share of generated clips that keep each promise of their prompts, by history mask ratio."""
    pipe = demo_pipeline(model.to(torch.bfloat16), vqvae)
    pipe.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": args.inference_steps, "guidance_scale": args.guidance_scale}
    prompts = [feature["caption"] for feature in clips.features]
    scores = {}
    for ratio in args.history_mask_ratios:
        generated = generate(pipe, prompts, history_mask_ratio=ratio, **settings)
        scores[str(ratio)] = summarise(clips.held_out, [observe(clip) for clip in generated])
    return scores


def read_results(output: Path) -> dict[str, list[Result]]:
    """Finished runs by arm."""
    runs = {arm: [json.loads(file.read_text()) for file in sorted(output.glob(f"{arm}-*.json"))] for arm in ARMS}
    return {arm: results for arm, results in runs.items() if results}


def write_report(arms: dict[str, list[Result]], document: Path) -> None:
    """Writes the plot, and the table into its place in `document`; the text around it stays."""
    picture = document.parent / "assets" / "ablation.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    save_plot(arms, picture)
    text = document.read_text(encoding="utf-8") if document.exists() else f"# Ablation\n\n{TABLE_BEGIN}{TABLE_END}\n"
    before, _, rest = text.partition(TABLE_BEGIN)
    _, _, after = rest.partition(TABLE_END)
    section = f"{TABLE_BEGIN}\n{format_results(arms)}\n\n![Losses and scores](assets/ablation.png)\n{TABLE_END}"
    write_whole(document, lambda path: path.write_text(before + section + after, encoding="utf-8"))


def format_results(arms: dict[str, list[Result]]) -> str:
    """Markdown table: mean and standard deviation over the seeds, one row per arm and way of masking the history."""
    results = list(itertools.chain.from_iterable(arms.values()))
    num_frames = len(results[0]["losses"][TRAINING_MASKS])
    header = ["position encoding", "masks in training", "history masked", "seeds"]
    header += [f"loss, frame {frame}" for frame in range(num_frames)] + list(REPORTED_SCORES)
    rows = [
        [
            *(*arm.split("-"), condition, str(len(runs))),
            *(_mean_and_spread(run["losses"][condition][frame] for run in runs) for frame in range(num_frames)),
            *(
                _mean_and_spread(run["scores"].get(condition, {}).get(name) for run in runs)
                for name in REPORTED_SCORES
            ),
        ]
        for arm, runs in arms.items()
        for condition in runs[0]["losses"]
    ]
    layout_rows = [
        [*(*arm.split("-"), layout, condition, str(len(runs))), _mean_and_spread(_all_frames(runs, layout, condition))]
        for arm, runs in arms.items()
        for layout in runs[0].get("layout_losses", {})
        for condition in runs[0]["losses"]
    ]
    minutes = {
        name: sum(result[f"{name}_seconds"] for result in results) / 60 for name in ("training", "evaluation", "cpu")
    }
    tables = _table(header, rows)
    if layout_rows:
        header = ["position encoding", "masks in training", "layout", "history masked", "seeds", "loss, all frames"]
        tables += f"\n\n{_table(header, layout_rows)}"
    return tables + (
        f"\n\n{len(results)} runs of {results[0]['parameters']:,} parameters; wall time {minutes['training']:.0f} min of training "
        f"and {minutes['evaluation']:.0f} min of evaluation, processor time {minutes['cpu']:.0f} min."
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _all_frames(runs: list[Result], layout: str, condition: str) -> list[float]:
    return [float(np.mean(run["layout_losses"][layout][condition])) for run in runs]


def _mean_and_spread(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    spread = f" ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else ""
    return f"{np.mean(known):.3f}{spread}"


def save_plot(arms: dict[str, list[Result]], path: Path) -> None:
    """Means and standard deviations over the seeds: losses by frame, losses and scores by history mask ratio."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    by_frame, by_ratio, scores = figure.subplots(1, 3)
    by_frame.set(title="Masks as in training", xlabel="latent frame", ylabel="held-out loss (nats)")
    by_ratio.set(
        title="History masked as in generation", xlabel="history mask ratio", ylabel="held-out loss, later frames"
    )
    scores.set(title="Generated clips", xlabel="history mask ratio", ylabel="mean of " + ", ".join(PROMISES))
    colours = dict(zip(POSITION_ENCODINGS, ("C0", "C1", "C2"), strict=True))
    lines = dict(zip(STRATEGIES, ("-", "--", ":", "-."), strict=True))
    for arm, runs in arms.items():
        encoding, strategy = arm.split("-")
        style = {"color": colours[encoding], "linestyle": lines[strategy], "marker": "o", "capsize": 3}
        frames = np.array([run["losses"][TRAINING_MASKS] for run in runs])
        by_frame.errorbar(range(frames.shape[1]), frames.mean(0), _spread(frames), **style)
        ratios = [float(ratio) for ratio in runs[0]["scores"]]
        later = np.array([[np.mean(run["losses"][ratio][1:]) for ratio in run["scores"]] for run in runs])
        by_ratio.errorbar(ratios, later.mean(0), _spread(later), **style)
        kept = np.array([[np.mean([s[name] for name in PROMISES]) for s in run["scores"].values()] for run in runs])
        scores.errorbar(ratios, kept.mean(0), _spread(kept), label=f"{encoding}, {strategy}", **style)
    by_frame.set_xticks(range(frames.shape[1]))
    figure.legend(*scores.get_legend_handles_labels(), loc="outside lower center", ncols=len(arms))
    for axes in (by_frame, by_ratio, scores):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _spread(values: np.ndarray) -> np.ndarray:
    return values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])


if __name__ == "__main__":
    interrupt_on_termination()
    main()
