# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""A small checkpoint that comes with the package, trained on the procedural clips of [`lumos_hf.evaluation`]."""

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


def known_words() -> dict[str, list[str]]:
    """
    The words that the demo checkpoint knows, by kind: `"shapes"`, `"colours"`, `"motions"`, `"scenes"`, `"relations"` and
    `"others"`.

    Motions, scenes and relations are phrases, such as `"slides to the right"` or `"in the snow"`. Every other word of a
    prompt becomes `<unknown>`; capitals make no difference.
    """
    # The path of the checkpoint is asked for at every start, the words seldom: drawing clips is imported for them alone.
    from ..evaluation.clips import BACKGROUNDS, COLOURS, MOTIONS, RELATIONS, SHAPES

    return {
        "shapes": list(SHAPES),
        "colours": list(COLOURS),
        "motions": [wording for wordings in MOTIONS.values() for wording in wordings],
        "scenes": list(BACKGROUNDS.values()),
        "relations": list(RELATIONS.values()),
        "others": ["a", "an"],
    }
