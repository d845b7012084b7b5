# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a Lumos sequence is: how it is written, and how it is read back.

A sequence is

    bos, text, separator, video_start, duration, fps, frame, frame, ..., video_end, separator

and a frame of `h` rows and `w` columns of visual tokens is

    image_start, height, width, h times (w visual tokens, new_line), image_end

Numbers (duration in seconds, frames per second, height and width in blocks of 32 pixels) are tokens of their own:
`size_token_offset + number`. An image is a video of one frame. The unconditional sequence of classifier-free guidance
is everything from `video_start` on.

"Content" means the `h * (w + 1)` tokens between the width token and `image_end`, new lines included; "visual" means the
`h * w` of them that are codes of the video tokenizer.

Every function here is pure, apart from [`encode_text`], which asks a tokenizer. Those that run while decoding ([`derive_layout`], [`frame_ids_from_codes`],
[`codes_from_frame_ids`]) never read a tensor back from its device.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch

from .configuration_lumos import PIXELS_PER_SIZE_UNIT, LumosConfig


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Stands for the code of a visual token that is not known; its token is `config.mask_token_id`.
UNKNOWN_CODE = -1

# image_start, height and width before the content of a frame, image_end after it.
_FRAME_HEADER_LENGTH = 3
_FRAME_OVERHEAD = _FRAME_HEADER_LENGTH + 1


def prompt_text(caption: str, *, height: int, width: int, duration: int, fps: int) -> str:
    """
    The text the model was trained on, the same for every task; it says "video" for images too.

    Args:
        caption: what is to be seen.
        height: of the result, in pixels.
        width: of the result, in pixels.
        duration: in seconds, see [`video_duration`].
        fps: frames per second.
    """
    return (
        f"Generate a video with a resolution of {width}x{height}, consisting of {fps * duration} frames at {fps} "
        f"frames per second, according to the following prompt:\n {caption}"
    )


def encode_text(
    tokenizer: "PreTrainedTokenizerBase", text: str, config: LumosConfig, name: str = "prompt"
) -> list[int]:
    """
    Token ids of a text, without special tokens of their own, that can be read as nothing but text.

    A special token that is spelled out in the text, such as `<reserved09001>`, is cut into pieces like any other word.

    Args:
        tokenizer: the checkpoint's.
        text: with the caption or the prompt.
        config: names the token ids of the layout.
        name: of the argument that the text comes from, for messages.

    Raises:
        ValueError: if the text cannot be written as UTF-8, or if the tokenizer makes layout or visual tokens of it all the
            same.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"`{name}` must be text that UTF-8 can write, got {text[-80:]!r}: {error}") from error
    text_ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    try:
        # An unknown word may be the id of bos, which opens nothing.
        check_text_ids([token_id for token_id in text_ids if token_id != config.bos_token_id], config)
    except ValueError as error:
        raise ValueError(f"`{name}` must be text to the tokenizer, got {text[-80:]!r}: {error}") from error
    return text_ids


def video_duration(num_frames: int, fps: int) -> int:
    """Whole seconds that `num_frames` pixel frames last at `fps` frames per second, at least 1."""
    _check_positive("num_frames", num_frames)
    _check_positive("fps", fps)
    return max(1, round((num_frames - 1) / fps))


def num_latent_frames(num_frames: int, config: LumosConfig) -> int:
    """
    Latent frames of a video of `num_frames` pixel frames.

    Raises:
        ValueError: if `num_frames` is not 1 plus a multiple of `config.temporal_compression`.
    """
    _check_positive("num_frames", num_frames)
    if (num_frames - 1) % config.temporal_compression != 0:
        raise ValueError(f"`num_frames` must be 1 plus a multiple of {config.temporal_compression}, got {num_frames}.")
    return (num_frames - 1) // config.temporal_compression + 1


def grid_size(height: int, width: int, config: LumosConfig) -> tuple[int, int]:
    """
    Rows and columns of visual tokens of a frame of `height` by `width` pixels.

    Raises:
        ValueError: if a side is not a positive multiple of 32 pixels, or larger than the size tokens can say.
    """
    for name, pixels in (("height", height), ("width", width)):
        _check_positive(name, pixels)
        if pixels % PIXELS_PER_SIZE_UNIT != 0:
            raise ValueError(f"`{name}` must be a multiple of {PIXELS_PER_SIZE_UNIT}, got {pixels}.")
        _number_token(name, pixels // PIXELS_PER_SIZE_UNIT, config)
    return height // config.spatial_compression, width // config.spatial_compression


def prompt_ids(text_ids: list[int], config: LumosConfig) -> list[int]:
    """Everything before the visual part: `text_ids` (without special tokens of their own), bos before, separator after."""
    return [cast(int, config.bos_token_id), *text_ids, config.separator_token_id]


def check_text_ids(text_ids: Sequence[int], config: LumosConfig) -> None:
    """
    Refuses text that would be read as layout, such as a caption with the name of a layout token in it.

    Args:
        text_ids: token ids of a prompt, without bos and separator.
        config: names the token ids.

    Raises:
        ValueError: if one of them is outside the vocabulary, a layout token, a number token or a visual token.
    """
    layout_ids = {
        config.bos_token_id,
        config.separator_token_id,
        config.image_start_token_id,
        config.image_end_token_id,
        config.new_line_token_id,
        config.mask_token_id,
        config.video_start_token_id,
        config.video_end_token_id,
    }
    numbers = range(config.size_token_offset, _first_id_after_numbers(config))
    visual_ids = range(config.visual_token_offset, config.visual_token_offset + config.visual_vocab_size)
    for place, token_id in enumerate(text_ids):
        if not 0 <= token_id < config.vocab_size:
            raise ValueError(f"token {place} of the text must be from 0 to {config.vocab_size - 1}, got {token_id}")
        if token_id in layout_ids or token_id in numbers or token_id in visual_ids:
            raise ValueError(f"token {place} of the text must be text, got {token_id}, which is part of the layout")


def video_header_ids(duration: int, fps: int, config: LumosConfig) -> list[int]:
    """
    Opens the visual part of a sequence.

    Raises:
        ValueError: if `duration` (in seconds) or `fps` is not a positive number that has a token.
    """
    return [
        config.video_start_token_id,
        _number_token("duration", duration, config),
        _number_token("fps", fps, config),
    ]


def frame_length(h: int, w: int) -> int:
    """Tokens of one frame of `h` rows and `w` columns of visual tokens, `image_start` and `image_end` included."""
    return h * (w + 1) + _FRAME_OVERHEAD


def content_positions(h: int, w: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Indices of the content tokens inside a frame, new lines included, `(h * (w + 1),)`."""
    return torch.arange(_FRAME_HEADER_LENGTH, _FRAME_HEADER_LENGTH + h * (w + 1), device=device)


