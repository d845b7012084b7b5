# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The discrete video tokenizer of Cosmos (arXiv 2501.03575): video to code indices and back.

The network is the one of diffusers' continuous Cosmos autoencoder, with finite scalar quantization in between. Its
factorized convolutions, its resampling and its wavelets are computed here in equal formulations that are faster on
CPUs (1.8 times for a training step) and exist there in half precision too; names and values of parameters are those
of diffusers.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import chain

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_kl_cosmos import (
    CosmosCausalAttention,
    CosmosCausalConv3d,
    CosmosCausalGroupNorm,
    CosmosDecoder3d,
    CosmosDownsample3d,
    CosmosEncoder3d,
    CosmosPatchEmbed3d,
    CosmosTemporalAttentionProcessor2_0,
    CosmosUnpatcher3d,
    CosmosUpsample3d,
)
from diffusers.models.autoencoders.vae import AutoencoderMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


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
        levels = torch.tensor(levels)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", levels.cumprod(dim=0) // levels, persistent=False)

    def bound(self, latents: torch.Tensor, eps: float = 1e-3) -> torch.Tensor:
        """Squash latents `(..., channels)` to the ranges that round to `levels` integers, float32."""
        half_range = (self.levels - 1) * (1 + eps) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / half_range)
        return torch.tanh(latents.float() + shift) * half_range - offset

    def quantize(self, latents: torch.Tensor) -> torch.Tensor:
        """Codes `(..., channels)`, float32 in [-1, 1], of latents; the gradient of rounding passes straight through."""
        bounded = self.bound(latents)
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (self.levels // 2)

    def codes_to_indices(self, codes: torch.Tensor) -> torch.Tensor:
        """Indices `(...)`, int32, of codes `(..., channels)`."""
        half = self.levels // 2
        digits = (codes.float() * half + half).round().long()
        return (digits * self.basis).sum(dim=-1, dtype=torch.int32)

    def indices_to_codes(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes `(..., channels)`, float32, of integer indices `(...)`."""
        half = self.levels // 2
        digits = indices.unsqueeze(-1) // self.basis % self.levels
        return (digits - half).float() / half


@dataclass
class PastFrames:
    """What is remembered of the frames before those being decoded; empty before the first ones.

    Convolutions over time remember the last frames that they reach back to. Attention over time reaches back to the
    first frame. That of the decoder's middle block, the only one by default, remembers keys and values of the last
    frames alone and has those of earlier ones computed again from their indices.
    """

    tokenizer: "CosmosVideoTokenizer"
    indices: list[torch.Tensor] = field(default_factory=list)
    last_frames: dict[nn.Module, torch.Tensor] = field(default_factory=dict)
    keys_and_values: dict[nn.Module, list[torch.Tensor]] = field(default_factory=lambda: defaultdict(list))

    @property
    def is_empty(self) -> bool:
        return not self.indices

    @contextmanager
    def continued(self, codes: torch.Tensor) -> Iterator[None]:
        """Lets all modules of decoders called inside take their input for the continuation of what is remembered."""
        token = _past_frames.set(self)
        try:
            yield
        finally:
            _past_frames.reset(token)
        # All that grows with the length of a video, so in the most compact form: four bytes per latent position.
        self.indices.append(self.tokenizer.quantizer.codes_to_indices(codes.movedim(1, -1)))

    def remember(self, attention: nn.Module, keys_and_values: torch.Tensor) -> None:
        """Add keys and values `(2, ..., frames, channels)`; forget the oldest ones where there are too many."""
        pieces = self.keys_and_values[attention]
        pieces.append(keys_and_values)
        if attention is self.tokenizer.decoder.mid_block.temp_attentions[0]:
            while _num_frames(pieces) > self.tokenizer.num_cached_latent_frames:
                del pieces[0]

    def recompute_forgotten(self, attention: nn.Module) -> Iterator[torch.Tensor]:
        """What the attention got for the frames that it has forgotten, one after another to save memory."""
        num_past = sum(indices.shape[1] for indices in self.indices)
        num_forgotten = num_past - _num_frames(self.keys_and_values[attention])
        if num_forgotten == 0:
            return
        again = PastFrames(self.tokenizer)
        for indices in torch.cat(self.indices, dim=1)[:, :num_forgotten].split(1, dim=1):
            codes = self.tokenizer.indices_to_codes(indices)
            with again.continued(codes):
                hidden_states = self.tokenizer.decode_to_time_attention(codes)
            yield hidden_states


# None where whole videos are computed.
_past_frames: ContextVar[PastFrames | None] = ContextVar("past_frames", default=None)


def _starts_video() -> bool:
    past = _past_frames.get()
    return past is None or past.is_empty


def _num_frames(pieces: list[torch.Tensor]) -> int:
    return sum(piece.shape[-2] for piece in pieces)


def _fold_frames(video: torch.Tensor) -> torch.Tensor:
    """`(batch, channels, frames, height, width)` to `(batch * frames, channels, height, width)`, channels last."""
    return video.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _unfold_frames(frames: torch.Tensor, batch_size: int) -> torch.Tensor:
    return frames.unflatten(0, (batch_size, -1)).transpose(1, 2)


def _fold_space(video: torch.Tensor) -> torch.Tensor:
    """`(batch, channels, frames, height, width)` to `(batch, channels, frames, height * width)`, channels last."""
    return video.flatten(3).contiguous(memory_format=torch.channels_last)


class FactorizedCausalConv3d(CosmosCausalConv3d):
    """A causal convolution whose kernel spans space or time but not both, computed as a 2-D convolution.

    Equal to `CosmosCausalConv3d`. All tensors keep their channels last in memory, as CPU kernels want them.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.kernel_size[0] == 1:
            return self._convolve_space(hidden_states)
        return self._convolve_time(hidden_states)

    def _convolve_space(self, hidden_states: torch.Tensor) -> torch.Tensor:
        frames = _fold_frames(hidden_states)
        weight = self.weight.squeeze(2)
        frames = F.conv2d(frames, weight, self.bias, stride=self.stride[1:], padding=self.spatial_pad[0])
        return _unfold_frames(frames, hidden_states.shape[0])

    def _convolve_time(self, hidden_states: torch.Tensor) -> torch.Tensor:
        lines = self._extend_to_past(_fold_space(hidden_states))
        lines = F.conv2d(lines, self.weight.squeeze(4), self.bias, stride=(self.stride[0], 1))
        return lines.unflatten(3, hidden_states.shape[3:])

    def _extend_to_past(self, lines: torch.Tensor) -> torch.Tensor:
        past = _past_frames.get()
        if _starts_video():
            # Autocast would copy to float32 and back only to repeat the first frame.
            with torch.autocast(lines.device.type, enabled=False):
                lines = F.pad(lines, (0, 0, self.temporal_pad, 0), mode="replicate")
        else:
            lines = torch.cat([past.last_frames[self], lines], dim=2)
        if past is not None:
            # A view would keep all frames alive.
            past.last_frames[self] = lines[:, :, lines.shape[2] - self.temporal_pad :].clone()
        return lines


class FactorizedDownsample3d(CosmosDownsample3d):
    """Equal to `CosmosDownsample3d`, with 2-D pooling: CPUs have no 3-D pooling in half precision."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.spatial_downsample:
            hidden_states = F.pad(hidden_states, (0, 1, 0, 1))
            pooled = F.avg_pool2d(_fold_frames(hidden_states), kernel_size=2)
            hidden_states = self.conv1(hidden_states) + _unfold_frames(pooled, hidden_states.shape[0])
        if self.temporal_downsample:
            hidden_states = torch.cat([hidden_states[:, :, :1], hidden_states], dim=2)
            pooled = F.avg_pool2d(_fold_space(hidden_states), kernel_size=(2, 1))
            hidden_states = self.conv2(hidden_states) + pooled.unflatten(3, hidden_states.shape[3:])
        return self.conv3(hidden_states)


class FactorizedUpsample3d(CosmosUpsample3d):
    """Equal to `CosmosUpsample3d`, but keeps the channels last in memory."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.temporal_upsample:
            size = hidden_states.shape[3:]
            lines = F.interpolate(_fold_space(hidden_states), scale_factor=(2.0, 1.0))
            # The first frame of a video stands for itself alone.
            hidden_states = lines.unflatten(3, size)[:, :, 1 if _starts_video() else 0 :]
            hidden_states = self.conv1(hidden_states) + hidden_states
        if self.spatial_upsample:
            frames = F.interpolate(_fold_frames(hidden_states), scale_factor=2.0)
            hidden_states = _unfold_frames(frames, hidden_states.shape[0])
            hidden_states = self.conv2(hidden_states) + hidden_states
        return self.conv3(hidden_states)


class HaarPatchEmbed3d(CosmosPatchEmbed3d):
    """The causal Haar wavelet transform of Cosmos as one matrix product per block of pixels.

    Equal to `CosmosPatchEmbed3d`, which runs fourteen convolutions over single channels for every level.
    """

    def __init__(self, channels: int, patch_size: int) -> None:
        super().__init__(patch_size, "haar")
        unit_blocks = torch.eye(channels * patch_size**3).unflatten(1, (channels, *[patch_size] * 3))
        for _ in range(int(math.log2(patch_size))):
            unit_blocks = self._dwt(unit_blocks, rescale=True)
        self.register_buffer("matrix", unit_blocks.flatten(1), persistent=False)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        blocks = video[:, :, self._frame_order(video.shape[2])]
        size = self.patch_size
        blocks = blocks.unflatten(4, (-1, size)).unflatten(3, (-1, size)).unflatten(2, (-1, size))
        blocks = blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        return (blocks @ self.matrix.to(blocks.dtype)).movedim(-1, 1)

    def _frame_order(self, num_frames: int) -> list[int]:
        """Indices of frames that fill whole blocks: the first frame fills one, each level reflects an odd end."""
        order = [0] * self.patch_size + list(range(1, num_frames))
        unit = 1
        while unit < self.patch_size:
            if len(order) // unit % 2:
                order += order[-2 * unit : -unit]
            unit *= 2
        return order


class HaarUnpatcher3d(CosmosUnpatcher3d):
    """The inverse of `HaarPatchEmbed3d` without the repeats of the first frame; equal to `CosmosUnpatcher3d`."""

    def __init__(self, channels: int, patch_size: int) -> None:
        super().__init__(patch_size, "haar")
        unit_coefficients = torch.eye(channels * patch_size**3)[:, :, None, None, None]
        for _ in range(int(math.log2(patch_size))):
            unit_coefficients = self._idwt(unit_coefficients, rescale=True)
        self.register_buffer("matrix", unit_coefficients.flatten(1), persistent=False)

    def forward(self, coefficients: torch.Tensor) -> torch.Tensor:
        size = self.patch_size
        coefficients = coefficients.movedim(1, -1)
        blocks = (coefficients @ self.matrix.to(coefficients.dtype)).unflatten(-1, (-1, size, size, size))
        video = blocks.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6).flatten(4, 5).flatten(2, 3)
        return video[:, :, size - 1 if _starts_video() else 0 :]


class RearrangingUnpatcher3d(CosmosUnpatcher3d):
    """Equal to `CosmosUnpatcher3d`, but can also go on with a video, where no frames are repeats of the first one."""

    def forward(self, blocks: torch.Tensor) -> torch.Tensor:
        if _starts_video():
            return super().forward(blocks)
        # All but one frame of the first block count as repeats.
        return super().forward(torch.cat([blocks[:, :, :1], blocks], dim=2))[:, :, 1:]


class TimeAttentionProcessor(CosmosTemporalAttentionProcessor2_0):
    """Attention of every position to its own past, equal to that of Cosmos, but can also go on with a video."""

    def __call__(
        self,
        attn: CosmosCausalAttention,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        past = _past_frames.get()
        if past is None:
            return super().__call__(attn, hidden_states, attention_mask)

        def project(projection: nn.Module, normed: torch.Tensor) -> torch.Tensor:
            """`(batch * height * width, heads, frames, channels per head)`"""
            lines = projection(normed).permute(0, 3, 4, 2, 1).flatten(0, 2)
            return lines.unflatten(2, (attn.num_attention_heads, -1)).transpose(1, 2)

        def keys_and_values(normed: torch.Tensor) -> torch.Tensor:
            return torch.stack([project(attn.to_k, normed), project(attn.to_v, normed)])

        batch_size, _, _, *size = hidden_states.shape
        normed = attn.norm(hidden_states)
        present = keys_and_values(normed)
        forgotten = (keys_and_values(attn.norm(inputs)) for inputs in past.recompute_forgotten(attn))
        earlier = chain(past.keys_and_values[attn], forgotten)
        lines = _attend_in_pieces(project(attn.to_q, normed), present, earlier)
        past.remember(attn, present)

        attended = lines.transpose(1, 2).flatten(2).unflatten(0, (batch_size, *size)).permute(0, 4, 3, 1, 2)
        for module in attn.to_out:
            attended = module(attended)
        return attended + hidden_states


def _attend_in_pieces(query: torch.Tensor, present: torch.Tensor, past: Iterable[torch.Tensor]) -> torch.Tensor:
    """Causal attention to the present frames and to all past ones, of which only a piece is in memory at a time.

    The softmax over all pieces is completed as they come (arXiv 1805.02867), in float32.

    Args:
        query: `(..., present_frames, channels)`.
        present: keys and values of the same frames, `(2, ..., present_frames, channels)`.
        past: keys and values of earlier frames, `(2, ..., frames, channels)`.
    """
    query = query * query.shape[-1] ** -0.5
    future = torch.ones(query.shape[-2], query.shape[-2], dtype=torch.bool, device=query.device).triu(1)
    keys, values = present
    scores = (query @ keys.transpose(-2, -1)).float().masked_fill(future, -torch.inf)
    highest = scores.amax(-1, keepdim=True)
    weights = (scores - highest).exp()
    total = weights.sum(-1, keepdim=True)
    attended = (weights.to(values.dtype) @ values).float()
    for keys, values in past:
        scores = (query @ keys.transpose(-2, -1)).float()
        previous, highest = highest, torch.maximum(highest, scores.amax(-1, keepdim=True))
        weights, decay = (scores - highest).exp(), (previous - highest).exp()
        total = total * decay + weights.sum(-1, keepdim=True)
        attended = attended * decay + weights.to(values.dtype) @ values
    return (attended / total).to(query.dtype)


class PositionNorm(CosmosCausalGroupNorm):
    """Normalises every position over its channels alone, where Cosmos normalises over a whole frame."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        norm = self.norm
        hidden_states = hidden_states.movedim(1, -1)
        return F.layer_norm(hidden_states, (norm.num_channels,), norm.weight, norm.bias, norm.eps).movedim(-1, 1)


_FACTORIZED = {
    CosmosCausalConv3d: FactorizedCausalConv3d,
    CosmosDownsample3d: FactorizedDownsample3d,
    CosmosUpsample3d: FactorizedUpsample3d,
    CosmosUnpatcher3d: RearrangingUnpatcher3d,
}


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


class CosmosVideoTokenizer(ModelMixin, AutoencoderMixin, ConfigMixin):
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
        self.quantizer = FiniteScalarQuantizer(levels)
        shared = (
            layers_per_block,
            attention_resolutions,
            resolution,
            patch_size,
            patch_type,
            dropout,
            spatial_compression_ratio,
            temporal_compression_ratio,
        )
        self.encoder = CosmosEncoder3d(in_channels, latent_channels, encoder_block_out_channels, *shared)
        self.decoder = CosmosDecoder3d(latent_channels, out_channels, decode_block_out_channels, *shared)
        self.quant_conv = CosmosCausalConv3d(latent_channels, len(levels), kernel_size=1, padding=0)
        self.post_quant_conv = CosmosCausalConv3d(len(levels), latent_channels, kernel_size=1, padding=0)
        self._check_compression()
        self._replace_formulations()

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
        if config.patch_type not in ("haar", "rearrange"):
            raise ValueError(f"`patch_type` must be 'haar' or 'rearrange', got {config.patch_type!r}.")
        if config.norm not in ("frame", "position"):
            raise ValueError(f"`norm` must be 'frame' or 'position', got {config.norm!r}.")
        for name in ("patch_size", "spatial_compression_ratio", "temporal_compression_ratio"):
            value = config[name]
            if value < 1 or value & (value - 1):
                raise ValueError(f"`{name}` must be a power of two, got {value}.")
            if value < config.patch_size:
                raise ValueError(f"`{name}` must be at least `patch_size` {config.patch_size}, got {value}.")

    def _check_compression(self) -> None:
        """Diffusers lets only some levels resample: ratios they cannot reach would silently give other shapes."""
        down = [module for module in self.encoder.modules() if isinstance(module, CosmosDownsample3d)]
        up = [module for module in self.decoder.modules() if isinstance(module, CosmosUpsample3d)]
        halvings = {
            ("encoder_block_out_channels", "spatial_compression_ratio"): sum(m.spatial_downsample for m in down),
            ("encoder_block_out_channels", "temporal_compression_ratio"): sum(m.temporal_downsample for m in down),
            ("decode_block_out_channels", "spatial_compression_ratio"): sum(m.spatial_upsample for m in up),
            ("decode_block_out_channels", "temporal_compression_ratio"): sum(m.temporal_upsample for m in up),
        }
        for (channels, ratio), count in halvings.items():
            reached = self.config.patch_size * 2**count
            if reached != self.config[ratio]:
                raise ValueError(
                    f"`{ratio}` is {self.config[ratio]}, but `{channels}` {tuple(self.config[channels])} with "
                    f"`patch_size` {self.config.patch_size} reaches {reached}: more levels or a larger patch are needed."
                )

    def _replace_formulations(self) -> None:
        """Change how submodules compute, never what: the classes set here have the parameters of the replaced ones."""
        config = self.config
        for module in self.modules():
            module.__class__ = _FACTORIZED.get(type(module), type(module))
            if config.norm == "position" and isinstance(module, CosmosCausalGroupNorm):
                module.__class__ = PositionNorm
            if isinstance(getattr(module, "processor", None), CosmosTemporalAttentionProcessor2_0):
                module.processor = TimeAttentionProcessor()
        if config.patch_type == "haar":
            self.encoder.patch_embed = HaarPatchEmbed3d(config.in_channels, config.patch_size)
            self.decoder.unpatch_embed = HaarUnpatcher3d(config.out_channels, config.patch_size)

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

    @apply_forward_hook
    def encode(self, video: torch.Tensor) -> torch.Tensor:
        """Turn a video into code indices.

        Args:
            video: floating point `(batch, channels, frames, height, width)` with values in [-1, 1]; height and width
                have to be multiples of the spatial compression. The number of frames is free where patches alone
                compress time, as in the default; otherwise it has to be one more than a multiple.

        Returns:
            Indices `(batch, latent_frames, latent_height, latent_width)`, int32, from 0 to `codebook_size - 1`.

        Raises:
            ValueError: if the shape or the dtype of the video is not as described.
        """
        codes = self.quantize(self.encode_latents(video))
        return self.quantizer.codes_to_indices(codes.movedim(1, -1))

    def decode(self, indices: torch.Tensor) -> torch.Tensor:
        """Turn code indices into a video, one latent frame after another as in `decode_stream`.

        Beyond the video itself, the memory that is needed doesn't grow with its length.

        Args:
            indices: integers `(batch, latent_frames, latent_height, latent_width)`, from 0 to `codebook_size - 1`.

        Returns:
            Video `(batch, channels, frames, height, width)` in the model's dtype; about [-1, 1], not clamped.

        Raises:
            ValueError: if the shape, the dtype or the range of the indices is not as described.
        """
        self._check_indices(indices)
        ratio = self.config.temporal_compression_ratio
        video, start = None, 0
        for part in self.decode_stream(indices.split(1, dim=1)):
            if video is None:
                num_frames = 1 + ratio * (indices.shape[1] - 1)
                video = part.new_empty(*part.shape[:2], num_frames, *part.shape[3:])
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

        Args:
            chunks: integers `(batch, latent_frames, latent_height, latent_width)`, one or more latent frames at a time.

        Yields:
            For every chunk its part of the video, `(batch, channels, frames, height, width)`: one frame for the first
            latent frame, as many as the temporal compression for others.

        Raises:
            ValueError: if the shape, the dtype or the range of indices is not as described.
        """
        past = defaultdict(lambda: PastFrames(self))
        for indices in chunks:
            yield self._decode_next(indices, past)

    @apply_forward_hook
    def _decode_next(self, indices: torch.Tensor, past: dict[Hashable, PastFrames]) -> torch.Tensor:
        """Continue a video; the past belongs to parts of the batch and to tiles."""
        self._check_indices(indices)
        return self._decode_parts(self.indices_to_codes(indices), past)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Reconstruct a video `(batch, channels, frames, height, width)`, differentiably: what training needs."""
        return self.decode_codes(self.quantize(self.encode_latents(video)))

    def encode_latents(self, video: torch.Tensor) -> torch.Tensor:
        """Continuous latents `(batch, len(levels), latent_frames, latent_height, latent_width)` before quantizing."""
        self._check_video(video)
        video = video.to(self.dtype)
        parts = video.split(1) if self.use_slicing else [video]
        return torch.cat([self._encode_part(part) for part in parts])

    def quantize(self, latents: torch.Tensor) -> torch.Tensor:
        """Codes of latents, of the same shape, float32; gradients pass straight through."""
        return self.quantizer.quantize(latents.movedim(1, -1)).movedim(-1, 1)

    def indices_to_codes(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes `(batch, len(levels), latent_frames, latent_height, latent_width)` of indices, in the model's dtype."""
        return self.quantizer.indices_to_codes(indices).movedim(-1, 1).to(self.dtype)

    def decode_to_time_attention(self, codes: torch.Tensor) -> torch.Tensor:
        """The part of the decoder that comes before the attention over time of its middle block."""
        mid_block = self.decoder.mid_block
        hidden_states = self.decoder.conv_in(self.post_quant_conv(codes))
        return mid_block.attentions[0](mid_block.resnets[0](hidden_states))

    def decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Video `(batch, channels, frames, height, width)` of codes `(batch, len(levels), ...)` in [-1, 1]."""
        return self._decode_parts(codes.to(self.dtype), past=None)

    def _decode_parts(self, codes: torch.Tensor, past: dict[Hashable, PastFrames] | None) -> torch.Tensor:
        parts = codes.split(1) if self.use_slicing else [codes]
        return torch.cat([self._decode_part(part, index, past) for index, part in enumerate(parts)])

    def _encode_part(self, video: torch.Tensor) -> torch.Tensor:
        if self._exceeds_tile(video.shape[3], video.shape[4]):
            return self._encode_tiles(video)
        return self.quant_conv(self.encoder(video))

    def _decode_part(self, codes: torch.Tensor, part: int, past: dict[Hashable, PastFrames] | None) -> torch.Tensor:
        ratio = self.config.spatial_compression_ratio
        if self._exceeds_tile(codes.shape[3] * ratio, codes.shape[4] * ratio):
            return self._decode_tiles(codes, part, past)
        return self._decode_tile(codes, None if past is None else past[part])

    def _decode_tile(self, codes: torch.Tensor, past: PastFrames | None) -> torch.Tensor:
        with nullcontext() if past is None else past.continued(codes):
            return self.decoder(self.post_quant_conv(codes))

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

    def _decode_tiles(self, codes: torch.Tensor, part: int, past: dict[Hashable, PastFrames] | None) -> torch.Tensor:
        latent_height, latent_width = codes.shape[3:]
        ratio = self.config.spatial_compression_ratio
        size = (latent_height * ratio, latent_width * ratio)
        video = None
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
        return (video / total_weight).to(codes.dtype)

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

    def _check_indices(self, indices: torch.Tensor) -> None:
        if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
            raise ValueError(f"`indices` must be an integer tensor, got {indices.dtype}.")
        if indices.ndim != 4 or 0 in indices.shape:
            raise ValueError(
                "`indices` must have the shape (batch, latent_frames, latent_height, latent_width), got "
                f"{tuple(indices.shape)}."
            )
        lowest, highest = (bound.item() for bound in indices.aminmax())
        if lowest < 0 or highest >= self.codebook_size:
            raise ValueError(
                f"`indices` must lie between 0 and {self.codebook_size - 1}, got values between {lowest} and {highest}."
            )
