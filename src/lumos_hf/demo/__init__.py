# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""A small world of procedural clips, and a checkpoint trained on it that comes with the package."""

from pathlib import Path


_CHECKPOINT = Path(__file__).parent / "checkpoint"


def demo_checkpoint() -> Path:
    """
    The directory of the small checkpoint that comes with this package, for [`LumosVideoPipeline.from_pretrained`].

    Raises:
        FileNotFoundError: if this installation does not have it.
    """
    if not (_CHECKPOINT / "model_index.json").is_file():
        raise FileNotFoundError(
            f"The demo checkpoint is not in {_CHECKPOINT}. It is part of every complete copy of lumos_hf: install it again, "
            "or run `make demo-train` in its repository to train the checkpoint."
        )
    return _CHECKPOINT
