# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Where an interrupted run of a `Trainer` can go on."""

import json
from pathlib import Path


def last_complete_checkpoint(output_dir: Path) -> str | None:
    """The Trainer's newest checkpoint that a kill did not leave half written."""
    checkpoints = sorted(
        output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True
    )
    return next((str(path) for path in checkpoints if _is_complete(path)), None)


def _is_complete(checkpoint: Path) -> bool:
    """Whether its last file, the state of the Trainer, is there as a whole."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return True
