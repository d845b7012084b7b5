# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The networks of the Cosmos tokenizers (arXiv 2501.03575), from pixels to latents and back.

Structure, names and values of parameters are those of the continuous Cosmos autoencoder in diffusers; a test holds the
two equal. What differs is how they compute:
- Factorized convolutions, resampling and wavelets have equal formulations that are faster on CPUs (1.8 times for a
  training step) and exist there in half precision too.
- Everything that looks back in time takes `past`, so that a decoder can go on with a video. None stands for a whole one.

Videos and hidden states are `(batch, channels, frames, height, width)`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from torch import nn


class PastFrames:
    """What is remembered of the frames before those being decoded; empty before the first ones.

    Convolutions over time remember the last frames that they reach back to. Attention over time reaches back to the
    first frame, and remembers the keys and values of all of them here.
    """

    def __init__(self) -> None:
        self.is_empty = True
        self.last_frames: dict[nn.Module, torch.Tensor] = {}
        self.keys_and_values: dict[nn.Module, list[torch.Tensor]] = defaultdict(list)

    def remember(self, attention: nn.Module, keys_and_values: torch.Tensor) -> None:
        """Add keys and values `(2, ..., frames, channels)`."""
        self.keys_and_values[attention].append(keys_and_values)

    def forgotten_inputs(self, attention: nn.Module) -> Iterator[torch.Tensor]:
        """Hidden states that the attention got for frames whose keys and values are no longer remembered."""
        return iter(())


def _starts_video(past: PastFrames | None) -> bool:
    return past is None or past.is_empty


def _fold_frames(video: torch.Tensor) -> torch.Tensor:
    """`(batch, channels, frames, height, width)` to `(batch * frames, channels, height, width)`, channels last."""
    return video.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _unfold_frames(frames: torch.Tensor, batch_size: int) -> torch.Tensor:
    return frames.unflatten(0, (batch_size, -1)).transpose(1, 2)


def _fold_space(video: torch.Tensor) -> torch.Tensor:
    """`(batch, channels, frames, height, width)` to `(batch, channels, frames, height * width)`, channels last."""
    return video.flatten(3).contiguous(memory_format=torch.channels_last)


class SpatialConv3d(nn.Conv3d):
    """A convolution inside each frame, computed as a 2-D one. Channels stay last in memory, as CPU kernels want them."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(in_channels, out_channels, (1, kernel_size, kernel_size), (1, stride, stride))
        self.spatial_padding = padding

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        frames = _fold_frames(hidden_states)
        weight = self.weight.squeeze(2)
        frames = F.conv2d(frames, weight, self.bias, stride=self.stride[1:], padding=self.spatial_padding)
        return _unfold_frames(frames, hidden_states.shape[0])


class CausalConv3d(nn.Conv3d):
    """A convolution of every position with its two previous frames; before the first frame come repeats of it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, (3, 1, 1), (stride, 1, 1))
        # Where time is halved, the caller has repeated the first frame once.
        self.num_previous = 3 - stride

    def forward(self, hidden_states: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        lines = self._extend_to_past(_fold_space(hidden_states), past)
        lines = F.conv2d(lines, self.weight.squeeze(4), self.bias, stride=(self.stride[0], 1))
        return lines.unflatten(3, hidden_states.shape[3:])

    def _extend_to_past(self, lines: torch.Tensor, past: PastFrames | None) -> torch.Tensor:
        if past is None or past.is_empty:
            # Autocast would copy to float32 and back only to repeat the first frame.
            with torch.autocast(lines.device.type, enabled=False):
                lines = F.pad(lines, (0, 0, self.num_previous, 0), mode="replicate")
        else:
            lines = torch.cat([past.last_frames[self], lines], dim=2)
        if past is not None:
            # A view would keep all frames alive.
            past.last_frames[self] = lines[:, :, lines.shape[2] - self.num_previous :].clone()
        return lines


class SpaceTimeConv3d(nn.Module):
    """A 3x3x3 convolution in two factors: over space, then over time."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_s = SpatialConv3d(in_channels, out_channels, kernel_size=3, padding=1)
        self.conv_t = CausalConv3d(out_channels, out_channels)

    def forward(self, hidden_states: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        return self.conv_t(self.conv_s(hidden_states), past)


class FrameNorm(nn.Module):
    """Normalises every frame over its positions and channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=1e-6)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return _unfold_frames(self.norm(hidden_states.transpose(1, 2).flatten(0, 1)), hidden_states.shape[0])


