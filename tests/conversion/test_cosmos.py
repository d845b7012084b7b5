# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Reading official tokenizer checkpoints; what the tokenizer then computes is tested in tests/golden."""

import inspect
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lumos_hf.conversion.cosmos import convert_cosmos_tokenizer
from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer

from .official_release import archive_buffers, save_archive, save_archives


LEVELS = (8, 8, 8, 5, 5, 5)


@pytest.fixture
def source_dir(golden_cosmos):
    return golden_cosmos


@pytest.fixture
def weights(source_dir):
    return load_file(source_dir / "model.safetensors")


@pytest.fixture
def unused_names(source_dir):
    return json.loads((source_dir / "cases.json").read_text(encoding="utf-8"))["unused_parameters"]


@pytest.fixture
def expected(source_dir):
    return convert_cosmos_tokenizer(source_dir).state_dict()


@pytest.fixture(scope="session")
def archive_dir(golden_cosmos, tmp_path_factory):
    directory = tmp_path_factory.mktemp("archives")
    save_archives(load_file(golden_cosmos / "model.safetensors"), directory, LEVELS)
    return directory


def assert_same(state_dict, expected):
    assert set(state_dict) == set(expected)
    for name, tensor in state_dict.items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.slow
def test_archives_without_config(archive_dir, source_dir, expected):
    tokenizer = convert_cosmos_tokenizer(archive_dir)
    assert_same(tokenizer.state_dict(), expected)
    with_config = convert_cosmos_tokenizer(source_dir)
    for name in inspect.signature(CosmosVideoTokenizer).parameters:
        read, configured = tokenizer.config[name], with_config.config[name]
        assert read == configured or tuple(read) == tuple(configured), name


