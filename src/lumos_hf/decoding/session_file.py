# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Sessions as files: tensors in safetensors, settings as JSON in its header, so that one file is there whole or not at all."""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..call_inputs import CallInputs
from ..files import whole_file
from .approximations import DecodingApproximations, resolve_approximations
from .given_clip import GivenClip


if TYPE_CHECKING:
    from .session import VideoSession

FORMAT = "lumos_hf session 1"

_SETTINGS = (
    "negative_prompt",
    "fps",
    "num_inference_steps",
    "history_mask_ratio",
    "num_videos_per_prompt",
    "output_type",
    "attention_kwargs",
    "prompt_segments",
    "temporal_tile_size",
    "temporal_overlap",
)
_VALUES_PER_TENSOR = 64


def checkpoint_fingerprint(pipe: DiffusionPipeline) -> str:
    """
    Tells checkpoints apart: a hash over the configurations and, of every tensor of the transformer and the video tokenizer,
    name, dtype, shape and 64 evenly spaced values.
    """
    digest = hashlib.sha256()
    for name in ("transformer", "vqvae", "scheduler"):
        part = getattr(pipe, name)
        if part is None:
            continue
        # Paths and versions tell where a checkpoint was, not what it is.
        config = part.config.to_dict() if name == "transformer" else dict(part.config)
        kept = {
            key: value for key, value in config.items() if not key.startswith("_") and key != "transformers_version"
        }
        digest.update(json.dumps([name, kept], sort_keys=True, default=str).encode())
        for key, tensor in sorted(part.state_dict().items()) if isinstance(part, torch.nn.Module) else ():
            stride = max(1, tensor.numel() // _VALUES_PER_TENSOR)
            values = tensor.detach().flatten()[::stride][:_VALUES_PER_TENSOR].double().cpu()
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()


class SavedSession(NamedTuple):
    """
    What a file says of a session.

    Args:
        inputs: of its call, completed.
        given: what it began with.
        tensors: of its state.
        settings: the rest of its state.
    """

    inputs: CallInputs
    given: GivenClip
    tensors: dict[str, torch.Tensor]
    settings: dict[str, Any]


def save_session(session: "VideoSession", path: str | os.PathLike) -> None:
    """
    Writes all that it takes to go on with a session to the same bits.

    Raises:
        ValueError: for a session that draws from the default generator of torch, whose state is not its own.
    """
    tensors, settings = session.export_state()
    settings["inputs"] = {name: getattr(session.inputs, name) for name in _SETTINGS} | {
        "approximations": asdict(resolve_approximations(session.inputs.approximations)),
        "strength": session.inputs.strength,
    }
    settings["checkpoint"] = checkpoint_fingerprint(session.pipe)
    # Kernels round differently for other memory layouts, which the file does not keep.
    settings["layouts"] = {name: _axes_by_stride(tensor) for name, tensor in tensors.items()}
    tensors = {
        name: tensor.detach().cpu().permute(settings["layouts"][name]).contiguous().clone()
        for name, tensor in tensors.items()
    }
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={"format": FORMAT, "settings": json.dumps(settings)})


def read_session(pipe: DiffusionPipeline, path: str | os.PathLike) -> SavedSession:
    """
    Reads what [`save_session`] wrote.

    Raises:
        ValueError: if it is no such file, not a whole one, or one of another checkpoint than that of `pipe`.
    """
    tensors, settings = _read_session_file(path)
    if settings["checkpoint"] != checkpoint_fingerprint(pipe):
        raise ValueError(f"`path` must be a session of this checkpoint, got '{path}', which is one of another.")
    with whole_session(path):
        return _parts_of_session(pipe, tensors, settings)


@contextmanager
def whole_session(path: str | os.PathLike) -> Iterator[None]:
    """Says of what is missing which file it was to be in."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"`path` must be a whole file of a session, got '{path}', which misses {error}.") from error


def _parts_of_session(
    pipe: DiffusionPipeline, tensors: dict[str, torch.Tensor], settings: dict[str, Any]
) -> SavedSession:
    inputs = settings["inputs"]
    approximations = inputs.pop("approximations")
    approximations["guidance_interval"] = tuple(approximations["guidance_interval"])
    strength = inputs.pop("strength")
    generators = [torch.Generator(device=device) for device in settings["generator_devices"]]
    call_inputs = CallInputs(
        **inputs,
        prompt=settings["encoded_captions"],
        input_ids=settings["input_ids"],
        num_frames=math.inf if settings["num_frames"] is None else settings["num_frames"],
        height=settings["height"],
        width=settings["width"],
        guidance_scale=settings["guidance_scale"],
        approximations=DecodingApproximations(**approximations),
        generator=generators if settings["has_generator_list"] else generators[0],
    ).completed(pipe, may_be_endless=True)
    codes = tensors["given.codes"].to(pipe._execution_device)
    given = GivenClip(
        codes,
        pipe.transformer.config.temporal_compression,
        pixels=tensors.get("given.pixels"),
        touched=tensors["given.touched"].to(codes.device) if "given.touched" in tensors else None,
        weights=tensors.get("given.weights"),
    )
    return SavedSession(replace(call_inputs, strength=strength), given, tensors, settings)


def _read_session_file(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"`path` must be a file of a session, got '{path}', which is another one.")
            settings = json.loads(metadata["settings"])
            layouts = {name: torch.tensor(axes).argsort().tolist() for name, axes in settings["layouts"].items()}
            tensors = {name: file.get_tensor(name).permute(layouts[name]) for name in file.keys()}
            settings["checkpoint"]
        return tensors, settings
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"`path` must be a whole file of a session, got '{path}': {error}") from error


def _axes_by_stride(tensor: torch.Tensor) -> list[int]:
    """The axes in the order in which they lie in memory, outermost first."""
    strides = tensor.stride()
    return sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
