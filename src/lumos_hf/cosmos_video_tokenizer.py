# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The discrete video tokenizer of Cosmos (arXiv 2501.03575): video to code indices and back.

Encoder and decoder are in cosmos_blocks.py; between them stands finite scalar quantization. Saved pipelines name this
module, so it stays where it is.
"""

import itertools
import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from .argument_checks import check_integer
from .compiled_modules import is_compiled, without_graphs
from .cosmos_blocks import (
    CosmosDecoder3d,
    CosmosEncoder3d,
    Level,
    PastFrames,
    SpatialConv3d,
    decoder_levels,
    encoder_levels,
)


@dataclass
class CosmosEncoderOutput(BaseOutput):
    """What [`CosmosVideoTokenizer.encode`] returns with `return_dict=True`.

    Args:
        indices: int32 `(batch, latent_frames, latent_height, latent_width)`.
    """

    indices: torch.Tensor


class FiniteScalarQuantizer(nn.Module):
    """Finite scalar quantization (arXiv 2309.15505) with the conventions of Cosmos.

    Each channel is squashed to a range of `levels[i]` integers and rounded. Codes are these integers divided by
    `levels[i] // 2`: eight levels become -1, -0.75, ..., 0.75, five become -1, -0.5, 0, 0.5, 1. The index of a
    position is `sum((code * half + half) * basis)` with `half = levels // 2` and the first channel running fastest.
    Everything is computed in float32, whatever the dtype of the input and under autocast too: in half precision, one
    index in seven comes out different.

    Args:
        levels: number of values that each channel can take; their product is the size of the codebook.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if len(levels) == 0 or any(level < 2 for level in levels):
            raise ValueError(f"`levels` must be a non-empty sequence of integers of at least 2, got {levels}.")
        self.codebook_size = math.prod(levels)
        self._levels = tuple(levels)

    @property
    def levels(self) -> torch.Tensor:
        """Values per channel, int64 `(channels,)`."""
        return self._levels_on(torch.device("cpu"))

    def _levels_on(self, device: torch.device) -> torch.Tensor:
        # Made anew by every call: a module without tensors has nothing that offloading or casting could take away.
        return torch.tensor(self._levels, device=device)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """The same as [`~FiniteScalarQuantizer.quantize`]."""
        return self.quantize(latents)

    def bound(self, latents: torch.Tensor, eps: float = 1e-3) -> torch.Tensor:
        """Squash latents `(..., channels)` to the ranges that round to `levels` integers, float32."""
        levels = self._levels_on(latents.device)
        half_range = (levels - 1) * (1 + eps) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / half_range)
        return torch.tanh(latents.float() + shift) * half_range - offset

    def quantize(self, latents: torch.Tensor) -> torch.Tensor:
        """Codes `(..., channels)`, float32 in [-1, 1], of latents; the gradient of rounding passes straight through."""
        bounded = self.bound(latents)
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (self._levels_on(latents.device) // 2)

    def codes_to_indices(self, codes: torch.Tensor) -> torch.Tensor:
        """Indices `(...)`, int32, of codes `(..., channels)`."""
        levels = self._levels_on(codes.device)
        half = levels // 2
        digits = (codes.float() * half + half).round().long()
        return (digits * self._basis(levels)).sum(dim=-1, dtype=torch.int32)

    def indices_to_codes(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes `(..., channels)`, float32, of integer indices `(...)`."""
        levels = self._levels_on(indices.device)
        half = levels // 2
        digits = indices.unsqueeze(-1) // self._basis(levels) % levels
        return (digits - half).float() / half

    @staticmethod
    def _basis(levels: torch.Tensor) -> torch.Tensor:
        return levels.cumprod(dim=0) // levels


class StreamedFrames(PastFrames):
    """The frames of a stream, of which the decoder's middle block remembers keys and values of the last ones alone.

    Those of earlier frames are computed again from their indices: all that grows with the length of a video, in the
    most compact form of four bytes per latent position.
    """

    def __init__(self, tokenizer: "CosmosVideoTokenizer") -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.indices: list[torch.Tensor] = []

    def add(self, codes: torch.Tensor) -> None:
        """To be called when the decoder has gone through codes `(batch, len(levels), frames, height, width)`."""
        self.indices.append(self.tokenizer.quantizer.codes_to_indices(codes.movedim(1, -1)))
        self.is_empty = False

    def fork(self) -> "StreamedFrames":
        """Another one that remembers the same; tensors are shared, since none is ever changed."""
        other = StreamedFrames(self.tokenizer)
        other.is_empty = self.is_empty
        other.indices = list(self.indices)
        other.last_frames = dict(self.last_frames)
        other.keys_and_values.update((attention, list(pieces)) for attention, pieces in self.keys_and_values.items())
        return other

    def remember(self, attention: nn.Module, keys_and_values: torch.Tensor) -> None:
        super().remember(attention, keys_and_values)
        pieces = self.keys_and_values[attention]
        if attention is self.tokenizer.decoder.mid_block.temp_attentions[0]:
            while _num_frames(pieces) > self.tokenizer.num_cached_latent_frames:
                del pieces[0]

    def forgotten_inputs(self, attention: nn.Module) -> Iterator[torch.Tensor]:
        num_past = sum(indices.shape[1] for indices in self.indices)
        num_forgotten = num_past - _num_frames(self.keys_and_values[attention])
        if num_forgotten == 0:
            return
        again = StreamedFrames(self.tokenizer)
        # One after another to save memory.
        for indices in torch.cat(self.indices, dim=1)[:, :num_forgotten].split(1, dim=1):
            codes = self.tokenizer.indices_to_codes(indices)
            latents = self.tokenizer.post_quant_conv(codes)
            yield self.tokenizer.decoder.time_attention_inputs(latents, again)
            again.add(codes)


class VideoStream:
    """A video that is decoded piece by piece, see [`CosmosVideoTokenizer.decode_stream`]; it can be forked and saved.

    Args:
        tokenizer: decodes.
    """

    def __init__(self, tokenizer: "CosmosVideoTokenizer") -> None:
        self._tokenizer = tokenizer
        self._past: dict[Hashable, StreamedFrames] = defaultdict(lambda: StreamedFrames(tokenizer))

    def decode(self, indices: torch.Tensor) -> torch.Tensor:
        """
        The next part of the video, `(batch, channels, frames, height, width)`.

        Args:
            indices: integers `(batch, latent_frames, latent_height, latent_width)`, those of the latent frames that follow.

        Raises:
            ValueError: if the shape, the dtype or the range of indices is not as described.
        """
        return self._tokenizer._decode_next(indices, self._past)

    def fork(self) -> "VideoStream":
        """Another stream that has come as far, and goes on by itself."""
        other = VideoStream(self._tokenizer)
        other._past.update((part, past.fork()) for part, past in self._past.items())
        return other

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All that is remembered, by names that tell where it belongs."""
        names = {module: name for name, module in self._tokenizer.named_modules()}
        tensors = {}
        for part, past in self._past.items():
            for module, frames in past.last_frames.items():
                tensors[f"{json.dumps(part)}|last_frames|{names[module]}"] = frames
            for module, pieces in past.keys_and_values.items():
                for index, piece in enumerate(pieces):
                    tensors[f"{json.dumps(part)}|keys_and_values|{names[module]}|{index}"] = piece
            for index, indices in enumerate(past.indices):
                tensors[f"{json.dumps(part)}|indices|{index}"] = indices
        return tensors

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """
        Takes the place of a stream whose `state_dict` this is.

        Raises:
            ValueError: for a name that is not of such a stream of this tokenizer.
        """
        modules = dict(self._tokenizer.named_modules())
        self._past.clear()
        # Pieces in their order.
        for name in sorted(
            tensors, key=lambda name: [int(part) if part.isdigit() else part for part in name.split("|")]
        ):
            part, kind, *place = name.split("|")
            key = json.loads(part)
            past = self._past[tuple(key) if isinstance(key, list) else key]
            tensor = tensors[name].to(self._tokenizer.device)
            past.is_empty = False
            if kind == "indices":
                past.indices.append(tensor)
            elif place[0] not in modules:
                raise ValueError(f"`tensors` must be of a stream of this tokenizer, which has no module '{place[0]}'.")
            elif kind == "last_frames":
                past.last_frames[modules[place[0]]] = tensor
            else:
                past.keys_and_values[modules[place[0]]].append(tensor)


def _num_frames(pieces: list[torch.Tensor]) -> int:
    return sum(piece.shape[-2] for piece in pieces)


def _tile_spans(size: int, tile: int, stride: int) -> list[tuple[int, int]]:
    """Start and end of equally long tiles that cover `size`; the last one is moved back to end at the border."""
    if size <= tile:
        return [(0, size)]
    return [(start, start + tile) for start in [*range(0, size - tile, stride), size - tile]]


def _cut_overlaps(spans: list[tuple[int, int]]) -> list[slice]:
    """The part of each tile to keep, relative to its start, when overlaps are cut in the middle."""
    cuts = [(end + start) // 2 for (_, end), (start, _) in zip(spans, spans[1:])]
    bounds = [spans[0][0], *cuts, spans[-1][1]]
    return [slice(low - start, high - start) for (start, _), low, high in zip(spans, bounds, bounds[1:])]


def _blend_weights(length: int, overlap: int, device: torch.device) -> torch.Tensor:
    """Weights `(length,)`, float32, that rise over `overlap` positions from either end of a tile."""
    distance = torch.arange(1, length + 1, device=device, dtype=torch.float32)
    return torch.minimum(distance, distance.flip(0)).clamp(max=max(overlap, 1))


class CosmosVideoTokenizer(ModelMixin, AutoencoderMixin, ConfigMixin):  # type: ignore[misc]  # bases of diffusers, in its order
    """Discrete video tokenizer with a temporally causal encoder and decoder.

    The defaults are the architecture of Cosmos-0.1-Tokenizer-DV4x8x8, whose codebook has 64,000 entries. A video of
    `1 + 4k` frames becomes `1 + k` latent frames, the first one standing for the first frame alone. Other lengths are
    completed by reflection at the end: decoding always returns `4 * latent_frames - 3` frames. The first latent
    frames depend on the first frames only, and the other way round.

    Args:
        in_channels: channels of the video to encode.
        out_channels: channels of the decoded video.
        latent_channels: channels between the networks and the projections to and from the codes.
        levels: values per code channel; as many code channels as there are entries.
        encoder_block_out_channels: channels of the first convolution and of each level of the encoder. All levels but
            the last can halve the resolution.
        decode_block_out_channels: the same for the decoder, from its output to its input.
        layers_per_block: residual blocks per level of the encoder; the decoder has one more.
        attention_resolutions: resolutions at which levels attend, for a video of `resolution` pixels. The middle
            blocks always do.
        resolution: nominal size of the video, used for nothing else.
        patch_size: edge of the blocks, in pixels and frames, that become channels before the first convolution.
        patch_type: "haar" for wavelets or "rearrange" for plain pixels.
        spatial_compression_ratio: pixels per code along height and along width, a power of two.
        temporal_compression_ratio: frames per latent frame, a power of two.
        dropout: dropout inside the residual blocks and after attention.
        norm: "frame", as in Cosmos, normalises whole frames. "position" normalises each position over its channels
            alone, so that a change in one corner leaves the codes of a static background as they are.
    """

    _supports_gradient_checkpointing = True
    # Each goes to the device when it is called, by `encode` and `decode` too, which are no `forward`.
    _group_offload_block_modules = ["encoder", "quant_conv", "post_quant_conv", "decoder"]
    # An error in these few weights moves every code. Norms and patches are left alone by default.
    _skip_layerwise_casting_patterns = ["quant_conv"]  # type: ignore[assignment]  # of diffusers: None, but lists are read

    if TYPE_CHECKING:

        @property
        def config(self) -> Any:
            """Its entries are attributes, too, which the annotation of diffusers does not tell."""

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 16,
        levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5),
        encoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        decode_block_out_channels: tuple[int, ...] = (256, 512, 512, 512),
        layers_per_block: int = 2,
        attention_resolutions: tuple[int, ...] = (32,),
        resolution: int = 1024,
        patch_size: int = 4,
        patch_type: str = "haar",
        spatial_compression_ratio: int = 8,
        temporal_compression_ratio: int = 4,
        dropout: float = 0.0,
        norm: str = "frame",
    ) -> None:
        super().__init__()
        self._check_config()
        shared = (layers_per_block, patch_size, patch_type, dropout, norm)
        down, up = self._levels()
        self.quantizer = FiniteScalarQuantizer(levels)
        self.encoder = CosmosEncoder3d(in_channels, latent_channels, down, *shared)
        self.decoder = CosmosDecoder3d(latent_channels, out_channels, up, *shared)
        self.quant_conv = SpatialConv3d(latent_channels, len(levels))
        self.post_quant_conv = SpatialConv3d(len(levels), latent_channels)

        self.use_slicing = False
        self.use_tiling = False
        self.tile_sample_min_height = 512
        self.tile_sample_min_width = 512
        self.tile_sample_stride_height = 448
        self.tile_sample_stride_width = 448
        # Of decoded frames; those before them are computed again from their indices.
        self.num_cached_latent_frames = 10

    def _check_config(self) -> None:
        config = self.config
        check_integer("layers_per_block", config.layers_per_block)
        if config.patch_type not in ("haar", "rearrange"):
            raise ValueError(f"`patch_type` must be 'haar' or 'rearrange', got {config.patch_type!r}.")
        if config.norm not in ("frame", "position"):
            raise ValueError(f"`norm` must be 'frame' or 'position', got {config.norm!r}.")
        for name in ("encoder_block_out_channels", "decode_block_out_channels"):
            if len(config[name]) < 2:
                raise ValueError(f"`{name}` must have at least two entries, got {tuple(config[name])}.")
        for name in ("patch_size", "spatial_compression_ratio", "temporal_compression_ratio"):
            value = config[name]
            if value < 1 or value & (value - 1):
                raise ValueError(f"`{name}` must be a power of two, got {value}.")
            if value < config.patch_size:
                raise ValueError(f"`{name}` must be at least `patch_size` {config.patch_size}, got {value}.")

    def _levels(self) -> tuple[list[Level], list[Level]]:
        """Levels of the encoder and of the decoder; both have to reach the compression that the configuration says."""
        config = self.config
        ratios = (config.spatial_compression_ratio, config.temporal_compression_ratio)
        shared = (config.attention_resolutions, config.resolution, config.patch_size, *ratios)
        down = encoder_levels(config.encoder_block_out_channels, *shared)
        up = decoder_levels(config.decode_block_out_channels, *shared)
        for channels, levels in (("encoder_block_out_channels", down), ("decode_block_out_channels", up)):
            for axis in ("spatial", "temporal"):
                ratio = f"{axis}_compression_ratio"
                reached = config.patch_size * 2 ** sum(getattr(level, axis) for level in levels)
                if reached != config[ratio]:
                    raise ValueError(
                        f"`{ratio}` is {config[ratio]}, but `{channels}` {tuple(config[channels])} with `patch_size` "
                        f"{config.patch_size} reaches {reached}: more levels or a larger patch are needed."
                    )
        return down, up

    @property
    def codebook_size(self) -> int:
        """Number of different indices, 64,000 for the default levels."""
        return self.quantizer.codebook_size

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
    ) -> None:
        """Encode and decode videos that are larger than a tile in overlapping tiles, to bound the memory they need.

        Decoded tiles are blended over their overlap. Encoded tiles are cut in the middle of it, as indices cannot be
        blended. Results differ slightly from those without tiles, because attention and norms see a tile at a time.

        Args:
            tile_sample_min_height: height of a tile in pixels, 512 by default.
            tile_sample_min_width: width of a tile in pixels, 512 by default.
            tile_sample_stride_height: pixels from one tile to the next below, 448 by default; the rest overlaps.
            tile_sample_stride_width: pixels from one tile to the next on the right, 448 by default.

        Raises:
            ValueError: if a size is not a multiple of the spatial compression or a stride is larger than its tile.
        """
        given = {
            "tile_sample_min_height": tile_sample_min_height,
            "tile_sample_min_width": tile_sample_min_width,
            "tile_sample_stride_height": tile_sample_stride_height,
            "tile_sample_stride_width": tile_sample_stride_width,
        }
        sizes = {name: getattr(self, name) if value is None else value for name, value in given.items()}
        ratio = self.config.spatial_compression_ratio
        for name, value in sizes.items():
            if value < ratio or value % ratio:
                raise ValueError(f"`{name}` must be a positive multiple of {ratio}, got {value}.")
        for axis in ("height", "width"):
            stride, tile = sizes[f"tile_sample_stride_{axis}"], sizes[f"tile_sample_min_{axis}"]
            if stride > tile:
                raise ValueError(f"`tile_sample_stride_{axis}` must be at most the tile's {tile}, got {stride}.")
        for name, value in sizes.items():
            setattr(self, name, value)
        self.use_tiling = True

    @overload
    def encode(self, video: torch.Tensor, return_dict: None = None) -> torch.Tensor: ...

    @overload
    def encode(self, video: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor] | CosmosEncoderOutput: ...

    @apply_forward_hook
    def encode(
        self, video: torch.Tensor, return_dict: bool | None = None
    ) -> torch.Tensor | tuple[torch.Tensor] | CosmosEncoderOutput:
        """Turn a video into code indices.

        Args:
            video: floating point `(batch, channels, frames, height, width)` with values in [-1, 1]; height and width
                have to be multiples of the spatial compression. The number of frames is free where patches alone
                compress time, as in the default; otherwise it has to be one more than a multiple.
            return_dict: True or False for what the autoencoders of diffusers return, an output class or a tuple. By
                default the tensor comes as it is.

        Returns:
            Indices `(batch, latent_frames, latent_height, latent_width)`, int32, from 0 to `codebook_size - 1`; with
            `return_dict` True as `.indices` of a [`CosmosEncoderOutput`], with False in a tuple.

        Raises:
            ValueError: if the shape or the dtype of the video is not as described, or a value is not finite.
        """
        self._check_video(video)
        self._check_finite(video)
        codes = self.quantize(self.encode_latents(video))
        indices = self.quantizer.codes_to_indices(codes.movedim(1, -1))
        if return_dict is None:
            return indices
        return CosmosEncoderOutput(indices=indices) if return_dict else (indices,)

    @overload
    def decode(self, indices: torch.Tensor, return_dict: None = None) -> torch.Tensor: ...

    @overload
    def decode(self, indices: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor] | DecoderOutput: ...

    def decode(
        self, indices: torch.Tensor, return_dict: bool | None = None
    ) -> torch.Tensor | tuple[torch.Tensor] | DecoderOutput:
        """Turn code indices into a video, one latent frame after another as in `decode_stream`.

        Beyond the video itself, the memory that is needed doesn't grow with its length. A compiled decoder gets all
        frames at once, in one graph.

        Args:
            indices: integers `(batch, latent_frames, latent_height, latent_width)`, from 0 to `codebook_size - 1`.
            return_dict: True or False for what the autoencoders of diffusers return, an output class or a tuple. By
                default the tensor comes as it is.

        Returns:
            Video `(batch, channels, frames, height, width)` in the model's dtype; about [-1, 1], not clamped. With
            `return_dict` True as `.sample` of a `DecoderOutput`, with False in a tuple.

        Raises:
            ValueError: if the shape, the dtype or the range of the indices is not as described.
        """
        self._check_indices(indices)
        if torch.compiler.is_compiling() or is_compiled(self.decoder):
            video = self._decode_next(indices, None)
        else:
            video = self._decode_frame_by_frame(indices)
        if return_dict is None:
            return video
        return DecoderOutput(sample=video) if return_dict else (video,)

    def _decode_frame_by_frame(self, indices: torch.Tensor) -> torch.Tensor:
        num_frames = 1 + self.config.temporal_compression_ratio * (indices.shape[1] - 1)
        parts = self.decode_stream(indices.split(1, dim=1))
        part = next(parts)
        video = part.new_empty(*part.shape[:2], num_frames, *part.shape[3:])
        start = 0
        for part in itertools.chain([part], parts):
            video[:, :, start : start + part.shape[2]] = part
            start += part.shape[2]
        return video

    def decode_stream(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Decode a video while its code indices arrive.

        The result equals that of decoding everything at once, up to rounding. Between chunks, only the last frames that
        convolutions reach back to, the keys and values that attention over time has of the last
        `num_cached_latent_frames` (an attribute of the model, 10 by default), and all indices are kept. For every
        chunk, keys and values of each earlier frame are computed again from its indices, in 7 to 10 % of the time that
        decoding a frame takes: to save it for long videos where memory allows, set the attribute to their number of
        latent frames. Attention over time that `attention_resolutions` adds to the decoder keeps all keys and values.
        A compiled decoder is run uncompiled here: its graph would change with every frame.

        Args:
            chunks: integers `(batch, latent_frames, latent_height, latent_width)`, one or more latent frames at a time.

        Yields:
            For every chunk its part of the video, `(batch, channels, frames, height, width)`: one frame for the first
            latent frame, as many as the temporal compression for others.

        Raises:
            ValueError: if the shape, the dtype or the range of indices is not as described.
        """
        stream = self.open_stream()
        for indices in chunks:
            yield stream.decode(indices)

    def open_stream(self) -> VideoStream:
        """A stream that is fed by hand, and can be forked and saved."""
        return VideoStream(self)

    @apply_forward_hook
    def _decode_next(self, indices: torch.Tensor, past: dict[Hashable, StreamedFrames] | None) -> torch.Tensor:
        """Continue a video, or decode a whole one without `past`, which belongs to parts of the batch and to tiles."""
        self._check_indices(indices)
        return self._decode_parts(self.indices_to_codes(indices), past)

    def forward(self, video: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """Reconstruct a video, differentiably: what training needs.

        Args:
            video: floating point `(batch, channels, frames, height, width)` with values in [-1, 1], as for `encode`.
            return_dict: whether to return an output class instead of a tuple.

        Returns:
            The reconstruction, of the same shape where the number of frames is one more than a multiple of the temporal
            compression: as `.sample` of a `DecoderOutput`, or in a tuple.

        Raises:
            ValueError: if the shape or the dtype of the video is not as described.
        """
        reconstruction = self.decode_codes(self.quantize(self.encode_latents(video)))
        return DecoderOutput(sample=reconstruction) if return_dict else (reconstruction,)

    def encode_latents(self, video: torch.Tensor) -> torch.Tensor:
        """Continuous latents `(batch, len(levels), latent_frames, latent_height, latent_width)` before quantizing."""
        self._check_video(video)
        video = video.to(self.dtype)
        parts = video.split(1) if self.use_slicing else [video]
        return torch.cat([self._encode_part(part) for part in parts])

    def quantize(self, latents: torch.Tensor) -> torch.Tensor:
        """Codes of latents, of the same shape, float32; gradients pass straight through."""
        return self.quantizer(latents.movedim(1, -1)).movedim(-1, 1)

    def indices_to_codes(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes `(batch, len(levels), latent_frames, latent_height, latent_width)` of indices, in the model's dtype."""
        # Unsigned integers of more than one byte have no arithmetic of their own.
        return self.quantizer.indices_to_codes(indices.long()).movedim(-1, 1).to(self.dtype)

    def decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Video `(batch, channels, frames, height, width)` of codes `(batch, len(levels), ...)` in [-1, 1]."""
        return self._decode_parts(codes.to(self.dtype), past=None)

    def _decode_parts(self, codes: torch.Tensor, past: dict[Hashable, StreamedFrames] | None) -> torch.Tensor:
        parts = codes.split(1) if self.use_slicing else [codes]
        return torch.cat([self._decode_part(part, index, past) for index, part in enumerate(parts)])

    def _encode_part(self, video: torch.Tensor) -> torch.Tensor:
        if self._exceeds_tile(video.shape[3], video.shape[4]):
            return self._encode_tiles(video)
        return self.quant_conv(self.encoder(video))

    def _decode_part(
        self, codes: torch.Tensor, part: int, past: dict[Hashable, StreamedFrames] | None
    ) -> torch.Tensor:
        ratio = self.config.spatial_compression_ratio
        if self._exceeds_tile(codes.shape[3] * ratio, codes.shape[4] * ratio):
            return self._decode_tiles(codes, part, past)
        return self._decode_tile(codes, None if past is None else past[part])

    def _decode_tile(self, codes: torch.Tensor, past: StreamedFrames | None) -> torch.Tensor:
        latents = self.post_quant_conv(codes)
        if past is None:
            return self.decoder(latents)
        # A compiled decoder would be compiled again for every number of frames that are remembered.
        with without_graphs(self.decoder):
            video = self.decoder(latents, past)
        past.add(codes)
        return video

    def _exceeds_tile(self, height: int, width: int) -> bool:
        return self.use_tiling and (height > self.tile_sample_min_height or width > self.tile_sample_min_width)

    def _latent_tile_spans(self, height: int, width: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        ratio = self.config.spatial_compression_ratio
        rows = _tile_spans(height, self.tile_sample_min_height // ratio, self.tile_sample_stride_height // ratio)
        columns = _tile_spans(width, self.tile_sample_min_width // ratio, self.tile_sample_stride_width // ratio)
        return rows, columns

    def _encode_tiles(self, video: torch.Tensor) -> torch.Tensor:
        ratio = self.config.spatial_compression_ratio
        rows, columns = self._latent_tile_spans(video.shape[3] // ratio, video.shape[4] // ratio)
        strips = []
        for (top, bottom), kept_rows in zip(rows, _cut_overlaps(rows)):
            strip = []
            for (left, right), kept_columns in zip(columns, _cut_overlaps(columns)):
                tile = video[..., top * ratio : bottom * ratio, left * ratio : right * ratio]
                strip.append(self.quant_conv(self.encoder(tile))[..., kept_rows, kept_columns])
            strips.append(torch.cat(strip, dim=-1))
        return torch.cat(strips, dim=-2)

    def _decode_tiles(
        self, codes: torch.Tensor, part: int, past: dict[Hashable, StreamedFrames] | None
    ) -> torch.Tensor:
        latent_height, latent_width = codes.shape[3:]
        ratio = self.config.spatial_compression_ratio
        size = (latent_height * ratio, latent_width * ratio)
        video: torch.Tensor | None = None
        total_weight = codes.new_zeros(size, dtype=torch.float32)
        row_overlap = self.tile_sample_min_height - self.tile_sample_stride_height
        column_overlap = self.tile_sample_min_width - self.tile_sample_stride_width
        rows, columns = self._latent_tile_spans(latent_height, latent_width)
        for top, bottom in rows:
            row_weights = _blend_weights((bottom - top) * ratio, row_overlap, codes.device)
            for left, right in columns:
                column_weights = _blend_weights((right - left) * ratio, column_overlap, codes.device)
                weight = row_weights[:, None] * column_weights
                tile_past = None if past is None else past[part, top, left]
                tile = self._decode_tile(codes[..., top:bottom, left:right], tile_past)
                if video is None:
                    video = tile.new_zeros(*tile.shape[:3], *size, dtype=torch.float32)
                area = (..., slice(top * ratio, bottom * ratio), slice(left * ratio, right * ratio))
                video[area] += tile * weight
                total_weight[area] += weight
        # There is at least one tile.
        return (cast(torch.Tensor, video) / total_weight).to(codes.dtype)

    def _check_video(self, video: torch.Tensor) -> None:
        channels = self.config.in_channels
        if not video.is_floating_point():
            raise ValueError(f"`video` must be floating point with values in [-1, 1], got {video.dtype}.")
        if video.ndim != 5 or video.shape[1] != channels or 0 in video.shape:
            raise ValueError(
                f"`video` must have the shape (batch, {channels}, frames, height, width), got {tuple(video.shape)}."
            )
        num_frames, height, width = video.shape[2:]
        ratio = self.config.spatial_compression_ratio
        if height % ratio or width % ratio:
            raise ValueError(f"`video` must have height and width divisible by {ratio}, got {height}x{width}.")
        ratio = self.config.temporal_compression_ratio
        reflects_end = self.config.patch_type == "haar" and self.config.patch_size == ratio
        if not reflects_end and (num_frames - 1) % ratio:
            raise ValueError(f"`video` must have 1 + {ratio}k frames, got {num_frames}.")

    @staticmethod
    def _check_finite(video: torch.Tensor) -> None:
        # A graph cannot depend on values.
        if torch.compiler.is_compiling():
            return
        # NaN wins every comparison here, so two numbers tell, without a mask of the video's size.
        if not all(bound.isfinite() for bound in video.detach().aminmax()):
            raise ValueError("`video` must have finite values in [-1, 1], got NaN or infinity.")

    def _check_indices(self, indices: torch.Tensor) -> None:
        if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
            raise ValueError(f"`indices` must be an integer tensor, got {indices.dtype}.")
        if indices.ndim != 4 or 0 in indices.shape:
            raise ValueError(
                "`indices` must have the shape (batch, latent_frames, latent_height, latent_width), got "
                f"{tuple(indices.shape)}."
            )
        # A graph cannot depend on values.
        if torch.compiler.is_compiling():
            return
        lowest, highest = (bound.item() for bound in indices.long().aminmax())
        if lowest < 0 or highest >= self.codebook_size:
            raise ValueError(
                f"`indices` must lie between 0 and {self.codebook_size - 1}, got values between {lowest} and {highest}."
            )