def test_archives_hold_what_the_official_ones_do(golden):
    """Names and types of the extra tensors above are those that the official exporter writes."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (golden / "tokenizer").glob("*/cases.json")]
    records = [record for record in records if "encoder_jit_state_dict" in record]
    if not records:
        pytest.skip("no record of an official archive in this copy of the golden data")
    for archive, buffers in archive_buffers(LEVELS).items():
        record_key = archive.replace(".", "_")
        for record in records:
            assert set(buffers) == set(record[f"{record_key}_extra_keys"])
            for name, tensor in buffers.items():
                assert record[f"{record_key}_state_dict"][name] == [list(tensor.shape), str(tensor.dtype)]


@pytest.mark.slow
def test_one_archive_for_both_networks(tmp_path, weights, expected):
    levels = (7, 5, 5, 5, 5, 3)
    save_archive({**weights, **archive_buffers(levels)["encoder.jit"]}, tmp_path / "autoencoder.jit")
    tokenizer = convert_cosmos_tokenizer(tmp_path)
    assert_same(tokenizer.state_dict(), expected)
    assert tokenizer.config.levels == [7, 5, 5, 5, 5, 3]


@pytest.mark.slow
def test_unused_convolutions_may_be_absent(tmp_path, weights, unused_names, expected):
    assert set(unused_names) <= set(weights)
    used = {name: tensor for name, tensor in weights.items() if name not in unused_names}
    save_file(used, tmp_path / "model.safetensors")
    assert_same(convert_cosmos_tokenizer(tmp_path).state_dict(), expected)


@pytest.mark.slow
def test_safetensors_with_and_without_config(tmp_path, source_dir, expected):
    shutil.copy(source_dir / "model.safetensors", tmp_path)
    assert_same(convert_cosmos_tokenizer(tmp_path).state_dict(), expected)
    shutil.copy(source_dir / "config.json", tmp_path)
    assert_same(convert_cosmos_tokenizer(str(tmp_path)).state_dict(), expected)


@pytest.mark.slow
def test_overrides_win_over_the_config(source_dir):
    tokenizer = convert_cosmos_tokenizer(source_dir, levels=(7, 5, 5, 5, 5, 3), norm="position", resolution=2048)
    assert tokenizer.codebook_size == 7 * 5**4 * 3
    assert tokenizer.config.norm == "position" and tokenizer.config.resolution == 2048


@pytest.mark.slow
def test_converted_tokenizer_saves_and_loads(tmp_path, source_dir):
    tokenizer = convert_cosmos_tokenizer(source_dir)
    assert not tokenizer.training
    tokenizer.save_pretrained(tmp_path)
    loaded = CosmosVideoTokenizer.from_pretrained(tmp_path)
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    with torch.no_grad():
        assert torch.equal(loaded.encode(video), tokenizer.encode(video))
        assert torch.equal(loaded(video).sample, tokenizer(video).sample)


@pytest.mark.slow
def test_dtype_is_kept_or_asked_for(tmp_path, source_dir, weights):
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, tmp_path / "model.safetensors")
    assert convert_cosmos_tokenizer(tmp_path).dtype == torch.bfloat16
    assert convert_cosmos_tokenizer(tmp_path, dtype=torch.float32).dtype == torch.float32
    assert all(parameter.requires_grad for parameter in convert_cosmos_tokenizer(source_dir).parameters())


# Errors


def test_missing_directory(tmp_path):
    with pytest.raises(ValueError, match="`source_dir` must be a directory, got .*nowhere"):
        convert_cosmos_tokenizer(tmp_path / "nowhere")


@pytest.mark.slow
def test_missing_files(tmp_path, archive_dir):
    shutil.copy(archive_dir / "encoder.jit", tmp_path)
    message = "must hold model.safetensors, or encoder.jit and decoder.jit, or autoencoder.jit, got encoder.jit"
    with pytest.raises(ValueError, match=message):
        convert_cosmos_tokenizer(tmp_path)


def test_all_misfits_are_listed(tmp_path, weights):
    del weights["encoder.norm_out.norm.weight"], weights["quant_conv.conv3d.weight"]
    weights["decoder.extra.weight"] = torch.zeros(1)
    weights["decoder.norm_out.norm.bias"] = torch.zeros(3)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError) as error:
        convert_cosmos_tokenizer(tmp_path)
    message = str(error.value)
    assert "unexpected: decoder.extra.weight; " in message
    assert "missing: encoder.norm_out.norm.weight, quant_conv.conv3d.weight; " in message
    assert "of the wrong shape: decoder.norm_out.norm.bias (3,) instead of (8,)" in message


@pytest.mark.slow
def test_used_resampling_convolutions_are_required(tmp_path, weights):
    del weights["encoder.down.0.downsample.conv1.conv3d.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="missing: encoder.down.0.downsample.conv1.conv3d.weight"):
        convert_cosmos_tokenizer(tmp_path)


def test_sizes_cannot_be_guessed(tmp_path, weights):
    del weights["encoder.conv_in.0.conv3d.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="must tell the sizes .*got no encoder.conv_in.0.conv3d.weight"):
        convert_cosmos_tokenizer(tmp_path)


def test_attention_inside_levels(source_dir):
    """With attention at the resolution of the first level, its official names are asked for."""
    num_blocks = json.loads((source_dir / "config.json").read_text(encoding="utf-8"))["num_res_blocks"]
    blocks = [f"encoder.down.0.attn.{index}" for index in range(num_blocks)]
    blocks += [f"decoder.up.0.attn.{index}" for index in range(num_blocks + 1)]
    parts = ["norm.norm", "q.conv3d", "k.conv3d", "v.conv3d", "proj_out.conv3d"]
    names = [
        f"{block}.{kind}.{part}.{leaf}"
        for block in blocks
        for kind in (0, 1)
        for part in parts
        for leaf in ("weight", "bias")
    ]
    with pytest.raises(ValueError) as error:
        convert_cosmos_tokenizer(source_dir, resolution=128, attention_resolutions=(32,))
    assert str(error.value).endswith(f"missing: {', '.join(sorted(names))}.")


def test_unknown_override(source_dir):
    with pytest.raises(ValueError, match="`config_overrides` must be arguments of CosmosVideoTokenizer, got colour"):
        convert_cosmos_tokenizer(source_dir, colour="red")


@pytest.mark.parametrize("name, value", [("quantizer", "RESFSQ"), ("legacy_mode", True), ("num_groups", 4)])
def test_unsupported_official_settings(tmp_path, source_dir, name, value):
    config = json.loads((source_dir / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, name: value}), encoding="utf-8")
    shutil.copy(source_dir / "model.safetensors", tmp_path)
    with pytest.raises(ValueError, match=f"`{name}` must be .* in the official config, got {value!r}"):
        convert_cosmos_tokenizer(tmp_path)