def visual_positions(h: int, w: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Indices of the visual tokens inside a frame, row by row, `(h * w,)`."""
    return content_positions(h, w, device).view(h, w + 1)[:, :w].flatten()


def frame_ids_from_codes(codes: torch.Tensor, config: LumosConfig) -> torch.Tensor:
    """
    Writes whole frames as token ids.

    Args:
        codes: `(..., h, w)` codes of the video tokenizer; `UNKNOWN_CODE` becomes `config.mask_token_id`.
        config: names the token ids.

    Returns:
        `(..., frame_length(h, w))` int64 token ids, from `image_start` to `image_end`.

    Raises:
        ValueError: if `h` or `w` is not a whole number of 32-pixel blocks.
    """
    h, w = codes.shape[-2:]
    codes = codes.long()
    visual_ids = torch.where(codes == UNKNOWN_CODE, config.mask_token_id, codes + config.visual_token_offset)
    rows = torch.nn.functional.pad(visual_ids, (0, 1), value=config.new_line_token_id)

    ids = rows.new_empty((*codes.shape[:-2], frame_length(h, w)))
    ids[..., 0] = config.image_start_token_id
    ids[..., 1] = _grid_side_token("h", h, config)
    ids[..., 2] = _grid_side_token("w", w, config)
    ids[..., _FRAME_HEADER_LENGTH:-1] = rows.flatten(-2)
    ids[..., -1] = config.image_end_token_id
    return ids


def codes_from_frame_ids(ids: torch.Tensor, h: int, w: int, config: LumosConfig) -> torch.Tensor:
    """
    Reads the codes out of whole frames.

    Args:
        ids: `(..., frame_length(h, w))` token ids, from `image_start` to `image_end`.
        h: rows of visual tokens.
        w: columns of visual tokens.
        config: names the token ids.

    Returns:
        `(..., h, w)` int64 codes, `UNKNOWN_CODE` where a token is masked (or not a visual one).

    Raises:
        ValueError: if the length of `ids` is not that of such a frame.
    """
    if ids.shape[-1] != frame_length(h, w):
        raise ValueError(
            f"`ids` must hold whole frames of {frame_length(h, w)} tokens for h={h} and w={w}, got shape "
            f"{tuple(ids.shape)}."
        )
    content = ids[..., _FRAME_HEADER_LENGTH:-1]
    codes = content.unflatten(-1, (h, w + 1))[..., :w] - config.visual_token_offset
    is_visual = (codes >= 0) & (codes < config.visual_vocab_size)
    return torch.where(is_visual, codes, UNKNOWN_CODE)


def sequence_from_codes(
    prefix_ids: list[int],
    codes: torch.Tensor,
    duration: int,
    fps: int,
    config: LumosConfig,
    closed: bool = True,
) -> torch.Tensor:
    """
    Writes one whole sequence.

    Args:
        prefix_ids: everything before `video_start`, see [`prompt_ids`]; empty for an unconditional sequence.
        codes: `(t, h, w)` codes of the video tokenizer, `UNKNOWN_CODE` where masked.
        duration: in seconds.
        fps: frames per second.
        config: names the token ids.
        closed: whether `video_end` and the separator follow, as in training. Without them the sequence ends with its
            last frame, as in generation.

    Returns:
        `(length,)` int64 token ids on the device of `codes`.

    Raises:
        ValueError: if `codes` is not three-dimensional or holds no codes, or a number has no token.
    """
    if codes.ndim != 3:
        raise ValueError(f"`codes` must have the shape (t, h, w), got {tuple(codes.shape)}.")
    _check_codes(codes, config)
    head = [*prefix_ids, *video_header_ids(duration, fps, config)]
    tail = [config.video_end_token_id, config.separator_token_id] if closed else []
    frames = frame_ids_from_codes(codes, config).flatten()
    return torch.cat([frames.new_tensor(head), frames, frames.new_tensor(tail)])


def derive_layout(
    input_ids: torch.Tensor,
    config: LumosConfig,
    attention_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""
    Reads positions and frames out of token ids, each row on its own, whether its frames are masked or not.

    A frame runs from an `image_start` to the next `image_end`. Frames count whether or not the video is closed; in a
    row with both `video_start` and `video_end`, only those between the two count.

    A content token in row `r` and column `c` of frame `k` is at

        t = base + temporal_compression * k
        h = base + spatial_compression * r
        w = base + spatial_compression * c

    with `base` the index of the first content token of the row's first frame (arXiv 2507.08801, section 3.2; the
    official code uses that one base for all frames). Its new line is one column to the right of the last visual token.
    Every other token has its index in the sequence on all three axes. With `config.position_encoding="rope_1d"` all
    tokens do.

    Rows and columns come from the size tokens, so masked new lines do no harm.

    Args:
        input_ids: `(batch, length)` int64 token ids.
        config: names the token ids.
        attention_mask: `(batch, length)`, nonzero at real tokens. Indices count from the first real token, so that a
            left-padded row has the positions of the same row without padding.

    Returns:
        `position_ids` `(3, batch, length)` (time, height, width) and `frame_ids` `(batch, length)`, `k` inside frame `k`
        (`image_start` and `image_end` included), -1 elsewhere; both int64, on the device of `input_ids`.

    Raises:
        ValueError: if `attention_mask` does not have the shape of `input_ids`.
    """
    if attention_mask is not None:
        if attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"`attention_mask` must have the shape of `input_ids`, {tuple(input_ids.shape)}, got "
                f"{tuple(attention_mask.shape)}."
            )
        # No layout token has this id: what is masked out cannot open or close a frame.
        input_ids = input_ids.masked_fill(attention_mask == 0, -1)

    index = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    frame_ids, frame_start = _find_frames(input_ids, index, config)
    text_position = _text_position(index, attention_mask)
    if config.position_encoding == "rope_1d":
        return text_position.expand(3, -1, -1), frame_ids
    return _visual_position(input_ids, index, text_position, frame_ids, frame_start, config), frame_ids


