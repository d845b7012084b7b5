# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import copy
import json

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers.models.autoencoders.autoencoder_kl_cosmos import CosmosDecoder3d, CosmosEncoder3d
from diffusers.models.autoencoders.vae import DecoderOutput
from torch.profiler import ProfilerActivity, profile

from lumos_hf.cosmos_blocks import TemporalAttention
from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer, FiniteScalarQuantizer, StreamedFrames


TINY = {
    "latent_channels": 8,
    "levels": (8, 5, 5, 5),
    "encoder_block_out_channels": (8, 8, 16, 16),
    "decode_block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 1,
}


def tiny_tokenizer(**changes):
    """Random weights, with latents spread widely enough to use many codes."""
    torch.manual_seed(0)
    tokenizer = CosmosVideoTokenizer(**{**TINY, **changes}).eval()
    with torch.no_grad():
        tokenizer.quant_conv.weight *= 20
    return tokenizer


def random_video(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def smooth_video(height, width, num_frames=1):
    rows = torch.linspace(0, 9, height)[:, None]
    columns = torch.linspace(0, 7, width)
    frames = [
        torch.stack([(rows + t).sin() + 0 * columns, (columns - t).cos() + 0 * rows, (rows * columns / 9).sin()])
        for t in range(num_frames)
    ]
    return torch.stack(frames, dim=1)[None]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def video():
    return random_video(2, 3, 9, 32, 48)


@pytest.mark.parametrize("num_frames, latent_frames", [(1, 1), (2, 2), (4, 2), (5, 2), (6, 3), (9, 3), (13, 4)])
def test_shapes_and_dtypes_for_any_number_of_frames(tokenizer, num_frames, latent_frames):
    with torch.no_grad():
        indices = tokenizer.encode(random_video(1, 3, num_frames, 16, 24))
        decoded = tokenizer.decode(indices)
    assert indices.shape == (1, latent_frames, 2, 3)
    assert indices.dtype == torch.int32
    assert 0 <= indices.min() and indices.max() < tokenizer.codebook_size == 1000
    assert decoded.shape == (1, 3, 4 * latent_frames - 3, 16, 24)


def test_decode_takes_any_integer_dtype(tokenizer):
    indices = torch.arange(12).view(1, 2, 2, 3)
    with torch.no_grad():
        assert torch.equal(tokenizer.decode(indices), tokenizer.decode(indices.int()))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int16])
def test_decode_takes_what_codes_are_stored_as(tokenizer, dtype):
    indices = torch.arange(12).view(1, 2, 2, 3)
    with torch.no_grad():
        expected = tokenizer.decode(indices)
        assert torch.equal(tokenizer.decode(indices.to(dtype)), expected)
        assert torch.equal(
            torch.cat(list(tokenizer.decode_stream(indices.to(dtype).split(1, dim=1))), dim=2), expected
        )
    if dtype == torch.uint16:
        with pytest.raises(ValueError, match="between 0 and 999, got values between 1000 and 65535"):
            tokenizer.decode(torch.tensor([1000, 65535], dtype=dtype).view(1, 1, 1, 2))


@pytest.mark.slow
@torch.no_grad()
def test_outputs_as_in_diffusers_and_the_short_way(tokenizer, video):
    indices, decoded = tokenizer.encode(video), tokenizer.decode(tokenizer.encode(video))
    assert torch.equal(tokenizer.encode(video, return_dict=True).indices, indices)
    assert torch.equal(tokenizer.decode(indices, return_dict=True).sample, decoded)
    (in_tuple,) = tokenizer.encode(video, return_dict=False)
    assert torch.equal(in_tuple, indices)
    (in_tuple,) = tokenizer.decode(indices, return_dict=False)
    assert torch.equal(in_tuple, decoded)
    reconstruction = tokenizer(video)
    assert isinstance(reconstruction, DecoderOutput)
    (in_tuple,) = tokenizer(video, return_dict=False)
    assert torch.equal(reconstruction.sample, in_tuple) and torch.equal(reconstruction[0], in_tuple)


