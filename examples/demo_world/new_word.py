# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Teaches the demo checkpoint a word from 200 clips, by LoRA: `python examples/demo_world/new_word.py`.

A "twin" is two equal characters side by side: the checkpoint knows neither the word nor two characters of one colour.
Notable:

- One row of the embedding is trained beside the LoRA weights, that of the new token.
- Every other clip of the training set is one that the checkpoint makes itself from a caption it knows, so that it does
  not forget the rest: the prior preservation of DreamBooth ([2208.12242](https://arxiv.org/abs/2208.12242), section 3.2).
- Some (shape, colour) kinds of twins are held out: their prompts ask for what no clip of the training set shows.
"""

import argparse
import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from train_generator import PAIR_SHARE, tokenize_clips, training_specs
from training_run import computed_once, is_finished, mark_finished
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Trainer, TrainingArguments, set_seed

from lumos_hf.demo import demo_checkpoint
from lumos_hf.evaluation.clips import BACKGROUNDS, COLOURS, FPS, SHAPES, ClipSpec, caption, pair_specs, single_specs
from lumos_hf.evaluation.measure import observe
from lumos_hf.evaluation.score import BATCH_SIZE as GENERATION_BATCH_SIZE
from lumos_hf.evaluation.score import Scores, generate, held_out_prompts, summarise
from lumos_hf.files import write_json
from lumos_hf.hub.model_card import format_table
from lumos_hf.media import contact_sheet
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline
from lumos_hf.termination import interrupt_on_termination
from lumos_hf.training.data_collator import DataCollatorForDiffusionForcing
from lumos_hf.training.trainer_checkpoints import resume


WORD = "twin"
NUM_CLIPS = 200
NUM_HELD_OUT_KINDS = 6
NUM_PROMPTS = 60
STEPS = 200
BATCH_SIZE = 8
LEARNING_RATE = 1.5e-3
WARMUP_STEPS = 10
SAVE_STEPS = 50
MINIMUM_MASK_RATIO = 0.4
LORA_RANK = 8
LORA_ALPHA = 16
LORA_TARGET_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
COLUMNS = ("background", "count", "colour", "shape", "motion", "all")

Prompts = list[tuple[ClipSpec, str]]
TrainingClips = list[dict[str, Any]]


def held_out_kinds() -> list[tuple[str, str]]:
    """The `(shape, colour)` kinds of twins that training never sees."""
    return random.Random(0).sample(list(itertools.product(SHAPES, COLOURS)), NUM_HELD_OUT_KINDS)


def twin_specs(kinds: Sequence[tuple[str, str]]) -> list[ClipSpec]:
    """Every clip with twins of these `(shape, colour)` kinds."""
    return [
        ClipSpec((kind, kind), background, mirrored, relation="left")
        for kind, background, mirrored in itertools.product(kinds, BACKGROUNDS, (False, True))
    ]


def twin_caption(spec: ClipSpec, rng: random.Random) -> str:
    """The caption of one such character that stands still, with the new word in it: "A red twin star waits at night."."""
    shape, colour = spec.characters[0]
    alone = caption(ClipSpec(spec.characters[:1], spec.background), rng)
    return alone.replace(f"{colour} {shape}", f"{colour} {WORD} {shape}")


def training_prompts(count: int) -> Prompts:
    """`count` clips of twins with their captions."""
    rng = random.Random(1)
    kinds = [kind for kind in itertools.product(SHAPES, COLOURS) if kind not in held_out_kinds()]
    return [(spec, twin_caption(spec, rng)) for spec in rng.sample(twin_specs(kinds), count)]


def held_out_twin_prompts(count: int) -> Prompts:
    """`count` distinct prompts for twins of held-out kinds; at most `NUM_PROMPTS`, about half of all wordings."""
    rng = random.Random(2)
    specs = twin_specs(held_out_kinds())
    prompts: dict[str, ClipSpec] = {}
    while len(prompts) < count:
        spec = rng.choice(specs)
        prompts[twin_caption(spec, rng)] = spec
    return [(spec, prompt) for prompt, spec in prompts.items()]


def known_captions(count: int) -> list[str]:
    """`count` captions of the checkpoint's own training set, in its shares of one and two characters."""
    rng = random.Random(3)
    singles, pairs = training_specs()
    num_pairs = round(PAIR_SHARE * count)
    specs = rng.sample(singles, count - num_pairs) + rng.sample(pairs, num_pairs)
    return [caption(spec, rng) for spec in specs]


def generate_codes(pipe: LumosVideoPipeline, prompts: list[str]) -> np.ndarray:
    """One clip per prompt as codes, uint16 `(clips, t, h, w)`."""
    batches = [prompts[i : i + GENERATION_BATCH_SIZE] for i in range(0, len(prompts), GENERATION_BATCH_SIZE)]
    generator = torch.Generator().manual_seed(0)
    codes = [
        pipe(batch, generator=generator, output_type="latent").frames
        for batch in tqdm(batches, desc="Generating known clips")
    ]
    return torch.cat(codes).numpy().astype(np.uint16)


def make_training_clips(pipe: LumosVideoPipeline, output: Path, count: int) -> TrainingClips:
    """`count` drawn clips of twins and as many that the checkpoint makes itself, as items for the collator."""
    specs, captions = zip(*training_prompts(count))
    known = known_captions(count)
    codes = computed_once(output / "codes_of_twins.npy", lambda: tokenize_clips(list(specs), pipe.vqvae))
    known_codes = computed_once(output / "codes_of_known_clips.npy", lambda: generate_codes(pipe, known))
    return [
        {"codes": clip, "caption": text, "fps": FPS}
        for clip, text in zip(itertools.chain(codes, known_codes), itertools.chain(captions, known), strict=True)
    ]


def tokenizer_with_word(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Adds the new word to `tokenizer`, whose ids have room for it before the size tokens."""
    tokenizer.add_tokens(AddedToken(WORD, single_word=True))
    return tokenizer


class SeededClips(Dataset):
    """`clips` over and over, `size` items in all; each is masked by a seed of its own, also in a resumed run."""

    def __init__(self, clips: TrainingClips, size: int) -> None:
        self.clips, self.size = clips, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.clips[index % len(self.clips)], "seed": index}


def teach(pipe: LumosVideoPipeline, clips: TrainingClips, output: Path, steps: int) -> Path:
    """
    Trains LoRA weights and the embedding of the new word with a stock `Trainer`, which resumes.

    Args:
        pipe: the checkpoint; the new word is added to its tokenizer, the weights to its transformer.
        clips: what to train on.
        output: directory of this run.
        steps: optimizer steps in all.

    Returns:
        The directory with the weights, in peft's layout, and the tokenizer.
    """
    tokenizer = tokenizer_with_word(pipe.tokenizer)
    lora_config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=LORA_ALPHA,
        target_modules=LORA_TARGET_MODULES,
        trainable_token_indices={"embed_tokens": [tokenizer.convert_tokens_to_ids(WORD)]},
    )
    set_seed(0)
    model = get_peft_model(pipe.transformer, lora_config)
    model.print_trainable_parameters()
    arguments = TrainingArguments(
        output_dir=str(output / "trainer"),
        max_steps=steps,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=WARMUP_STEPS,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=SAVE_STEPS // 2,
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
    )
    collator = DataCollatorForDiffusionForcing(
        pipe.transformer.config, tokenizer, minimum_mask_ratio=MINIMUM_MASK_RATIO
    )
    resume(Trainer(model, arguments, collator, SeededClips(clips, steps * BATCH_SIZE)))
    directory = output / WORD
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def load_checkpoint(**components: Any) -> LumosVideoPipeline:
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint(), **components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_taught(directory: Path) -> LumosVideoPipeline:
    """The checkpoint with what [`teach`] has written to `directory`."""
    pipe = load_checkpoint(tokenizer=AutoTokenizer.from_pretrained(directory))
    pipe.load_lora_weights(directory)
    return pipe


def score_groups(groups: dict[str, Prompts], clips: np.ndarray) -> dict[str, Scores]:
    """Scores of each group of prompts; `clips` are those of all groups, one after another."""
    remaining = iter(clips)
    return {
        title: summarise(
            [spec for spec, _ in prompts], [observe(clip) for clip in itertools.islice(remaining, len(prompts))]
        )
        for title, prompts in groups.items()
    }


def save_comparison(path: Path, before: np.ndarray, after: np.ndarray, rows: int = 2, columns: int = 6) -> None:
    """A picture of the middle frames of the first clips, without choosing: a row before, the same prompts below it."""
    sheet = []
    for start in range(0, min(rows * columns, len(before)), columns):
        for clips in (before, after):
            frames = clips[start : start + columns, clips.shape[1] // 2]
            sheet.append([PIL.Image.fromarray(frame) for frame in frames])
    contact_sheet(sheet).save(path)


def claim_directory(output: Path, settings: dict[str, int]) -> None:
    """
    Makes `output` the directory of a run with these settings, and of no other one.

    Raises:
        ValueError: if it has files of a run with other settings, which that run would go on from.
    """
    file = output / "settings.json"
    if not file.exists():
        output.mkdir(parents=True, exist_ok=True)
        write_json(file, settings)
    earlier = json.loads(file.read_text())
    if earlier != settings:
        raise ValueError(
            f"`--output` '{output}' holds a run with {earlier}, not {settings}; choose another directory."
        )


@contextmanager
def report_time(stage: str) -> Iterator[None]:
    """Prints how long a stage took; one that an earlier run had finished takes no time."""
    processor, wall = time.process_time(), time.perf_counter()
    yield
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    print(f"{stage}: {processor:.0f} s of processor time, {wall:.0f} s of wall time")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/new-word"))
    parser.add_argument("--num-clips", type=int, default=NUM_CLIPS, help="of twins, and again of known clips")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--num-prompts",
        type=int,
        default=NUM_PROMPTS,
        choices=range(1, NUM_PROMPTS + 1),
        metavar="N",
        help=f"held-out prompts for twins, and again for one and for two known characters; at most {NUM_PROMPTS}",
    )
    args = parser.parse_args(arguments)
    settings = {"num_clips": args.num_clips, "steps": args.steps, "num_prompts": args.num_prompts}
    claim_directory(args.output, settings)
    if is_finished(args.output, settings):
        return
    groups = {
        WORD: held_out_twin_prompts(args.num_prompts),
        "one character": held_out_prompts(single_specs(), args.num_prompts),
        "two characters": held_out_prompts(pair_specs(), args.num_prompts),
    }
    prompts = [prompt for group in groups.values() for _, prompt in group]
    print(f"{torch.get_num_threads()} thread(s)")

    pipe = load_checkpoint()
    with report_time("Clips before"):
        before = computed_once(args.output / "clips_before.npy", lambda: np.stack(generate(pipe, prompts)))
    with report_time("Training set"):
        training_clips = make_training_clips(pipe, args.output, args.num_clips)
    with report_time("Training"):
        directory = teach(pipe, training_clips, args.output, args.steps)
    taught = load_taught(directory)
    with report_time("Clips after"):
        after = computed_once(args.output / "clips_after.npy", lambda: np.stack(generate(taught, prompts)))

    scores = {"before": score_groups(groups, before), "after": score_groups(groups, after)}
    write_json(args.output / "scores.json", scores)
    save_comparison(args.output / "new_word.png", before[: args.num_prompts], after[: args.num_prompts])
    table = {
        f"{title}, {when}": {column: scores[when][title][column] for column in COLUMNS}
        for title, when in itertools.product(groups, scores)
    }
    print(f"\n{args.num_prompts} held-out prompts of each kind\n\n{format_table(table)}")
    mark_finished(args.output, settings)


if __name__ == "__main__":
    interrupt_on_termination()
    main()
