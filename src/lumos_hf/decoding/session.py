# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
A video while it is made: one latent frame at a time, with all that it takes to go on, to go back and to branch off.

Calls and streams of the pipeline are sessions that run to their end.

Shape suffixes: B videos, t latent frames, h and w rows and columns of codes.
"""

import copy
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import PIL.Image
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..argument_checks import check_integer
from ..call_inputs import CallInputs, as_list, check_callback_outputs, check_context
from ..generation_defaults import check_settings, steps_of_frame
from ..hub.lora_loader import lora_scale
from ..token_layout import UNKNOWN_CODE, num_latent_frames, video_duration, video_header_ids
from .frame_decoder import DecoderMark, FrameDecoder
from .given_clip import GivenClip, read_given_clip
from .guidance_parallel import GuidanceParallel
from .session_file import read_session, save_session, whole_session


Generators = torch.Generator | list[torch.Generator] | None
Frames = list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor


@dataclass
class CallState:
    """How far a call has come, and what callbacks may change of it."""

    guidance_scale: float | None = None
    num_timesteps: int = 0
    step: int = 0
    interrupt: bool = False
    current_timestep: torch.Tensor | None = None


# The pipeline and the state of the call whose callback is running, in this thread.
calling_back: ContextVar[tuple[Any, CallState] | None] = ContextVar("calling_back", default=None)


@dataclass(frozen=True)
class _Mark:
    """Where a session was before it made a frame."""

    num_made: int
    sequence_start: int
    captions: list[str] | None
    encoded_captions: list[str] | None
    prompt_ids: tuple[list[list[int]], list[list[int]]]
    decoder: DecoderMark
    generator_states: list[torch.Tensor]
    # Of the video tokenizer, which checkpoints that carry their code import by themselves.
    stream: Any
    recent_pixels: torch.Tensor | None
    recent_codes: tuple[torch.Tensor, ...]
    given: GivenClip
    step: int


class VideoSession:
    """
    A video that is made frame by frame, see [`LumosVideoPipeline.session`].

    `next(session)` and `session.next()` make the next latent frame. A session is an iterator: it ends with `StopIteration`
    after `num_frames`, if it has such an end, or when a callback interrupted it.

    Where the frames of a sequence are used up, the video rolls: its latest frames are the given frames of a new sequence,
    whose positions begin anew. With a video tokenizer their pixels are encoded again, and decoding begins anew with them:
    the first code of a sequence stands for one frame, and the others for what changes in four. Without one, their codes go
    on as they are.

    Args:
        pipe ([`LumosVideoPipeline`]): makes it.
        inputs ([`CallInputs`]): completed.
        given ([`GivenClip`], *optional*): what `inputs` give, if it was read already.
        makes_pixels (`bool`): whether frames are decoded as they come.
        max_rewind (`int`, *optional*): so many frames can be gone back; None for all.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        inputs: CallInputs,
        given: tuple[GivenClip, int, int] | None = None,
        *,
        makes_pixels: bool = True,
        max_rewind: int | None = 0,
    ):
        self.pipe, self.inputs = pipe, inputs
        config = pipe.transformer.config
        self._captions: list[str] | None = None if inputs.prompt is None else list(as_list(inputs.prompt))
        self._encoded_captions = self._captions
        num_prompts = inputs.num_prompts(config)
        self._given, self._height, self._width = given or read_given_clip(inputs, pipe, num_prompts)
        self._segments = inputs.captions_by_latent_frame(config)
        # Completed inputs have numbers.
        num_frames, overlap = cast(float, inputs.num_frames), cast(int, inputs.temporal_overlap)
        self._num_frames = num_frames if num_frames == math.inf else num_latent_frames(int(num_frames), config)
        self._tile_size = num_latent_frames(inputs.sequence_num_frames, config)
        self._overlap = num_latent_frames(overlap, config)

        self._num_made = 0
        self._sequence_start = 0
        self._recent_pixels: torch.Tensor | None = None
        self._recent_codes: tuple[torch.Tensor, ...] = ()
        self._codes: list[torch.Tensor] = []
        self._marks: deque[_Mark] = deque(maxlen=max_rewind)
        self._progress_bar: Any = None

        self._decoder = self._start_decoder()
        self.state = CallState(inputs.guidance_scale, self._count_timesteps())
        pipe._last_call = self.state
        self._makes_pixels = makes_pixels or (self.rolls and pipe.vqvae is not None)
        self._stream = pipe.vqvae.open_stream() if self._makes_pixels else None

    # What it is, and what may be changed

    @property
    def rolls(self) -> bool:
        """Whether the video is longer than a sequence."""
        return self._num_frames > self._tile_size

    @property
    def is_finished(self) -> bool:
        """Whether the last frame was made, or a callback interrupted it."""
        return self._num_made >= self._num_frames or self.state.interrupt

    @property
    def num_latent_frames(self) -> int:
        """How many latent frames there are so far."""
        return self._num_made

    @property
    def codes(self) -> torch.Tensor:
        """The codes so far, `(B, t, h, w)`, int64, on the CPU; of sessions that were opened to go back."""
        if not self._codes:
            return self._given.codes.new_empty(len(self._given.codes), 0, *self._given.codes.shape[2:]).cpu()
        return torch.stack(self._codes, dim=1).long()

    @property
    def prompt(self) -> str | list[str] | None:
        """What is to be seen from the next latent frame on; None after `input_ids`. It may be set, one for all or a list."""
        return self._captions[0] if self._captions is not None and len(self._captions) == 1 else self._captions

    @prompt.setter
    def prompt(self, value: str | list[str]) -> None:
        num_prompts = len(self._prompt_ids[0])
        inputs = replace(
            self.inputs,
            prompt=as_list(value, num_prompts) if isinstance(value, str) else value,
            prompt_segments=None,
            input_ids=None,
            attention_mask=None,
        )
        inputs.check_prompts(self.pipe)
        captions = list(as_list(cast(list[str], inputs.prompt)))
        if len(captions) != num_prompts:
            raise ValueError(f"`prompt` must be one or a list of {num_prompts}, got {len(captions)}.")
        self._encode(captions)
        self._captions = captions

    @property
    def guidance_scale(self) -> float:
        """Weight of the prompt from the next step on. It may be set."""
        return cast(float, self.state.guidance_scale)

    @guidance_scale.setter
    def guidance_scale(self, value: float) -> None:
        if value is None:
            raise ValueError("`guidance_scale` must be a finite number of at least 0, got None.")
        check_settings(guidance_scale=value)
        self.state.guidance_scale = value

    # Forwards

    def __iter__(self) -> Iterator[Frames]:
        return self

    def __next__(self) -> Frames:
        return self.next()

    @torch.no_grad()
    def next(self) -> Frames:
        """
        Makes the next latent frame, or takes it from what is given.

        Returns:
            its frames in the form of `output_type`: one for the first latent frame, four for others; with `"latent"` its
            codes `(B, 1, h, w)`.

        Raises:
            StopIteration: after the last frame.
        """
        with self.pipe._own_turn():
            codes, video = self.advance()
            if self.inputs.output_type == "latent":
                return codes
            return self.postprocess(cast(torch.Tensor, video), self._first_pixel_frame(self._num_made - 1))

    def advance(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Codes `(B, 1, h, w)` of the next latent frame, and its pixels `(B, 3, frames, height, width)` if it makes any."""
        if self.is_finished:
            self.close()
            raise StopIteration
        mark = self._mark() if self._marks.maxlen != 0 else None
        for row, captions in enumerate(self._segments):
            self._begin_segment(row, captions.get(self._num_made))
        with lora_scale(self.pipe.transformer, self.inputs.lora_scale):
            codes, is_given = self._complete()
        if self._num_made >= self._num_in_base:
            self._decoder.append(codes, is_given)
        self._num_made += 1
        if mark is not None:
            # Only now: a callback may have raised an error on the way.
            self._marks.append(mark)
            self._codes.append(codes.to("cpu", torch.int32))
        return codes[:, None], self._decode(codes[:, None])

    def postprocess(self, video: torch.Tensor, first: int = 0) -> Frames:
        """Pixels `(B, 3, frames, height, width)` from pixel frame `first` on, in the form of `output_type`."""
        processor = self.pipe.video_processor
        if self._given.weights is None:
            return processor.postprocess_video(video.float(), self.inputs.output_type)
        # In [0, 1] from uint8 directly, values come back to the bit.
        frames = self._given.join_frames(processor.postprocess_video(video.float(), "pt"), first)
        if self.inputs.output_type == "pt":
            return frames
        arrays = frames.permute(0, 1, 3, 4, 2).cpu().numpy()
        return arrays if self.inputs.output_type == "np" else [processor.numpy_to_pil(clip) for clip in arrays]

    def remaining(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """What [`~VideoSession.advance`] gives, to the end."""
        while not self.is_finished:
            yield self.advance()

    def close(self) -> None:
        """Ends the progress bar, and lets offloaded weights go. A session can go on afterwards."""
        if self._progress_bar is not None:
            self._progress_bar.close()
        self._progress_bar = None
        self.pipe.maybe_free_model_hooks()

    def _complete(self) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Makes what is unknown of the next frame.

        Returns:
            its codes, and which of them are given, both `(B, h, w)`.
        """
        state, decoder = self.state, self._decoder
        if self._is_made_in_part(self._given.codes_of(self._num_made)):
            self._get_ready()
        latents = self._undecide(self._given.codes_of(self._num_made))
        is_given = latents != UNKNOWN_CODE
        if is_given.all():
            return latents, is_given
        predicted = latents
        decoder.begin_frame(latents, self._num_made)
        for timestep in decoder.timesteps:
            state.current_timestep = timestep
            latents, predicted = decoder.step(latents, timestep, self.guidance_scale)
            latents, predicted = self._call_back(latents, predicted)
            state.step += 1
            self._progress_bar.update()
            if state.interrupt:
                break
        state.current_timestep = None
        return torch.where(latents == UNKNOWN_CODE, predicted, latents), is_given

    def _undecide(self, latents: torch.Tensor) -> torch.Tensor:
        """By `strength`, the least probable codes of a given frame are unknown again."""
        count = self._num_undecided_by_strength
        if count == 0 or (latents == UNKNOWN_CODE).any():
            return latents
        if count == latents[0].numel():
            return torch.full_like(latents, UNKNOWN_CODE)
        return latents.masked_fill(self._decoder.least_probable(latents, count, self.guidance_scale), UNKNOWN_CODE)

    def _is_made_in_part(self, latents: torch.Tensor) -> bool:
        return self._num_undecided_by_strength > 0 or bool((latents == UNKNOWN_CODE).any())

    @property
    def _num_undecided_by_strength(self) -> int:
        return round((self.inputs.strength or 0) * self._given.codes.shape[2] * self._given.codes.shape[3])

    def _get_ready(self) -> None:
        """Before something is made: the prompts that hold now, and a sequence with room for another frame."""
        if self._progress_bar is None:
            total = self.state.num_timesteps if self._num_frames < math.inf else math.inf
            self._progress_bar = self.pipe.progress_bar(total=total)
        if self._captions is not None and self._captions != self._encoded_captions:
            self._prompt_ids = self._encode(self._captions)
            self._encoded_captions = list(self._captions)
            self._decoder.switch_prompts(*self._prompt_ids)
        if self._num_made - self._sequence_start >= self._tile_size:
            self._roll()

    def _begin_segment(self, row: int, caption: str | None) -> None:
        if caption is None or self._captions is None:
            return
        rows = [row] if len(self._segments) > 1 else range(len(self._captions))
        self._captions = [caption if index in rows else other for index, other in enumerate(self._captions)]

    def _call_back(self, latents: torch.Tensor, predicted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the callback makes of a step's codes and prediction, both `(B, h, w)`."""
        inputs, state = self.inputs, self.state
        if inputs.callback_on_step_end is None:
            return latents, predicted
        tensors = {"latents": latents, "predicted": predicted}
        asked_for = {name: tensors[name] for name in inputs.callback_on_step_end_tensor_inputs or ()}
        token = calling_back.set((self.pipe, state))
        try:
            outputs = inputs.callback_on_step_end(self.pipe, state.step, state.current_timestep, asked_for)
        finally:
            calling_back.reset(token)
        outputs = check_callback_outputs(outputs, latents)
        return outputs.get("latents", latents), outputs.get("predicted", predicted)

    # Prompts and sequences

    def _start_decoder(self) -> FrameDecoder:
        # Completed inputs have a value for everything.
        inputs: Any = self.inputs
        pipe = self.pipe
        config = pipe.transformer.config
        self._prompt_ids = self._encode(self._captions)
        for captions in self._segments:
            for caption in captions.values():
                # Whatever is wrong with a later one is said now.
                self._encode([caption])
        duration = video_duration(inputs.sequence_num_frames, inputs.fps)
        batch_size, _, h, w = self._given.codes.shape
        codes = self._given.codes.new_full((batch_size, self._tile_size, h, w), UNKNOWN_CODE)
        self._num_in_base = min(self._given.num_whole, self._tile_size)
        if self._num_undecided_by_strength:
            self._num_in_base = 0
        codes[:, : self._num_in_base] = self._given.codes[:, : self._num_in_base]
        if pipe._guidance_parallel is not None:
            self._agree_on_call(pipe._guidance_parallel, codes)
            inputs = self.inputs
        return FrameDecoder(
            pipe.transformer,
            pipe.scheduler,
            prefixes=self._prompt_ids[0],
            negative_prefixes=self._prompt_ids[1],
            header_ids=video_header_ids(duration, inputs.fps, config),
            codes=codes,
            num_given=self._num_in_base,
            num_inference_steps=inputs.num_inference_steps,
            history_mask_ratio=inputs.history_mask_ratio,
            approximations=inputs.approximations,
            generator=inputs.generator,
            parallel=pipe._guidance_parallel,
        )

    def _agree_on_call(self, parallel: GuidanceParallel, codes: torch.Tensor) -> None:
        """Both processes have the same random numbers, or learn that they were told different things."""
        if self.inputs.generator is None:
            self.inputs = replace(self.inputs, generator=parallel.shared_generator())
        inputs = self.inputs
        settings = (
            inputs.num_inference_steps,
            inputs.guidance_scale,
            inputs.history_mask_ratio,
            inputs.approximations,
        )
        states = [generator.get_state().numpy().tobytes() for generator in self._generators]
        parallel.check_same_call((self._prompt_ids, codes.cpu().numpy().tobytes(), settings, states))

    def _encode(self, captions: list[str] | None) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids before `video_start` of both branches, checked to leave room for a sequence."""
        # Completed inputs have a value for everything.
        inputs: Any = self.inputs
        prompt_ids = self.pipe.tokenize_prompt(
            captions,
            inputs.negative_prompt,
            height=self._height,
            width=self._width,
            num_frames=inputs.sequence_num_frames,
            fps=inputs.fps,
            input_ids=inputs.input_ids if captions is None else None,
            attention_mask=inputs.attention_mask if captions is None else None,
        )
        name = "input_ids" if captions is None else "prompt"
        check_context(prompt_ids, inputs, self._height, self._width, self.pipe.transformer.config, name)
        return prompt_ids

    def _count_timesteps(self) -> int:
        """Steps of all frames of which something is to be made; of one frame where there is no end."""
        # Completed inputs have a number or a list.
        num_inference_steps: Any = self.inputs.num_inference_steps
        if self._num_frames == math.inf:
            return steps_of_frame(num_inference_steps, 0)
        is_made = (self._given.codes == UNKNOWN_CODE).any(dim=(0, 2, 3))
        if self._num_undecided_by_strength:
            is_made = torch.ones_like(is_made)
        made = [frame for frame in range(int(self._num_frames)) if frame >= len(is_made) or is_made[frame]]
        return sum(steps_of_frame(num_inference_steps, frame) for frame in made)

    def _roll(self) -> None:
        """Begins a new sequence with the latest frames."""
        if self._recent_pixels is None:
            codes = torch.stack(list(self._recent_codes), dim=1)
        else:
            # What is given after them is seen in the same sequence.
            following = self._given.pixels_of(self._num_made, self._tile_size - self._overlap)
            pixels = self._recent_pixels if following is None else torch.cat([self._recent_pixels, following], dim=2)
            codes = self.pipe.encode_video(pixels.clamp(-1, 1))
            self._given = self._given.with_codes(codes[:, self._overlap :], self._num_made)
            self._stream = self.pipe.vqvae.open_stream()
            for frame in codes[:, : self._overlap].split(1, dim=1):
                self._stream.decode(frame)
        self._decoder.restart(codes[:, : self._overlap])
        self._sequence_start = self._num_made - self._overlap

    def _decode(self, codes: torch.Tensor) -> torch.Tensor | None:
        """Pixels of the codes `(B, 1, h, w)` that follow; what another sequence would begin with is kept."""
        if self.rolls:
            self._recent_codes = (*self._recent_codes, codes[:, 0])[-self._overlap :]
        if self._stream is None:
            return None
        video = self._stream.decode(codes)
        if self.rolls:
            new = self._given.join(video, self._first_pixel_frame(self._num_made - 1))
            recent = new if self._recent_pixels is None else torch.cat([self._recent_pixels, new], dim=2)
            first = max(0, recent.shape[2] - self._first_pixel_frame(self._overlap))
            # A view would keep all frames alive.
            self._recent_pixels = recent[:, :, first:].clone()
        return video

    def _first_pixel_frame(self, latent_frame: int) -> int:
        """The number of the first pixel frame of a latent frame, and so how many pixel frames those before it have."""
        return 0 if latent_frame == 0 else 1 + self.pipe.transformer.config.temporal_compression * (latent_frame - 1)

    # Backwards and aside

    def rewind(self, num_frames: int = 1) -> None:
        """
        Goes back to where it was before the last frames were made, prompts and random numbers included.

        Nothing is computed again, but that one pass over a sequence may be, where the prompt was switched or the video
        rolled since.

        Args:
            num_frames: latent frames to forget.

        Raises:
            ValueError: if there are not so many frames, or the session was not opened to go back so far.
        """
        check_integer("num_frames", num_frames)
        if num_frames > self._num_made:
            raise ValueError(
                f"`num_frames` must not lead before the first frame, of {self._num_made} there are, got {num_frames}."
            )
        if num_frames > len(self._marks):
            raise ValueError(
                f"`num_frames` must be at most {len(self._marks)}, as far as can be gone back here, got {num_frames}; "
                "`max_rewind` of the session says how far."
            )
        for _ in range(num_frames):
            mark = self._marks.pop()
        del self._codes[len(self._codes) - num_frames :]
        self._num_made, self._sequence_start = mark.num_made, mark.sequence_start
        self._captions, self._encoded_captions, self._prompt_ids = (
            mark.captions,
            mark.encoded_captions,
            mark.prompt_ids,
        )
        self._decoder.rewind(mark.decoder)
        for generator, state in zip(self._generators, mark.generator_states, strict=True):
            generator.set_state(state)
        self._stream = None if mark.stream is None else mark.stream.fork()
        self._recent_pixels, self._recent_codes = mark.recent_pixels, mark.recent_codes
        self._given = mark.given
        self.state.step, self.state.interrupt = mark.step, False

    def fork(self) -> "VideoSession":
        """Another session that has come as far, and goes on by itself. Without `generator`s both share the default one."""
        generators = [_copy_of(generator) for generator in self._generators]
        own: Generators = (
            generators if isinstance(self.inputs.generator, (list, tuple)) else next(iter(generators), None)
        )
        other = copy.copy(self)
        other.inputs = replace(self.inputs, generator=own)
        other._decoder = self._decoder.fork(own)
        other._stream = None if self._stream is None else self._stream.fork()
        other._codes, other._marks = list(self._codes), self._marks.copy()
        other._progress_bar = None
        other.state = replace(self.state)
        return other

    def save(self, path: str | os.PathLike) -> None:
        """
        Writes a file from which [`LumosVideoPipeline.load_session`] goes on to the same bits.

        Raises:
            ValueError: for a session that draws from the default generator of torch, whose state is not its own.
        """
        save_session(self, path)

    @classmethod
    def load(cls, pipe: DiffusionPipeline, path: str | os.PathLike) -> "VideoSession":
        """See [`LumosVideoPipeline.load_session`]."""
        saved = read_session(pipe, path)
        with whole_session(path):
            session = cls(
                pipe,
                saved.inputs,
                (saved.given, saved.settings["height"], saved.settings["width"]),
                makes_pixels=saved.settings["makes_pixels"],
                max_rewind=saved.settings["max_rewind"],
            )
            session.import_state(saved.tensors, saved.settings)
        return session

    def export_state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors by name, and what JSON can hold: all that `import_state` of a session with the same inputs needs."""
        if not self._generators:
            raise ValueError("`generator` must be given to a session that is saved, got None.")
        tensors = {f"decoder.{name}": tensor for name, tensor in self._decoder.state_dict().items()}
        tensors |= {f"generator.{i}": each.get_state() for i, each in enumerate(self._generators)}
        tensors |= {
            f"stream.{name}": tensor for name, tensor in (self._stream.state_dict() if self._stream else {}).items()
        }
        optional = {
            "codes": torch.stack(self._codes, dim=1) if self._codes else None,
            "recent_codes": torch.stack(self._recent_codes, dim=1) if self._recent_codes else None,
            "recent_pixels": self._recent_pixels,
            "given.codes": self._given.codes,
            "given.pixels": self._given.pixels,
            "given.touched": self._given.touched,
            "given.weights": self._given.weights,
        }
        tensors |= {name: tensor for name, tensor in optional.items() if tensor is not None}
        frames = {name: getattr(self, f"_{name}") for name in ("num_made", "sequence_start", "num_in_base")}
        return tensors, frames | {
            "captions": self._captions,
            "encoded_captions": self._encoded_captions,
            "input_ids": self._prompt_ids[0] if self._captions is None else None,
            "num_frames": None if self._num_frames == math.inf else self.inputs.num_frames,
            "height": self._height,
            "width": self._width,
            "guidance_scale": self.state.guidance_scale,
            "step": self.state.step,
            "makes_pixels": self._makes_pixels,
            "max_rewind": self._marks.maxlen,
            "generator_devices": [str(generator.device) for generator in self._generators],
            "has_generator_list": isinstance(self.inputs.generator, (list, tuple)),
        }

    def import_state(self, tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> None:
        """Takes the place of a session with the same inputs whose `export_state` this is."""

        def below(prefix: str) -> dict[str, torch.Tensor]:
            return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        device = self._given.codes.device
        self._decoder.load_state_dict(below("decoder."))
        for index, generator in enumerate(self._generators):
            generator.set_state(tensors[f"generator.{index}"])
        if self._stream is not None:
            self._stream.load_state_dict(below("stream."))
        self._codes = list(tensors["codes"].unbind(1)) if "codes" in tensors else []
        if "recent_codes" in tensors:
            self._recent_codes = tensors["recent_codes"].to(device).unbind(1)
        if "recent_pixels" in tensors:
            self._recent_pixels = tensors["recent_pixels"].to(device)
        for name in ("num_made", "sequence_start", "num_in_base"):
            setattr(self, f"_{name}", settings[name])
        self._captions = settings["captions"]
        self.state.step = settings["step"]

    @property
    def _generators(self) -> list[torch.Generator]:
        generator = self.inputs.generator
        if generator is None:
            return []
        return list(generator) if isinstance(generator, (list, tuple)) else [generator]

    def _mark(self) -> _Mark:
        return _Mark(
            num_made=self._num_made,
            sequence_start=self._sequence_start,
            captions=self._captions,
            encoded_captions=self._encoded_captions,
            prompt_ids=self._prompt_ids,
            decoder=self._decoder.mark(),
            generator_states=[generator.get_state() for generator in self._generators],
            stream=None if self._stream is None else self._stream.fork(),
            recent_pixels=self._recent_pixels,
            recent_codes=self._recent_codes,
            given=self._given,
            step=self.state.step,
        )


def _copy_of(generator: torch.Generator) -> torch.Generator:
    copied = torch.Generator(device=generator.device)
    copied.set_state(generator.get_state())
    return copied