@pytest.mark.slow
def test_default_is_the_official_architecture():
    with torch.device("meta"):
        encoder = CosmosEncoder3d(3, 16, (128, 256, 512, 512), 2, (32,), 1024, 4, "haar", 0.0, 8, 4)
        decoder = CosmosDecoder3d(16, 3, (256, 512, 512, 512), 2, (32,), 1024, 4, "haar", 0.0, 8, 4)
    tokenizer = CosmosVideoTokenizer()
    assert tokenizer.codebook_size == 64000
    for ours, official in ((tokenizer.encoder, encoder), (tokenizer.decoder, decoder)):
        shapes = {name: parameter.shape for name, parameter in ours.named_parameters()}
        assert shapes == {name: parameter.shape for name, parameter in official.named_parameters()}
    assert tokenizer.quant_conv.weight.shape == (6, 16, 1, 1, 1)
    assert tokenizer.post_quant_conv.weight.shape == (16, 6, 1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes, num_frames",
    [
        *[({}, num_frames) for num_frames in (1, 5, 6, 7, 8, 9)],
        *[({"spatial_compression_ratio": 16}, num_frames) for num_frames in (1, 6, 9)],
        *[({"patch_size": 2}, num_frames) for num_frames in (1, 5, 9)],
        ({"patch_type": "rearrange"}, 5),
        (
            {
                "patch_type": "rearrange",
                "patch_size": 1,
                "spatial_compression_ratio": 2,
                "temporal_compression_ratio": 1,
            },
            3,
        ),
    ],
)
def test_equals_the_networks_of_diffusers(changes, num_frames):
    tokenizer = tiny_tokenizer(**changes)
    config = tokenizer.config
    shared = (1, (32,), 1024, config.patch_size, config.patch_type, 0.0)
    ratios = (config.spatial_compression_ratio, config.temporal_compression_ratio)
    encoder = CosmosEncoder3d(3, 8, config.encoder_block_out_channels, *shared, *ratios)
    decoder = CosmosDecoder3d(8, 3, config.decode_block_out_channels, *shared, *ratios)
    encoder.load_state_dict(tokenizer.encoder.state_dict())
    decoder.load_state_dict(tokenizer.decoder.state_dict())

    video = random_video(2, 3, num_frames, 32, 48)
    latents, expected_latents = tokenizer.encoder(video), encoder(video)
    torch.testing.assert_close(latents, expected_latents, atol=1e-5, rtol=1e-5)
    decoded, expected = tokenizer.decoder(expected_latents.detach()), decoder(expected_latents.detach())
    torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=1e-5)

    for output in (latents, expected_latents, decoded, expected):
        output.square().mean().backward()
    for ours, official in ((tokenizer.encoder, encoder), (tokenizer.decoder, decoder)):
        scale = max(parameter.grad.abs().max() for parameter in official.parameters())
        for name, parameter in official.named_parameters():
            difference = (ours.get_parameter(name).grad - parameter.grad).abs().max()
            assert difference <= 1e-5 * scale, name


@pytest.mark.slow
def test_temporal_resampling_reaches_higher_compression():
    tokenizer = tiny_tokenizer(temporal_compression_ratio=8, spatial_compression_ratio=16)
    with torch.no_grad():
        indices = tokenizer.encode(random_video(1, 3, 17, 32, 48))
        assert indices.shape == (1, 3, 2, 3)
        assert tokenizer.decode(indices).shape == (1, 3, 17, 32, 48)
        assert tokenizer.decode(indices[:, :1]).shape == (1, 3, 1, 32, 48)


