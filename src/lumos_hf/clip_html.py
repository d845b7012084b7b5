# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Moving pictures as HTML that needs no file: for notebooks and for the page of `lumos-hf app`."""

import base64
import html
import io
from typing import Any

import PIL.Image


# Pixels a side that small clips are shown at.
_SHOWN_SIZE = 256


def clip_html(frames: list[PIL.Image.Image], fps: int = 12, description: str = "") -> str:
    """
    An `<img>` of the class `lumos-clip`, an endless WebP, or of one frame a picture.

    ```python
    from IPython.display import HTML

    HTML(clip_html(pipe("A red star jumps in the snow.").frames[0], fps=8))
    ```

    Args:
        frames: at least one image, all of one size. Small ones are shown enlarged by a whole factor.
        fps: frames per second.
        description: for those who do not see it.

    Raises:
        ValueError: if there are no frames.
    """
    if not frames:
        raise ValueError("`frames` must hold at least one image, got none.")
    content = io.BytesIO()
    options: dict[str, Any] = {"format": "WEBP", "quality": 90, "method": 2}
    if len(frames) > 1:
        options |= {"save_all": True, "append_images": frames[1:], "duration": round(1000 / fps), "loop": 0}
    frames[0].save(content, **options)
    data = base64.b64encode(content.getvalue()).decode("ascii")
    factor = max(1, _SHOWN_SIZE // max(frames[0].size))
    width, height = (factor * side for side in frames[0].size)
    return (
        f'<img class="lumos-clip" alt="{html.escape(description, quote=True)}" data-frames="{len(frames)}" '
        f'width="{width}" height="{height}" src="data:image/webp;base64,{data}">'
    )
