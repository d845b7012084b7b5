# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The video tokenizer against the official code: patches, latents, indices, codes and reconstructions."""

import hashlib
import json
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from lumos_hf.conversion.cosmos import convert_cosmos_tokenizer
from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer


class Checkpoint(NamedTuple):
    tokenizer: CosmosVideoTokenizer
    facts: dict
    tensors: dict[str, torch.Tensor]

    def cases(self):
        """Input and results of every case, each a dict of `video`, `latent`, `indices`, and so on."""
        prefixes = [f"c{case['case']}." for case in self.facts["cases"]]
        for prefix in prefixes:
            yield {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def checkpoints(golden):
    directories = sorted(path for path in (golden / "tokenizer").iterdir() if path.is_dir())
    assert directories
    return [
        Checkpoint(
            convert_cosmos_tokenizer(directory).requires_grad_(False),
            json.loads((directory / "cases.json").read_text(encoding="utf-8")),
            load_file(directory / "cases.safetensors"),
        )
        for directory in directories
    ]


@pytest.fixture(scope="module")
def cases(checkpoints):
    return [(checkpoint.tokenizer, case) for checkpoint in checkpoints for case in checkpoint.cases()]


def assert_within(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def test_encoding(cases):
    for tokenizer, case in cases:
        latents = tokenizer.encode_latents(case["video"])
        assert_within(latents, case["latent"], 1e-4)
        assert torch.equal(tokenizer.quantize(latents), case["codes"])
        indices = tokenizer.encode(case["video"])
        assert indices.dtype == torch.int32
        assert torch.equal(indices, case["indices"])


def test_decoding(cases):
    for tokenizer, case in cases:
        assert_within(tokenizer.decode(case["indices"]), case["reconstruction"], 2e-5)
        assert_within(tokenizer.decode_codes(case["codes"]), case["reconstruction"], 2e-5)
        assert_within(tokenizer(case["video"]).sample, case["reconstruction"], 2e-5)


def test_beginnings_depend_on_beginnings_alone(cases):
    for tokenizer, case in cases:
        for num_frames in range(1, case["video"].shape[2], 4):
            latent_frames = 1 + num_frames // 4
            indices = case["indices"][:, :latent_frames]
            assert torch.equal(tokenizer.encode(case["video"][:, :, :num_frames]), indices)
            assert_within(tokenizer.decode(indices), case["reconstruction"][:, :, :num_frames], 2e-5)


def test_slicing(cases):
    assert any(len(case["video"]) > 1 for _, case in cases)
    for tokenizer, case in cases:
        tokenizer.enable_slicing()
        indices, video = tokenizer.encode(case["video"]), tokenizer.decode(case["indices"])
        tokenizer.disable_slicing()
        assert torch.equal(indices, case["indices"])
        assert_within(video, case["reconstruction"], 2e-5)


def test_patches(checkpoints):
    for tokenizer, _, tensors in checkpoints:
        assert_within(tokenizer.encoder.patch_embed(tensors["patch.video"]), tensors["patch.out"], 1e-6)
        assert_within(tokenizer.decoder.unpatch_embed(tensors["patch.out"]), tensors["unpatch.out"], 1e-6)


def test_quantizer(checkpoints):
    for tokenizer, _, tensors in checkpoints:
        quantizer = tokenizer.quantizer
        latents = tensors["fsq.z"].movedim(1, -1)
        assert_within(quantizer.bound(latents), tensors["fsq.bounded"], 1e-6)
        codes = quantizer.quantize(latents)
        assert torch.equal(codes, tensors["fsq.codes"].movedim(1, -1))
        assert torch.equal(quantizer.codes_to_indices(codes), tensors["fsq.indices"])
        edge_codes = quantizer.quantize(tensors["fsq.edge_z"])
        assert torch.equal(edge_codes, tensors["fsq.edge_codes"])
        assert torch.equal(quantizer.codes_to_indices(edge_codes), tensors["fsq.edge_indices"])
        assert torch.equal(quantizer.indices_to_codes(tensors["fsq.sample_indices"]), tensors["fsq.sample_codes"])


def test_all_codes(checkpoints):
    for tokenizer, facts, _ in checkpoints:
        codes = tokenizer.quantizer.indices_to_codes(torch.arange(tokenizer.codebook_size))
        assert list(codes.shape) == facts["fsq_all_codes"]["shape"]
        digest = hashlib.sha256(codes.numpy().astype("<f4").tobytes()).hexdigest()
        assert digest == facts["fsq_all_codes"]["sha256_float32_le"]
