# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The discrete Cosmos video tokenizer (DV4x8x8 by default): video to code indices and back."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_kl_cosmos import (
    CosmosCausalConv3d,
    CosmosCausalGroupNorm,
    CosmosDecoder3d,
    CosmosEncoder3d,
    CosmosPatchEmbed3d,
    CosmosUnpatcher3d,
)
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


class FiniteScalarQuantizer(nn.Module):
    """Finite scalar quantization (Mentzer et al., 2023, arXiv 2309.15505) with the conventions of Cosmos.

    Every channel is squashed to a range of `levels[i]` integers and rounded. Codes are these integers divided by
    `levels[i] // 2`: eight levels become -1, -0.75, ..., 0.75, five become -1, -0.5, 0, 0.5, 1. The index of a
    position is `sum((code * half + half) * basis)` with `half = levels // 2` and the first channel running fastest.
    All arithmetic is float32, whatever the dtype of the input and also under autocast.

    Args:
        levels: number of values each channel can take; their product is the size of the codebook.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if len(levels) == 0 or any(level < 2 for level in levels):
            raise ValueError(f"`levels` has to be a non-empty sequence of integers of at least 2, but is {levels}.")
        levels = torch.tensor(levels, dtype=torch.int64)
        basis = torch.cumprod(levels, dim=0) // levels
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", basis, persistent=False)
        self.codebook_size = int(levels.prod())

    def bound(self, latents: torch.Tensor, eps: float = 1e-3) -> torch.Tensor:
        """Squash channel-last latents `(..., channels)` to the range that rounds to `levels` integers (float32)."""
        latents = latents.float()
        half_range = (self.levels - 1) * (1 + eps) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / half_range)
        return torch.tanh(latents + shift) * half_range - offset

    def quantize(self, latents: torch.Tensor) -> torch.Tensor:
        """Codes `(..., channels)` in [-1, 1] of channel-last latents, float32; gradients pass straight through."""
        bounded = self.bound(latents)
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (self.levels // 2)

    def codes_to_indices(self, codes: torch.Tensor) -> torch.Tensor:
        """Indices `(...)`, int32, of codes `(..., channels)`."""
        half = self.levels // 2
        digits = (codes.float() * half + half).round().to(torch.int32)
        return (digits * self.basis).sum(dim=-1, dtype=torch.int32)

    def indices_to_codes(self, indices: torch.Tensor) -> torch.Tensor:
        """Codes `(..., channels)`, float32, of integer indices `(...)`."""
        half = self.levels // 2
        digits = indices.unsqueeze(-1) // self.basis % self.levels
        return (digits - half).float() / half


class FactorizedCausalConv3d(CosmosCausalConv3d):
    """A causal convolution whose kernel spans space or time but not both, computed as a 2-D convolution.

    Parameters and results are those of `CosmosCausalConv3d`. The 2-D formulation is several times faster on CPUs and
    keeps the channels last in memory, so that no step between two convolutions has to reorder its input.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.kernel_size[0] == 1:
            return self._convolve_space(hidden_states)
        return self._convolve_time(hidden_states)

    def _convolve_space(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch_size = hidden_states.shape[0]
        frames = hidden_states.transpose(1, 2).flatten(0, 1)
        frames = frames.contiguous(memory_format=torch.channels_last)
        padding = self.spatial_pad[0]
        frames = F.conv2d(frames, self.weight.squeeze(2), self.bias, stride=self.stride[1:], padding=padding)
        return frames.unflatten(0, (batch_size, -1)).transpose(1, 2)

    def _convolve_time(self, hidden_states: torch.Tensor) -> torch.Tensor:
        size = hidden_states.shape[3:]
        lines = hidden_states.flatten(3).contiguous(memory_format=torch.channels_last)
        # Autocast would copy to float32 and back to repeat the first frame.
        with torch.autocast(lines.device.type, enabled=False):
            lines = F.pad(lines, (0, 0, self.temporal_pad, 0), mode="replicate")
        lines = F.conv2d(lines, self.weight.squeeze(4), self.bias, stride=(self.stride[0], 1))
        return lines.unflatten(3, size)


class HaarPatchEmbed3d(CosmosPatchEmbed3d):
    """The causal Haar wavelet transform of Cosmos as one matrix product per block of pixels.

    Equal to `CosmosPatchEmbed3d`, which runs fourteen convolutions of one channel each for every level.
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
        for dim in (4, 3, 2):
            blocks = blocks.unflatten(dim, (-1, size))
        # (batch, channel, t, in-block t, h, in-block h, w, in-block w): in-block axes go last, after the channel
        blocks = blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        return (blocks @ self.matrix.to(blocks.dtype)).movedim(-1, 1)

    def _frame_order(self, num_frames: int) -> list[int]:
        """Frames that fill whole blocks: the first one fills a block of its own; each level reflects an odd end."""
        order = [0] * self.patch_size + list(range(1, num_frames))
        unit = 1
        while unit < self.patch_size:
            if len(order) // unit % 2:
                order += order[-2 * unit : -unit]
            unit *= 2
        return order


class HaarUnpatcher3d(CosmosUnpatcher3d):
    """The inverse of `HaarPatchEmbed3d`, without the repeated first frames; equal to `CosmosUnpatcher3d`."""

    def __init__(self, channels: int, patch_size: int) -> None:
        super().__init__(patch_size, "haar")
        unit_coefficients = torch.eye(channels * patch_size**3)[:, :, None, None, None]
        for _ in range(int(math.log2(patch_size))):
            unit_coefficients = self._idwt(unit_coefficients, rescale=True)
        self.register_buffer("matrix", unit_coefficients.flatten(1), persistent=False)

    def forward(self, coefficients: torch.Tensor) -> torch.Tensor:
        coefficients = coefficients.movedim(1, -1)
        size = self.patch_size
        blocks = coefficients @ self.matrix.to(coefficients.dtype)
        blocks = blocks.unflatten(-1, (-1, size, size, size)).permute(0, 4, 1, 5, 2, 6, 3, 7)
        video = blocks.flatten(6).flatten(4, 5).flatten(2, 3)
        return video[:, :, size - 1 :]


class PositionNorm(CosmosCausalGroupNorm):
    """Normalises every position over its channels alone, so that a static background keeps static features."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        channels_last = hidden_states.movedim(1, -1)
        norm = self.norm
        channels_last = F.layer_norm(channels_last, (norm.num_channels,), norm.weight, norm.bias, norm.eps)
        return channels_last.movedim(-1, 1)


class CosmosVideoTokenizer(ModelMixin, ConfigMixin):
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
        self.quantizer = FiniteScalarQuantizer(levels)
        if patch_type == "haar":
            self.encoder.patch_embed = HaarPatchEmbed3d(in_channels, patch_size)
            self.decoder.unpatch_embed = HaarUnpatcher3d(out_channels, patch_size)
        for module in self.modules():
            if type(module) is CosmosCausalConv3d:
                module.__class__ = FactorizedCausalConv3d
            if type(module) is CosmosCausalGroupNorm and norm == "position":
                module.__class__ = PositionNorm

    def encode_latents(self, video: torch.Tensor) -> torch.Tensor:
        return self.quant_conv(self.encoder(video))

    def quantize(self, latents: torch.Tensor) -> torch.Tensor:
        return self.quantizer.quantize(latents.movedim(1, -1)).movedim(-1, 1)

    def decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.post_quant_conv(codes.to(self.dtype)))

    @apply_forward_hook
    def encode(self, video: torch.Tensor) -> torch.Tensor:
        codes = self.quantize(self.encode_latents(video))
        return self.quantizer.codes_to_indices(codes.movedim(1, -1))

    @apply_forward_hook
    def decode(self, indices: torch.Tensor) -> torch.Tensor:
        return self.decode_codes(self.quantizer.indices_to_codes(indices).movedim(-1, 1))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.decode_codes(self.quantize(self.encode_latents(video)))
