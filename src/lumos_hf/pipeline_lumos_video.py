# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Text, images and videos to images and videos with a Lumos transformer (arXiv 2507.08801).

Latent frames are made one after another. Inside a frame all codes are decoded in parallel over a few dozen steps: the
model predicts every masked code, the scheduler keeps the confident ones. A finished frame is written into the cache with
part of its tokens masked again, as the model saw history in training.

Shape suffixes: B videos, t latent frames, h and w rows and columns of codes, n = h * w, V visual codes, L tokens.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import BaseOutput, logging, replace_example_docstring
from huggingface_hub import snapshot_download
from transformers import DynamicCache, PreTrainedTokenizerBase

from .cosmos_video_tokenizer import CosmosVideoTokenizer
from .modeling_lumos import LumosForCausalLM
from .scheduling_mask_decoding import MaskDecodingScheduler
from .token_layout import (
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
from .video_processor_lumos import LumosVideoProcessor, crop_budget


logger = logging.get_logger(__name__)

OFFICIAL_DEFAULTS = {
    "height": 384,
    "width": 672,
    "num_frames": 25,
    "fps": 12,
    "num_inference_steps": 50,
    "guidance_scale": 15.0,
    "history_mask_ratio": 0.7,
}

OUTPUT_TYPES = ("pil", "np", "pt", "latent")

_CONFIG_FILES = {
    "tokenizer": "tokenizer_config.json",
    "transformer": "config.json",
    "vqvae": "config.json",
    "scheduler": "scheduler_config.json",
}
_WEIGHT_FILES = {"transformer": "model", "vqvae": "diffusion_pytorch_model"}

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

    `position_ids` is `(3, B, L)`; `attention_mask` is `(B, L)`, or None where no row is padded.
    """

    position_ids: torch.LongTensor
    attention_mask: torch.LongTensor | None
    cache: DynamicCache


class LumosVideoPipeline(DiffusionPipeline):
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
        ValueError: if the scheduler marks undecided codes with anything but -1.
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
                f"`scheduler` must have `mask_value` {UNKNOWN_CODE}, which stands for an unknown code in this package, got "
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
        image: Any | None = None,
        video: Any | None = None,
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
    ) -> LumosPipelineOutput | tuple:
        r"""
        Generates one image or video per prompt.

        Examples:

        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs

        # 1. Fill in defaults and check the inputs
        num_frames = self._default("num_frames", num_frames)
        fps = self._default("fps", fps)
        num_inference_steps = self._default("num_inference_steps", num_inference_steps)
        guidance_scale = self._default("guidance_scale", guidance_scale)
        history_mask_ratio = self._default("history_mask_ratio", history_mask_ratio)
        config = self.transformer.config
        device = self._execution_device
        self._guidance_scale = guidance_scale
        self._current_timestep = None
        self._interrupt = False

        # 2. Read given images and videos; they decide on the size
        pixels = self._preprocess_pixels(image, video, height, width)
        height, width = self._size(height, width, pixels, latents)
        h, w = grid_size(height, width, config)
        t = num_latent_frames(num_frames, config)

        # 3. Write the prompts as token ids
        duration = video_duration(num_frames, fps)
        header = video_header_ids(duration, fps, config)
        rows = self._prompt_rows(prompt, input_ids, attention_mask, height=height, width=width, duration=duration, fps=fps)
        negative_rows = self._negative_rows(
            negative_prompt, len(rows), height=height, width=width, duration=duration, fps=fps
        )
        rows = [row for row in rows for _ in range(num_videos_per_prompt)]
        negative_rows = [row for row in negative_rows for _ in range(num_videos_per_prompt)]

        # 4. Prepare the codes: given frames first, then unknown ones
        given = self._given_codes(pixels, latents, device)
        num_given = 0 if given is None else given.shape[1]
        codes = torch.full((len(rows), t, h, w), UNKNOWN_CODE, device=device)
        if given is not None:
            codes[:, :num_given] = given.repeat_interleave(len(rows) // len(given), dim=0)

        # 5. Cache everything before the first frame to be made, with and without the prompt
        frames = frame_ids_from_codes(codes, config).flatten(1)
        visual_ids = torch.cat([frames.new_tensor(header).expand(len(rows), -1), frames], dim=1)
        num_cached = len(header) + num_given * frame_length(h, w)
        branches = [self._prefill(rows, visual_ids, num_cached)]
        if self.do_classifier_free_guidance:
            branches.append(self._prefill(negative_rows, visual_ids, num_cached))

        # 6. Make the frames
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        self._num_timesteps = (t - num_given) * num_inference_steps
        history_positions = content_positions(h, w)[
            self.scheduler.history_mask_indices(h * (w + 1), history_mask_ratio)
        ].to(device)
        with self.progress_bar(total=self._num_timesteps) as progress_bar:
            for frame in range(num_given, t):
                latents = codes[:, frame]
                for timestep in self.scheduler.timesteps:
                    self._current_timestep = timestep
                    logits = self._guided_logits(branches, latents, guidance_scale)
                    prev_sample, predicted = self.scheduler.step(
                        logits, timestep, latents.flatten(1), generator=generator, return_dict=False
                    )
                    latents = prev_sample.view_as(latents)
                    if callback_on_step_end is not None:
                        callback_kwargs = {}
                        for name in callback_on_step_end_tensor_inputs:
                            callback_kwargs[name] = locals()[name]
                        callback_outputs = callback_on_step_end(self, progress_bar.n, timestep, callback_kwargs)
                        latents = callback_outputs.pop("latents", latents)
                    progress_bar.update()
                    if self.interrupt:
                        break
                codes[:, frame] = torch.where(latents == UNKNOWN_CODE, predicted.view_as(latents), latents)
                if self.interrupt:
                    codes = codes[:, : frame + 1]
                    break
                if frame < t - 1:
                    self._write_history(branches, codes[:, frame], history_positions)
        self._current_timestep = None

        # 7. Decode to pixels
        frames = codes
        if output_type != "latent":
            frames = self.video_processor.postprocess_video(self.vqvae.decode(codes).float(), output_type)

        self.maybe_free_model_hooks()

        if not return_dict:
            return (frames,)
        return LumosPipelineOutput(frames=frames)

    def _default(self, name: str, value: Any) -> Any:
        if value is not None:
            return value
        registered = self.config[f"default_{name}"]
        return OFFICIAL_DEFAULTS[name] if registered is None else registered

    def _preprocess_pixels(self, image, video, height, width):
        if image is None and video is None:
            return None
        max_blocks = None
        if height is None:
            max_blocks = crop_budget(self._default("height", None), self._default("width", None))
        if image is not None:
            return self.video_processor.preprocess_image(image, height, width, max_blocks=max_blocks)
        pixels = self.video_processor.preprocess_video(video, height, width, max_blocks=max_blocks)
        step = self.transformer.config.temporal_compression
        return pixels[:, :, : (pixels.shape[2] - 1) // step * step + 1]

    def _size(self, height, width, pixels, latents):
        if latents is not None:
            scale = self.transformer.config.spatial_compression
            return latents.shape[-2] * scale, latents.shape[-1] * scale
        if pixels is not None:
            return tuple(pixels.shape[-2:])
        return self._default("height", height), self._default("width", width)

    def _prompt_rows(self, prompt, input_ids, attention_mask, **text_arguments) -> list[list[int]]:
        if input_ids is not None:
            return torch.as_tensor(input_ids).view(-1, torch.as_tensor(input_ids).shape[-1]).tolist()
        prompts = [prompt] if isinstance(prompt, str) else prompt
        return [self._tokenize(caption, **text_arguments) for caption in prompts]

    def _negative_rows(self, negative_prompt, batch_size, **text_arguments) -> list[list[int]]:
        if negative_prompt is None:
            return [[]] * batch_size
        prompts = [negative_prompt] * batch_size if isinstance(negative_prompt, str) else negative_prompt
        return [self._tokenize(caption, **text_arguments) for caption in prompts]

    def _tokenize(self, caption: str, **text_arguments) -> list[int]:
        text_ids = self.tokenizer(prompt_text(caption, **text_arguments), add_special_tokens=False).input_ids
        return prompt_ids(text_ids, self.transformer.config)

    def _given_codes(self, pixels, latents, device) -> torch.LongTensor | None:
        if latents is not None:
            return latents.to(device=device, dtype=torch.long)
        if pixels is None:
            return None
        return self.vqvae.encode(pixels.to(device=device, dtype=self.vqvae.dtype)).long()

    def _prefill(
        self, prefix_rows: list[list[int]], visual_ids: torch.LongTensor, num_visual_ids_cached: int
    ) -> _Branch:
        """
        Caches every row's prefix (left-padded) and the first visual ids.

        Args:
            prefix_rows: B lists of token ids, everything before `video_start`.
            visual_ids: `(B, length)`, everything from `video_start` on, with the frames still to be made.
            num_visual_ids_cached: how many visual ids are known.
        """
        config = self.transformer.config
        prefix_length = max(len(row) for row in prefix_rows)
        num_pads = [prefix_length - len(row) for row in prefix_rows]
        prefix_ids = visual_ids.new_tensor([[0] * pads + row for pads, row in zip(num_pads, prefix_rows, strict=True)])
        ids = torch.cat([prefix_ids.view(len(prefix_rows), prefix_length), visual_ids], dim=1)
        attention_mask = None
        if any(num_pads):
            index = torch.arange(ids.shape[1], device=ids.device)
            attention_mask = (index >= ids.new_tensor(num_pads)[:, None]).long()

        position_ids, frame_ids = derive_layout(ids, config, attention_mask)
        branch = _Branch(position_ids, attention_mask, DynamicCache(config=config))
        length = prefix_length + num_visual_ids_cached
        self.transformer(
            input_ids=ids[:, :length],
            attention_mask=None if attention_mask is None else attention_mask[:, :length],
            position_ids=position_ids[:, :, :length],
            frame_ids=frame_ids[:, :length],
            past_key_values=branch.cache,
            use_cache=True,
            logits_to_keep=1,
            visual_logits_only=True,
        )
        return branch

    def _guided_logits(
        self, branches: list[_Branch], latents: torch.LongTensor, guidance_scale: float
    ) -> torch.Tensor:
        """Guided logits `(B, n, V)`, float32, of the frame after the cached ones, whose codes so far are `(B, h, w)`."""
        h, w = latents.shape[-2:]
        frame = frame_ids_from_codes(latents, self.transformer.config)
        positions = visual_positions(h, w, latents.device)
        logits = []
        for branch in branches:
            logits.append(self._forward_frame(branch, frame, positions).float())
            branch.cache.crop(-frame.shape[1])
        if len(branches) == 1:
            return logits[0]
        conditional, unconditional = logits
        return unconditional + guidance_scale * (conditional - unconditional)

    def _write_history(
        self, branches: list[_Branch], latents: torch.LongTensor, masked_positions: torch.LongTensor
    ) -> None:
        """Caches a finished frame `(B, h, w)` with some positions masked, as the model saw history in training."""
        frame = frame_ids_from_codes(latents, self.transformer.config)
        frame[:, masked_positions] = self.transformer.config.mask_token_id
        for branch in branches:
            self._forward_frame(branch, frame, logits_to_keep=1)

    def _forward_frame(
        self, branch: _Branch, frame: torch.LongTensor, logits_to_keep: int | torch.LongTensor
    ) -> torch.Tensor:
        """Visual logits `(B, kept, V)` of one whole frame of token ids `(B, length)` after the cached ones."""
        start = branch.cache.get_seq_length()
        end = start + frame.shape[1]
        return self.transformer(
            input_ids=frame,
            attention_mask=None if branch.attention_mask is None else branch.attention_mask[:, :end],
            position_ids=branch.position_ids[:, :, start:end],
            past_key_values=branch.cache,
            use_cache=True,
            # A frame sees its whole past and all of itself, so it needs no mask.
            is_causal=False,
            logits_to_keep=logits_to_keep,
            visual_logits_only=True,
        ).logits
