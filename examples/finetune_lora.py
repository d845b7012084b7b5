# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Trains LoRA weights of the transformer on a tokenised set, on one card.

    lumos-hf tokenize clips/ --model checkpoints/lumos-1b -o clips-tokenized
    accelerate launch --config_file examples/accelerate/one_gpu.yaml examples/finetune_lora.py \\
        --model checkpoints/lumos-1b --data clips-tokenized --output_dir outputs/lora --max_steps 1000

Then `pipe.load_lora_weights("outputs/lora")`. A run that was interrupted goes on when the same command is given again.

The recipe is the official one of full fine-tuning, but for the learning rate, which is a usual one for LoRA.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import set_seed

from lumos_hf import LumosVideoPipeline
from lumos_hf.hub.lora_card import write_lora_card
from lumos_hf.termination import interrupt_on_termination
from lumos_hf.training.finetuning import FinetuningArguments, build_trainer, parse_arguments, train
from lumos_hf.training.trainer_checkpoints import is_finished, record_finished


@dataclass
class LoraArguments:
    lora_rank: int = field(default=32, metadata={"help": "Rank of the weights that are added."})
    lora_alpha: int = field(default=32, metadata={"help": "They are scaled by this over the rank."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout of their inputs."})
    lora_target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        metadata={"help": "Linear layers to add them to."},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    finetuning_arguments, lora_arguments, training_arguments = parse_arguments(
        [FinetuningArguments, LoraArguments], arguments, learning_rate=1e-4
    )
    if is_finished(training_arguments, Path(training_arguments.output_dir)):
        return
    set_seed(training_arguments.seed)
    pipe = LumosVideoPipeline.from_pretrained(finetuning_arguments.model)
    if training_arguments.bf16:
        # Frozen weights need no more; peft keeps its own ones in float32.
        pipe.transformer.to(torch.bfloat16)
    lora_config = LoraConfig(
        r=lora_arguments.lora_rank,
        lora_alpha=lora_arguments.lora_alpha,
        lora_dropout=lora_arguments.lora_dropout,
        target_modules=lora_arguments.lora_target_modules,
    )
    model = get_peft_model(pipe.transformer, lora_config)
    model.print_trainable_parameters()
    trainer = build_trainer(model, pipe, finetuning_arguments, training_arguments)
    train(trainer)
    trainer.save_model()
    if trainer.is_world_process_zero():
        # In place of the card of peft, which knows neither base nor use.
        write_lora_card(Path(training_arguments.output_dir), base_model=finetuning_arguments.model, replace=True)
    record_finished(trainer, Path(training_arguments.output_dir))


if __name__ == "__main__":
    interrupt_on_termination()
    main()
