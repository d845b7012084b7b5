# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The numbers of a generation: what they may be, and what those that are not given stand for, the checkpoint's own value or
else the official one.

Notable: nothing here needs PyTorch, so that a command can refuse a number before anything is loaded.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from .argument_checks import check_integer, check_number


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

OFFICIAL_REPOSITORY = "Alibaba-DAMO-Academy/Lumos-1"
_IMAGES: dict[str, int | float] = {"num_frames": 1, "guidance_scale": 16.0}
_SMALL: dict[str, int | float] = {"height": 256, "width": 448}
# The checkpoints of the official release, and where what each was made for is not the above.
OFFICIAL_CHECKPOINTS: dict[str, dict[str, int | float]] = {
    f"{size}/{stage}": defaults
    for size in ("1B", "3B")
    for stage, defaults in {
        "stage-1-image": {**_SMALL, **_IMAGES},
        "stage-2-joint": _SMALL,
        "stage-2-joint-384p": {},
        "v2-stage2-joint-384p-sft": {},
    }.items()
}

# `PIXELS_PER_SIZE_UNIT` of configuration_lumos. That module imports transformers, and checkpoints carry it, so that it can
# import nothing from here: a test keeps the two equal.
SIZE_MULTIPLE = 32

# Beyond it guided logits leave float32 no digits.
MAX_GUIDANCE_SCALE = 1e6
# Nothing larger can be meant; what really fits depends on the checkpoint and is checked with it.
MAX_INTEGER = 10**6


def resolve_default(name: str, value: Any, pipeline_config: Mapping[str, Any], num_frames: int | None = None) -> Any:
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


def check_settings(
    height: int | None = None,
    width: int | None = None,
    num_frames: int | None = None,
    fps: int | None = None,
    num_inference_steps: int | Sequence[int] | None = None,
    guidance_scale: float | None = None,
    history_mask_ratio: float | None = None,
    num_videos_per_prompt: int | None = None,
    prefix: str = "",
) -> None:
    """
    Checks the arguments of those names; None is let through, since something else will stand for it. Errors name them
    with `prefix`, such as `"default_"` for a checkpoint's own values.

    Raises:
        ValueError: if one is not what it may be: sizes are positive multiples of 32, counts positive integers, both of at
            most [`MAX_INTEGER`], `num_inference_steps` such a count or a list of them, `guidance_scale` a number from 0 to [`MAX_GUIDANCE_SCALE`], `history_mask_ratio` a number
            from 0 to 1.
    """
    for name, size in (("height", height), ("width", width)):
        if size is not None:
            check_integer(prefix + name, size, multiple_of=SIZE_MULTIPLE, maximum=MAX_INTEGER)
    for name, count in (
        ("num_frames", num_frames),
        ("fps", fps),
        ("num_videos_per_prompt", num_videos_per_prompt),
    ):
        if count is not None:
            check_integer(prefix + name, count, maximum=MAX_INTEGER)
    if num_inference_steps is not None:
        _check_steps(prefix + "num_inference_steps", num_inference_steps)
    if guidance_scale is not None:
        check_number(prefix + "guidance_scale", guidance_scale)
        if guidance_scale > MAX_GUIDANCE_SCALE:
            raise ValueError(f"`{prefix}guidance_scale` must be at most {MAX_GUIDANCE_SCALE:g}, got {guidance_scale}.")
    if history_mask_ratio is not None:
        check_number(prefix + "history_mask_ratio", history_mask_ratio, maximum=1)


def _check_steps(name: str, value: int | Sequence[int]) -> None:
    if not isinstance(value, (list, tuple)):
        check_integer(name, value, maximum=MAX_INTEGER)
        return
    if not value:
        raise ValueError(f"`{name}` must be a positive integer or a list of them, got an empty one.")
    for index, count in enumerate(value):
        check_integer(f"{name}[{index}]", count, maximum=MAX_INTEGER)


def steps_of_frame(num_inference_steps: int | Sequence[int], latent_frame: int) -> int:
    """
    How many steps a latent frame takes.

    Args:
        num_inference_steps: one number for all frames, or one per frame, of which the last goes on.
        latent_frame: its number, from 0 on.
    """
    if isinstance(num_inference_steps, (list, tuple)):
        return num_inference_steps[min(latent_frame, len(num_inference_steps) - 1)]
    # Not a list, which annotations cannot tell.
    return cast(int, num_inference_steps)


def most_steps(num_inference_steps: int | Sequence[int]) -> int:
    """The most steps that a latent frame takes; see [`steps_of_frame`]."""
    # Not a list, which annotations cannot tell.
    return (
        max(num_inference_steps) if isinstance(num_inference_steps, (list, tuple)) else cast(int, num_inference_steps)
    )