def _find_frames(
    input_ids_BL: torch.Tensor, index_BL: torch.Tensor, config: LumosConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Per token: the number of its frame, or -1, and the index of the latest `image_start` (0 where there is none)."""
    length = input_ids_BL.shape[1]
    opens_BL = (input_ids_BL == config.image_start_token_id) & _may_hold_frames(input_ids_BL, config)
    closes_BL = input_ids_BL == config.image_end_token_id

    latest_open_BL = torch.where(opens_BL, index_BL, -1).cummax(dim=1).values
    next_close_BL = torch.where(closes_BL, index_BL, length).flip(1).cummin(dim=1).values.flip(1)

    # An image_start without an image_end of its own opens no frame: either none follows, or another frame opens first.
    close_BL = next_close_BL.clamp(max=length - 1)
    is_frame_start_BL = opens_BL & (next_close_BL < length) & (latest_open_BL.gather(1, close_BL) == index_BL)

    frame_start_BL = latest_open_BL.clamp(min=0)
    in_frame_BL = (
        (latest_open_BL >= 0)
        & is_frame_start_BL.gather(1, frame_start_BL)
        & (index_BL <= next_close_BL.gather(1, frame_start_BL))
    )
    frame_ids_BL = torch.where(in_frame_BL, is_frame_start_BL.cumsum(dim=1) - 1, -1)
    return frame_ids_BL, frame_start_BL


def _may_hold_frames(input_ids_BL: torch.Tensor, config: LumosConfig) -> torch.Tensor:
    """Between video_start and video_end in rows that have both, everywhere in other rows."""
    starts_BL = input_ids_BL == config.video_start_token_id
    ends_BL = input_ids_BL == config.video_end_token_id
    inside_BL = starts_BL.cumsum(dim=1) > ends_BL.cumsum(dim=1)
    has_both_B1 = starts_BL.any(dim=1, keepdim=True) & ends_BL.any(dim=1, keepdim=True)
    return inside_BL | ~has_both_B1


def _text_position(index_BL: torch.Tensor, attention_mask_BL: torch.Tensor | None) -> torch.Tensor:
    if attention_mask_BL is None:
        return index_BL
    num_leading_pads_B1 = ((attention_mask_BL != 0).cumsum(dim=1) == 0).sum(dim=1, keepdim=True)
    return (index_BL - num_leading_pads_B1).clamp(min=0)


def _visual_position(
    input_ids_BL: torch.Tensor,
    index_BL: torch.Tensor,
    text_position_BL: torch.Tensor,
    frame_ids_BL: torch.Tensor,
    frame_start_BL: torch.Tensor,
    config: LumosConfig,
) -> torch.Tensor:
    cells_per_unit = PIXELS_PER_SIZE_UNIT // config.spatial_compression
    last = input_ids_BL.shape[1] - 1

    def grid_side(offset: int) -> torch.Tensor:
        token_BL = input_ids_BL.gather(1, (frame_start_BL + offset).clamp(max=last))
        return (token_BL - config.size_token_offset).clamp(min=0) * cells_per_unit

    row_length_BL = grid_side(2) + 1
    content_index_BL = index_BL - frame_start_BL - _FRAME_HEADER_LENGTH
    is_content_BL = (
        (frame_ids_BL >= 0)
        & (content_index_BL >= 0)
        & (content_index_BL < grid_side(1) * row_length_BL)
        & (input_ids_BL != config.image_end_token_id)
    )

    first_content_B1 = (frame_ids_BL >= 0).int().argmax(dim=1, keepdim=True) + _FRAME_HEADER_LENGTH
    base_B1 = text_position_BL.gather(1, first_content_B1.clamp(max=last))
    content_position_3BL = torch.stack(
        [
            base_B1 + config.temporal_compression * frame_ids_BL,
            base_B1 + config.spatial_compression * (content_index_BL // row_length_BL),
            base_B1 + config.spatial_compression * (content_index_BL % row_length_BL),
        ]
    )
    return torch.where(is_content_BL, content_position_3BL, text_position_BL)


def _check_codes(codes: torch.Tensor, config: LumosConfig) -> None:
    lowest, highest = torch.stack(codes.long().aminmax()).tolist()
    if lowest < UNKNOWN_CODE or highest >= config.visual_vocab_size:
        raise ValueError(
            f"`codes` must be {UNKNOWN_CODE} (unknown) or from 0 to {config.visual_vocab_size - 1}, got values from "
            f"{lowest} to {highest}."
        )


def _grid_side_token(name: str, cells: int, config: LumosConfig) -> int:
    pixels = cells * config.spatial_compression
    if pixels % PIXELS_PER_SIZE_UNIT != 0:
        raise ValueError(
            f"`{name}` must be a whole number of {PIXELS_PER_SIZE_UNIT}-pixel blocks, a multiple of "
            f"{PIXELS_PER_SIZE_UNIT // config.spatial_compression}, got {cells}."
        )
    return _number_token(name, pixels // PIXELS_PER_SIZE_UNIT, config)


def _number_token(name: str, number: int, config: LumosConfig) -> int:
    limit = _first_id_after_numbers(config) - config.size_token_offset
    if not 0 < number < limit:
        raise ValueError(f"`{name}` needs a number token from 1 to {limit - 1}, got {number}.")
    return config.size_token_offset + number


def _first_id_after_numbers(config: LumosConfig) -> int:
    other_ids = (
        config.separator_token_id,
        config.image_start_token_id,
        config.image_end_token_id,
        config.new_line_token_id,
        config.mask_token_id,
        config.video_start_token_id,
        config.video_end_token_id,
        config.visual_token_offset,
        config.vocab_size,
    )
    return min(token_id for token_id in other_ids if token_id > config.size_token_offset)


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}.")
