# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer
from lumos_hf.training.tokenizer_objective import TokenizerObjective


@pytest.fixture
def vqvae():
    return CosmosVideoTokenizer(
        levels=(4, 3),
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8),
        decode_block_out_channels=(8, 8, 8),
        layers_per_block=1,
    )


@pytest.mark.slow
def test_gradients_reach_encoder_and_decoder_through_the_quantizer(vqvae):
    video = torch.rand(2, 3, 5, 16, 16) * 2 - 1
    TokenizerObjective(vqvae)(video)["loss"].backward()
    assert vqvae.encoder.conv_in.parameters().__next__().grad.abs().sum() > 0
    assert vqvae.decoder.conv_out.parameters().__next__().grad.abs().sum() > 0


@pytest.mark.slow
def test_errors_in_the_foreground_weigh_more(vqvae):
    objective = TokenizerObjective(vqvae, gradient_weight=0.0)
    error = torch.zeros(1, 3, 5, 16, 16)
    error[..., :8, :] = 1
    foreground = torch.zeros(1, 1, 5, 16, 16, dtype=torch.bool)
    plain = objective._reconstruction_loss(error, foreground)
    foreground[..., :8, :] = True
    assert objective._reconstruction_loss(error, foreground) == pytest.approx(plain.item() * 5 / 3)


def test_codes_of_equal_pixels_are_compared_and_no_others(vqvae):
    objective = TokenizerObjective(vqvae, consistency_weight=1.0)
    video = torch.rand(1, 3, 9, 16, 24).repeat(2, 1, 1, 1, 1)
    video[1, 0, 0, 0, 0] += 0.1
    video[1, 0, 5, 15, 23] += 0.1
    same = objective._same_cells(video)
    expected = torch.ones(1, 3, 2, 3, dtype=torch.bool)
    expected[0, 0, 0, 0] = False
    expected[0, 2, 1, 2] = False
    torch.testing.assert_close(same, expected)


@pytest.mark.slow
def test_consistency_is_zero_for_equal_clips_only(vqvae):
    objective = TokenizerObjective(vqvae, consistency_weight=1.0)
    video = torch.rand(1, 3, 5, 16, 16).repeat(2, 1, 1, 1, 1) * 2 - 1
    assert objective._consistency_loss(vqvae.encode_latents(video), video) == 0
    video[1, :, :, :8, :8] *= -1
    assert objective._consistency_loss(vqvae.encode_latents(video), video) > 0
