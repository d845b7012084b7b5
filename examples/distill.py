# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Distills guidance and steps: a checkpoint learns to make with one branch and a few steps what it makes with two and many.

    python examples/distill.py --model checkpoints/lumos-1b --prompts prompts.txt --output_dir outputs/turbo \\
        --student_steps 8 2 --max_steps 2000

It learns from its own samples, one per line of `--prompts`, which are made first; or from a set that `lumos-hf tokenize`
wrote, `--data`. The teacher is the same model with its adapter switched off, so memory hardly grows. What comes out loads
with `pipe.load_turbo_weights("outputs/turbo")`, which merges the weights and takes over steps, guidance and scheduler, or
with `load_lora_weights`; the card says which numbers it wants. An interrupted run goes on when the same command is given
again, in its samples, too.

With `--train_all_weights` a whole checkpoint comes out, and the teacher is a second copy.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import Trainer, TrainingArguments, set_seed

from lumos_hf import LumosVideoPipeline, MaskDecodingScheduler
from lumos_hf.data.tokenized_dataset import load_tokenized_dataset, video_tokenizer_checksum
from lumos_hf.files import whole_file
from lumos_hf.generation_defaults import check_settings, resolve_default
from lumos_hf.hub.turbo import write_turbo_weights
from lumos_hf.termination import interrupt_on_termination
from lumos_hf.training.few_steps import FewStepCollator, FewStepObjective, sample_with_order
from lumos_hf.training.finetuning import parse_arguments
from lumos_hf.training.loss_curve import save_loss_curve
from lumos_hf.training.trainer_checkpoints import is_finished, record_finished, resume


TARGET_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class DistillationArguments:
    model: str = field(metadata={"help": "The checkpoint: a directory or a repository on the Hub."})
    prompts: str | None = field(default=None, metadata={"help": "A text file: a prompt per line to learn from."})
    data: str | None = field(default=None, metadata={"help": "Instead of it: what `lumos-hf tokenize` wrote."})
    sample_batch_size: int = field(default=1, metadata={"help": "Videos that are sampled at a time."})
    num_frames: int | None = field(default=None, metadata={"help": "Of the samples, if not the checkpoint's."})
    student_steps: list[int] = field(
        default_factory=lambda: [8, 2],
        metadata={"help": "Steps of each latent frame; the last number goes on for those that follow."},
    )
    student_confidence_temperature: float | None = field(
        default=None,
        metadata={
            "help": "Of the student's scheduler, if not the checkpoint's. With few steps more noise keeps the likeliest "
            "layout from being decided first each time."
        },
    )
    student_token_temperature: float | None = field(
        default=None,
        metadata={
            "help": "Of the student's scheduler, if not the checkpoint's. Codes that are drawn at once know nothing of each "
            "other: a lower one keeps rare ones out. It learns at the checkpoint's."
        },
    )
    teacher_steps: int | None = field(default=None, metadata={"help": "If not the checkpoint's."})
    teacher_guidance: float | None = field(default=None, metadata={"help": "If not the checkpoint's."})
    teacher_weight: float = field(
        default=1.0, metadata={"help": "Of the teacher's distribution beside its codes; 0 leaves its passes out."}
    )
    max_targets: int = field(default=1024, metadata={"help": "Codes of a clip to learn from at a time."})
    lora_rank: int = field(default=32, metadata={"help": "Rank of the weights that are added."})
    lora_alpha: int = field(default=32, metadata={"help": "They are scaled by this over the rank."})
    train_all_weights: bool = field(default=False, metadata={"help": "Instead of LoRA weights."})

    def __post_init__(self) -> None:
        if (self.prompts is None) == (self.data is None):
            raise ValueError(f"Exactly one of `prompts` and `data` must be given, got {self.prompts} and {self.data}.")
        check_settings(
            num_frames=self.num_frames,
            num_inference_steps=self.student_steps,
            guidance_scale=self.teacher_guidance,
        )


class RepeatedClips(Dataset):
    """Clips over and over, `size` in all, in a new order each time; each draws by a seed of its own."""

    def __init__(self, clips: Sequence[dict[str, Any]], size: int, seed: int) -> None:
        self.clips, self.size, self.seed = clips, size, seed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        epoch, place = divmod(index, len(self.clips))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.clips))
        return {**self.clips[int(order[place])], "seed": index}


def make_samples(pipe: LumosVideoPipeline, prompts: list[str], directory: Path, arguments: DistillationArguments):
    """What the checkpoint makes of the prompts, as features; files of a batch each are made once."""
    directory.mkdir(parents=True, exist_ok=True)
    num_frames = resolve_default("num_frames", arguments.num_frames, pipe.config)
    fps = resolve_default("fps", None, pipe.config, num_frames)
    call = {
        "num_frames": num_frames,
        "num_inference_steps": arguments.teacher_steps,
        "guidance_scale": arguments.teacher_guidance,
    }
    features = []
    for start in tqdm(range(0, len(prompts), arguments.sample_batch_size), desc="Sampling the teacher"):
        batch = prompts[start : start + arguments.sample_batch_size]
        file = directory / f"{start:06}.npz"
        if not file.is_file():
            codes, steps = sample_with_order(pipe, batch, range(start, start + len(batch)), **call)
            with whole_file(file) as partial, partial.open("wb") as stream:
                np.savez(stream, codes=codes.cpu().int().numpy(), deciding_steps=steps.cpu().short().numpy())
        with np.load(file) as arrays:
            for caption, codes, steps in zip(batch, arrays["codes"], arrays["deciding_steps"], strict=True):
                features.append({"caption": caption, "codes": codes, "deciding_steps": steps, "fps": fps})
    return features


