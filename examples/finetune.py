# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Fine-tunes all weights of the transformer on a tokenised set, by the official recipe.

    lumos-hf tokenize clips/ --model checkpoints/lumos-1b -o clips-tokenized
    accelerate launch --config_file examples/accelerate/fsdp2.yaml examples/finetune.py \\
        --model checkpoints/lumos-1b --data clips-tokenized --output_dir outputs/finetuned --max_steps 5000

`--output_dir` ends up as a checkpoint for `LumosVideoPipeline.from_pretrained`. A run that was interrupted goes on when
the same command is given again. README.md says what fits on which card.
"""

from collections.abc import Sequence
from pathlib import Path

from transformers import Trainer, set_seed

from lumos_hf import LumosVideoPipeline
from lumos_hf.termination import interrupt_on_termination
from lumos_hf.training.finetuning import FinetuningArguments, build_trainer, parse_arguments, train
from lumos_hf.training.trainer_checkpoints import is_finished, record_finished


def main(arguments: Sequence[str] | None = None) -> None:
    finetuning_arguments, training_arguments = parse_arguments([FinetuningArguments], arguments)
    if is_finished(training_arguments, Path(training_arguments.output_dir)):
        return
    set_seed(training_arguments.seed)
    pipe = LumosVideoPipeline.from_pretrained(finetuning_arguments.model)
    trainer = build_trainer(pipe.transformer, pipe, finetuning_arguments, training_arguments)
    train(trainer)
    save(trainer, pipe)
    record_finished(trainer, Path(training_arguments.output_dir))


def save(trainer: Trainer, pipe: LumosVideoPipeline) -> None:
    """Writes the whole pipeline. `trainer.save_model` would leave weights out that `SHARDED_STATE_DICT` keeps apart."""
    output = Path(trainer.args.output_dir)
    state_dict = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        pipe.transformer.save_pretrained(output / "transformer", state_dict=state_dict)
        for name in ("tokenizer", "vqvae", "scheduler"):
            getattr(pipe, name).save_pretrained(output / name)
        pipe.save_config(output)


if __name__ == "__main__":
    interrupt_on_termination()
    main()
