# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Where an interrupted run of a `Trainer` can go on, and whether there is anything left to do."""

import json
from pathlib import Path
from typing import Any, cast

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from ..files import write_json


logger = logging.get_logger(__name__)

_RECORD = "finished_run.json"


class _Finished(Exception):
    """Raised where a run has no step left, once its last checkpoint is loaded."""


class _StopIfFinished(TrainerCallback):
    """A Trainer that goes on from its last step would take one more."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step >= state.max_steps:
            raise _Finished


def resume(trainer: Trainer) -> None:
    """
    Trains from `resume_from_checkpoint`, or from the last complete checkpoint in the output directory if there is one. If
    that is the end of the run, the weights are those of the checkpoint and no step is taken.
    """
    # Arguments that were made have a directory.
    output = Path(cast(str, trainer.args.output_dir))
    checkpoint = trainer.args.resume_from_checkpoint or last_complete_checkpoint(output)
    stop = _StopIfFinished()
    # Before those that write logs.
    trainer.callback_handler.callbacks.insert(0, stop)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except _Finished:
        logger.warning(f"{checkpoint} is the last step of this run already: nothing is left to train.")
    finally:
        trainer.remove_callback(stop)


def is_finished(arguments: TrainingArguments, output: Path) -> bool:
    """
    Whether an earlier run wrote all of its results to `output`, after as many steps or epochs as are asked for now. If so,
    a warning says it.
    """
    try:
        record = json.loads((output / _RECORD).read_text(encoding="utf-8"))
        done, asked = (
            (record["epoch"], arguments.num_train_epochs)
            if arguments.max_steps <= 0
            else (
                record["step"],
                arguments.max_steps,
            )
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if done < asked:
        return False
    logger.warning(
        f"The run in '{output}' is finished ({record['step']} steps): nothing is changed. Ask for more steps to go on, or "
        "for another output directory to begin anew."
    )
    return True


def record_finished(trainer: Trainer, output: Path) -> None:
    """Records the end of a run for [`is_finished`]. Call it when everything else is written."""
    if trainer.is_world_process_zero():
        write_json(output / _RECORD, {"step": trainer.state.global_step, "epoch": trainer.state.epoch})


def last_complete_checkpoint(output_dir: Path) -> str | None:
    """The Trainer's newest checkpoint that a kill did not leave half written."""
    # Others, such as "checkpoint-best", are not steps of a run.
    numbered = [path for path in output_dir.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    checkpoints = sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((str(path) for path in checkpoints if _is_complete(path)), None)


def _is_complete(checkpoint: Path) -> bool:
    """Whether its last file, the state of the Trainer, is there as a whole."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return True