def read_features(
    pipe: LumosVideoPipeline, output: Path, arguments: DistillationArguments
) -> Sequence[dict[str, Any]]:
    if arguments.data is not None:
        return load_tokenized_dataset(arguments.data, video_tokenizer_checksum(pipe.vqvae))
    prompts = [line for line in Path(arguments.prompts).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not prompts:
        raise ValueError(
            f"`prompts` must be a file with a prompt per line, got '{arguments.prompts}', which has none."
        )
    return make_samples(pipe, prompts, output / "samples", arguments)


def build_student(transformer: nn.Module, arguments: DistillationArguments) -> tuple[nn.Module, nn.Module | None]:
    """What is trained, and its teacher, where that is another model."""
    if arguments.train_all_weights:
        return transformer, copy.deepcopy(transformer)
    config = LoraConfig(r=arguments.lora_rank, lora_alpha=arguments.lora_alpha, target_modules=TARGET_MODULES)
    student = get_peft_model(transformer, config)
    student.print_trainable_parameters()
    return student, None


def student_scheduler(pipe: LumosVideoPipeline, arguments: DistillationArguments) -> MaskDecodingScheduler:
    changes = {
        "confidence_temperature": arguments.student_confidence_temperature,
        "token_temperature": arguments.student_token_temperature,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return MaskDecodingScheduler.from_config(pipe.scheduler.config, **given)


def build_trainer(
    student: nn.Module,
    teacher: nn.Module | None,
    pipe: LumosVideoPipeline,
    features: Sequence[dict[str, Any]],
    arguments: DistillationArguments,
    training_arguments: TrainingArguments,
) -> Trainer:
    objective = FewStepObjective(
        student,
        teacher,
        guidance_scale=resolve_default("guidance_scale", arguments.teacher_guidance, pipe.config),
        token_temperature=pipe.scheduler.config.token_temperature,
        teacher_weight=arguments.teacher_weight,
    )
    collator = FewStepCollator(
        pipe.transformer.config,
        pipe.tokenizer,
        student_scheduler(pipe, arguments),
        arguments.student_steps,
        resolve_default("history_mask_ratio", None, pipe.config),
        arguments.max_targets,
    )
    batch_size = training_arguments.train_batch_size * training_arguments.gradient_accumulation_steps
    size = training_arguments.max_steps * batch_size * training_arguments.world_size
    dataset = RepeatedClips(features, size, training_arguments.seed)
    return Trainer(objective, training_arguments, collator, dataset)


def main(arguments: Sequence[str] | None = None) -> None:
    distillation_arguments, training_arguments = parse_arguments(
        [DistillationArguments],
        arguments,
        learning_rate=1e-4,
        lr_scheduler_type="cosine",
        max_steps=1000,
        weight_decay=0.0,
        eval_strategy="no",
    )
    output = Path(training_arguments.output_dir)
    if is_finished(training_arguments, output):
        return
    set_seed(training_arguments.seed)
    pipe = LumosVideoPipeline.from_pretrained(distillation_arguments.model)
    pipe.set_progress_bar_config(disable=True)
    if not training_arguments.use_cpu:
        pipe.to(training_arguments.device)
    if training_arguments.bf16 and not distillation_arguments.train_all_weights:
        # Frozen weights need no more; peft keeps its own ones in float32.
        pipe.transformer.to(torch.bfloat16)
    features = read_features(pipe, output, distillation_arguments)
    student, teacher = build_student(pipe.transformer, distillation_arguments)
    trainer = build_trainer(student, teacher, pipe, features, distillation_arguments, training_arguments)
    resume(trainer)
    if trainer.is_world_process_zero():
        save_loss_curve(trainer.state.log_history, output / "loss.png")
        save(pipe, student, output, distillation_arguments, len(features))
    record_finished(trainer, output)


def save(
    pipe: LumosVideoPipeline, student: nn.Module, output: Path, arguments: DistillationArguments, num_clips: int
) -> None:
    """Writes LoRA weights with what they want of a call, or a checkpoint that has it for its defaults."""
    if isinstance(student, PeftModel):
        origin = "that the checkpoint made itself" if arguments.data is None else "of a tokenised set"
        write_turbo_weights(
            output,
            student,
            student_scheduler(pipe, arguments),
            num_inference_steps=arguments.student_steps,
            base_model=arguments.model,
            training_data=f"{num_clips} clips {origin}.",
        )
        return
    pipe.register_modules(scheduler=student_scheduler(pipe, arguments))
    pipe.register_to_config(default_num_inference_steps=arguments.student_steps, default_guidance_scale=1.0)
    pipe.save_pretrained(output)


if __name__ == "__main__":
    interrupt_on_termination()
    main()