@pytest.mark.slow
def test_is_causal_in_time(tokenizer, video):
    with torch.no_grad():
        indices = tokenizer.encode(video)
        assert len(indices.unique()) > 20
        decoded = tokenizer.decode(indices)
        for latent_frames in (1, 2):
            num_frames = 4 * latent_frames - 3
            assert torch.equal(tokenizer.encode(video[:, :, :num_frames]), indices[:, :latent_frames])
            prefix = tokenizer.decode(indices[:, :latent_frames])
            torch.testing.assert_close(prefix, decoded[:, :, :num_frames], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_forward_is_decode_of_encode(tokenizer, video):
    with torch.no_grad():
        torch.testing.assert_close(
            tokenizer(video).sample, tokenizer.decode(tokenizer.encode(video)), atol=1e-5, rtol=0
        )


@pytest.mark.slow
def test_gradients_reach_every_parameter_through_the_quantizer(video):
    tokenizer = tiny_tokenizer().train()
    (tokenizer(video).sample - video).abs().mean().backward()
    gradients = {name: parameter.grad for name, parameter in tokenizer.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["encoder.conv_in.conv_s.weight"].abs().max() > 0


@pytest.mark.slow
def test_learns_to_reconstruct():
    tokenizer = tiny_tokenizer(norm="position").train()
    video = smooth_video(32, 32, num_frames=5)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        with torch.autocast("cpu", torch.bfloat16):
            loss = (tokenizer(video).sample.float() - video).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing(video):
    plain, checkpointed = tiny_tokenizer().train(), tiny_tokenizer().train()
    checkpointed.enable_gradient_checkpointing()
    for tokenizer in (plain, checkpointed):
        tokenizer(video).sample.square().mean().backward()
    for expected, parameter in zip(plain.parameters(), checkpointed.parameters()):
        torch.testing.assert_close(parameter.grad, expected.grad)


@pytest.mark.slow
def test_deepcopy_computes_the_same(tokenizer, video):
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(tokenizer)(video).sample, tokenizer(video).sample)


# Quantizer


@pytest.mark.slow
@pytest.mark.parametrize("levels", [(8, 8, 8, 5, 5, 5), (8, 5, 5, 5), (2, 3)])
def test_every_index_survives_the_round_trip(levels):
    quantizer = FiniteScalarQuantizer(levels)
    indices = torch.arange(quantizer.codebook_size)
    codes = quantizer.indices_to_codes(indices)
    assert codes.dtype == torch.float32 and codes.abs().max() <= 1
    assert len(codes.unique(dim=0)) == quantizer.codebook_size
    assert torch.equal(quantizer.codes_to_indices(codes), indices.int())


def test_code_values_and_order():
    quantizer = FiniteScalarQuantizer((8, 5))
    first, second = quantizer.indices_to_codes(torch.arange(40)).T
    assert first[:8].tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]
    assert second[::8].tolist() == [-1, -0.5, 0, 0.5, 1]


def test_quantizing_reaches_the_ends_and_only_known_values():
    quantizer = FiniteScalarQuantizer((8, 5))
    extremes = torch.tensor([[-1e4, -1e4], [1e4, 1e4]])
    assert quantizer.quantize(extremes).tolist() == [[-1, -1], [0.75, 1]]
    codes = quantizer.quantize(torch.randn(1000, 2) * 3)
    assert len(codes[:, 0].unique()) == 8 and len(codes[:, 1].unique()) == 5


