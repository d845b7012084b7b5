# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The arguments of a call of the pipeline: completed, checked, read. Whatever is wrong is said before any work."""

import math
import numbers
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.logging import get_logger
from transformers import PreTrainedTokenizerBase

from .argument_checks import check_integer, check_number, is_number
from .configuration_lumos import LumosConfig
from .decoding.approximations import DecodingApproximations, resolve_approximations
from .decoding.masks import MaskInput
from .decoding.prompt_segments import Segments, captions_by_latent_frame, rows_of_segments
from .generation_defaults import OFFICIAL_DEFAULTS, check_settings, resolve_default
from .token_layout import (
    PIXELS_PER_SIZE_UNIT,
    UNKNOWN_CODE,
    frame_length,
    grid_size,
    num_latent_frames,
    video_duration,
    video_header_ids,
)
from .video_processor_lumos import ImageInput, VideoInput, crop_budget, split_videos


OUTPUT_TYPES = ("pil", "np", "pt", "latent")
CALLBACK_TENSOR_INPUTS = ["latents", "predicted"]
MAX_LORA_SCALE = 1e6

IntegerRows = torch.Tensor | np.ndarray | Sequence[int] | Sequence[Sequence[int]]

_logger = get_logger(__name__)


@dataclass(kw_only=True)
class CallInputs:
    """
    The arguments of [`LumosVideoPipeline.__call__`], which explains them.

    [`~CallInputs.completed`] gives them checked, with a value for everything but what is left to a given image or video:
    `height` and `width`.
    """

    prompt: str | list[str] | None = None
    negative_prompt: str | list[str] | None = None
    image: ImageInput | None = None
    video: VideoInput | None = None
    height: int | None = None
    width: int | None = None
    num_frames: float | None = None
    fps: int | None = None
    num_inference_steps: int | Sequence[int] | None = None
    guidance_scale: float | None = None
    history_mask_ratio: float | None = None
    num_videos_per_prompt: int = 1
    generator: torch.Generator | list[torch.Generator] | None = None
    input_ids: IntegerRows | None = None
    attention_mask: IntegerRows | None = None
    latents: torch.Tensor | None = None
    output_type: str = "pil"
    callback_on_step_end: Callable[..., dict[str, Any]] | PipelineCallback | MultiPipelineCallbacks | None = None
    callback_on_step_end_tensor_inputs: list[str] | None = None
    approximations: DecodingApproximations | str | None = None
    attention_kwargs: dict[str, Any] | None = None
    mask: MaskInput | None = None
    preserve_unmasked: bool | None = None
    strength: float | None = None
    prompt_segments: Segments | list[Segments] | None = None
    temporal_tile_size: int | None = None
    temporal_overlap: int | None = None

    def completed(self, pipe: DiffusionPipeline, may_be_endless: bool = False) -> "CallInputs":
        """
        The same arguments with what None stands for, `num_frames` rounded up to whole latent frames.

        Args:
            pipe: has the defaults and the components.
            may_be_endless: whether `num_frames` may be `math.inf`.

        Raises:
            ValueError: for what can be told to be wrong from the arguments and the components of `pipe` alone.
        """
        inputs = replace(self, approximations=resolve_approximations(self.approximations))
        inputs._fill_in_defaults(pipe, may_be_endless)
        inputs._check_numbers()
        inputs._check_callback()
        inputs._check_attention_kwargs()
        inputs._check_output(pipe)
        inputs.check_prompts(pipe)
        inputs._check_given(pipe.vqvae)
        if inputs.latents is not None:
            inputs._check_latents(pipe.transformer.config)
        inputs._check_edit()
        inputs._round_up_num_frames(pipe.transformer.config.temporal_compression)
        inputs._check_tiles(pipe.transformer.config.temporal_compression)
        return inputs

    @property
    def lora_scale(self) -> float:
        """What the weights of the active adapters are multiplied by."""
        return (self.attention_kwargs or {}).get("scale", 1.0)

    @property
    def given_name(self) -> str | None:
        """Which of `image`, `video` and `latents` is given."""
        return next((name for name in ("image", "video", "latents") if getattr(self, name) is not None), None)

    @property
    def is_edit(self) -> bool:
        """Whether codes of what is given are made again."""
        return self.mask is not None or self.strength is not None

    @property
    def sequence_num_frames(self) -> int:
        """Pixel frames of a sequence that the transformer sees: of all, or of a tile of a video that rolls."""
        # Completed inputs have numbers.
        return int(min(self._num_frames, cast(int, self.temporal_tile_size)))

    @property
    def _num_frames(self) -> float:
        # Completed inputs have a number.
        return cast(float, self.num_frames)

    def check_prompts(self, pipe: DiffusionPipeline) -> None:
        """Checks the prompts of completed inputs; raises `ValueError`."""
        self._check_prompts(pipe.tokenizer, pipe.transformer.config)

    def num_prompts(self, config: LumosConfig) -> int:
        """How many prompts there are."""
        if self.prompt is not None:
            return len(as_list(self.prompt))
        # Of both, one is given: that is checked before.
        return len(rows_without_padding(cast(IntegerRows, self.input_ids), self.attention_mask, config))

    def _fill_in_defaults(self, pipe: DiffusionPipeline, may_be_endless: bool) -> None:
        pipeline_config = pipe.config
        num_frames: Any = self.num_frames
        if num_frames is None and self.is_edit:
            num_frames = self._num_given_frames(pipe.transformer.config.temporal_compression)
        self.num_frames = num_frames = resolve_default("num_frames", num_frames, pipeline_config)
        if not (may_be_endless and num_frames == math.inf):
            check_settings(num_frames=num_frames)
        if self.prompt is None and self.input_ids is None and self.prompt_segments is not None:
            self.prompt = self._first_texts()
        if self.temporal_tile_size is None:
            trained = resolve_default("num_frames", None, pipeline_config)
            self.temporal_tile_size = trained if trained > 1 else int(OFFICIAL_DEFAULTS["num_frames"])
        self.fps = resolve_default("fps", self.fps, pipeline_config, num_frames)
        if self.num_inference_steps is None:
            num_steps = resolve_default("num_inference_steps", None, pipeline_config)
            self.num_inference_steps = resolve_approximations(self.approximations).reduced_steps(num_steps)
        if self.num_videos_per_prompt is None:
            self.num_videos_per_prompt = 1
        for name in ("guidance_scale", "history_mask_ratio"):
            setattr(self, name, resolve_default(name, getattr(self, name), pipeline_config))
        if self.image is None and self.video is None and self.latents is None:
            for name in ("height", "width"):
                setattr(self, name, resolve_default(name, getattr(self, name), pipeline_config))
        if isinstance(self.callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            self.callback_on_step_end_tensor_inputs = self.callback_on_step_end.tensor_inputs
        if self.callback_on_step_end_tensor_inputs is None:
            self.callback_on_step_end_tensor_inputs = ["latents"]

    def _check_numbers(self) -> None:
        check_settings(
            height=self.height,
            width=self.width,
            fps=self.fps,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            history_mask_ratio=self.history_mask_ratio,
            num_videos_per_prompt=self.num_videos_per_prompt,
        )
        if isinstance(self.num_inference_steps, (list, tuple)):
            # Of Python, for the files of sessions and videos.
            self.num_inference_steps = [int(count) for count in self.num_inference_steps]

    def _check_callback(self) -> None:
        if self.callback_on_step_end is not None and not callable(self.callback_on_step_end):
            raise ValueError(f"`callback_on_step_end` must be callable, got {self.callback_on_step_end!r}.")
        names: Any = self.callback_on_step_end_tensor_inputs
        is_list = isinstance(names, (list, tuple))
        unknown = [name for name in names if name not in CALLBACK_TENSOR_INPUTS] if is_list else names
        if not is_list or unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` must be among {CALLBACK_TENSOR_INPUTS}, got {unknown!r}."
            )

    def _check_attention_kwargs(self) -> None:
        kwargs = {} if self.attention_kwargs is None else self.attention_kwargs
        if not isinstance(kwargs, dict) or set(kwargs) - {"scale"}:
            raise ValueError(
                f"`attention_kwargs` must be a dict with no key but 'scale', got {self.attention_kwargs!r}."
            )
        scale = self.lora_scale
        if not isinstance(scale, numbers.Real) or not is_number(abs(scale), MAX_LORA_SCALE):
            raise ValueError(f"`attention_kwargs` must have a number of at most {MAX_LORA_SCALE} as its 'scale'.")

    def _check_output(self, pipe: DiffusionPipeline) -> None:
        if not isinstance(self.output_type, str) or self.output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` must be one of {list(OUTPUT_TYPES)}, got {self.output_type!r}.")
        if self.output_type != "latent" and pipe.vqvae is None:
            raise ValueError(
                f"`output_type` must be 'latent' in a pipeline without `vqvae`, got {self.output_type!r}."
            )
        reads_pixels = self.image is not None or self.video is not None
        if pipe.vqvae is not None and (self.output_type != "latent" or reads_pixels):
            _check_vqvae(pipe.vqvae, pipe.transformer.config)

    def _check_prompts(self, tokenizer: PreTrainedTokenizerBase | None, config: LumosConfig) -> None:
        if (self.prompt is None) == (self.input_ids is None):
            received = "neither" if self.prompt is None else "both"
            raise ValueError(f"Exactly one of `prompt` and `input_ids` must be given, got {received}.")
        if self.attention_mask is not None and self.input_ids is None:
            raise ValueError("`attention_mask` must be given with `input_ids` only, got it with `prompt`.")
        for name, value in (("prompt", self.prompt), ("negative_prompt", self.negative_prompt)):
            if value is not None:
                _check_captions(name, value, tokenizer)
        if self.prompt is not None and not all(caption.strip() for caption in as_list(self.prompt)):
            raise ValueError(f"`prompt` must not be empty, got {self.prompt!r}.")
        num_prompts = self.num_prompts(config)
        self._check_segments(num_prompts, config)
        num_negative = len(as_list(self.negative_prompt or "", num_prompts))
        if num_negative != num_prompts:
            raise ValueError(
                f"`negative_prompt` must be a string or a list of {num_prompts}, one per prompt, got {num_negative}."
            )
        _check_generator(self.generator, num_prompts * self.num_videos_per_prompt)

    def _check_given(self, vqvae: torch.nn.Module | None) -> None:
        given = [name for name in ("image", "video", "latents") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"At most one of `image`, `video` and `latents` must be given, got {given}.")
        if self.image is None and self.video is None:
            return
        if vqvae is None:
            raise ValueError(f"`{given[0]}` must be None in a pipeline without `vqvae`; `latents` replace it.")
        if (self.height is None) != (self.width is None):
            raise ValueError(
                f"`height` and `width` must be given together or not at all with `{given[0]}`, got {self.height} and "
                f"{self.width}."
            )

    def _num_given_frames(self, temporal_compression: int) -> int | None:
        """Whole latent frames of what is given, in pixel frames."""
        if isinstance(self.latents, torch.Tensor) and self.latents.ndim == 4:
            return 1 + temporal_compression * (self.latents.shape[1] - 1)
        if self.video is None:
            return None if self.image is None else 1
        num_frames = len(split_videos(self.video)[0])
        return num_frames - (num_frames - 1) % temporal_compression

    def _first_texts(self) -> list[str]:
        rows = rows_of_segments(cast(Segments, self.prompt_segments))
        starts = [row[0]["start_frame"] for row in rows]
        if any(starts):
            raise ValueError(f"`prompt_segments` must start at frame 0 without `prompt`, got {starts}.")
        return [row[0]["text"] for row in rows]

    def _check_segments(self, num_prompts: int, config: LumosConfig) -> None:
        if self.prompt_segments is None:
            return
        if self.prompt is None:
            raise ValueError("`prompt_segments` must be given with `prompt` or alone, got them with `input_ids`.")
        captions = self.captions_by_latent_frame(config)
        if len(captions) not in (1, num_prompts):
            raise ValueError(
                f"`prompt_segments` must be a list for all prompts or {num_prompts} lists, one per prompt, got "
                f"{len(captions)}."
            )

    def captions_by_latent_frame(self, config: LumosConfig) -> list[dict[int, str]]:
        """Per prompt, or once for all, which caption begins at which latent frame."""
        if self.prompt_segments is None:
            return [{}]
        rows = rows_of_segments(self.prompt_segments)
        return captions_by_latent_frame(rows, self._num_frames, config.temporal_compression)

    def _check_edit(self) -> None:
        if self.mask is not None and self.image is None and self.video is None:
            raise ValueError("`mask` must be given with `image` or `video`, got it without.")
        if self.preserve_unmasked is not None and not isinstance(self.preserve_unmasked, bool):
            raise ValueError(f"`preserve_unmasked` must be True, False or None, got {self.preserve_unmasked!r}.")
        if self.preserve_unmasked is not None and self.mask is None:
            raise ValueError(f"`preserve_unmasked` must be None without `mask`, got {self.preserve_unmasked}.")
        if self.strength is None:
            return
        check_number("strength", self.strength, maximum=1)
        if self.mask is not None:
            raise ValueError(
                f"`strength` must be None with `mask`, which says what is made again, got {self.strength}."
            )
        if self.given_name is None:
            raise ValueError("`strength` must be given with `image`, `video` or `latents`, got it without.")
        if self.latents is not None and (self.latents == UNKNOWN_CODE).any():
            raise ValueError(f"`strength` must be given with `latents` that are complete, got some of {UNKNOWN_CODE}.")

    def _check_tiles(self, temporal_compression: int) -> None:
        def check(name: str, value: Any, minimum: int) -> None:
            check_integer(name, value, minimum=minimum)
            if (value - 1) % temporal_compression != 0:
                raise ValueError(f"`{name}` must be 1 plus a multiple of {temporal_compression}, got {value}.")

        check("temporal_tile_size", self.temporal_tile_size, 1 + temporal_compression)
        tile_size = cast(int, self.temporal_tile_size)
        if self.temporal_overlap is None:
            self.temporal_overlap = 1
        check("temporal_overlap", self.temporal_overlap, 1)
        if self.temporal_overlap >= tile_size:
            raise ValueError(
                f"`temporal_overlap` must be less than `temporal_tile_size` ({tile_size}), got {self.temporal_overlap}."
            )

    def _check_latents(self, config: LumosConfig) -> None:
        latents, side = self.latents, config.spatial_compression
        if not isinstance(latents, torch.Tensor) or latents.ndim != 4 or latents.numel() == 0:
            shape = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents)
            raise ValueError(
                f"`latents` must be a tensor (batch, frames, height / {side}, width / {side}), got {shape}."
            )
        if latents.is_floating_point() or latents.is_complex() or latents.dtype == torch.bool:
            raise ValueError(f"`latents` must have an integer dtype, since they are codes, got {latents.dtype}.")
        low, high = (int(bound) for bound in latents.long().aminmax())
        if low < UNKNOWN_CODE or high >= config.visual_vocab_size:
            raise ValueError(
                f"`latents` must be codes from 0 to {config.visual_vocab_size - 1}, or {UNKNOWN_CODE} where they are to be "
                f"made, got values from {low} to {high}."
            )
        max_frames = self._num_frames
        if max_frames < math.inf:
            max_frames = -(-(self._num_frames - 1) // config.temporal_compression) + 1
        if latents.shape[1] > max_frames:
            raise ValueError(
                f"`latents` must have at most {max_frames} frames for `num_frames={self.num_frames}`, got "
                f"{latents.shape[1]}."
            )
        for name, num_codes in (("height", latents.shape[2]), ("width", latents.shape[3])):
            pixels = num_codes * side
            if pixels % PIXELS_PER_SIZE_UNIT != 0:
                raise ValueError(
                    f"`latents` must have a {name} of a multiple of {PIXELS_PER_SIZE_UNIT} pixels, got {num_codes} codes, "
                    f"{pixels} pixels."
                )
            if getattr(self, name) not in (None, pixels):
                raise ValueError(f"`{name}` must be that of `latents`, {pixels}, or None, got {getattr(self, name)}.")

    def _round_up_num_frames(self, temporal_compression: int) -> None:
        if self.num_frames == math.inf:
            return
        rounded = -(-(self._num_frames - 1) // temporal_compression) * temporal_compression + 1
        if rounded != self.num_frames:
            _logger.warning(
                f"`num_frames` must be 1 plus a multiple of {temporal_compression}: {self.num_frames} is rounded up to "
                f"{rounded}."
            )
        self.num_frames = rounded


def read_pixels(inputs: CallInputs, pipe: DiffusionPipeline) -> torch.Tensor | None:
    """
    The given image or video of completed inputs.

    Returns:
        `(batch, 3, frames, height, width)` in [-1, 1], as many frames as make whole latent frames; None if none are given.

    Raises:
        ValueError: for what cannot be read, or has more frames than are to be made.
    """
    if inputs.image is None and inputs.video is None:
        return None
    default_size = tuple(resolve_default(name, None, pipe.config) for name in ("height", "width"))
    max_blocks = crop_budget(*default_size) if inputs.height is None else None
    size = {"height": inputs.height, "width": inputs.width, "max_blocks": max_blocks}
    if inputs.image is not None:
        pixels = pipe.video_processor.preprocess_image(_in_unit_range("image", inputs.image), **size)
    else:
        pixels = _whole_latent_frames(
            pipe.video_processor.preprocess_video(_in_unit_range("video", inputs.video), **size),
            inputs._num_frames,
            pipe.transformer.config.temporal_compression,
            is_edit=inputs.is_edit,
        )
    height, width = pixels.shape[-2:]
    if inputs.height is None and (height, width) != default_size:
        _warn_once(
            f"`{inputs.given_name}` has another shape than {default_size[1]}x{default_size[0]}, which the checkpoint was "
            f"made for: the result has {width}x{height} pixels. `height` and `width` choose another size."
        )
    return pixels


def _in_unit_range(name: str, value: Any) -> Any:
    """Maps floating-point values in [-1, 1], which diffusers' pipelines make do with, to [0, 1], and says so."""
    arrays = [array for array in _arrays_in(value) if array.size > 0]
    if not arrays or min(array.min() for array in arrays) >= 0 or max(abs(array).max() for array in arrays) > 1:
        return value
    _warn_once(f"`{name}` has values below 0, so it is taken to be in [-1, 1]. Give values in [0, 1].")

    def mapped(item: Any) -> Any:
        if isinstance(item, (list, tuple)):
            return [mapped(part) for part in item]
        return item / 2 + 0.5 if _is_floating(item) else item

    return mapped(value)


def _arrays_in(value: Any) -> list[np.ndarray]:
    """The floating-point arrays and tensors in nested lists."""
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in _arrays_in(item)]
    if not _is_floating(value):
        return []
    return [value.detach().float().cpu().numpy() if isinstance(value, torch.Tensor) else value]


def _is_floating(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_floating_point()
    return isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)


def _whole_latent_frames(
    pixels: torch.Tensor, num_frames: float, temporal_compression: int, is_edit: bool
) -> torch.Tensor:
    num_given = pixels.shape[2]
    if num_given > num_frames:
        raise ValueError(f"`video` must have at most `num_frames` ({num_frames}) frames, got {num_given}.")
    num_used = num_given - (num_given - 1) % temporal_compression
    if num_used < num_given:
        _logger.warning(f"`video` has {num_given} frames: the first {num_used}, which fill latent frames, are used.")
    if num_used == num_frames and not is_edit:
        _logger.warning(f"`video` fills all of `num_frames` ({num_frames}) already: nothing is left to make.")
    return pixels[:, :, :num_used]


def check_rows_of_given(inputs: CallInputs, num_given: int | None, num_prompts: int) -> None:
    """Checks that what is given comes once for all prompts or once per prompt."""
    if num_given not in (None, 1, num_prompts):
        raise ValueError(
            f"`{inputs.given_name}` must be one for all prompts or {num_prompts}, one per prompt, got {num_given}."
        )


def check_context(
    prefixes: tuple[list[list[int]], list[list[int]]],
    inputs: CallInputs,
    height: int,
    width: int,
    config: LumosConfig,
    prompt_name: str = "prompt",
) -> None:
    """
    Checks that prompts and a sequence of frames fit into the context of the transformer.

    Args:
        prefixes: token ids before `video_start`, with the prompt and without it.
        inputs: completed, of the call.
        height, width: of the frames, in pixels.
        config: of the transformer.
        prompt_name: the argument that the prompt comes from.
    """
    # Completed inputs have a value for everything.
    num_frames, fps = inputs.sequence_num_frames, cast(int, inputs.fps)
    header_ids = video_header_ids(video_duration(num_frames, fps), fps, config)
    num_frame_ids = frame_length(*grid_size(height, width, config))
    num_visual_ids = len(header_ids) + num_latent_frames(num_frames, config) * num_frame_ids
    limit = config.max_position_embeddings
    lengths = {
        name: max(map(len, rows)) for name, rows in zip((prompt_name, "negative_prompt"), prefixes, strict=True)
    }
    name, num_text_ids = max(lengths.items(), key=lambda item: item[1])
    length = num_text_ids + num_visual_ids
    if length > limit:
        cure = "a shorter prompt" if num_visual_ids < limit else "fewer frames or a smaller size"
        raise ValueError(
            f"`{name}` and the frames must not be longer than the context of the transformer (`max_position_embeddings`), "
            f"{limit} tokens, got {length}, of which {num_visual_ids} are visual and {num_text_ids} are those of `{name}`: "
            f"use {cure}."
        )


def check_callback_outputs(outputs: Any, latents: torch.Tensor) -> dict[str, Any]:
    """What a callback returned, checked: tensors like `latents`. Nothing stands for no changes."""
    if outputs is None:
        return {}
    if not isinstance(outputs, dict):
        raise ValueError(f"`callback_on_step_end` must return a dict, got {type(outputs)}.")
    for name in CALLBACK_TENSOR_INPUTS:
        value = outputs.get(name, latents)
        is_alike = isinstance(value, torch.Tensor) and value.shape == latents.shape and not value.is_floating_point()
        if not is_alike:
            received = (value.dtype, tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value)
            raise ValueError(
                f"`callback_on_step_end` must return '{name}' as codes of the shape {tuple(latents.shape)}, got {received}."
            )
    return outputs


def rows_without_padding(
    input_ids: IntegerRows, attention_mask: IntegerRows | None, config: LumosConfig
) -> list[list[int]]:
    """
    The rows of `input_ids` as lists, without what `attention_mask` says is padding.

    Raises:
        ValueError: if they are no integers of the vocabulary in one or two dimensions, a row is empty, or holds a
            `video_start`.
    """
    rows = _integer_rows("input_ids", input_ids)
    if attention_mask is not None:
        masks = _integer_rows("attention_mask", attention_mask)
        lengths, mask_lengths = [len(row) for row in rows], [len(mask) for mask in masks]
        if lengths != mask_lengths:
            raise ValueError(
                f"`attention_mask` must have the shape of `input_ids`, rows of lengths {lengths}, got {mask_lengths}."
            )
        rows = [
            [token_id for token_id, is_real in zip(row, mask, strict=True) if is_real]
            for row, mask in zip(rows, masks, strict=True)
        ]
    for row in rows:
        if not row:
            raise ValueError("`input_ids` must have at least one token in every row, got an empty row.")
        if min(row) < 0 or max(row) >= config.vocab_size:
            raise ValueError(
                f"`input_ids` must lie in the vocabulary, 0 to {config.vocab_size - 1}, got ids from {min(row)} to "
                f"{max(row)}."
            )
        if config.video_start_token_id in row:
            raise ValueError(
                f"`input_ids` must end before `video_start_token_id`, {config.video_start_token_id}, which the pipeline "
                f"adds itself, got it at position {row.index(config.video_start_token_id)}."
            )
    return rows


def as_list(value: str | list[str], length: int = 1) -> list[str]:
    """A list of captions from one, which stands for `length`, or from a list."""
    return [value] * length if isinstance(value, str) else value


def unknown_words(tokenizer: PreTrainedTokenizerBase, captions: list[str]) -> list[str]:
    """The words of captions that a tokenizer with an unknown token has no other token for."""
    unknown_id = tokenizer.unk_token_id
    if unknown_id is None:
        return []
    words = dict.fromkeys(word for caption in captions for word in re.findall(r"\w+", caption))
    return [word for word in words if unknown_id in tokenizer(word, add_special_tokens=False).input_ids]


def warn_of_unknown_words(tokenizer: PreTrainedTokenizerBase, captions: list[str]) -> None:
    """Says once which words of captions a tokenizer does not know."""
    unknown = unknown_words(tokenizer, captions)
    if unknown:
        _warn_once(
            f"`prompt` has words that the checkpoint does not know: {', '.join(unknown)}. "
            "`pipe.tokenizer.get_vocab()` lists those that it knows."
        )


# Bounded: a server's clients write ever new prompts.
@lru_cache(maxsize=1024)
def _warn_once(message: str) -> None:
    _logger.warning(message)


def _check_captions(name: str, value: str | list[str], tokenizer: PreTrainedTokenizerBase | None) -> None:
    if tokenizer is None:
        raise ValueError(
            f"`{name}` must be None in a pipeline without `tokenizer`, got {value!r}; `input_ids` replace a prompt."
        )
    if not isinstance(value, str) and not (
        isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    ):
        raise ValueError(f"`{name}` must be a string or a non-empty list of strings, got {value!r}.")


def _check_vqvae(vqvae: Any, config: LumosConfig) -> None:
    for field, value in (
        ("visual_vocab_size", vqvae.codebook_size),
        ("spatial_compression", vqvae.config.spatial_compression_ratio),
        ("temporal_compression", vqvae.config.temporal_compression_ratio),
    ):
        expected = getattr(config, field)
        if value != expected:
            raise ValueError(f"`vqvae` must fit `transformer.config.{field}`, {expected}, got {value}.")


def _check_generator(generator: torch.Generator | list[torch.Generator] | None, num_videos: int) -> None:
    if generator is None or isinstance(generator, torch.Generator):
        return
    is_list = isinstance(generator, (list, tuple)) and all(isinstance(item, torch.Generator) for item in generator)
    if not is_list or len(generator) != num_videos:
        received = f"a list of {len(generator)}" if is_list else repr(generator)
        raise ValueError(
            f"`generator` must be one generator or a list of {num_videos}, one per video, got {received}."
        )


def _integer_rows(name: str, value: IntegerRows) -> list[list[int]]:
    nested = _without_arrays(value)
    if not isinstance(nested, list) or not nested:
        raise ValueError(f"`{name}` must be a tensor or a non-empty list, got {value!r}.")
    nested = [_without_arrays(item) for item in nested]
    rows = nested if isinstance(nested[0], list) else [nested]
    if not all(isinstance(row, list) and all(isinstance(item, numbers.Integral) for item in row) for row in rows):
        raise ValueError(f"`{name}` must hold integers in one or two dimensions, got {value!r}.")
    return [[int(item) for item in row] for row in rows]


def _without_arrays(value: Any) -> Any:
    return value.tolist() if isinstance(value, (torch.Tensor, np.ndarray)) else value