class PositionNorm(nn.Module):
    """Normalises every position over its channels alone. The parameters are those of `FrameNorm`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.norm(hidden_states.movedim(1, -1)).movedim(-1, 1)


# By the tokenizer's `norm`.
NORMS: dict[str, Callable[[int], nn.Module]] = {"frame": FrameNorm, "position": PositionNorm}


class ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.norm1 = NORMS[norm](in_channels)
        self.conv1 = SpaceTimeConv3d(in_channels, out_channels)
        self.norm2 = NORMS[norm](out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = SpaceTimeConv3d(out_channels, out_channels)
        same = in_channels == out_channels
        self.conv_shortcut = nn.Identity() if same else SpatialConv3d(in_channels, out_channels)

    def forward(self, hidden_states: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        shortcut = self.conv_shortcut(hidden_states)
        # Line by line, so that what is used up is freed.
        hidden_states = self.norm1(hidden_states)
        hidden_states = F.silu(hidden_states)
        hidden_states = self.conv1(hidden_states, past)
        hidden_states = self.norm2(hidden_states)
        hidden_states = F.silu(hidden_states)
        hidden_states = self.conv2(self.dropout(hidden_states), past)
        return hidden_states + shortcut


class Downsample3d(nn.Module):
    """Halves space, time or both by a strided convolution added to the mean."""

    def __init__(self, channels: int, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial, temporal
        if spatial:
            self.conv1 = SpatialConv3d(channels, channels, kernel_size=3, stride=2)
        if temporal:
            self.conv2 = CausalConv3d(channels, channels, stride=2)
        self.conv3 = SpatialConv3d(channels, channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        # In 2-D: CPUs have no 3-D pooling in half precision.
        if self.spatial:
            hidden_states = F.pad(hidden_states, (0, 1, 0, 1))
            pooled = F.avg_pool2d(_fold_frames(hidden_states), kernel_size=2)
            hidden_states = self.conv1(hidden_states) + _unfold_frames(pooled, hidden_states.shape[0])
        if self.temporal:
            hidden_states = torch.cat([hidden_states[:, :, :1], hidden_states], dim=2)
            pooled = F.avg_pool2d(_fold_space(hidden_states), kernel_size=(2, 1))
            hidden_states = self.conv2(hidden_states) + pooled.unflatten(3, hidden_states.shape[3:])
        return self.conv3(hidden_states)


class Upsample3d(nn.Module):
    """Doubles space, time or both by repetition and a convolution of it added."""

    def __init__(self, channels: int, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial, temporal
        if temporal:
            self.conv1 = CausalConv3d(channels, channels)
        if spatial:
            self.conv2 = SpatialConv3d(channels, channels, kernel_size=3, padding=1)
        self.conv3 = SpatialConv3d(channels, channels)

    def forward(self, hidden_states: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        if self.temporal:
            size = hidden_states.shape[3:]
            lines = F.interpolate(_fold_space(hidden_states), scale_factor=(2.0, 1.0))
            # The first frame of a video stands for itself alone.
            hidden_states = lines.unflatten(3, size)[:, :, 1 if _starts_video(past) else 0 :]
            hidden_states = self.conv1(hidden_states, past) + hidden_states
        if self.spatial:
            frames = F.interpolate(_fold_frames(hidden_states), scale_factor=2.0)
            hidden_states = _unfold_frames(frames, hidden_states.shape[0])
            hidden_states = self.conv2(hidden_states) + hidden_states
        return self.conv3(hidden_states)


class _Attention(nn.Module):
    """What attention over space and over time share: one head, and a residual connection."""

    def __init__(self, channels: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.norm = NORMS[norm](channels)
        self.to_q = SpatialConv3d(channels, channels)
        self.to_k = SpatialConv3d(channels, channels)
        self.to_v = SpatialConv3d(channels, channels)
        self.to_out = nn.ModuleList([SpatialConv3d(channels, channels), nn.Dropout(dropout)])

    def _add_projected(self, attended: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        for module in self.to_out:
            attended = module(attended)
        return attended + hidden_states


class SpatialAttention(_Attention):
    """Attention of every position to all positions of its frame."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        normed = self.norm(hidden_states)
        query, key, value = (self._lines(project(normed)) for project in (self.to_q, self.to_k, self.to_v))
        lines = F.scaled_dot_product_attention(query, key, value)
        attended = lines.squeeze(1).unflatten(1, hidden_states.shape[3:]).unflatten(0, (hidden_states.shape[0], -1))
        return self._add_projected(attended.permute(0, 4, 1, 2, 3), hidden_states)

    def _lines(self, projected: torch.Tensor) -> torch.Tensor:
        """`(batch * frames, 1, height * width, channels)`: fused kernels want an axis for heads."""
        return projected.permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1).unsqueeze(1)


