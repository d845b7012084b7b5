# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What a video was made from and how, in a form that files carry: [`~lumos_hf.media.write_media`]."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .call_inputs import CallInputs
from .demo import demo_checkpoint


if TYPE_CHECKING:
    from .pipeline_lumos_video import LumosVideoPipeline


_RECORDED = ("fps", "num_inference_steps", "guidance_scale", "history_mask_ratio")


def generation_record(
    pipe: "LumosVideoPipeline",
    arguments: Mapping[str, Any],
    *,
    seed: int,
    checkpoint: str | Path,
    lora: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Args:
        pipe: that made the video.
        arguments: of its call; what is not among them stands for the checkpoint's own value, which is recorded.
        seed: of its random numbers.
        checkpoint: where the pipeline was loaded from. Of a directory only the name is recorded.
        lora: adapters and their weights, as `NAME:WEIGHT`.

    Returns:
        What JSON can hold: `lumos_hf` (the version), `checkpoint`, `prompt`, `seed`, `num_frames`, `fps`,
        `num_inference_steps`, `guidance_scale`, `history_mask_ratio`, and where there are such, `height` and `width` (unless
        what is given chose them), `negative_prompt`, `given`
        (`"image"`, `"video"` or `"latents"`), `is_edit`, `strength`, `prompt_segments`, `approximations` and `lora`.

    Raises:
        ValueError: if the arguments are wrong.
    """
    inputs = CallInputs(**arguments).completed(pipe)
    approximations = arguments.get("approximations")
    optional = {
        "height": inputs.height,
        "width": inputs.width,
        "negative_prompt": inputs.negative_prompt,
        "given": inputs.given_name,
        "is_edit": inputs.is_edit,
        "strength": inputs.strength,
        "prompt_segments": inputs.prompt_segments,
        "approximations": approximations if isinstance(approximations, str | None) else repr(approximations),
        "lora": list(lora),
    }
    return {
        "lumos_hf": __version__,
        "checkpoint": _checkpoint_name(checkpoint),
        "prompt": inputs.prompt,
        "seed": seed,
        "num_frames": inputs.num_frames,
        **{name: getattr(inputs, name) for name in _RECORDED},
        **{name: value for name, value in optional.items() if value},
    }


def _checkpoint_name(checkpoint: str | Path) -> str:
    """Paths tell more of a machine than a video should."""
    path = Path(checkpoint)
    if not path.is_dir():
        return str(checkpoint)
    return "demo" if path == demo_checkpoint() else path.resolve().name
