# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
handler.py of a checkpoint on Inference Endpoints of the Hub: `{"inputs": prompt, "parameters": {...}}` in, an mp4 out.

It needs nothing but what the requirements.txt beside it names.
"""

import base64
import io
import secrets
import tempfile
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import export_to_video


PARAMETERS = frozenset(
    {
        "negative_prompt",
        "height",
        "width",
        "num_frames",
        "fps",
        "num_inference_steps",
        "guidance_scale",
        "history_mask_ratio",
        "approximations",
    }
)
OUTPUTS = ("mp4", "frames")
# Pixels of a given image, and frames times pixels of a result: an endpoint has one machine.
MAX_IMAGE_PIXELS = 1 << 24
MAX_RESULT_PIXELS = 1 << 26


class EndpointHandler:
    """
    What the service makes once, and calls for every request.

    Args:
        path: the repository's files.
    """

    def __init__(self, path: str = ""):
        has_gpu = torch.cuda.is_available()
        dtype = torch.bfloat16 if has_gpu else torch.float32
        self.pipe: Any = DiffusionPipeline.from_pretrained(path, dtype=dtype, trust_remote_code=True)
        self.pipe.to("cuda" if has_gpu else "cpu")
        self.pipe.set_progress_bar_config(disable=True)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """
        Args:
            data: `inputs` is the prompt. `parameters`, which may be left out, are those of a call of the pipeline named
                in `PARAMETERS`; `seed`; `image`, a picture in base64 to begin with; `output`, `"mp4"` or `"frames"`.

        Returns:
            `seed` and `fps`, and `video`, an mp4 in base64, or `frames`, a list of PNGs in base64.

        Raises:
            ValueError: if a parameter is unknown or wrong.
        """
        prompt, parameters = data.get("inputs"), dict(data.get("parameters") or {})
        if not isinstance(prompt, str):
            raise ValueError(f"`inputs` must be the prompt, a text, got {prompt!r}.")
        output = parameters.pop("output", OUTPUTS[0])
        if output not in OUTPUTS:
            raise ValueError(f"`output` must be one of {', '.join(OUTPUTS)}, got {output!r}.")
        seed = parameters.pop("seed", None)
        seed = secrets.randbelow(2**31) if seed is None else _checked_seed(seed)
        image = parameters.pop("image", None)
        unknown = sorted(parameters.keys() - PARAMETERS)
        if unknown:
            raise ValueError(f"`parameters` must be among {', '.join(sorted(PARAMETERS))}, got {unknown[0]!r}.")
        self._check_size(parameters)
        if image is not None:
            parameters["image"] = _read_image(image)
        frames = self.pipe(prompt, generator=torch.Generator().manual_seed(seed), **parameters).frames[0]
        fps = int(parameters.get("fps") or self._default("fps"))
        if output == "frames":
            return {"seed": seed, "fps": fps, "frames": [_encoded(_png(frame)) for frame in frames]}
        return {"seed": seed, "fps": fps, "video": _encoded(_mp4(frames, fps))}

    def _check_size(self, parameters: dict[str, Any]) -> None:
        size = {name: parameters.get(name) or self._default(name) for name in ("num_frames", "height", "width")}
        for name, value in size.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
        if size["num_frames"] * size["height"] * size["width"] > MAX_RESULT_PIXELS:
            raise ValueError(
                f"`num_frames` times `height` times `width` must be at most {MAX_RESULT_PIXELS}, got {size}."
            )

    def _default(self, name: str) -> int:
        official = {"num_frames": 25, "height": 384, "width": 672, "fps": 12}
        value = getattr(self.pipe.config, f"default_{name}", None)
        return official[name] if value is None else value


def _checked_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"`seed` must be an integer from 0 to 2**63 - 1, got {seed!r}.")
    return seed


def _read_image(text: Any) -> PIL.Image.Image:
    # Damaged files lead to errors of many kinds.
    try:
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG", "JPEG", "WEBP"))
        width, height = picture.size
        if width * height > MAX_IMAGE_PIXELS:
            raise ValueError(f"{width}x{height} pixels, more than {MAX_IMAGE_PIXELS}")
        return picture.convert("RGB")
    except Exception as error:
        raise ValueError(f"`image` must be a PNG, JPEG or WebP in base64: {error}.") from error


def _mp4(frames: list[PIL.Image.Image], fps: int) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "video.mp4"
        export_to_video(frames, str(path), fps=fps, quality=8.0)
        return path.read_bytes()


def _png(frame: PIL.Image.Image) -> bytes:
    content = io.BytesIO()
    frame.save(content, format="PNG")
    return content.getvalue()


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
