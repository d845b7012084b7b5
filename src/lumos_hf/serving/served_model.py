# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What a server has: a checkpoint's name, its own settings, and the most that clients may ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..demo import demo_checkpoint
from ..generation_defaults import OFFICIAL_DEFAULTS, SIZE_MULTIPLE, resolve_default
from .job_runner import JobLimits


if TYPE_CHECKING:
    from ..pipeline_lumos_video import LumosVideoPipeline


@dataclass(frozen=True)
class ServedModel:
    """
    Whatever answers requests needs to know of a checkpoint; it need not have the weights.

    Args:
        name: that clients call it by.
        checkpoint: where it was loaded from.
        defaults: its own `height`, `width`, `num_frames`, `fps`, `num_inference_steps`, `guidance_scale` and
            `history_mask_ratio`; and `image_fps`, which an image is said to have.
        temporal_compression: pixel frames of a latent frame, the first one apart.
        limits: what clients may ask for.
    """

    name: str
    checkpoint: str
    defaults: dict[str, Any]
    temporal_compression: int
    limits: JobLimits

    @classmethod
    def of(
        cls, pipe: "LumosVideoPipeline", checkpoint: str | Path, limits: JobLimits, name: str | None = None
    ) -> "ServedModel":
        """That of a pipeline; its name is that of the repository or directory, if none is given."""
        defaults = {key: resolve_default(key, None, pipe.config) for key in OFFICIAL_DEFAULTS}
        defaults["image_fps"] = resolve_default("fps", None, pipe.config, num_frames=1)
        compression = pipe.transformer.config.temporal_compression
        return cls(name or model_name(checkpoint), str(checkpoint), defaults, compression, limits)

    @property
    def sequence_num_frames(self) -> int:
        """Frames beyond which a video rolls, unless a request says another number."""
        trained = int(self.defaults["num_frames"])
        return trained if trained > 1 else int(OFFICIAL_DEFAULTS["num_frames"])

    def num_frames(self, seconds: float, fps: int) -> int:
        """Frames of a clip that lasts `seconds`, or longer by less than a latent frame."""
        step = self.temporal_compression
        return 1 + step * max(1, -int(-seconds * fps // step))

    def describe_sizes(self) -> str:
        """The sizes that can be made, for errors."""
        own = f"{self.defaults['width']}x{self.defaults['height']}"
        return (
            f"WIDTHxHEIGHT of multiples of {SIZE_MULTIPLE} pixels and at most {self.limits.max_area} pixels in all, such "
            f"as {own}"
        )

    def describe_lengths(self, fps: int) -> str:
        """The lengths that can be made at a frame rate, for errors."""
        step, most = self.temporal_compression, self.limits.max_num_frames
        shortest, longest = step / fps, (most - 1) // step * step / fps
        return f"from {shortest:g} to {longest:g} seconds at {fps} frames per second, {1 + step} to {most} frames"


def model_name(checkpoint: str | Path) -> str:
    """A name for clients: that of the repository, or the last part of a directory."""
    path = Path(checkpoint)
    if path.is_dir():
        return "lumos-demo" if path == demo_checkpoint() else path.resolve().name
    return str(checkpoint)
