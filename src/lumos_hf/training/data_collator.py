# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Training batches for Autoregressive Discrete Diffusion Forcing (Lumos-1, arXiv 2507.08801, section 3.3)."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from ..argument_checks import check_choice, check_minimum
from ..configuration_lumos import LumosConfig
from ..scheduling_mask_decoding import MaskDecodingScheduler
from ..token_layout import (
    content_positions,
    encode_text,
    frame_length,
    num_latent_frames,
    prompt_ids,
    prompt_text,
    sequence_from_codes,
    video_duration,
    video_header_ids,
)


STRATEGIES = ("tube", "decaying_tube", "random", "diffusion_forcing")
IGNORED_LABEL = -100


@dataclass
class Clip:
    """
    A checked feature: `prefix` is what stands before video_start, `visual_ids` runs from there to the end, `generator`
    is the clip's own or else the collator's.
    """

    name: str
    codes_shape: tuple[int, ...]
    visual_ids: torch.Tensor
    header_length: int
    prefix: list[int]
    generator: torch.Generator | None


@dataclass
class DataCollatorForDiffusionForcing:
    """
    Makes training batches from pre-tokenised clips, for a stock `transformers.Trainer` with
    `remove_unused_columns=False`.

    Each feature is a mapping with

    - `codes`: `(t, h, w)` integers in `[0, visual_vocab_size)`, the clip's codes (array, tensor or nested list),
    - `caption`: the text to which the official prompt template is applied; or `text_ids`: the token ids of a finished
      prompt text, without bos and separator, which wins if both are there,
    - `fps`: frames per second, an integer,
    - `num_frames` (optional): pixel frames; by default the most that t latent frames hold,
    - `height` and `width` (optional): in pixels, compared with `codes`,
    - `seed` (optional): an integer from 0. What is drawn for this clip then depends on it alone, not on other clips,
      workers or earlier batches; [`BatchedDataset`] sets it,
    - `source` and `clip` (optional): the file and its index in the data, which errors mention.

    Content tokens (codes and ends of lines) are masked. What is masked together is up to the strategy:

    - `"tube"`: one rate and one pattern per clip, the same in all of its frames. This is Lumos-1's temporal tube
      masking, without which a token could be copied from a neighbouring frame.
    - `"decaying_tube"`: the pattern of frame k is part of that of frame k - 1, at `rate * mask_rate_decay**k` but
      never below `minimum_mask_ratio`. Later frames thus see more of themselves. This is ours, for ablation; neither the
      paper nor the official code has it.
    - `"random"`: one rate per clip, a pattern of its own for each frame.
    - `"diffusion_forcing"`: a rate and a pattern of its own for each frame.

    Labels are the ids of masked visual tokens and -100 elsewhere, so that the number of labels is the number of tokens
    in the loss, by which the Trainer averages over accumulated batches. Dropping a prompt removes everything before
    video_start, which leaves the unconditional sequence of classifier-free guidance.

    Rows are padded, not packed: with batches of one shape ([`BucketBatchSampler`]) only prompts differ in length, and
    attention leaves padding out.

    Args:
        config ([`LumosConfig`]): names the token ids.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): needed for features with a `caption` only.
        strategy (`str`, defaults to `"tube"`): `"tube"`, `"decaying_tube"`, `"random"` or `"diffusion_forcing"`.
        mask_schedule (`str`, defaults to `"cosine"`): turns a uniform draw into a mask rate, as in
            [`MaskDecodingScheduler`].
        minimum_mask_ratio (`float`, defaults to 0.7): lower limit of the rate.
        prompt_drop_probability (`float`, defaults to 0.1): share of prompts to drop.
        seed (`int`, *optional*):
            Seeds a generator of the collator's own, offset by the number of the data loader's worker. By default the
            draws come from torch's default generator, which the Trainer seeds. The seed of a feature goes before both.
        mask_rate_decay (`float`, defaults to 0.9): what `"decaying_tube"` multiplies the rate by, frame by frame.
        skip_logits (`bool`, *optional*):
            What batches tell the model of the same argument. A `Trainer` that evaluates the loss alone is spared the
            logits of all labels with `True`.

    Raises:
        ValueError: for an unknown strategy or schedule, or a number outside [0, 1].
    """

    config: LumosConfig
    tokenizer: PreTrainedTokenizerBase | None = None
    strategy: str = "tube"
    mask_schedule: str = "cosine"
    minimum_mask_ratio: float = 0.7
    prompt_drop_probability: float = 0.1
    seed: int | None = None
    mask_rate_decay: float = 0.9
    skip_logits: bool | None = None
    _scheduler: MaskDecodingScheduler = field(init=False, repr=False, compare=False)
    _generator: torch.Generator | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        check_choice("strategy", self.strategy, STRATEGIES)
        for name in ("minimum_mask_ratio", "prompt_drop_probability", "mask_rate_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1], got {getattr(self, name)}.")
        self._scheduler = MaskDecodingScheduler(mask_schedule=self.mask_schedule)

    def __call__(self, features: list[Mapping[str, Any]]) -> dict[str, Any]:
        """
        Args:
            features: B clips, of any sizes.

        Returns:
            `input_ids`, `labels` and `attention_mask`, each int64 `(B, L)`, padded on the right, and `skip_logits` if it
            was set.

        Raises:
            ValueError: for a bad feature, or a sequence that is longer than `config.max_position_embeddings`; the
                message names the index, and the source if there is one.
        """
        if not features:
            raise ValueError("`features` must hold at least one clip, got none.")
        clips = [self.read_clip(index, feature) for index, feature in enumerate(features)]
        self._check_lengths(clips)
        is_dropped = self._draw_dropped(clips)
        masks = self._draw_masks(clips)
        rows = [
            self._row(clip, [] if dropped else clip.prefix, mask)
            for clip, dropped, mask in zip(clips, is_dropped, masks, strict=True)
        ]
        switches = {} if self.skip_logits is None else {"skip_logits": self.skip_logits}
        return {**self._pad(rows), **switches}

    def read_clip(self, index: int, feature: Mapping[str, Any]) -> Clip:
        name = _feature_name(index, feature)
        try:
            codes = self._read_codes(_required(feature, "codes"))
            self._check_size(feature, codes)
            fps = _integer("fps", _required(feature, "fps"))
            duration = video_duration(self._num_frames(feature, len(codes)), fps)
            return Clip(
                name=name,
                codes_shape=tuple(codes.shape),
                visual_ids=sequence_from_codes([], codes, duration, fps, self.config),
                header_length=len(video_header_ids(duration, fps, self.config)),
                prefix=prompt_ids(self._read_text(feature, codes.shape, duration, fps), self.config),
                generator=self._generator_of(feature),
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _read_codes(self, value: Any) -> torch.Tensor:
        try:
            codes = np.asarray(value)
        except ValueError as error:
            raise ValueError("`codes` must be integers of the shape (t, h, w), got rows of mixed sizes.") from error
        if codes.ndim != 3 or codes.size == 0 or codes.dtype.kind not in "iu":
            raise ValueError(
                f"`codes` must be integers of the shape (t, h, w), got the shape {codes.shape} and the type "
                f"{codes.dtype}."
            )
        lowest, highest = int(codes.min()), int(codes.max())
        if lowest < 0 or highest >= self.config.visual_vocab_size:
            raise ValueError(
                f"`codes` must lie in 0..{self.config.visual_vocab_size - 1}, got values from {lowest} to {highest}."
            )
        return torch.from_numpy(codes.astype(np.int64))

    def _check_size(self, feature: Mapping[str, Any], codes: torch.Tensor) -> None:
        for name, cells in zip(("height", "width"), codes.shape[1:], strict=True):
            pixels = cells * self.config.spatial_compression
            if feature.get(name) is not None and feature[name] != pixels:
                raise ValueError(
                    f"`{name}` must agree with `codes`, got {feature[name]} pixels and codes of {pixels} pixels."
                )

    def _num_frames(self, feature: Mapping[str, Any], num_latents: int) -> int:
        num_frames = feature.get("num_frames")
        if num_frames is None:
            return (num_latents - 1) * self.config.temporal_compression + 1
        num_frames = _integer("num_frames", num_frames)
        if num_latent_frames(num_frames, self.config) != num_latents:
            raise ValueError(
                f"`num_frames` must agree with `codes`, got {num_frames} frames and codes of {num_latents} latent "
                "frames."
            )
        return num_frames

    def _read_text(
        self, feature: Mapping[str, Any], codes_shape: tuple[int, ...], duration: int, fps: int
    ) -> list[int]:
        if feature.get("text_ids") is not None:
            return self._read_text_ids(feature["text_ids"])
        caption = feature.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"`caption` must be a text that is not empty, or `text_ids` be given, got {caption!r}.")
        if self.tokenizer is None:
            raise ValueError("`tokenizer` must be given for features with a `caption`, got None.")
        height, width = (side * self.config.spatial_compression for side in codes_shape[1:])
        text = prompt_text(caption, height=height, width=width, duration=duration, fps=fps)
        return encode_text(self.tokenizer, text, self.config, name="caption")

    def _read_text_ids(self, value: Any) -> list[int]:
        text_ids = np.asarray(value)
        if text_ids.ndim != 1 or text_ids.size == 0 or text_ids.dtype.kind not in "iu":
            raise ValueError(f"`text_ids` must be a list of token ids that is not empty, got {value!r}.")
        if text_ids.min() < 0 or text_ids.max() >= self.config.visual_token_offset:
            raise ValueError(f"`text_ids` must lie in 0..{self.config.visual_token_offset - 1}, got {value!r}.")
        return text_ids.tolist()

    def _generator_of(self, feature: Mapping[str, Any]) -> torch.Generator | None:
        if feature.get("seed") is not None:
            seed = _integer("seed", feature["seed"])
            check_minimum("seed", seed, 0)
            return torch.Generator().manual_seed(seed)
        if self.seed is not None and self._generator is None:
            worker = torch.utils.data.get_worker_info()
            self._generator = torch.Generator().manual_seed(self.seed + (0 if worker is None else worker.id))
        return self._generator

    def _check_lengths(self, clips: list[Clip]) -> None:
        """Of prompts that get dropped too: what is wrong with a clip must not depend on chance."""
        limit = self.config.max_position_embeddings
        for clip in clips:
            length = len(clip.prefix) + len(clip.visual_ids)
            if length > limit:
                raise ValueError(
                    f"{clip.name}: the prompt and `codes` must fit into the context of {limit} tokens, got "
                    f"{length} tokens, of which {len(clip.visual_ids)} are visual."
                )

    def _draw_dropped(self, clips: list[Clip]) -> list[bool]:
        if self.prompt_drop_probability == 0:
            return [False] * len(clips)
        return [_draw_uniforms(1, clip).item() < self.prompt_drop_probability for clip in clips]

    def _draw_masks(self, clips: list[Clip]) -> list[torch.Tensor]:
        """Per clip a mask over the content positions of its frames, `(t, h * (w + 1))`."""
        # All rates first, then the patterns clip by clip: the order of the official code, which a seed relies on.
        rates = [self._draw_rates(clip) for clip in clips]
        return [self._draw_mask(*parts) for parts in zip(clips, rates, strict=True)]

    def _draw_rates(self, clip: Clip) -> torch.Tensor:
        """Mask rates of the frames `(t,)`, or one for all of them, `(1,)`."""
        t = clip.codes_shape[0]
        num_rates = t if self.strategy == "diffusion_forcing" else 1
        rates = self._scheduler.sample_mask_ratio(_draw_uniforms(num_rates, clip), self.minimum_mask_ratio)
        if self.strategy == "decaying_tube":
            return (rates * self.mask_rate_decay ** torch.arange(t)).clamp(min=self.minimum_mask_ratio)
        return rates

    def _draw_mask(self, clip: Clip, rates: torch.Tensor) -> torch.Tensor:
        t, h, w = clip.codes_shape
        num_patterns = 1 if self.strategy in ("tube", "decaying_tube") else t
        uniforms = _draw_uniforms(num_patterns * h * (w + 1), clip).view(num_patterns, -1)
        num_masks = max(num_patterns, len(rates))
        mask = self._scheduler.training_mask(rates.expand(num_masks), uniforms.expand(num_masks, -1))
        # Without a visual token among what is masked, as can happen at rates near 0, the mean loss would be 0 / 0.
        has_label = mask.unflatten(-1, (h, w + 1))[..., :w].any()
        return mask.expand(t, -1) if has_label else self._draw_mask(clip, rates)

    def _row(self, clip: Clip, prefix_ids: list[int], content_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and labels of one row."""
        is_masked = self._mask_in_sequence(clip, content_mask)
        # Ends of lines are masked too. They may have an id above those of the codes as well as below.
        codes = clip.visual_ids - self.config.visual_token_offset
        is_labelled = is_masked & (codes >= 0) & (codes < self.config.visual_vocab_size)
        visual_input_ids = clip.visual_ids.masked_fill(is_masked, self.config.mask_token_id)
        visual_labels = clip.visual_ids.masked_fill(~is_labelled, IGNORED_LABEL)

        prefix = visual_input_ids.new_tensor(prefix_ids)
        return torch.cat([prefix, visual_input_ids]), torch.cat(
            [torch.full_like(prefix, IGNORED_LABEL), visual_labels]
        )

    def _mask_in_sequence(self, clip: Clip, content_mask: torch.Tensor) -> torch.Tensor:
        """Carries a mask over content positions `(t, content)` over to the positions of `clip.visual_ids`."""
        t, h, w = clip.codes_shape
        length = frame_length(h, w)
        is_masked = torch.zeros_like(clip.visual_ids, dtype=torch.bool)
        frames = is_masked[clip.header_length :][: t * length].view(t, length)
        frames[:, content_positions(h, w)] = content_mask
        return is_masked

    def _pad(self, rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
        lengths = torch.tensor([len(ids) for ids, _ in rows])
        padding = cast(int, self.config.pad_token_id)
        input_ids = pad_sequence([ids for ids, _ in rows], batch_first=True, padding_value=padding)
        return {
            "input_ids": input_ids,
            "labels": pad_sequence([labels for _, labels in rows], batch_first=True, padding_value=IGNORED_LABEL),
            "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
        }


def _draw_uniforms(count: int, clip: Clip) -> torch.Tensor:
    return torch.rand(count, generator=clip.generator)


def _feature_name(index: int, feature: Mapping[str, Any]) -> str:
    origin = [f"{key} {feature[key]!r}" for key in ("source", "clip") if feature.get(key) is not None]
    return f"features[{index}]" + (f" ({', '.join(origin)})" if origin else "")


def _required(feature: Mapping[str, Any], key: str) -> Any:
    if feature.get(key) is None:
        raise ValueError(f"`{key}` is missing, got the keys {sorted(feature)}.")
    return feature[key]


def _integer(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise ValueError(f"`{name}` must be an integer, got {value!r}.") from error
