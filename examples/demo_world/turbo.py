# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Distills the turbo weights of the demo checkpoint: `python examples/demo_world/turbo.py`, or `make demo-turbo`.

It writes captions of training combinations, has `examples/distill.py` sample the checkpoint with them and train, and puts
the weights beside the checkpoint. Held-out prompts take no part.
"""

import argparse
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from train_generator import PAIR_SHARE, training_specs
from training_run import has_fast_bfloat16

from lumos_hf.demo import demo_checkpoint
from lumos_hf.evaluation.clips import caption
from lumos_hf.files import whole_file
from lumos_hf.hub.lora_card import write_lora_card
from lumos_hf.termination import interrupt_on_termination


sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import distill


NUM_PROMPTS = 1075
STEPS = 400
LEARNING_RATE = 7e-4
# The codes that the teacher drew count less than its distribution, which says as much of combinations that it did not draw.
TEACHER_WEIGHT = 2.0
# As many as leave a sixth of the time; the noise keeps layouts as different as with many steps (docs/speed.md).
STUDENT_STEPS = (6, 1)
STUDENT_CONFIDENCE_TEMPERATURE = 3.0
STUDENT_TOKEN_TEMPERATURE = 0.3
INSTALLED = ("pytorch_lora_weights.safetensors", "scheduler/scheduler_config.json")


def training_captions(count: int) -> list[str]:
    """Captions of training combinations, with the share of two characters that the checkpoint was trained on."""
    rng = random.Random(4)
    singles, pairs = training_specs()
    return [caption(rng.choice(pairs if rng.random() < PAIR_SHARE else singles), rng) for _ in range(count)]


def install(output: Path, checkpoint: Path, num_prompts: int) -> None:
    """Puts the weights of a run into the folder `turbo` of a checkpoint, from where `load_turbo_weights` takes them."""
    folder = checkpoint / "turbo"
    for name in INSTALLED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / name) as partial:
            shutil.copyfile(output / name, partial)
    training_data = f"{num_prompts} clips that the checkpoint made itself, of combinations that are not held out."
    write_lora_card(folder, replace=True, training_data=training_data)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=demo_checkpoint(), help="gets the weights in its folder turbo")
    parser.add_argument("--output", type=Path, default=Path("outputs/demo-turbo"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--num-prompts", type=int, default=NUM_PROMPTS)
    args = parser.parse_args(arguments)
    args.output.mkdir(parents=True, exist_ok=True)
    prompts = args.output / "prompts.txt"
    with whole_file(prompts) as partial:
        partial.write_text("\n".join(training_captions(args.num_prompts)) + "\n", encoding="utf-8")
    options = {
        "model": args.model,
        "prompts": prompts,
        "output_dir": args.output,
        "max_steps": args.steps,
        "student_confidence_temperature": STUDENT_CONFIDENCE_TEMPERATURE,
        "student_token_temperature": STUDENT_TOKEN_TEMPERATURE,
        "sample_batch_size": 25,
        "per_device_train_batch_size": 8,
        "learning_rate": LEARNING_RATE,
        "teacher_weight": TEACHER_WEIGHT,
        "warmup_steps": 10,
        "lora_rank": 16,
        "lora_alpha": 32,
        "max_grad_norm": 1.0,
        "bf16": has_fast_bfloat16(),
        "activation_checkpointing": False,
        "save_steps": 50,
        "report_to": "none",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    distill.main([*given, "--student_steps", *map(str, STUDENT_STEPS)])
    install(args.output, args.model, args.num_prompts)


if __name__ == "__main__":
    interrupt_on_termination()
    main()
