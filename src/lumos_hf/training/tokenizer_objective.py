# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What a video tokenizer is trained on: reconstruction, and the same code for what looks the same."""

import torch
import torch.nn.functional as F
from torch import nn

from ..cosmos_video_tokenizer import CosmosVideoTokenizer


class TokenizerObjective(nn.Module):
    """Training losses around a [`CosmosVideoTokenizer`], in the form that a stock `Trainer` takes.

    - Reconstruction: `|error| + 2 error^2`, plus the absolute error of the differences between neighbouring pixels,
      which keeps outlines sharp. Gradients pass the quantizer straight through.
    - Consistency: consecutive clips of a batch are pairs. Where both have equal pixels under a code, their latents are
      drawn together. Codes then depend on what they cover and not on what happens elsewhere in the frame, which makes
      them far easier to predict.

    Args:
        vqvae: the tokenizer to train.
        gradient_weight: weight of the difference term.
        foreground_weight: weight of the pixels marked in `foreground`, relative to the others.
        consistency_weight: weight of the consistency term; 0 leaves it out, and batches need no pairs then.
    """

    def __init__(
        self,
        vqvae: CosmosVideoTokenizer,
        gradient_weight: float = 1.0,
        foreground_weight: float = 5.0,
        consistency_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.vqvae = vqvae
        self.gradient_weight = gradient_weight
        self.foreground_weight = foreground_weight
        self.consistency_weight = consistency_weight

    def forward(self, video: torch.Tensor, foreground: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """
        Args:
            video: `(batch, 3, frames, height, width)` in [-1, 1], frames of the form 4k + 1.
            foreground: bool `(batch, 1, frames, height, width)`, or None to weigh all pixels alike.

        Returns:
            `loss`, a scalar, and `reconstruction`, of the shape of `video`.
        """
        latents = self.vqvae.encode_latents(video)
        reconstruction = self.vqvae.decode_codes(self.vqvae.quantize(latents))
        loss = self._reconstruction_loss(reconstruction.float() - video, foreground)
        if self.consistency_weight > 0:
            loss = loss + self.consistency_weight * self._consistency_loss(latents, video)
        return {"loss": loss, "reconstruction": reconstruction.detach()}

    def _reconstruction_loss(self, error: torch.Tensor, foreground: torch.Tensor | None) -> torch.Tensor:
        pixel_loss = error.abs() + 2 * error.square()
        if foreground is not None:
            weight = 1 + (self.foreground_weight - 1) * foreground.to(error.dtype)
            pixel_loss = pixel_loss * weight / weight.mean()
        differences = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return pixel_loss.mean() + self.gradient_weight * differences

    def _consistency_loss(self, latents: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
        bounded = self.vqvae.quantizer.bound(latents.movedim(1, -1))
        same = self._same_cells(video)
        distance = (bounded[::2] - bounded[1::2]).square().mean(dim=-1)
        return (distance * same).sum() / same.sum().clamp(min=1)

    def _same_cells(self, video: torch.Tensor) -> torch.Tensor:
        """Bool `(batch / 2, t, h, w)`: under which codes the two clips of a pair have equal pixels."""
        config = self.vqvae.config
        differs = (video[::2] != video[1::2]).any(dim=1).float()
        # The first code covers one frame, every later one a whole step of the temporal compression.
        differs = torch.cat([differs[:, :1].expand(-1, config.temporal_compression_ratio - 1, -1, -1), differs], dim=1)
        cell = (config.temporal_compression_ratio, *[config.spatial_compression_ratio] * 2)
        return F.max_pool3d(differs, cell) == 0