def test_gradient_of_rounding_is_the_gradient_of_the_bound():
    quantizer = FiniteScalarQuantizer((8, 5))
    latents = torch.randn(20, 2, requires_grad=True)
    through_rounding = torch.autograd.grad(quantizer.quantize(latents).sum(), latents)[0]
    without_rounding = torch.autograd.grad((quantizer.bound(latents) / (quantizer.levels // 2)).sum(), latents)[0]
    assert torch.equal(through_rounding, without_rounding)


def test_quantizer_stays_in_float32():
    quantizer = FiniteScalarQuantizer((8, 8, 8, 5, 5, 5))
    latents = torch.randn(1000, 6)
    expected = quantizer.codes_to_indices(quantizer.quantize(latents))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.codes_to_indices(quantizer.quantize(latents)), expected)
    quantizer.to(torch.bfloat16)
    assert torch.equal(quantizer.codes_to_indices(quantizer.quantize(latents)), expected)
    assert quantizer.quantize(latents.half()).dtype == torch.float32


@pytest.mark.parametrize("levels", [(), (8, 1)])
def test_impossible_levels(levels):
    with pytest.raises(ValueError, match="`levels` must be"):
        FiniteScalarQuantizer(levels)


# Precision, memory, loading


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_cpu(video, dtype):
    expected = tiny_tokenizer()
    tokenizer = tiny_tokenizer().to(dtype)
    with torch.no_grad():
        latents = tokenizer.encode_latents(video)
        assert latents.dtype == dtype
        assert torch.equal(
            tokenizer.quantize(latents), tokenizer.quantizer.quantize(latents.movedim(1, -1)).movedim(-1, 1)
        )
        indices = tokenizer.encode(video.to(dtype))
        decoded = tokenizer.decode(indices)
        assert decoded.dtype == dtype
        difference = (decoded.float() - expected.decode(indices)).abs().mean()
    assert difference < 0.02 * decoded.float().std()


@pytest.mark.slow
def test_slicing_changes_nothing(video):
    tokenizer = tiny_tokenizer()
    with torch.no_grad():
        indices = tokenizer.encode(video)
        decoded = tokenizer.decode(indices)
        tokenizer.enable_slicing()
        assert torch.equal(tokenizer.encode(video), indices)
        torch.testing.assert_close(tokenizer.decode(indices), decoded, atol=1e-5, rtol=0)
        tokenizer.disable_slicing()
        assert not tokenizer.use_slicing


def silence_attention(tokenizer):
    """Leaves convolutions alone, so that what is far away has no influence at all."""
    for name, parameter in tokenizer.named_parameters():
        if ".to_out." in name:
            torch.nn.init.zeros_(parameter)
    return tokenizer


@pytest.mark.slow
def test_encoding_tiles_is_exact_where_the_overlap_covers_the_receptive_field():
    tokenizer = silence_attention(tiny_tokenizer(norm="position"))
    video = random_video(1, 3, 1, 272, 448)
    with torch.no_grad():
        expected = tokenizer.encode_latents(video)
        tokenizer.enable_tiling(256, 256, 64, 64)
        latents = tokenizer.encode_latents(video)
    assert latents.shape == expected.shape == (1, 4, 1, 34, 56)
    torch.testing.assert_close(latents, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_decoding_tiles_is_close_and_exact_in_the_corners():
    tokenizer = silence_attention(tiny_tokenizer(norm="position"))
    indices = torch.randint(1000, (1, 2, 34, 56), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tokenizer.decode(indices)
        tokenizer.enable_tiling(256, 256, 64, 64)
        decoded = tokenizer.decode(indices)
    assert decoded.shape == expected.shape == (1, 3, 5, 272, 448)
    error = (decoded - expected).abs() / expected.std()
    assert error.mean() < 0.02
    # Tiles begin at rows 0 and 16 and at columns 0, 64, 128 and 192: only one covers each corner.
    assert error[..., :16, :64].max() < 1e-5
    assert error[..., -16:, -64:].max() < 1e-5


@pytest.mark.slow
def test_tiling_an_ordinary_tokenizer_is_close():
    tokenizer = tiny_tokenizer()
    video = smooth_video(192, 256, num_frames=5)
    with torch.no_grad():
        expected_latents, expected = tokenizer.encode_latents(video), tokenizer(video).sample
        tokenizer.enable_tiling(128, 128, 96, 96)
        latents, tiled = tokenizer.encode_latents(video), tokenizer.decode(tokenizer.encode(video))
    assert (latents - expected_latents).abs().mean() < 0.1 * expected_latents.std()
    assert tiled.shape == expected.shape


@pytest.mark.slow
def test_videos_within_a_tile_are_left_whole(video):
    tokenizer = tiny_tokenizer()
    with torch.no_grad():
        expected = tokenizer(video).sample
        tokenizer.enable_tiling(32, 48, 16, 16)
        assert torch.equal(tokenizer(video).sample, expected)
        tokenizer.enable_tiling(16, 16)
        assert not torch.equal(tokenizer(video).sample, expected)
        tokenizer.disable_tiling()
        assert torch.equal(tokenizer(video).sample, expected)


# Streaming


def random_indices(tokenizer, *shape, seed=0):
    return torch.randint(tokenizer.codebook_size, shape, generator=torch.Generator().manual_seed(seed))


def decoded_at_once(tokenizer, indices):
    return tokenizer.decode_codes(tokenizer.quantizer.indices_to_codes(indices).movedim(-1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [[1] * 5, [5], [1, 4], [2, 1, 2], [3, 2]])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "position"},
        {"patch_size": 2},
        {"patch_type": "rearrange"},
        {"patch_size": 2, "patch_type": "rearrange"},
        {"temporal_compression_ratio": 8},
        {"attention_resolutions": (256, 128, 64), "resolution": 1024},
    ],
)
@torch.no_grad()
def test_streaming_equals_decoding_at_once(changes, lengths):
    tokenizer = tiny_tokenizer(**changes)
    indices = random_indices(tokenizer, 2, 5, 4, 6)
    expected = decoded_at_once(tokenizer, indices)
    parts = list(tokenizer.decode_stream(indices.split(lengths, dim=1)))
    ratio = tokenizer.config.temporal_compression_ratio
    assert [part.shape[2] for part in parts] == [ratio * n - (ratio - 1) * (i == 0) for i, n in enumerate(lengths)]
    torch.testing.assert_close(torch.cat(parts, dim=2), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokenizer.decode(indices), expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("num_cached", [0, 1, 3, 4, 11, 12])
@pytest.mark.parametrize("lengths", [[1] * 12, [5, 1, 6], [1, 4, 4, 3], [12]])
@torch.no_grad()
def test_streaming_equals_decoding_at_once_whatever_is_cached(tokenizer, num_cached, lengths, monkeypatch):
    monkeypatch.setattr(tokenizer, "num_cached_latent_frames", num_cached)
    indices = random_indices(tokenizer, 2, 12, 2, 3)
    streamed = torch.cat(list(tokenizer.decode_stream(indices.split(lengths, dim=1))), dim=2)
    torch.testing.assert_close(streamed, decoded_at_once(tokenizer, indices), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("num_cached", [1, 10])
@torch.no_grad()
def test_streaming_slices_and_tiles(num_cached):
    tokenizer = tiny_tokenizer()
    tokenizer.num_cached_latent_frames = num_cached
    indices = random_indices(tokenizer, 2, 4, 6, 8)
    tokenizer.enable_slicing()
    torch.testing.assert_close(tokenizer.decode(indices), decoded_at_once(tokenizer, indices), atol=1e-5, rtol=0)
    tokenizer.enable_tiling(32, 32, 24, 24)
    torch.testing.assert_close(tokenizer.decode(indices), decoded_at_once(tokenizer, indices), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("num_cached", [1, 10])
@torch.no_grad()
def test_streaming_in_half_precision(num_cached, video):
    expected, tokenizer = tiny_tokenizer(), tiny_tokenizer().to(torch.bfloat16)
    tokenizer.num_cached_latent_frames = num_cached
    indices = random_indices(tokenizer, 1, 5, 4, 6)
    streamed = tokenizer.decode(indices)
    assert streamed.dtype == torch.bfloat16
    error, expected_error = (
        (each.float() - expected.decode(indices)).abs().mean()
        for each in (streamed, decoded_at_once(tokenizer, indices))
    )
    assert error < 1.1 * expected_error


@pytest.mark.slow
@torch.no_grad()
def test_cached_frames_are_not_computed_again(tokenizer):
    num_computed = []
    handle = tokenizer.decoder.conv_in.register_forward_hook(lambda _, args, __: num_computed.append(args[0].shape[2]))
    tokenizer.decode(random_indices(tokenizer, 1, 13, 2, 3))
    handle.remove()
    # The 12th frame finds the first of eleven forgotten, the 13th frame two of twelve.
    assert sum(num_computed) == 13 + 1 + 2


@pytest.mark.slow
@torch.no_grad()
def test_streams_do_not_disturb_each_other(tokenizer):
    videos = [random_indices(tokenizer, 1, 3, 2, 3, seed=seed) for seed in (0, 1)]
    streams = [tokenizer.decode_stream(video.split(1, dim=1)) for video in videos]
    parts = list(zip(*streams, strict=True))
    for index, video in enumerate(videos):
        assert torch.equal(torch.cat([part[index] for part in parts], dim=2), tokenizer.decode(video))


def peak_bytes(function, path):
    """Most bytes of CPU tensors and buffers that exist at a time during a call, above those before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    profiler.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    return max(event["args"]["Total Allocated"] for event in events if event["name"] == "[memory]")


@pytest.mark.parametrize("tiled", [False, True])
@torch.no_grad()
@pytest.mark.slow
def test_memory_of_a_stream_does_not_grow(tiled, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.num_cached_latent_frames = 2
    if tiled:
        tokenizer.enable_tiling(32, 32, 16, 16)

    def peak(num_latent_frames):
        indices = random_indices(tokenizer, 1, num_latent_frames, 4, 6)
        return peak_bytes(lambda: [None for _ in tokenizer.decode_stream(indices.split(1, dim=1))], tmp_path / "trace")

    # The indices grow. All keys and values would add 2 %.
    assert peak(12) <= peak(3) * 1.002


@pytest.mark.slow
@torch.no_grad()
def test_decode_holds_the_video_once(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.num_cached_latent_frames = 4
    few, many = (random_indices(tokenizer, 1, num_latent_frames, 4, 6) for num_latent_frames in (5, 12))
    peaks = [peak_bytes(lambda: tokenizer.decode(indices), tmp_path / "trace") for indices in (few, many)]
    bytes_of_pixels = (12 - 5) * 4 * 3 * 32 * 48 * 4
    assert peaks[1] - peaks[0] <= 1.01 * bytes_of_pixels


@pytest.mark.slow
@torch.no_grad()
def test_a_stream_remembers_little(tokenizer):
    """Two frames per convolution over time, keys and values of one attention: no whole frames of pixels."""
    past = {0: StreamedFrames(tokenizer)}
    for indices in random_indices(tokenizer, 1, 12, 4, 6).split(1, dim=1):
        tokenizer._decode_next(indices, past)
    assert {state.shape[2] for state in past[0].last_frames.values()} == {2}
    ((attention, pieces),) = past[0].keys_and_values.items()
    assert isinstance(attention, TemporalAttention)
    assert [piece.shape[-2] for piece in pieces] == [1] * 10
    for state in [*past[0].last_frames.values(), *pieces]:
        assert state.untyped_storage().nbytes() == state.nbytes


@torch.no_grad()
def test_bad_indices_in_a_stream(tokenizer):
    with pytest.raises(ValueError, match="`indices` must lie between 0 and 999"):
        list(tokenizer.decode_stream([torch.full((1, 1, 2, 2), 1000)]))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", ["frame", "position"])
def test_save_and_load(tmp_path, video, norm, dtype):
    tokenizer = tiny_tokenizer(norm=norm).to(dtype)
    tokenizer.save_pretrained(tmp_path)
    loaded = CosmosVideoTokenizer.from_pretrained(tmp_path, torch_dtype=dtype)
    assert loaded.config.levels == [8, 5, 5, 5] and loaded.config.norm == norm
    assert loaded.dtype == dtype
    with torch.no_grad():
        indices = tokenizer.encode(video)
        assert torch.equal(loaded.encode(video), indices)
        assert torch.equal(loaded.decode(indices), tokenizer.decode(indices))


def test_only_parameters_are_stored(tokenizer):
    assert set(tokenizer.state_dict()) == {name for name, _ in tokenizer.named_parameters()}


@pytest.mark.slow
def test_position_norm_does_not_look_elsewhere(video):
    tokenizer = silence_attention(tiny_tokenizer(norm="position"))
    video = torch.zeros(1, 3, 1, 32, 256)
    changed = video.clone()
    changed[..., :8] = random_video(1, 3, 1, 32, 8)
    with torch.no_grad():
        static, moved = tokenizer.encode_latents(video), tokenizer.encode_latents(changed)
        assert torch.equal(static[..., 20:], moved[..., 20:])
        assert not torch.equal(static[..., :2], moved[..., :2])
        tokenizer = silence_attention(tiny_tokenizer())
        assert not torch.equal(tokenizer.encode_latents(video)[..., 20:], tokenizer.encode_latents(changed)[..., 20:])


def test_encode_and_decode_trigger_offloading_hooks():
    class CountingHook(ModelHook):
        calls = 0

        def pre_forward(self, module, *args, **kwargs):
            self.calls += 1
            return args, kwargs

    tokenizer, hook = tiny_tokenizer(), CountingHook()
    add_hook_to_module(tokenizer, hook)
    with torch.no_grad():
        tokenizer.decode(tokenizer.encode(random_video(1, 3, 1, 16, 16)))
    assert hook.calls == 2


# Compiling


class GraphRecorder:
    """A backend that runs the graphs as they are, and counts them."""

    def __init__(self):
        self.num_graphs = 0

    def __call__(self, graph, example_inputs):
        self.num_graphs += 1
        return graph


@pytest.fixture
def recorder():
    torch.compiler.reset()
    yield GraphRecorder()
    torch.compiler.reset()


@pytest.mark.parametrize("norm", ["frame", "position"])
@torch.no_grad()
@pytest.mark.slow
def test_encoder_and_decoder_are_one_graph_each(norm, video, recorder):
    tokenizer = tiny_tokenizer(norm=norm)
    indices = tokenizer.encode(video)
    decoded, reconstruction = tokenizer.decode(indices), tokenizer(video).sample
    for network in (tokenizer.encoder, tokenizer.decoder):
        network.compile(fullgraph=True, backend=recorder)
    for _ in range(2):
        assert torch.equal(tokenizer.encode(video), indices)
        torch.testing.assert_close(tokenizer.decode(indices), decoded, atol=1e-5, rtol=0)
        torch.testing.assert_close(tokenizer(video).sample, reconstruction, atol=1e-5, rtol=0)
    assert recorder.num_graphs == 2


@pytest.mark.slow
@torch.no_grad()
def test_a_stream_leaves_the_compiled_decoder_aside(video, recorder):
    tokenizer = tiny_tokenizer()
    indices = random_indices(tokenizer, 1, 12, 2, 3)
    expected = tokenizer.decode(indices)
    tokenizer.decoder.compile(fullgraph=True, backend=recorder)
    assert torch.equal(torch.cat(list(tokenizer.decode_stream(indices.split(1, dim=1))), dim=2), expected)
    assert recorder.num_graphs == 0


@pytest.mark.parametrize("method", ["encode", "decode", "forward"])
@torch.no_grad()
@pytest.mark.slow
def test_methods_compile_as_a_whole(method, video, recorder):
    tokenizer = tiny_tokenizer()
    argument = tokenizer.encode(video) if method == "decode" else video
    (expected,) = getattr(tokenizer, method)(argument, return_dict=False)
    compiled = torch.compile(getattr(tokenizer, method), fullgraph=True, backend=recorder)
    (result,) = compiled(argument, return_dict=False)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert recorder.num_graphs == 1
    with pytest.raises(ValueError, match="must have the shape"):
        getattr(tokenizer, method)(argument[0], return_dict=False)


# Errors


@pytest.mark.parametrize(
    "video, message",
    [
        (torch.zeros(3, 5, 16, 16), r"`video` must have the shape .*got \(3, 5, 16, 16\)"),
        (torch.zeros(1, 4, 5, 16, 16), r"`video` must have the shape \(batch, 3, .*got \(1, 4, 5, 16, 16\)"),
        (torch.zeros(1, 3, 0, 16, 16), "`video` must have the shape"),
        (torch.zeros(1, 3, 1, 16, 20), "`video` must have height and width divisible by 8, got 16x20"),
        (torch.zeros(1, 3, 1, 16, 16, dtype=torch.uint8), r"`video` must be floating point .* got torch.uint8"),
    ],
)
def test_bad_videos(tokenizer, video, message):
    for method in (tokenizer.encode, tokenizer.encode_latents, tokenizer):
        with pytest.raises(ValueError, match=message):
            method(video)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_encode_refuses_what_is_not_finite(tokenizer, video, value, dtype):
    video = video.to(dtype)
    video[1, 2, 3, 4, 5] = value
    with pytest.raises(ValueError, match="`video` must have finite values in .*, got NaN or infinity"):
        tokenizer.encode(video)


@pytest.mark.parametrize(
    "changes, num_frames, message",
    [
        ({"patch_size": 2}, 3, r"1 \+ 4k frames, got 3"),
        ({"patch_type": "rearrange"}, 4, r"1 \+ 4k frames, got 4"),
    ],
)
def test_lengths_that_patches_cannot_complete(changes, num_frames, message):
    with pytest.raises(ValueError, match=message):
        tiny_tokenizer(**changes).encode(torch.zeros(1, 3, num_frames, 16, 16))


@pytest.mark.parametrize(
    "indices, message",
    [
        (torch.zeros(1, 2, 2), r"`indices` must have the shape|`indices` must be an integer"),
        (torch.zeros(2, 2, 2, dtype=torch.long), r"`indices` must have the shape .*got \(2, 2, 2\)"),
        (torch.zeros(1, 0, 2, 2, dtype=torch.long), r"`indices` must have the shape"),
        (torch.zeros(1, 1, 2, 2), "`indices` must be an integer tensor, got torch.float32"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.bool), "`indices` must be an integer tensor, got torch.bool"),
        (torch.full((1, 1, 2, 2), -1), "between 0 and 999, got values between -1 and -1"),
        (torch.full((1, 1, 2, 2), 1000), "between 0 and 999, got values between 1000 and 1000"),
    ],
)
def test_bad_indices(tokenizer, indices, message):
    with pytest.raises(ValueError, match=message):
        tokenizer.decode(indices)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"patch_type": "dct"}, "`patch_type` must be 'haar' or 'rearrange', got 'dct'"),
        ({"norm": "batch"}, "`norm` must be 'frame' or 'position', got 'batch'"),
        ({"patch_size": 3}, "`patch_size` must be a power of two, got 3"),
        ({"spatial_compression_ratio": 12}, "`spatial_compression_ratio` must be a power of two, got 12"),
        ({"temporal_compression_ratio": 2}, "`temporal_compression_ratio` must be at least `patch_size` 4, got 2"),
        (
            {"encoder_block_out_channels": (8, 8, 16), "spatial_compression_ratio": 16},
            r"`spatial_compression_ratio` is 16, but `encoder_block_out_channels` \(8, 8, 16\) .* reaches 8",
        ),
        (
            {"decode_block_out_channels": (8, 8, 16), "spatial_compression_ratio": 16},
            r"`spatial_compression_ratio` is 16, but `decode_block_out_channels` \(8, 8, 16\) .* reaches 8",
        ),
        (
            {"decode_block_out_channels": (8,)},
            r"`decode_block_out_channels` must have at least two entries, got \(8,\)",
        ),
        (
            {"temporal_compression_ratio": 32, "spatial_compression_ratio": 32},
            "`spatial_compression_ratio` is 32, but `encoder_block_out_channels`",
        ),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_tokenizer(**changes)


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"tile_sample_min_height": 100}, "`tile_sample_min_height` must be a positive multiple of 8, got 100"),
        ({"tile_sample_stride_width": 0}, "`tile_sample_stride_width` must be a positive multiple of 8, got 0"),
        ({"tile_sample_min_width": 256}, "`tile_sample_stride_width` must be at most the tile's 256, got 448"),
    ],
)
def test_bad_tiles(sizes, message):
    tokenizer = tiny_tokenizer()
    with pytest.raises(ValueError, match=message):
        tokenizer.enable_tiling(**sizes)
    assert not tokenizer.use_tiling and tokenizer.tile_sample_min_width == 512
