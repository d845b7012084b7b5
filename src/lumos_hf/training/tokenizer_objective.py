# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What a video tokenizer is trained on: reconstruction."""

import torch
from torch import nn

from ..cosmos_video_tokenizer import CosmosVideoTokenizer


class TokenizerObjective(nn.Module):
    """Reconstruction losses around a [`CosmosVideoTokenizer`], in the form that a stock `Trainer` takes.

    The loss is `|error| + 2 error^2`, plus the same absolute error of the differences between neighbouring pixels,
    which keeps outlines sharp; gradients pass the quantizer straight through.

    Args:
        vqvae: the tokenizer to train.
        gradient_weight: weight of the difference term.
        foreground_weight: weight of pixels marked in `foreground`, relative to the others.
    """

    def __init__(self, vqvae: CosmosVideoTokenizer, gradient_weight: float = 1.0, foreground_weight: float = 5.0):
        super().__init__()
        self.vqvae = vqvae
        self.gradient_weight = gradient_weight
        self.foreground_weight = foreground_weight

    def forward(self, video: torch.Tensor, foreground: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """
        Args:
            video: `(batch, 3, frames, height, width)` in [-1, 1], frames of the form 4k + 1.
            foreground: bool `(batch, 1, frames, height, width)`, or None to weigh all pixels alike.

        Returns:
            `loss`, a scalar, and `reconstruction`, of the shape of `video`.
        """
        reconstruction = self.vqvae(video)
        error = reconstruction.float() - video
        if foreground is not None:
            error_weight = 1 + (self.foreground_weight - 1) * foreground.to(error.dtype)
            loss = ((error.abs() + 2 * error.square()) * error_weight).sum() / (error_weight.sum() * error.shape[1])
        else:
            loss = (error.abs() + 2 * error.square()).mean()
        differences = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return {"loss": loss + self.gradient_weight * differences, "reconstruction": reconstruction.detach()}
