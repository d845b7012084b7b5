# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes the model card of the demo checkpoint: `python examples/demo_world/card.py`, after training or scoring."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelCard

from lumos_hf import evaluation
from lumos_hf.demo import demo_checkpoint
from lumos_hf.hub.model_card import model_card


_HERE = Path(__file__).parent


def demo_model_card() -> ModelCard:
    """The card, from the files of the checkpoint, `scores.json` of `make demo-score` and the text in `model_card.md`."""
    return model_card(
        demo_checkpoint(),
        license="apache-2.0",
        template=_HERE / "model_card.md",
        scores=Path(evaluation.__file__).parent / "scores.json",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("MODEL_CARD.md"))
    demo_model_card().save(parser.parse_args(arguments).output)


if __name__ == "__main__":
    main()
