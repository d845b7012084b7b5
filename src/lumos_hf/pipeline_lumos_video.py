# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Text, images and videos to images and videos with a Lumos transformer (arXiv 2507.08801).

Latent frames are made one after another. Inside a frame all codes are decoded in parallel over a few dozen steps: the
model predicts every masked code, the scheduler keeps the confident ones. A finished frame is written into the cache with
part of its tokens masked again, as the model saw history in training.

Shape suffixes: B videos, t latent frames, h and w rows and columns of codes, n = h * w, V visual codes, L tokens.
"""

import math
import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import BaseOutput, logging, replace_example_docstring
from diffusers.utils.torch_utils import is_compiled_module
from transformers import PreTrainedTokenizerBase

from .argument_checks import check_integer, check_number
from .configuration_lumos import LumosConfig
from .cosmos_video_tokenizer import CosmosVideoTokenizer
from .decoding.approximations import CompactHistory, DecodingApproximations, StepShortcuts, resolve_approximations
from .decoding.prefix_cache import PrefixCache
from .generation_defaults import resolve_default
from .hub.lora_loader import LumosLoraLoaderMixin
from .hub.pipeline_repository import PipelineRepositoryMixin
from .modeling_lumos import LumosCausalLMOutput, LumosForCausalLM
from .scheduling_mask_decoding import MaskDecodingScheduler
from .token_layout import (
    PIXELS_PER_SIZE_UNIT,
    UNKNOWN_CODE,
    content_positions,
    derive_layout,
    frame_ids_from_codes,
    frame_length,
    grid_size,
    num_latent_frames,
    prompt_ids,
    prompt_text,
    video_duration,
    video_header_ids,
    visual_positions,
)
from .video_processor_lumos import ImageInput, LumosVideoProcessor, VideoInput, crop_budget


logger = logging.get_logger(__name__)

OUTPUT_TYPES = ("pil", "np", "pt", "latent")

EXAMPLE_DOC_STRING = """
    Examples:
        ```python
        >>> import torch
        >>> from diffusers.utils import export_to_video
        >>> from lumos_hf import LumosVideoPipeline

        >>> pipe = LumosVideoPipeline.from_pretrained("path/to/checkpoint", dtype=torch.bfloat16).to("cuda")
        >>> video = pipe("A cat runs over the grass.").frames[0]
        >>> export_to_video(video, "cat.mp4", fps=12)

        >>> image = pipe("A cat on the grass.", num_frames=1).frames[0][0]
        >>> video = pipe("The cat starts to run.", image=image).frames[0]

        >>> for frames in pipe.stream("A cat runs over the grass."):
        ...     frames[0][0].show()
        ```
