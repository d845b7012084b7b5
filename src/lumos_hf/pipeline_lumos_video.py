# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Text, images and videos to images and videos with a Lumos transformer (arXiv 2507.08801).

A call completes and checks its arguments, reads what is given, decodes codes frame by frame, and makes pixels of them. The
mathematics is in [`~lumos_hf.decoding.frame_decoder.FrameDecoder`].

Checkpoints name this module in their `model_index.json`, so it stays where it is.

Shape suffixes: B videos, t latent frames, h and w rows and columns of codes, n = h * w, L tokens.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import PIL.Image
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput, replace_example_docstring
from transformers import PreTrainedTokenizerBase

from .argument_checks import check_integer
from .call_inputs import (
    CALLBACK_TENSOR_INPUTS,
    CallInputs,
    as_list,
    rows_without_padding,
    warn_of_unknown_words,
)
from .clip_html import clip_html
from .cosmos_video_tokenizer import CosmosVideoTokenizer
from .decoding.approximations import DecodingApproximations
from .decoding.guidance_parallel import GuidanceParallel
from .decoding.masks import MaskInput
from .decoding.prompt_segments import Segments
from .decoding.session import CallState, VideoSession, calling_back
from .generation_defaults import check_settings, resolve_default
from .hub.lora_loader import LumosLoraLoaderMixin
from .hub.pipeline_repository import PipelineRepositoryMixin
from .modeling_lumos import LumosForCausalLM
from .scheduling_mask_decoding import MaskDecodingScheduler
from .token_layout import (
    UNKNOWN_CODE,
    encode_text,
    grid_size,
    num_latent_frames,
    prompt_ids,
    prompt_text,
    video_duration,
)
from .video_processor_lumos import ImageInput, LumosVideoProcessor, VideoInput


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
            `(B, frames, 3, height, width)`, float32 in [0, 1]; `"latent"` the codes `(B, t, h, w)`, int64, which the video
            tokenizer decodes in one piece unless the video rolled.
    """

    frames: list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor

    # No field, as it is no part of what is unpacked.
    shown_fps = 12

    def _repr_html_(self) -> str | None:
        """What notebooks show: the videos, at the speed of the call. Other results than pictures are shown as text."""
        if not isinstance(self.frames, list):
            return None
        return " ".join(clip_html(frames, self.shown_fps) for frames in self.frames)


# Hooks move weights about, which no other call may see.
_offload_lock = threading.RLock()


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
        ValueError: if the scheduler marks undecided codes in another way than the pipeline, the transformer has no token to
            begin a prompt with, or a default is none that the argument can have. Whether `vqvae` fits the transformer is
            checked by calls that need it: those from codes to codes do not.
    """

    model_cpu_offload_seq = "transformer->vqvae"  # type: ignore[assignment]  # of diffusers: None, but text is read
    _optional_components = ["tokenizer", "vqvae"]
    _callback_tensor_inputs = CALLBACK_TENSOR_INPUTS

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
        default_num_inference_steps: int | list[int] | None = None,
        default_guidance_scale: float | None = None,
        default_history_mask_ratio: float | None = None,
    ):
        super().__init__()
        if scheduler.config.mask_value != UNKNOWN_CODE:
            raise ValueError(
                f"`scheduler` must mark undecided codes with the `mask_value` {UNKNOWN_CODE}, got "
                f"{scheduler.config.mask_value}."
            )
        if transformer.config.bos_token_id is None:
            raise ValueError("`transformer` must have a `bos_token_id`, which every prompt begins with, got None.")
        check_settings(
            default_height,
            default_width,
            default_num_frames,
            default_fps,
            default_num_inference_steps,
            default_guidance_scale,
            default_history_mask_ratio,
            prefix="default_",
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
        self._last_call = CallState()
        self._guidance_parallel: GuidanceParallel | None = None

    def check_inputs(self, **arguments: Any) -> None:
        """Checks what can be told from arguments of a call alone, by their names in [`__call__`]; raises `ValueError`."""
        CallInputs(**arguments).completed(self)

    @property
    def components(self) -> dict[str, Any]:
        """What makes this pipeline again, `LumosVideoPipeline(**pipe.components)`: its parts, and the defaults it has."""
        defaults = {name: value for name, value in self.config.items() if name.startswith("default_")}
        return {**super().components, **{name: value for name, value in defaults.items() if value is not None}}

    @property
    def _call_state(self) -> CallState:
        """Of the call whose callback asks, or else of the one that began last."""
        asking = calling_back.get()
        return asking[1] if asking is not None and asking[0] is self else self._last_call

    @property
    def guidance_scale(self) -> float | None:
        return self._call_state.guidance_scale

    @guidance_scale.setter
    def guidance_scale(self, value: float) -> None:
        if value is None:
            raise ValueError("`guidance_scale` must be a finite number of at least 0, got None.")
        check_settings(guidance_scale=value)
        self._call_state.guidance_scale = value

    @property
    def interrupt(self) -> bool:
        return self._call_state.interrupt

    @interrupt.setter
    def interrupt(self, value: bool) -> None:
        self._call_state.interrupt = value

    # Callbacks written for other pipelines of diffusers set these.
    _guidance_scale = guidance_scale
    _interrupt = interrupt

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._call_state.guidance_scale is not None and self._call_state.guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        return self._call_state.num_timesteps

    @property
    def current_timestep(self) -> torch.Tensor | None:
        return self._call_state.current_timestep

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
        num_inference_steps: int | list[int] | None = None,
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
        callback_on_step_end_tensor_inputs: list[str] | None = ["latents"],
        approximations: DecodingApproximations | str | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        mask: MaskInput | None = None,
        preserve_unmasked: bool | None = None,
        strength: float | None = None,
        prompt_segments: Segments | list[Segments] | None = None,
        temporal_tile_size: int | None = None,
        temporal_overlap: int | None = None,
    ) -> LumosPipelineOutput | tuple:
        r"""
        Makes videos, or images as videos of one frame.

        Whatever is None of `height`, `width`, `num_frames`, `fps`, `num_inference_steps`, `guidance_scale` and
        `history_mask_ratio` comes from the checkpoint, or else from the official values.

        Args:
            prompt (`str` or `list[str]`, *optional*):
                What is to be seen; a list makes a batch, whose rows equal single calls in float32. (In half precision
                products of other shapes may round in other ways: rows differ then as another seed would make them differ.)
            negative_prompt (`str` or `list[str]`, *optional*):
                Guidance leads away from it, instead of away from no prompt at all, which is what None and an empty
                string stand for. Of no effect without guidance.
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
            num_inference_steps (`int` or `list[int]`, *optional*):
                Decoding steps per latent frame; of a list, those of each latent frame of the video, given ones counted, the
                last number going on for the frames that follow: `[12, 3]` takes its time for the first frame alone.
            guidance_scale (`float`, *optional*):
                Weight of the prompt: `unconditional + guidance_scale * (conditional - unconditional)` logits. At most 1
                is no guidance, as elsewhere in diffusers, and skips the unconditional branch.
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
                Codes of the first latent frames, one row per prompt or one for all, instead of `image` or `video`. -1
                stands for a code to make, anywhere; the others stay as they are, and are seen by later frames.
            output_type (`str`, defaults to `"pil"`):
                `"pil"`, `"np"`, `"pt"` or `"latent"`, see [`LumosPipelineOutput`].
            return_dict (`bool`, defaults to `True`):
                Whether to return a [`LumosPipelineOutput`] instead of a tuple.
            callback_on_step_end (`Callable`, `PipelineCallback`, `MultiPipelineCallbacks`, *optional*):
                Called after every step as `callback_on_step_end(pipe, step, timestep, callback_kwargs)`, with `step`
                counted over all frames and `timestep` within the frame. It returns a dict, whose `"latents"` and
                `"predicted"` replace the current ones. If it sets `pipe.interrupt = True`, the result ends with the
                current frame, completed by the prediction of that step. `pipe.guidance_scale` is read before every step
                and may be set: at most 1 ends guidance, and its cost, from the next step on; raised again, the branch
                without the prompt first reads the frames that it missed, so that it is as if it had been there.
            callback_on_step_end_tensor_inputs (`list[str]`, defaults to `["latents"]`):
                What `callback_kwargs` hold: `"latents"`, the codes of the current frame `(B, h, w)`, -1 where undecided,
                and `"predicted"`, the same with the prediction of the step where they are undecided.
            approximations ([`DecodingApproximations`] or `str`, *optional*):
                What to leave out for speed, at the cost of another and maybe worse result; `"fast"` is the measured
                preset. None is exact.
            attention_kwargs (`dict`, *optional*):
                `{"scale": x}` multiplies the weights of the active LoRA adapters by `x` in this call, as in other pipelines.
                Calls in other threads that run meanwhile meet the same weights.
            mask (PIL image, `np.ndarray`, `torch.Tensor` or a list of them, *optional*):
                What of `image` or `video` is made again: white, or True. One for all frames, a list of one per frame, or a
                list of such lists, one per prompt, each of the size of the frames, see [`read_masks`]. Every code that
                stands for a pixel of it is made again.
            preserve_unmasked (`bool`, *optional*):
                Whether pixels outside of `mask` are those of the input, to the bit but for a seam of half a code's width;
                None stands for True. False takes them from the video tokenizer.
            strength (`float`, *optional*):
                In [0, 1]: this share of the codes of `image`, `video` or `latents` is made again in every latent frame,
                those that the model expects least. 1 makes all of them, 0 none.
            prompt_segments (`list[dict]` or a list of such lists, *optional*):
                `[{"start_frame": 0, "text": ...}, {"start_frame": 24, "text": ...}]`: from that pixel frame on the text is
                another one, for all prompts or, with a list of lists, for each. It begins with the latent frame that holds
                the pixel frame. `prompt` holds before the first of them.
            temporal_tile_size (`int`, *optional*):
                Pixel frames of a sequence, `1 + 4k`: a longer video rolls. None stands for the checkpoint's default number
                of frames, which it was trained for.
            temporal_overlap (`int`, *optional*):
                Pixel frames, `1 + 4k`, that a new sequence of a video that rolls begins with. None stands for 1: it goes on
                as from an image.

        Examples:

        Returns:
            [`LumosPipelineOutput`] or `tuple`: the frames, given ones included.

        Calls may take turns (streams, calls from inside a callback) or run in threads: each has its own state. Where weights
        are offloaded, calls in other threads wait. Without `generator`, all share the default one of torch.

        Raises:
            ValueError: for arguments that are missing, contradict each other or are out of range, and for sequences
                longer than the context of the transformer.
        """
        inputs = CallInputs(
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
            attention_kwargs=attention_kwargs,
            mask=mask,
            preserve_unmasked=preserve_unmasked,
            strength=strength,
            prompt_segments=prompt_segments,
            temporal_tile_size=temporal_tile_size,
            temporal_overlap=temporal_overlap,
        ).completed(self)
        with self._own_turn():
            frames = self._make_frames(inputs)
        if not return_dict:
            return (frames,)
        output = LumosPipelineOutput(frames=frames)
        output.shown_fps = cast(int, inputs.fps)
        return output

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
        inputs = CallInputs(prompt=prompt, output_type=output_type, **options).completed(self, may_be_endless=True)
        with self._own_turn():
            session = VideoSession(self, inputs, makes_pixels=output_type != "latent")
        try:
            yield from session
        finally:
            with self._own_turn():
                session.close()

    def session(
        self,
        prompt: str | list[str] | None = None,
        *,
        output_type: str = "pil",
        max_rewind: int | None = 8,
        **options: Any,
    ) -> VideoSession:
        """
        A video that is made by hand: `session.next()` makes the next latent frame, `session.prompt = ...` changes what comes,
        `session.rewind(k)` and `session.fork()` go back and branch off, `session.save(path)` keeps it.

        Args:
            prompt (`str` or `list[str]`, *optional*), output_type (`str`, defaults to `"pil"`):
                As in [`__call__`].
            max_rewind (`int`, *optional*, defaults to 8):
                So many latent frames can be gone back; None for all. Of each, what the video decoder remembers is kept.
            options:
                All other arguments of [`__call__`] apart from `return_dict`. Without `num_frames` there is no end; without
                `generator` the session has one of its own, seeded by the default one of torch.

        Raises:
            ValueError: as [`__call__`], and for a `max_rewind` that is no integer of at least 0.
        """
        if max_rewind is not None:
            check_integer("max_rewind", max_rewind, minimum=0)
        if options.get("generator") is None:
            options["generator"] = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        inputs = CallInputs(prompt=prompt, output_type=output_type, **options)
        if inputs.num_frames is None and not inputs.is_edit:
            inputs.num_frames = math.inf
        inputs = inputs.completed(self, may_be_endless=True)
        with torch.no_grad(), self._own_turn():
            return VideoSession(self, inputs, makes_pixels=output_type != "latent", max_rewind=max_rewind)

    def load_session(self, path: str | os.PathLike) -> VideoSession:
        """
        Goes on with a session that [`~VideoSession.save`] wrote, to the same bits, also in another process. Callbacks, and how
        far it could be rewound, are not kept.

        Raises:
            ValueError: if the file cannot be read whole, or is of another checkpoint.
        """
        return VideoSession.load(self, path)

    def enable_guidance_parallel(self, group: "torch.distributed.ProcessGroup | None" = None) -> None:
        """
        Computes the two branches of guidance in two processes, each on its device. They exchange hidden states once per
        step, and both return the same result, in float32 that of one process.

        Both make the same calls, each with generators of the same seeds; without `generator` the first process chooses.
        Callbacks have to do the same in both.

        Args:
            group (`torch.distributed.ProcessGroup`, *optional*):
                Of two processes, this one among them; None stands for all processes that there are.

        Raises:
            ValueError: if `group` is no such group. Calls raise it in both processes if they are not the same.
        """
        self._guidance_parallel = GuidanceParallel(group, self._execution_device)

    def disable_guidance_parallel(self) -> None:
        """Computes both branches of guidance here again."""
        self._guidance_parallel = None

    def tokenize_prompt(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        *,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        fps: int | None = None,
        input_ids: torch.LongTensor | list[int] | list[list[int]] | None = None,
        attention_mask: torch.Tensor | list[int] | list[list[int]] | None = None,
    ) -> tuple[list[list[int]], list[list[int]]]:
        """
        Token ids of everything before `video_start`, what [`__call__`] takes as `input_ids`.

        Args:
            prompt, negative_prompt, height, width, num_frames, fps, input_ids, attention_mask: see [`__call__`]. Size and
                rate are part of the text that the model was trained on.

        Returns:
            one list of ids per prompt, and one of the same number of negative prompts, empty for no prompt at all.

        Raises:
            ValueError: if a text cannot be encoded, or `input_ids` are none.
        """
        num_frames = resolve_default("num_frames", num_frames, self.config)
        fps = resolve_default("fps", fps, self.config, num_frames)
        size = {
            name: resolve_default(name, value, self.config) for name, value in (("height", height), ("width", width))
        }
        duration, config = video_duration(num_frames, fps), self.transformer.config

        def encode(caption: str, name: str) -> list[int]:
            if not caption:
                return []
            text = prompt_text(caption, **size, duration=duration, fps=fps)
            return prompt_ids(encode_text(self.tokenizer, text, config, name), config)

        if input_ids is None:
            # Given, where there are no ids.
            prompts = as_list(cast(str | list[str], prompt))
            prefixes = [encode(caption, "prompt") for caption in prompts]
            warn_of_unknown_words(self.tokenizer, prompts)
        else:
            prefixes = rows_without_padding(input_ids, attention_mask, config)
        negative_prompts = as_list(negative_prompt or "", len(prefixes))
        return prefixes, [encode(caption, "negative_prompt") for caption in negative_prompts]

    def encode_video(self, video: torch.Tensor) -> torch.Tensor:
        """Codes `(B, t, h, w)` of pixels `(B, 3, frames, height, width)` in [-1, 1], which `latents` may be."""
        return self.vqvae.encode(video.to(self._execution_device)).long()

    def prepare_latents(
        self, batch_size: int, num_frames: int, height: int, width: int, latents: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Codes `(batch_size, t, h, w)` to decode into: given ones first, `UNKNOWN_CODE` where they are to be made.

        Args:
            batch_size (`int`): videos to make.
            num_frames (`int`), height (`int`), width (`int`): of the videos, in pixels.
            latents (`torch.LongTensor` of shape `(B, frames, h, w)`, *optional*):
                Codes of the first latent frames; each row is for `batch_size / B` neighbouring videos.
        """
        h, w = grid_size(height, width, self.transformer.config)
        t = num_latent_frames(num_frames, self.transformer.config)
        codes = torch.full((batch_size, t, h, w), UNKNOWN_CODE, device=self._execution_device)
        if latents is not None:
            codes[:, : latents.shape[1]] = latents.to(codes).repeat_interleave(batch_size // len(latents), dim=0)
        return codes

    def _make_frames(self, inputs: CallInputs) -> list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor:
        """What [`__call__`] does with completed inputs."""
        session = VideoSession(self, inputs, makes_pixels=False)
        try:
            parts, videos = zip(*session.remaining(), strict=True)
            codes = torch.cat(parts, dim=1)
            if inputs.output_type == "latent":
                return codes
            # A video that rolls was decoded on the way.
            return session.postprocess(torch.cat(videos, dim=2) if session.rolls else self.vqvae.decode(codes))
        finally:
            # Offload all models
            session.close()

    def _own_turn(self) -> AbstractContextManager:
        """Keeps calls in other threads out where hooks move the weights."""
        modules = [module for part in (self.transformer, self.vqvae) if part is not None for module in part.modules()]
        is_offloaded = any(hasattr(module, "_hf_hook") or hasattr(module, "_diffusers_hook") for module in modules)
        return _offload_lock if is_offloaded else nullcontext()


__all__ = ["LumosPipelineOutput", "LumosVideoPipeline"]
