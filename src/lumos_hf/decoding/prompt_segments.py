# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Prompts that change on the way: from which frame on which text holds."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from ..argument_checks import check_integer


Segments: TypeAlias = list[dict[str, Any]]

_KEYS = {"start_frame", "text"}


def rows_of_segments(segments: Segments | list[Segments]) -> list[Segments]:
    """
    The segments of every prompt, or one list of them for all.

    Raises:
        ValueError: if they are no lists of dicts with `"start_frame"` and `"text"` and nothing else, a start is no integer of
            at least 0, or a text is empty.
    """
    is_list = isinstance(segments, (list, tuple)) and len(segments) > 0
    rows: list[Any] = list(segments) if is_list and isinstance(segments[0], (list, tuple)) else [segments]
    for row in rows:
        if not isinstance(row, (list, tuple)) or not row or not all(isinstance(each, Mapping) for each in row):
            raise ValueError(
                f"`prompt_segments` must be a non-empty list of dicts, or a list of such lists, got {row!r}."
            )
        for segment in row:
            if set(segment) != _KEYS:
                raise ValueError(f"`prompt_segments` must have the keys {sorted(_KEYS)}, got {dict(segment)!r}.")
            check_integer("prompt_segments[...]['start_frame']", segment["start_frame"], minimum=0)
            if not isinstance(segment["text"], str) or not segment["text"].strip():
                raise ValueError(f"`prompt_segments` must have texts that are not empty, got {segment['text']!r}.")
    return rows


def captions_by_latent_frame(
    rows: list[Segments], num_frames: float, temporal_compression: int
) -> list[dict[int, str]]:
    """
    Per row, which text begins at which latent frame: the one that holds pixel frame `start_frame`. So with four frames per
    latent frame, a start of 24 is latent frame 6, which begins with pixel frame 21.

    Args:
        rows: what [`rows_of_segments`] gives.
        num_frames: pixel frames of the video; `math.inf` for no end.
        temporal_compression: frames per latent frame.

    Raises:
        ValueError: if segments are out of order, two begin in one latent frame, or one begins behind the end.
    """
    result = []
    for row in rows:
        starts = [segment["start_frame"] for segment in row]
        latent_starts = [-(-start // temporal_compression) for start in starts]
        if sorted(starts) != starts:
            raise ValueError(f"`prompt_segments` must be in the order of their `start_frame`, got {starts}.")
        if len(set(latent_starts)) < len(starts):
            raise ValueError(
                f"`prompt_segments` must not overlap: each needs a latent frame of {temporal_compression} frames of its own, "
                f"got the starts {starts}."
            )
        if starts[-1] >= num_frames:
            raise ValueError(
                f"`prompt_segments` must start before frame `num_frames` ({num_frames}), got {starts[-1]}."
            )
        texts = [segment["text"] for segment in row]
        result.append(dict(zip(latent_starts, texts, strict=True)))
    return result