"""


@dataclass
class LumosPipelineOutput(BaseOutput):
    """
    Output of [`LumosVideoPipeline`].

    Args:
        frames (`list[list[PIL.Image.Image]]`, `np.ndarray`, `torch.Tensor`):
            By `output_type`: `"pil"` a list of frames per video; `"np"` `(B, frames, height, width, 3)` and `"pt"`
            `(B, frames, 3, height, width)`, float32 in [0, 1]; `"latent"` the codes `(B, t, h, w)`, int64.
    """

    frames: list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor


@dataclass
class _Branch:
    """
    One side of classifier-free guidance: the layout of its whole sequences, and what is cached of them so far.

    `position_ids` is `(3, B, L)`. Where rows are padded on the left, `num_padding` counts their pads, and `attention_mask`
    `(B, L)` shows them; elsewhere both are None. `num_forgotten` tokens have passed through the cache and are no longer
    there.
    """

    position_ids: torch.LongTensor
    attention_mask: torch.LongTensor | None
    num_padding: list[int] | None
    cache: PrefixCache
    num_forgotten: int = 0

    def repeat(self, times: int) -> None:
        """Makes so many neighbouring rows of every row."""
        if times == 1:
            return
        self.position_ids = self.position_ids.repeat_interleave(times, dim=1)
        if self.num_padding is not None:
            self.attention_mask = self.attention_mask.repeat_interleave(times, dim=0)
            self.num_padding = [num_pads for num_pads in self.num_padding for _ in range(times)]
        self.cache.batch_repeat_interleave(times)

    def padding(self, length: int, as_mask: bool) -> dict[str, torch.Tensor | list[int]]:
        """What tells the model which of the first `length` tokens are padding."""
        if self.num_padding is None:
            return {}
        if as_mask:
            return {"attention_mask": self.attention_mask[:, :length].contiguous()}
        return {"num_padding": self.num_padding}

    def thin(self, num_tokens: int, kept: torch.LongTensor) -> None:
        """Forgets the latest tokens apart from those at `kept`, counted from the first of them, ascending."""
        length = self.cache.get_seq_length()
        kept = kept.to(self.position_ids.device)
        for layer in self.cache.layers:
            layer.thin(length - num_tokens, kept)
        self.num_forgotten += length - self.cache.get_seq_length()


class LumosVideoPipeline(PipelineRepositoryMixin, DiffusionPipeline, LumosLoraLoaderMixin):
    r"""
    Generates images and videos from text, continues images and videos.

    This model inherits from [`DiffusionPipeline`]. Check the superclass documentation for the generic methods
    implemented for all pipelines (downloading, saving, running on a particular device, etc.).

    Args:
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Text tokenizer; not needed with `input_ids`.
        transformer ([`LumosForCausalLM`]):
            Predicts the codes.
        vqvae ([`CosmosVideoTokenizer`], *optional*):
            Codes to pixels and back; not needed from codes to codes.
        scheduler ([`MaskDecodingScheduler`]):
            Samples codes and decides which of them to keep.
        default_height (`int`, *optional*), default_width (`int`, *optional*), default_num_frames (`int`, *optional*),
        default_fps (`int`, *optional*), default_num_inference_steps (`int`, *optional*),
        default_guidance_scale (`float`, *optional*), default_history_mask_ratio (`float`, *optional*):
            What a call uses for the argument of that name if it is not given; None stands for the official values 384,
            672, 25, 12, 50, 15.0 and 0.7.

    Raises:
        ValueError: if the scheduler marks undecided codes in another way than the pipeline. Whether `vqvae` fits the
            transformer is checked by calls that need it: those from codes to codes do not.
    """

    model_cpu_offload_seq = "transformer->vqvae"
    _optional_components = ["tokenizer", "vqvae"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        transformer: LumosForCausalLM,
        vqvae: CosmosVideoTokenizer | None,
        scheduler: MaskDecodingScheduler,
        default_height: int | None = None,
        default_width: int | None = None,
        default_num_frames: int | None = None,
        default_fps: int | None = None,
        default_num_inference_steps: int | None = None,
        default_guidance_scale: float | None = None,
        default_history_mask_ratio: float | None = None,
    ):
        super().__init__()
        if scheduler.config.mask_value != UNKNOWN_CODE:
            raise ValueError(
                f"`scheduler` must mark undecided codes with the `mask_value` {UNKNOWN_CODE}, got "
                f"{scheduler.config.mask_value}."
            )
        self.register_modules(tokenizer=tokenizer, transformer=transformer, vqvae=vqvae, scheduler=scheduler)
        self.register_to_config(
            default_height=default_height,
            default_width=default_width,
            default_num_frames=default_num_frames,
            default_fps=default_fps,
            default_num_inference_steps=default_num_inference_steps,
            default_guidance_scale=default_guidance_scale,
            default_history_mask_ratio=default_history_mask_ratio,
        )
        self.video_processor = LumosVideoProcessor()

    def check_inputs(
        self,
        prompt: str | list[str] | None,
        negative_prompt: str | list[str] | None,
        image: ImageInput | None,
        video: VideoInput | None,
        height: int | None,
        width: int | None,
        num_frames: int,
        fps: int,
        num_inference_steps: int,
        guidance_scale: float,
        history_mask_ratio: float,
        num_videos_per_prompt: int,
        input_ids: torch.LongTensor | list[int] | list[list[int]] | None,
        attention_mask: torch.Tensor | list[int] | list[list[int]] | None,
        latents: torch.Tensor | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> None:
        """Checks what can be told from the arguments of a call alone; raises `ValueError`."""
        for name, value in (("height", height), ("width", width)):
            if value is not None:
                check_integer(name, value, multiple_of=PIXELS_PER_SIZE_UNIT)
        check_integer("num_frames", num_frames)
        check_integer("fps", fps)
        check_integer("num_inference_steps", num_inference_steps)
        check_integer("num_videos_per_prompt", num_videos_per_prompt)
        check_number("guidance_scale", guidance_scale)
        check_number("history_mask_ratio", history_mask_ratio, maximum=1)

        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` must be one of {list(OUTPUT_TYPES)}, got {output_type!r}.")
        if output_type != "latent" and self.vqvae is None:
            raise ValueError(f"`output_type` must be 'latent' in a pipeline without `vqvae`, got {output_type!r}.")
        if self.vqvae is not None and (output_type != "latent" or image is not None or video is not None):
            _check_vqvae(self.vqvae, self.transformer)
        unknown = [name for name in callback_on_step_end_tensor_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` must be among {self._callback_tensor_inputs}, got {unknown}."
            )
        self._check_prompts(prompt, negative_prompt, input_ids, attention_mask)
        self._check_given(image, video, latents, height, width)
        if latents is not None:
            self._check_latents(latents, height, width, num_frames)

    def _check_prompts(
        self,
        prompt: str | list[str] | None,
        negative_prompt: str | list[str] | None,
        input_ids: torch.LongTensor | list[int] | list[list[int]] | None,
        attention_mask: torch.Tensor | list[int] | list[list[int]] | None,
    ) -> None:
        if (prompt is None) == (input_ids is None):
            received = "neither" if prompt is None else "both"
            raise ValueError(f"Exactly one of `prompt` and `input_ids` must be given, got {received}.")
        if attention_mask is not None and input_ids is None:
            raise ValueError("`attention_mask` must be given with `input_ids` only, got it with `prompt`.")
        for name, value in (("prompt", prompt), ("negative_prompt", negative_prompt)):
            if value is None:
                continue
            if self.tokenizer is None:
                raise ValueError(
                    f"`{name}` must be None in a pipeline without `tokenizer`, got {value!r}; `input_ids` replace a prompt."
                )
            if not isinstance(value, str) and not (
                isinstance(value, list) and value and all(isinstance(item, str) for item in value)
            ):
                raise ValueError(f"`{name}` must be a string or a non-empty list of strings, got {value!r}.")
        if prompt is not None and not all(caption.strip() for caption in _as_list(prompt)):
            raise ValueError(f"`prompt` must not be empty, got {prompt!r}.")

    def _check_given(
        self,
        image: ImageInput | None,
        video: VideoInput | None,
        latents: torch.Tensor | None,
        height: int | None,
        width: int | None,
    ) -> None:
        given = [
            name for name, value in (("image", image), ("video", video), ("latents", latents)) if value is not None
        ]
        if len(given) > 1:
            raise ValueError(f"At most one of `image`, `video` and `latents` must be given, got {given}.")
        if image is None and video is None:
            return
        if self.vqvae is None:
            raise ValueError(f"`{given[0]}` must be None in a pipeline without `vqvae`; `latents` replace it.")
        if (height is None) != (width is None):
            raise ValueError(
                f"`height` and `width` must be given together or not at all with `{given[0]}`, got {height} and {width}."
            )

    def _check_latents(self, latents: torch.Tensor, height: int | None, width: int | None, num_frames: int) -> None:
        config = self.transformer.config
        if not isinstance(latents, torch.Tensor) or latents.ndim != 4 or latents.numel() == 0:
            shape = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents)
            raise ValueError(f"`latents` must be a tensor (batch, frames, height / 8, width / 8), got {shape}.")
        if latents.is_floating_point() or latents.is_complex() or latents.dtype == torch.bool:
            raise ValueError(f"`latents` must have an integer dtype, since they are codes, got {latents.dtype}.")
        low, high = (int(bound) for bound in latents.long().aminmax())
        if low < 0 or high >= config.visual_vocab_size:
            raise ValueError(
                f"`latents` must be codes from 0 to {config.visual_vocab_size - 1}, got values from {low} to {high}."
            )
        max_frames = math.ceil((num_frames - 1) / config.temporal_compression) + 1
        if latents.shape[1] > max_frames:
            raise ValueError(
                f"`latents` must have at most {max_frames} frames for `num_frames={num_frames}`, got {latents.shape[1]}."
            )
        for name, value, side in (("height", height, latents.shape[2]), ("width", width, latents.shape[3])):
            pixels = side * config.spatial_compression
            if pixels % PIXELS_PER_SIZE_UNIT != 0:
                raise ValueError(
                    f"`latents` must have a {name} of a multiple of {PIXELS_PER_SIZE_UNIT} pixels, got {side} codes, "
                    f"{pixels} pixels."
                )
            if value not in (None, pixels):
                raise ValueError(f"`{name}` must be that of `latents`, {pixels}, or None, got {value}.")

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale != 1

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def current_timestep(self) -> torch.Tensor | None:
        return self._current_timestep

    @property
    def interrupt(self) -> bool:
        return self._interrupt

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        image: ImageInput | None = None,
        video: VideoInput | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        fps: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        history_mask_ratio: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        input_ids: torch.LongTensor | list[int] | list[list[int]] | None = None,
        attention_mask: torch.Tensor | list[int] | list[list[int]] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[["LumosVideoPipeline", int, torch.Tensor, dict[str, Any]], dict[str, Any]]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
        approximations: DecodingApproximations | str | None = None,
    ) -> LumosPipelineOutput | tuple:
        r"""
        Makes videos, or images as videos of one frame.

        Whatever is None of `height`, `width`, `num_frames`, `fps`, `num_inference_steps`, `guidance_scale` and
        `history_mask_ratio` comes from the checkpoint, or else from the official values.

        Args:
            prompt (`str` or `list[str]`, *optional*):
                What is to be seen; a list makes a batch, whose rows equal single calls.
            negative_prompt (`str` or `list[str]`, *optional*):
                Guidance leads away from it, instead of away from no prompt at all, which is what None and an empty
                string stand for. Of no effect with `guidance_scale=1`.
            image (PIL image, `np.ndarray`, `torch.Tensor` or a list of them, *optional*):
                The first frame, one per prompt or one for all, see [`LumosVideoProcessor`].
            video (list of PIL images, `np.ndarray`, `torch.Tensor` or a list of them, *optional*):
                The first frames, one video per prompt or one for all, see [`LumosVideoProcessor`]. The first
                `1 + 4k` frames are used, with k as large as possible.
            height (`int`, *optional*), width (`int`, *optional*):
                In pixels, multiples of 32. A given image or video is resized and cropped to them; without them its shape
                chooses among the sizes of about the checkpoint's area, see [`crop_budget`].
            num_frames (`int`, *optional*):
                Pixel frames of the whole result, given ones included: `1 + 4k`, or rounded up to that. 1 makes an image.
            fps (`int`, *optional*):
                Frames per second, which the model is told. Where the checkpoint has no default, it is 1 for an image, as
                in the official code.
            num_inference_steps (`int`, *optional*):
                Decoding steps per latent frame.
            guidance_scale (`float`, *optional*):
                Weight of the prompt: `unconditional + guidance_scale * (conditional - unconditional)` logits. 1 skips
                the unconditional branch.
            history_mask_ratio (`float`, *optional*):
                Share of a finished frame's tokens that is masked again before later frames see it, in [0, 1]; at least
                one token is. Given frames are never masked.
            num_videos_per_prompt (`int`, defaults to 1):
                Repeats each prompt; the videos of one prompt are neighbours in the result.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                One for all random numbers, or a list with one per video.
            input_ids (`torch.LongTensor` of shape `(B, L)` or `(L,)`, or lists of ids, *optional*):
                Instead of `prompt`: everything before `video_start`, the beginning-of-sequence token included.
            attention_mask (`torch.Tensor` of the shape of `input_ids`, *optional*):
                0 where `input_ids` are padding, on either side.
            latents (`torch.LongTensor` of shape `(B, t, h, w)`, *optional*):
                Codes of the first latent frames, one row per prompt or one for all, instead of `image` or `video`.
            output_type (`str`, defaults to `"pil"`):
                `"pil"`, `"np"`, `"pt"` or `"latent"`, see [`LumosPipelineOutput`].
            return_dict (`bool`, defaults to `True`):
                Whether to return a [`LumosPipelineOutput`] instead of a tuple.
            callback_on_step_end (`Callable`, `PipelineCallback`, `MultiPipelineCallbacks`, *optional*):
                Called after every step as `callback_on_step_end(pipe, step, timestep, callback_kwargs)`, with `step`
                counted over all frames and `timestep` within the frame. It returns a dict, whose `"latents"` replace the
                current ones. If it sets `pipe._interrupt = True`, the result ends with the current frame, completed by
                the prediction of that step.
            callback_on_step_end_tensor_inputs (`list[str]`, defaults to `["latents"]`):
                What `callback_kwargs` hold: `"latents"`, the codes of the current frame `(B, h, w)`, -1 where undecided.
            approximations ([`DecodingApproximations`] or `str`, *optional*):
                What to leave out for speed, at the cost of another and maybe worse result; `"fast"` is the measured
                preset. None is exact.

        Examples:

        Returns:
            [`LumosPipelineOutput`] or `tuple`: the frames, given ones included.

        Raises:
            ValueError: for arguments that are missing, contradict each other or are out of range, and for sequences
                longer than the context of the transformer.
        """
        codes = self._generate_codes(
            prompt=prompt,
            negative_prompt=negative_prompt,
            image=image,
            video=video,
            height=height,
            width=width,
            num_frames=num_frames,
            fps=fps,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            history_mask_ratio=history_mask_ratio,
            num_videos_per_prompt=num_videos_per_prompt,
            generator=generator,
            input_ids=input_ids,
            attention_mask=attention_mask,
            latents=latents,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            approximations=approximations,
        )
        codes = torch.cat(list(codes), dim=1)
        if output_type == "latent":
            frames = codes
        else:
            frames = self.video_processor.postprocess_video(self.vqvae.decode(codes).float(), output_type)

        # Offload all models
        self.maybe_free_model_hooks()

        if not return_dict:
            return (frames,)
        return LumosPipelineOutput(frames=frames)

    @torch.no_grad()
    def stream(
        self, prompt: str | list[str] | None = None, *, output_type: str = "pil", **options: Any
    ) -> Iterator[list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor]:
        """
        Makes the same videos as [`__call__`], and hands over their frames as soon as they are decoded.

        Args:
            prompt (`str` or `list[str]`, *optional*), output_type (`str`, defaults to `"pil"`):
                As in [`__call__`].
            options:
                All other arguments of [`__call__`] apart from `return_dict`.

        Yields:
            What [`LumosPipelineOutput`] holds as `frames`, cut in time: one latent frame after another, given ones
            included. The first one of a video is one pixel frame, the others are four.

        Raises:
            ValueError: as [`__call__`], when the first frames are asked for.
        """
        codes = self._generate_codes(prompt, output_type=output_type, **options)
        try:
            if output_type == "latent":
                yield from codes
            else:
                for pixels in self.vqvae.decode_stream(codes):
                    yield self.video_processor.postprocess_video(pixels.float(), output_type)
        finally:
            self.maybe_free_model_hooks()

    def _generate_codes(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        image: ImageInput | None = None,
        video: VideoInput | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        fps: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        history_mask_ratio: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        input_ids: torch.LongTensor | list[int] | list[list[int]] | None = None,
        attention_mask: torch.Tensor | list[int] | list[list[int]] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[["LumosVideoPipeline", int, torch.Tensor, dict[str, Any]], dict[str, Any]]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
        approximations: DecodingApproximations | str | None = None,
    ) -> Iterator[torch.LongTensor]:
        """What [`__call__`] does up to pixels. Yields the codes `(B, 1, h, w)` of every frame, given ones first."""
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs

        # 1. Fill in defaults and check the inputs
        num_frames = resolve_default("num_frames", num_frames, self.config)
        fps = resolve_default("fps", fps, self.config, num_frames)
        approximations = resolve_approximations(approximations)
        if num_inference_steps is None:
            num_inference_steps = approximations.reduced_steps(
                resolve_default("num_inference_steps", None, self.config)
            )
        guidance_scale = resolve_default("guidance_scale", guidance_scale, self.config)
        history_mask_ratio = resolve_default("history_mask_ratio", history_mask_ratio, self.config)
        self.check_inputs(
            prompt,
            negative_prompt,
            image,
            video,
            height,
            width,
            num_frames,
            fps,
            num_inference_steps,
            guidance_scale,
            history_mask_ratio,
            num_videos_per_prompt,
            input_ids,
            attention_mask,
            latents,
            output_type,
            callback_on_step_end_tensor_inputs,
        )
        num_frames = self._round_up_num_frames(num_frames)
        self._guidance_scale = guidance_scale
        self._current_timestep = None
        self._interrupt = False
        config = self.transformer.config
        device = self._execution_device

        # 2. Read given frames, which may decide on the size
        pixels = self._read_pixels(image, video, height, width, num_frames)
        height, width = self._resolve_size(height, width, pixels, latents)
        h, w = grid_size(height, width, config)
        t = num_latent_frames(num_frames, config)

        # 3. Write the prompts as token ids
        duration = video_duration(num_frames, fps)
        header_ids = video_header_ids(duration, fps, config)
        text_arguments = {"height": height, "width": width, "duration": duration, "fps": fps}
        if input_ids is None:
            prefixes = self._tokenize(_as_list(prompt), **text_arguments)
        else:
            prefixes = _rows_without_padding(input_ids, attention_mask, config)
        negative_prompts = _as_list(negative_prompt or "", len(prefixes))
        _check_batch(len(prefixes), num_videos_per_prompt, negative_prompts, image, video, pixels, latents, generator)
        negative_prefixes = self._tokenize(negative_prompts, **text_arguments)
        self._check_context(prefixes + negative_prefixes, len(header_ids) + t * frame_length(h, w))

        # 4. Prepare the codes: given frames first, then unknown ones
        given_codes = self._encode_given(pixels, latents, device)
        codes, num_given = _prepare_codes(given_codes, (len(prefixes) * num_videos_per_prompt, t, h, w), device)

        # 5. Cache everything before the first frame to be made, with the prompt and without it
        visual_ids = self._visual_ids(header_ids, codes[::num_videos_per_prompt])
        history = CompactHistory(approximations, frame_length(h, w))
        branches = [
            self._prefill(
                branch_prefixes,
                visual_ids,
                num_cached=len(header_ids) + num_given * frame_length(h, w),
                num_videos_per_prompt=num_videos_per_prompt,
                num_forgotten=history.num_forgotten(t - 1),
            )
            for branch_prefixes in (prefixes, negative_prefixes)[: 1 + self.do_classifier_free_guidance]
        ]
        self._thin_history(branches, history, num_whole_frames=num_given - 1)

        # 6. Make one frame after another
        for frame in range(num_given):
            yield codes[:, frame : frame + 1]
        yield from self._decode_frames(
            branches,
            codes,
            num_given,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            history=history,
            history_mask_positions=self._history_mask_positions(h, w, history_mask_ratio, device),
            shortcuts=StepShortcuts(approximations, num_inference_steps, h, w, device),
            generator=generator,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )

    def _decode_frames(
        self,
        branches: list[_Branch],
        codes: torch.LongTensor,
        num_given: int,
        *,
        num_inference_steps: int,
        guidance_scale: float,
        history: CompactHistory,
        history_mask_positions: torch.LongTensor,
        shortcuts: StepShortcuts,
        generator: torch.Generator | list[torch.Generator] | None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> Iterator[torch.LongTensor]:
        """Makes one frame after another in `codes` `(B, t, h, w)`, after the given ones, and yields it `(B, 1, h, w)`."""
        t = codes.shape[1]
        # Steps stay on the CPU, where the scheduler reads them without waiting for the device.
        self.scheduler.set_timesteps(num_inference_steps)
        self._num_timesteps = (t - num_given) * num_inference_steps
        step = 0
        with self.progress_bar(total=self._num_timesteps) as progress_bar:
            for frame in range(num_given, t):
                latents = codes[:, frame]
                for timestep in self.scheduler.timesteps:
                    self._current_timestep = timestep
                    latents, predicted = self._decode_step(
                        branches, latents, timestep, guidance_scale, shortcuts, generator
                    )

                    if callback_on_step_end is not None:
                        callback_kwargs = {}
                        for name in callback_on_step_end_tensor_inputs:
                            callback_kwargs[name] = locals()[name]
                        callback_outputs = callback_on_step_end(self, step, timestep, callback_kwargs)
                        latents = callback_outputs.pop("latents", latents)

                    step += 1
                    progress_bar.update()
                    if self.interrupt:
                        break

                codes[:, frame] = torch.where(latents == UNKNOWN_CODE, predicted, latents)
                yield codes[:, frame : frame + 1]
                if self.interrupt:
                    break
                if frame < t - 1:
                    self._cache_history(branches, codes[:, frame], history_mask_positions)
                    self._thin_history(branches, history, num_whole_frames=min(frame, history.window + 1))
        self._current_timestep = None

    def _round_up_num_frames(self, num_frames: int) -> int:
        step = self.transformer.config.temporal_compression
        rounded = math.ceil((num_frames - 1) / step) * step + 1
        if rounded != num_frames:
            logger.warning(
                f"`num_frames` must be 1 plus a multiple of {step}: {num_frames} is rounded up to {rounded}."
            )
        return rounded

    def _read_pixels(
        self,
        image: ImageInput | None,
        video: VideoInput | None,
        height: int | None,
        width: int | None,
        num_frames: int,
    ) -> torch.Tensor | None:
        """Given frames `(batch, 3, frames, height, width)` in [-1, 1], as many as make whole latent frames."""
        if image is None and video is None:
            return None
        max_blocks = None
        if height is None:
            max_blocks = crop_budget(
                resolve_default("height", None, self.config), resolve_default("width", None, self.config)
            )
        if image is not None:
            return self.video_processor.preprocess_image(image, height, width, max_blocks=max_blocks)

        pixels = self.video_processor.preprocess_video(video, height, width, max_blocks=max_blocks)
        num_given = pixels.shape[2]
        if num_given > num_frames:
            raise ValueError(f"`video` must have at most `num_frames` ({num_frames}) frames, got {num_given}.")
        num_used = num_given - (num_given - 1) % self.transformer.config.temporal_compression
        if num_used < num_given:
            logger.warning(
                f"`video` has {num_given} frames: the first {num_used}, which fill latent frames, are used."
            )
        return pixels[:, :, :num_used]

    def _resolve_size(
        self, height: int | None, width: int | None, pixels: torch.Tensor | None, latents: torch.Tensor | None
    ) -> tuple[int, int]:
        if pixels is not None:
            height, width = pixels.shape[-2:]
        if latents is not None:
            height, width = (side * self.transformer.config.spatial_compression for side in latents.shape[-2:])
        return resolve_default("height", height, self.config), resolve_default("width", width, self.config)

    def _tokenize(self, captions: list[str], *, height: int, width: int, duration: int, fps: int) -> list[list[int]]:
        """Token ids of everything before `video_start`; none at all for an empty caption."""

        def tokenize(caption: str) -> list[int]:
            text = prompt_text(caption, height=height, width=width, duration=duration, fps=fps)
            text_ids = self.tokenizer(text, add_special_tokens=False).input_ids
            return prompt_ids(text_ids, self.transformer.config)

        return [tokenize(caption) if caption else [] for caption in captions]

    def _check_context(self, prefixes: list[list[int]], num_visual_ids: int) -> None:
        limit = self.transformer.config.max_position_embeddings
        length = max(len(prefix) for prefix in prefixes) + num_visual_ids
        if length > limit:
            raise ValueError(
                f"The sequence must not be longer than the context of the transformer (`max_position_embeddings`), {limit} "
                f"tokens, got {length}, of which {num_visual_ids} are visual: use fewer frames or a smaller size."
            )

    def _encode_given(
        self, pixels: torch.Tensor | None, latents: torch.Tensor | None, device: torch.device
    ) -> torch.LongTensor | None:
        """Codes `(batch, frames, h, w)` of the given frames."""
        if latents is not None:
            return latents.to(device=device, dtype=torch.long)
        if pixels is not None:
            return self.vqvae.encode(pixels.to(device)).long()
        return None

    def _visual_ids(self, header_ids: list[int], codes: torch.LongTensor) -> torch.LongTensor:
        """Token ids `(B, L)` from `video_start` on; frames still to be made are masked."""
        frames = frame_ids_from_codes(codes, self.transformer.config).flatten(1)
        header = frames.new_tensor(header_ids).expand(len(frames), -1)
        return torch.cat([header, frames], dim=1)

    def _history_mask_positions(self, h: int, w: int, ratio: float, device: torch.device) -> torch.LongTensor:
        """Where tokens of a frame are masked before it becomes history."""
        content = content_positions(h, w)
        return content[self.scheduler.history_mask_indices(len(content), ratio)].to(device)

    def _prefill(
        self,
        prefixes: list[list[int]],
        visual_ids: torch.LongTensor,
        num_cached: int,
        num_videos_per_prompt: int = 1,
        num_forgotten: int = 0,
    ) -> _Branch:
        """
        Caches prompts, padded on the left to one length, and the visual ids that are known.

        Args:
            prefixes: B lists of token ids, everything before `video_start`.
            visual_ids: `(B, L)` token ids from `video_start` on, with the frames still to be made.
            num_cached: how many of `visual_ids` to cache.
            num_videos_per_prompt: rows of the result per prefix, which are computed once.
            num_forgotten: so many of the other `visual_ids` will have been forgotten again when the last are cached.
        """
        ids, num_padding = _join_left_padded(prefixes, visual_ids)
        attention_mask = None if num_padding is None else _left_padding_mask(ids, num_padding)
        length = ids.shape[1] - visual_ids.shape[1] + num_cached
        # Positions depend on the first frame, so they come from whole sequences.
        position_ids, frame_ids = derive_layout(ids, self.transformer.config, attention_mask)
        capacity = max(length, ids.shape[1] - num_forgotten)
        cache = PrefixCache(self.transformer.config.num_hidden_layers, capacity)
        cache.make_room(length)
        branch = _Branch(position_ids, attention_mask, num_padding, cache)
        self._eager_transformer(
            input_ids=ids[:, :length],
            attention_mask=None if attention_mask is None else attention_mask[:, :length],
            position_ids=position_ids[:, :, :length],
            frame_ids=frame_ids[:, :length],
            past_key_values=branch.cache,
            use_cache=True,
            skip_logits=True,
        )
        cache.keep_room()
        branch.repeat(num_videos_per_prompt)
        return branch

    @torch.compiler.set_stance("force_eager")
    def _eager_transformer(self, **inputs: Any) -> LumosCausalLMOutput:
        """The transformer without its compiled graph, for inputs whose shapes change from call to call."""
        return self.transformer(**inputs)

    def _decode_step(
        self,
        branches: list[_Branch],
        latents: torch.LongTensor,
        timestep: torch.Tensor,
        guidance_scale: float,
        shortcuts: StepShortcuts,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> tuple[torch.LongTensor, torch.LongTensor]:
        """
        One step for the frame that follows the cached ones: what [`_plain_decode_step`] gives, from the same random
        numbers, but computed for undecided codes only, and never with the logits of more than a chunk of them.

        Every branch sees the same codes: the unconditional one lacks the prompt only, as in the official code.

        Args:
            branches: conditional and unconditional, or the conditional one alone for no guidance.
            latents: the frame's codes so far, `(B, h, w)`, -1 where undecided.
            timestep: of the scheduler.
            guidance_scale: weight of the conditional branch.
            shortcuts: what may be left out.
            generator: see [`__call__`].

        Returns:
            the codes after the step and the complete prediction, both of the shape of `latents`.
        """
        sample = latents.flatten(1)
        undecided = sample == UNKNOWN_CODE
        token_uniforms, confidence_uniforms = self.scheduler.draw_uniforms(sample.shape, generator, sample.device)
        undecided_uniforms = token_uniforms[undecided]
        hidden_states = self._hidden_states(shortcuts.branches_to_run(branches, timestep), latents)
        hidden_states = shortcuts.complete(hidden_states, undecided, timestep)
        codes, probabilities = self._sample_codes(hidden_states, undecided_uniforms, guidance_scale)
        predicted = sample.masked_scatter(undecided, codes)
        probabilities = probabilities.new_ones(sample.shape).masked_scatter(undecided, probabilities)
        sample = self.scheduler.mask_least_confident(
            predicted, probabilities, sample, timestep, confidence_uniforms, **shortcuts.keep_rule
        )
        return sample.view_as(latents), predicted.view_as(latents)

    def _hidden_states(self, branches: list[_Branch], latents: torch.LongTensor) -> list[torch.Tensor]:
        """What every branch's output head gets for the R undecided codes of a batch of frames, `(R, hidden_size)`."""
        frame = frame_ids_from_codes(latents, self.transformer.config)
        positions = visual_positions(*latents.shape[1:], device=latents.device)
        undecided = latents.flatten(1) == UNKNOWN_CODE
        num_rows = int(undecided.sum(dim=1).max())
        if num_rows == 0:
            nothing = torch.empty(
                0, self.transformer.config.hidden_size, dtype=self.transformer.dtype, device=latents.device
            )
            return [nothing] * len(branches)
        if _is_compiled(self.transformer):
            # All rows, so that one graph serves all steps.
            num_rows = len(positions)
        # Undecided ones first. Rows with fewer than others get some decided ones as well.
        order = undecided.int().argsort(dim=1, descending=True, stable=True)[:, :num_rows]
        # As indices, so that nothing is read back from the device between the branches.
        wanted = undecided.gather(1, order).flatten().nonzero()[:, 0]
        hidden_states = []
        for branch in branches:
            output = self._forward_frame(branch, frame, logits_to_keep=positions[order], skip_logits=True)
            hidden_states.append(output.last_hidden_state.flatten(0, 1)[wanted])
        return hidden_states

    def _sample_codes(
        self, hidden_states: list[torch.Tensor], uniforms: torch.Tensor, guidance_scale: float
    ) -> tuple[torch.LongTensor, torch.Tensor]:
        """Codes `(R,)` and their probabilities, from each branch's `(R, hidden_size)` and draws `(R,)`."""
        # Half of them, since a draw needs the probabilities beside the logits.
        num_rows = max(1, self.transformer.num_rows_per_chunk(uniforms.device) // 2)
        chunks = zip(uniforms.split(num_rows), *(states.split(num_rows) for states in hidden_states), strict=True)
        samples = [
            self.scheduler.sample_tokens(self._guided_head(chunk_states, guidance_scale), chunk_uniforms)
            for chunk_uniforms, *chunk_states in chunks
        ]
        codes, probabilities = (torch.cat(parts) for parts in zip(*samples, strict=True))
        return codes, probabilities

    def _guided_head(self, hidden_states: list[torch.Tensor], guidance_scale: float) -> torch.Tensor:
        """Guided logits of the visual codes, with one product instead of two where the output head is linear."""

        def logits(states: torch.Tensor) -> torch.Tensor:
            return self._eager_transformer(last_hidden_state=states, visual_logits_only=True).logits

        if self.transformer.has_plain_head:
            return logits(_guide(hidden_states, guidance_scale).to(hidden_states[0].dtype))
        return _guide([logits(states) for states in hidden_states], guidance_scale)

    def _plain_decode_step(
        self,
        branches: list[_Branch],
        latents: torch.LongTensor,
        timestep: torch.Tensor,
        guidance_scale: float,
        shortcuts: StepShortcuts,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> tuple[torch.LongTensor, torch.LongTensor]:
        """The method as it is written down: all logits of both branches, guidance, one step of the scheduler."""
        everywhere = torch.ones_like(latents.flatten(1), dtype=torch.bool)
        logits = self._all_logits(shortcuts.branches_to_run(branches, timestep), latents)
        logits = _guide(shortcuts.complete(logits, everywhere, timestep), guidance_scale)
        sample, predicted = self.scheduler.step(
            logits.unflatten(0, everywhere.shape),
            timestep,
            latents.flatten(1),
            generator,
            return_dict=False,
            **shortcuts.keep_rule,
        )
        return sample.view_as(latents), predicted.view_as(latents)

    def _all_logits(self, branches: list[_Branch], latents: torch.LongTensor) -> list[torch.Tensor]:
        """Every branch's logits of the visual codes, decided ones included, `(B * n, V)`."""
        frame = frame_ids_from_codes(latents, self.transformer.config)
        positions = visual_positions(*latents.shape[1:], device=latents.device)
        logits = []
        for branch in branches:
            output = self._forward_frame(branch, frame, logits_to_keep=positions, visual_logits_only=True)
            logits.append(output.logits.flatten(0, 1))
        return logits

    def _cache_history(
        self, branches: list[_Branch], latents: torch.LongTensor, mask_positions: torch.LongTensor
    ) -> None:
        """Caches a finished frame `(B, h, w)`, masked in part, as the model saw history in training."""
        frame = frame_ids_from_codes(latents, self.transformer.config)
        frame[:, mask_positions] = self.transformer.config.mask_token_id
        # Keys and values are all that is needed; one row of output is the least that there can be.
        rows = frame.new_zeros(len(frame), 1)
        if _is_compiled(self.transformer):
            # The rows of a decoding step, so that its graph serves here, too.
            rows = visual_positions(*latents.shape[1:], device=latents.device).repeat(len(frame), 1)
        for branch in branches:
            self._forward_frame(branch, frame, logits_to_keep=rows, skip_logits=True)
            branch.cache.keep_room()

    def _thin_history(self, branches: list[_Branch], history: CompactHistory, num_whole_frames: int) -> None:
        """Forgets most of the cached frames that are neither the first nor among the latest."""
        kept = history.kept_of(num_whole_frames)
        if kept is None:
            return
        for branch in branches:
            branch.thin(num_whole_frames * history.frame_length, kept)

    def _forward_frame(self, branch: _Branch, frame: torch.LongTensor, **options: Any) -> LumosCausalLMOutput:
        """Feeds one whole frame of token ids after the cached ones; the next call overwrites it unless it is kept."""
        branch.cache.make_room(frame.shape[1])
        length = branch.cache.get_seq_length() + frame.shape[1]
        end = branch.num_forgotten + length
        return self.transformer(
            input_ids=frame,
            # Of one memory layout wherever it comes from, for a compiled graph.
            position_ids=branch.position_ids[:, :, end - frame.shape[1] : end].contiguous(),
            past_key_values=branch.cache,
            use_cache=True,
            # A frame sees its past and all of itself, so without padding no mask is needed.
            is_causal=False,
            # A mask costs more than numbers, but every new combination of numbers would be compiled anew.
            **branch.padding(length, as_mask=_is_compiled(self.transformer)),
            **options,
        )


def _is_compiled(module: torch.nn.Module) -> bool:
    """Whether calls of a module run a graph of `torch.compile`, by either of its two forms."""
    return is_compiled_module(module) or module._compiled_call_impl is not None


def _guide(outputs: list[torch.Tensor], guidance_scale: float) -> torch.Tensor:
    """Leads away from the unconditional output, the second one; float32. A conditional one alone stays as it is."""
    if len(outputs) == 1:
        return outputs[0].float()
    conditional, unconditional = (output.float() for output in outputs)
    return unconditional + guidance_scale * (conditional - unconditional)


def _check_vqvae(vqvae: CosmosVideoTokenizer, transformer: LumosForCausalLM) -> None:
    for field, value in (
        ("visual_vocab_size", vqvae.codebook_size),
        ("spatial_compression", vqvae.config.spatial_compression_ratio),
        ("temporal_compression", vqvae.config.temporal_compression_ratio),
    ):
        expected = getattr(transformer.config, field)
        if value != expected:
            raise ValueError(f"`vqvae` must fit `transformer.config.{field}`, {expected}, got {value}.")


def _as_list(value: str | list[str], length: int = 1) -> list[str]:
    return [value] * length if isinstance(value, str) else value


def _prepare_codes(
    given_codes: torch.LongTensor | None, shape: tuple[int, int, int, int], device: torch.device
) -> tuple[torch.LongTensor, int]:
    """Codes `(B, t, h, w)`, the given frames first, then unknown ones, and how many frames are given."""
    codes = torch.full(shape, UNKNOWN_CODE, device=device)
    if given_codes is None:
        return codes, 0
    num_given = given_codes.shape[1]
    codes[:, :num_given] = given_codes.repeat_interleave(len(codes) // len(given_codes), dim=0)
    return codes, num_given


def _join_left_padded(
    prefixes: list[list[int]], visual_ids: torch.LongTensor
) -> tuple[torch.LongTensor, list[int] | None]:
    """Rows of prefix and visual ids, padded on the left, and how many pads each row has, None if no row has any."""
    prefix_length = max(len(prefix) for prefix in prefixes)
    num_padding = [prefix_length - len(prefix) for prefix in prefixes]
    padded = [[0] * num_pads + prefix for num_pads, prefix in zip(num_padding, prefixes, strict=True)]
    prefix_ids = visual_ids.new_tensor(padded).view(len(prefixes), prefix_length)
    return torch.cat([prefix_ids, visual_ids], dim=1), num_padding if any(num_padding) else None


def _left_padding_mask(ids: torch.LongTensor, num_padding: list[int]) -> torch.LongTensor:
    """1 at real tokens, 0 at padding, of the shape of `ids`."""
    index = torch.arange(ids.shape[1], device=ids.device)
    return (index >= ids.new_tensor(num_padding)[:, None]).long()


def _rows_without_padding(
    input_ids: torch.LongTensor | list[int] | list[list[int]],
    attention_mask: torch.Tensor | list[int] | list[list[int]] | None,
    config: LumosConfig,
) -> list[list[int]]:
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


def _integer_rows(name: str, value: torch.Tensor | list[int] | list[list[int]]) -> list[list[int]]:
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


def _check_batch(
    batch_size: int,
    num_videos_per_prompt: int,
    negative_prompts: list[str],
    image: ImageInput | None,
    video: VideoInput | None,
    pixels: torch.Tensor | None,
    latents: torch.Tensor | None,
    generator: torch.Generator | list[torch.Generator] | None,
) -> None:
    """Checks that what may come per prompt or per video does so."""
    if len(negative_prompts) != batch_size:
        raise ValueError(
            f"`negative_prompt` must be a string or a list of {batch_size}, one per prompt, got {len(negative_prompts)}."
        )
    given_name = "latents" if latents is not None else "image" if image is not None else "video"
    given = pixels if latents is None else latents
    if given is not None and len(given) not in (1, batch_size):
        raise ValueError(
            f"`{given_name}` must be one for all prompts or {batch_size}, one per prompt, got {len(given)}."
        )
    _check_generator(generator, batch_size * num_videos_per_prompt)


def _check_generator(generator: torch.Generator | list[torch.Generator] | None, num_videos: int) -> None:
    if generator is None or isinstance(generator, torch.Generator):
        return
    is_list = isinstance(generator, (list, tuple)) and all(isinstance(item, torch.Generator) for item in generator)
    if not is_list or len(generator) != num_videos:
        received = f"a list of {len(generator)}" if is_list else repr(generator)
        raise ValueError(
            f"`generator` must be one generator or a list of {num_videos}, one per video, got {received}."
        )


__all__ = ["LumosPipelineOutput", "LumosVideoPipeline"]
