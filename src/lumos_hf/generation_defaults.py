# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What an argument of generation that is not given stands for: the checkpoint's own value, or else the official one."""

from collections.abc import Mapping
from typing import Any


OFFICIAL_DEFAULTS = {
    "height": 384,
    "width": 672,
    "num_frames": 25,
    "fps": 12,
    "num_inference_steps": 50,
    "guidance_scale": 15.0,
    "history_mask_ratio": 0.7,
}
OFFICIAL_IMAGE_FPS = 1


def resolve_default(
    name: str, value: int | float | None, pipeline_config: Mapping[str, Any], num_frames: int | None = None
) -> int | float:
    """
    The value of an argument.

    Args:
        name: one of [`OFFICIAL_DEFAULTS`].
        value: what was given; None for nothing. Any other value, 0 included, is returned as it is.
        pipeline_config: `pipe.config`, or what `model_index.json` holds; `default_height` and so on are the checkpoint's
            own values, which may be missing or None.
        num_frames: of the clip, which `"fps"` depends on: the official code has an image be of 1 frame per second.
    """
    registered = pipeline_config.get(f"default_{name}")
    official = OFFICIAL_IMAGE_FPS if name == "fps" and num_frames == 1 else OFFICIAL_DEFAULTS[name]
    return next(candidate for candidate in (value, registered, official) if candidate is not None)