class TemporalAttention(_Attention):
    """Attention of every position to its own past."""

    def forward(self, hidden_states: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        normed = self.norm(hidden_states)
        query = self._lines(self.to_q(normed))
        if past is None:
            key, value = self._lines(self.to_k(normed)), self._lines(self.to_v(normed))
            lines = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            present = self._keys_and_values(normed)
            forgotten = (self._keys_and_values(self.norm(inputs)) for inputs in past.forgotten_inputs(self))
            lines = _attend_in_pieces(query, present, chain(past.keys_and_values[self], forgotten))
            past.remember(self, present)
        batch_size, _, _, *size = hidden_states.shape
        attended = lines.squeeze(1).unflatten(0, (batch_size, *size)).permute(0, 4, 3, 1, 2)
        return self._add_projected(attended, hidden_states)

    def _keys_and_values(self, normed: torch.Tensor) -> torch.Tensor:
        """`(2, batch * height * width, 1, frames, channels)`"""
        return torch.stack([self._lines(self.to_k(normed)), self._lines(self.to_v(normed))])

    def _lines(self, projected: torch.Tensor) -> torch.Tensor:
        """`(batch * height * width, 1, frames, channels)`: fused kernels want an axis for heads."""
        return projected.permute(0, 3, 4, 2, 1).flatten(0, 2).unsqueeze(1)


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


@dataclass(frozen=True)
class Level:
    """A level of the encoder or the decoder, and which axes it resamples at its end."""

    in_channels: int
    out_channels: int
    attends: bool
    spatial: bool
    temporal: bool


def encoder_levels(
    block_out_channels: Sequence[int],
    attention_resolutions: Sequence[int],
    resolution: int,
    patch_size: int,
    spatial_compression_ratio: int,
    temporal_compression_ratio: int,
) -> list[Level]:
    """All levels but the last can halve the resolution; the first ones do, until patches and levels compress enough."""
    resolution //= patch_size
    levels = []
    for index, (in_channels, out_channels) in enumerate(pairwise(block_out_channels)):
        resamples = index < len(block_out_channels) - 2
        levels.append(
            Level(
                in_channels,
                out_channels,
                attends=resolution // 2**index in attention_resolutions,
                spatial=resamples and index < _num_halvings(spatial_compression_ratio, patch_size),
                temporal=resamples and index < _num_halvings(temporal_compression_ratio, patch_size),
            )
        )
    return levels


def decoder_levels(
    block_out_channels: Sequence[int],
    attention_resolutions: Sequence[int],
    resolution: int,
    patch_size: int,
    spatial_compression_ratio: int,
    temporal_compression_ratio: int,
) -> list[Level]:
    """The levels of the decoder, from its input to its output. In Cosmos, the first one never doubles time."""
    num_spatial = _num_halvings(spatial_compression_ratio, patch_size)
    num_temporal = _num_halvings(temporal_compression_ratio, patch_size)
    lowest_resolution = resolution // patch_size // 2 ** (len(block_out_channels) - 2)
    levels = []
    for index, (in_channels, out_channels) in enumerate(pairwise(reversed(block_out_channels))):
        resamples = index < len(block_out_channels) - 2
        temporal = resamples and 0 < index <= num_temporal
        spatial = resamples and (temporal or (index < num_spatial and num_spatial > num_temporal))
        attends = lowest_resolution * 2**index in attention_resolutions
        levels.append(Level(in_channels, out_channels, attends, spatial, temporal))
    return levels


def _num_halvings(compression_ratio: int, patch_size: int) -> int:
    """How many levels have to compress what patches leave; both are powers of two."""
    return int(math.log2(compression_ratio)) - int(math.log2(patch_size))


class _LayeredBlock(nn.Module):
    """Residual blocks, each followed by attention over space and over time if the level attends."""

    def __init__(self, level: Level, num_layers: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.resnets = nn.ModuleList()
        self.attentions = nn.ModuleList()
        self.temp_attentions = nn.ModuleList()
        in_channels = level.in_channels
        for _ in range(num_layers):
            self.resnets.append(ResidualBlock(in_channels, level.out_channels, dropout, norm))
            in_channels = level.out_channels
            if level.attends:
                self.attentions.append(SpatialAttention(level.out_channels, dropout, norm))
                self.temp_attentions.append(TemporalAttention(level.out_channels, dropout, norm))

    def forward(self, hidden_states: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        for index, resnet in enumerate(self.resnets):
            hidden_states = resnet(hidden_states, past)
            if index < len(self.attentions):
                hidden_states = self.temp_attentions[index](self.attentions[index](hidden_states), past)
        return hidden_states


class MidBlock3d(_LayeredBlock):
    """The level of the lowest resolution: attention between two residual blocks."""

    def __init__(self, channels: int, dropout: float, norm: str) -> None:
        level = Level(channels, channels, attends=True, spatial=False, temporal=False)
        super().__init__(level, 1, dropout, norm)
        self.resnets.append(ResidualBlock(channels, channels, dropout, norm))


def _resamplers(resampler: type[nn.Module], level: Level) -> nn.ModuleList:
    """One, or none where the size stays."""
    is_resampled = level.spatial or level.temporal
    return nn.ModuleList([resampler(level.out_channels, level.spatial, level.temporal)] if is_resampled else [])


class DownBlock3d(_LayeredBlock):
    """A level of the encoder."""

    def __init__(self, level: Level, num_layers: int, dropout: float, norm: str) -> None:
        super().__init__(level, num_layers, dropout, norm)
        self.downsamplers = _resamplers(Downsample3d, level)

    def forward(self, hidden_states: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        hidden_states = super().forward(hidden_states, past)
        for downsampler in self.downsamplers:
            hidden_states = downsampler(hidden_states)
        return hidden_states


class UpBlock3d(_LayeredBlock):
    """A level of the decoder."""

    def __init__(self, level: Level, num_layers: int, dropout: float, norm: str) -> None:
        super().__init__(level, num_layers, dropout, norm)
        self.upsamplers = _resamplers(Upsample3d, level)

    def forward(self, hidden_states: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        hidden_states = super().forward(hidden_states, past)
        for upsampler in self.upsamplers:
            hidden_states = upsampler(hidden_states, past)
        return hidden_states


def haar_matrix(channels: int, patch_size: int) -> torch.Tensor:
    """
    The Haar wavelet transform of blocks of `patch_size` pixels and frames, as Cosmos scales and orders it.

    A level turns every 2x2x2 block into its mean and seven mean differences, the lowest band first. Entries are signed
    powers of two, so the matrix is exact in any dtype. Its inverse is its transpose times `patch_size**3`.

    Returns:
        `(channels * patch_size**3, channels * patch_size**3)`, float32: a row per pixel, ordered by channel, frame, row
        and column; a column per coefficient.
    """
    mean_and_difference = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2
    blocks = torch.eye(channels * patch_size**3).unflatten(1, (channels, *[patch_size] * 3))
    for _ in range(int(math.log2(patch_size))):
        pairs = blocks.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        bands = torch.einsum("nctxhywz,ix,jy,kz->nijkcthw", pairs, *[mean_and_difference] * 3)
        blocks = bands.flatten(1, 4)
    return blocks.flatten(1)


class PatchEmbed3d(nn.Module):
    """Blocks of pixels and frames become channels, by wavelets ("haar") or as they are ("rearrange").

    The first frame fills a block of its own. Wavelets are one matrix product per block, where diffusers runs fourteen
    convolutions over single channels for every level.
    """

    def __init__(self, channels: int, patch_size: int, patch_type: str) -> None:
        super().__init__()
        self.patch_size = patch_size
        matrix = haar_matrix(channels, patch_size) if patch_type == "haar" else None
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        blocks = video[:, :, self._frame_order(video.shape[2])]
        size = self.patch_size
        blocks = blocks.unflatten(4, (-1, size)).unflatten(3, (-1, size)).unflatten(2, (-1, size))
        blocks = blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        if self.matrix is not None:
            blocks = blocks @ self.matrix.to(blocks.dtype)
        return blocks.movedim(-1, 1)

    def _frame_order(self, num_frames: int) -> list[int]:
        """Indices of frames that fill whole blocks: the first frame fills one, each level reflects an odd end."""
        order = [0] * self.patch_size + list(range(1, num_frames))
        unit = 1
        while unit < self.patch_size:
            if len(order) // unit % 2:
                order += order[-2 * unit : -unit]
            unit *= 2
        return order


class Unpatch3d(nn.Module):
    """The inverse of `PatchEmbed3d`, without the repeats of the first frame."""

    matrix: torch.Tensor | None

    def __init__(self, channels: int, patch_size: int, patch_type: str) -> None:
        super().__init__()
        self.patch_size = patch_size
        # Contiguous, as offloading to disk wants it.
        inverse = (haar_matrix(channels, patch_size).T * patch_size**3).contiguous() if patch_type == "haar" else None
        self.register_buffer("matrix", inverse, persistent=False)

    def forward(self, coefficients: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        size = self.patch_size
        blocks = coefficients.movedim(1, -1)
        if self.matrix is not None:
            blocks = blocks @ self.matrix.to(blocks.dtype)
        blocks = blocks.unflatten(-1, (-1, size, size, size))
        video = blocks.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6).flatten(4, 5).flatten(2, 3)
        return video[:, :, size - 1 if _starts_video(past) else 0 :]


class CosmosEncoder3d(nn.Module):
    """Video in [-1, 1] to latents.

    Args:
        in_channels: channels of the video.
        latent_channels: channels of the latents.
        levels: the levels, from [`encoder_levels`].
        layers_per_block: residual blocks per level.
        patch_size: edge of the blocks, in pixels and frames, that become channels first.
        patch_type: "haar" or "rearrange".
        dropout: dropout inside the residual blocks and after attention.
        norm: "frame" or "position".
    """

    # Set by `enable_gradient_checkpointing` of diffusers.
    _gradient_checkpointing_func: Callable[..., torch.Tensor]

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        levels: Sequence[Level],
        layers_per_block: int,
        patch_size: int,
        patch_type: str,
        dropout: float,
        norm: str,
    ) -> None:
        super().__init__()
        highest_channels, lowest_channels = levels[0].in_channels, levels[-1].out_channels
        self.patch_embed = PatchEmbed3d(in_channels, patch_size, patch_type)
        self.conv_in = SpaceTimeConv3d(in_channels * patch_size**3, highest_channels)
        self.down_blocks = nn.ModuleList([DownBlock3d(level, layers_per_block, dropout, norm) for level in levels])
        self.mid_block = MidBlock3d(lowest_channels, dropout, norm)
        self.norm_out = NORMS[norm](lowest_channels)
        self.conv_out = SpaceTimeConv3d(lowest_channels, latent_channels)
        self.gradient_checkpointing = False

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        hidden_states = self.conv_in(self.patch_embed(video))
        for block in [*self.down_blocks, self.mid_block]:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(block, hidden_states)
            else:
                hidden_states = block(hidden_states)
        hidden_states = self.norm_out(hidden_states)
        hidden_states = F.silu(hidden_states)
        return self.conv_out(hidden_states)


class CosmosDecoder3d(nn.Module):
    """Latents to video in about [-1, 1].

    Args:
        latent_channels: channels of the latents.
        out_channels: channels of the video.
        levels: the levels, from [`decoder_levels`].
        layers_per_block: residual blocks per level, less one.
        patch_size: edge of the blocks, in pixels and frames, that channels become last.
        patch_type: "haar" or "rearrange".
        dropout: dropout inside the residual blocks and after attention.
        norm: "frame" or "position".
    """

    # Set by `enable_gradient_checkpointing` of diffusers.
    _gradient_checkpointing_func: Callable[..., torch.Tensor]

    def __init__(
        self,
        latent_channels: int,
        out_channels: int,
        levels: Sequence[Level],
        layers_per_block: int,
        patch_size: int,
        patch_type: str,
        dropout: float,
        norm: str,
    ) -> None:
        super().__init__()
        lowest_channels, highest_channels = levels[0].in_channels, levels[-1].out_channels
        self.conv_in = SpaceTimeConv3d(latent_channels, lowest_channels)
        self.mid_block = MidBlock3d(lowest_channels, dropout, norm)
        self.up_blocks = nn.ModuleList([UpBlock3d(level, layers_per_block + 1, dropout, norm) for level in levels])
        self.norm_out = NORMS[norm](highest_channels)
        self.conv_out = SpaceTimeConv3d(highest_channels, out_channels * patch_size**3)
        self.unpatch_embed = Unpatch3d(out_channels, patch_size, patch_type)
        self.gradient_checkpointing = False

    def forward(self, latents: torch.Tensor, past: PastFrames | None = None) -> torch.Tensor:
        hidden_states = self.mid_block(self.conv_in(latents, past), past)
        for block in self.up_blocks:
            # What is past would be another one when a block is computed again.
            if torch.is_grad_enabled() and self.gradient_checkpointing and past is None:
                hidden_states = self._gradient_checkpointing_func(block, hidden_states)
            else:
                hidden_states = block(hidden_states, past)
        hidden_states = self.norm_out(hidden_states)
        hidden_states = F.silu(hidden_states)
        hidden_states = self.conv_out(hidden_states, past)
        return self.unpatch_embed(hidden_states, past)

    def time_attention_inputs(self, latents: torch.Tensor, past: PastFrames) -> torch.Tensor:
        """The part of the network that comes before the attention over time of its middle block."""
        resnet, attention = self.mid_block.resnets[0], self.mid_block.attentions[0]
        return attention(resnet(self.conv_in(latents, past), past))
