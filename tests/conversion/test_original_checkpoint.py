# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Official releases to checkpoints of the pipeline: they compute what the official code does, or are refused."""

import json
import math
import os
import resource
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from typer.testing import CliRunner

from lumos_hf import LumosConfig, LumosForCausalLM, LumosVideoPipeline, convert_original_checkpoint
from lumos_hf.cli import app
from lumos_hf.conversion import convert_cosmos_tokenizer, convert_lumos_model
from lumos_hf.conversion.cosmos import official_cosmos_names
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler
from lumos_hf.token_layout import codes_from_frame_ids, frame_length, prompt_text

from .official_release import (
    LEVELS,
    VISUAL_TOKEN_OFFSET,
    assert_same_tensors,
    change_json,
    code_name,
    copy_of,
    read_all,
    release_in,
    save_archives,
    text_tokenizer,
)


NUM_CODES = math.prod(LEVELS)
SMALL = {"height": 32, "width": 64, "num_frames": 5, "num_inference_steps": 2}


@pytest.fixture
def pipe(checkpoint):
    pipe = LumosVideoPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# What a converted release computes


@pytest.mark.slow
@pytest.mark.parametrize("case", ["text_only", "t2v_1f", "t2v_3f"])
def test_logits_are_those_of_the_official_code(pipe, golden_lumos, case):
    tensors = load_file(golden_lumos / "cases.safetensors")
    with torch.no_grad():
        logits = pipe.transformer(input_ids=tensors[f"{case}.input_ids"]).logits
    expected = tensors[f"{case}.logits_visual"]
    torch.testing.assert_close(logits[..., VISUAL_TOKEN_OFFSET:], expected, atol=5e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["t2v_32x64_greedy", "i2v_64x64_greedy"])
def test_generated_codes_are_those_of_the_official_code(pipe, golden, case):
    directory = golden / "decode" / case
    settings = json.loads((directory / "case.json").read_text(encoding="utf-8"))
    tensors = load_file(directory / "tensors.safetensors")
    h, w, prompt_length = settings["latent_h"], settings["latent_w"], settings["prompt_len_before_video"]

    def codes(sequence):
        frames = sequence[prompt_length + 3 :].view(1, -1, frame_length(h, w))
        return codes_from_frame_ids(frames, h, w, pipe.transformer.config)

    with torch.no_grad():
        pipe.transformer.lm_head.weight *= settings["lm_head_scale"]
    pipe.scheduler = MaskDecodingScheduler(token_temperature=0.0, confidence_temperature=0.0)
    result = pipe(
        input_ids=tensors["prefix_ids"][:prompt_length],
        latents=codes(tensors["prefix_ids"]) if settings["given_latent_frames"] else None,
        height=settings["pixel_height"],
        width=settings["pixel_width"],
        num_frames=(settings["total_latent_frames"] - 1) * 4 + 1,
        fps=settings["fps"],
        num_inference_steps=settings["timesteps"],
        guidance_scale=settings["guidance_scale"],
        history_mask_ratio=settings["mask_history_ratio_effective"],
        output_type="latent",
    ).frames
    assert torch.equal(result, codes(tensors["final_ids"][:-1]))


@pytest.mark.slow
def test_reconstructions_are_those_of_the_official_code(pipe, golden_cosmos):
    """From codes, since the release made for these tests numbers them otherwise."""
    tensors = load_file(golden_cosmos / "cases.safetensors")
    with torch.no_grad():
        latents = pipe.vqvae.encode_latents(tensors["c2.video"])
        video = pipe.vqvae.decode_codes(tensors["c2.codes"])
    torch.testing.assert_close(latents, tensors["c2.latent"], atol=1e-4, rtol=0)
    torch.testing.assert_close(video, tensors["c2.reconstruction"], atol=2e-5, rtol=0)


@pytest.mark.slow
def test_a_release_with_all_codes(golden_cosmos, tmp_path):
    """The official number of codes, with a transformer of random weights."""
    release = release_in(tmp_path)
    levels = [8, 8, 8, 5, 5, 5]
    num_codes = math.prod(levels)
    config = {
        "vocab_size": VISUAL_TOKEN_OFFSET + num_codes,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    layout = {"visual_token_offset": VISUAL_TOKEN_OFFSET, "visual_vocab_size": num_codes}
    release.lumos.mkdir()
    (release.lumos / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = LumosForCausalLM(LumosConfig(**config, **layout))
    save_file(model.state_dict(), release.lumos / "model.safetensors")
    release.cosmos.mkdir()
    save_archives(load_file(golden_cosmos / "model.safetensors"), release.cosmos, levels)
    text_tokenizer(num_codes).save(str(release.text_tokenizer))

    # All of the official defaults, in an empty directory that exists.
    (tmp_path / "checkpoint").mkdir()
    convert_original_checkpoint(*release, tmp_path / "checkpoint")
    pipe = LumosVideoPipeline.from_pretrained(tmp_path / "checkpoint")
    pipe.set_progress_bar_config(disable=True)
    tensors = load_file(golden_cosmos / "cases.safetensors")
    with torch.no_grad():
        indices, video = pipe.vqvae.encode(tensors["c2.video"]), pipe.vqvae.decode(tensors["c2.indices"])
    assert torch.equal(indices, tensors["c2.indices"])
    torch.testing.assert_close(video, tensors["c2.reconstruction"], atol=2e-5, rtol=0)
    assert pipe("A cat.", **{**SMALL, "num_frames": 1}).frames[0][0].size == (64, 32)


# What is written


@pytest.mark.slow
def test_weights_and_configs_are_those_of_the_parts_alone(checkpoint, release, tmp_path):
    layout = {"visual_token_offset": VISUAL_TOKEN_OFFSET, "visual_vocab_size": NUM_CODES}
    for part, converted in (
        ("transformer", convert_lumos_model(release.lumos, **layout)),
        ("vqvae", convert_cosmos_tokenizer(release.cosmos)),
    ):
        converted.save_pretrained(tmp_path / part)
        expected, written = (
            json.loads((directory / part / "config.json").read_text(encoding="utf-8"))
            for directory in (tmp_path, checkpoint)
        )
        # Whole checkpoints have the code of the model elsewhere than models alone.
        assert [config.pop("auto_map", None) is None for config in (expected, written)] == 2 * [part == "vqvae"]
        assert written == expected
        assert_same_tensors(read_all(checkpoint / part), read_all(tmp_path / part))


def test_shards_are_kept(checkpoint, release):
    official, converted = (
        sorted(path.name for path in directory.glob("model*"))
        for directory in (release.lumos, checkpoint / "transformer")
    )
    assert converted == official and len(official) == 4


def test_the_text_tokenizer_names_its_special_tokens(checkpoint, release):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint / "tokenizer")
    config = LumosConfig.from_pretrained(checkpoint / "transformer")
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.sep_token_id) == (0, 0, 8710)
    assert (tokenizer.eos_token_id, tokenizer.unk_token, tokenizer.mask_token_id) == (8710, "<unk>", 9003)
    for name in ("image_start", "image_end", "new_line", "video_start", "video_end"):
        assert getattr(tokenizer, f"{name}_token_id") == getattr(config, f"{name}_token_id")

    text = prompt_text("A cat runs.", height=64, width=96, duration=2, fps=4)
    text_ids = tokenizer(text, add_special_tokens=False).input_ids
    assert text_ids == text_tokenizer(NUM_CODES).encode(text, add_special_tokens=False).ids
    assert tokenizer(text + "<reserved08706>", add_special_tokens=False).input_ids == [*text_ids, 8710]


@pytest.mark.slow
def test_pixels_from_a_prompt(pipe):
    videos = pipe(["A cat runs over the grass.", "a carrot"], fps=2, **SMALL).frames
    assert [len(video) for video in videos] == [5, 5] and videos[0][0].size == (64, 32)


@pytest.mark.slow
def test_defaults_of_the_pipeline(release, tmp_path, checkpoint):
    assert LumosVideoPipeline.from_pretrained(checkpoint).config.default_height is None
    defaults = {"height": 256, "width": 448, "num_frames": 1, "guidance_scale": 16.0}
    directory = convert_original_checkpoint(*release, tmp_path / "image", pipeline_defaults=defaults)
    config = LumosVideoPipeline.from_pretrained(directory).config
    assert {name: config[f"default_{name}"] for name in defaults} == defaults
    assert config.default_fps is None


@pytest.mark.slow
def test_tied_weights_are_stored_once(release, tmp_path):
    release = copy_of(release, tmp_path)
    change_json(release.lumos / "config.json", tie_word_embeddings=True)
    convert_original_checkpoint(*release, tmp_path / "checkpoint")
    weights = read_all(tmp_path / "checkpoint" / "transformer")
    assert "lm_head.weight" not in weights
    loaded = LumosForCausalLM.from_pretrained(tmp_path / "checkpoint" / "transformer")
    assert torch.equal(loaded.lm_head.weight, weights["model.embed_tokens.weight"])


@pytest.mark.slow
def test_the_command(release, tmp_path, checkpoint):
    result = convert_command(release, tmp_path / "bf16", "--dtype", "bf16", "--height", "256", "--width", "448")
    assert result.exit_code == 0, result.output
    for part in ("transformer", "vqvae"):
        expected = {name: tensor.bfloat16() for name, tensor in read_all(checkpoint / part).items()}
        assert_same_tensors(read_all(tmp_path / "bf16" / part), expected)
    pipe = LumosVideoPipeline.from_pretrained(tmp_path / "bf16", dtype=torch.bfloat16)
    assert (pipe.config.default_height, pipe.config.default_width) == (256, 448)


def test_errors_of_the_command_are_one_line(release, tmp_path):
    result = convert_command(release._replace(cosmos=tmp_path / "nowhere"), tmp_path / "checkpoint")
    assert result.exit_code == 2
    assert "Error: `--cosmos` must be an existing path or a Hub location" in result.stderr


def convert_command(release, output, *options):
    sources = ["--lumos", release.lumos, "--cosmos", release.cosmos, "--text-tokenizer", release.text_tokenizer.parent]
    return CliRunner().invoke(app, [str(part) for part in ("convert", *sources, "--output", output, *options)])


# Sources on the Hub


@pytest.mark.slow
def test_a_release_on_the_hub(release, tmp_path, monkeypatch, checkpoint):
    """From the Hub's cache, as nothing can be downloaded here."""
    repository = tmp_path / "models--someone--lumos"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v2").write_text("0" * 40)
    shutil.copytree(release.lumos.parent, repository / "snapshots" / ("0" * 40) / "parts")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    sources = [f"someone/lumos@v2/parts/{name}" for name in ("lumos", "cosmos", "text_tokenizer.json")]
    convert_original_checkpoint(*sources, tmp_path / "checkpoint")
    assert_same_tensors(read_all(tmp_path / "checkpoint" / "transformer"), read_all(checkpoint / "transformer"))

    with pytest.raises(ValueError, match="`cosmos_dir` 'someone/lumos@v2/cosmos' is not in the repository"):
        convert_original_checkpoint(sources[0], "someone/lumos@v2/cosmos", sources[2], tmp_path / "other")
    with pytest.raises(OSError, match="`lumos_dir` 'someone/else' is no path here, and could not be downloaded"):
        convert_original_checkpoint("someone/else", *sources[1:], tmp_path / "other")


# Broken releases: every message names the file or the argument, and nothing is written


def change_vocabulary(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content["model"]["vocab"], content["added_tokens"])
    path.write_text(json.dumps(content), encoding="utf-8")


def change_shard(release, change):
    path = shard_of(release)
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def shard_of(release, index=2):
    return sorted(release.lumos.glob("*.safetensors"))[index]


def missing_shard(release):
    shard_of(release).unlink()
    return rf"{release.lumos}' must hold the file 'model-00003-of-00003.safetensors'"


def truncated_shard(release):
    os.truncate(shard_of(release), shard_of(release).stat().st_size - 100)
    return rf"{shard_of(release)}' must be a safetensors file, but could not be read: .*[Ii]ncomplete"


def empty_shard(release):
    os.truncate(shard_of(release), 0)
    return rf"{shard_of(release)}' must be a safetensors file"


def wrong_shape(release):
    change_shard(release, lambda weights: weights.update({"model.norm.weight": torch.zeros(7)}))
    return rf"{release.lumos}' do not fit .* of the wrong shape: model.norm.weight \(7,\) instead of \(64,\)"


def extra_weight(release):
    change_shard(release, lambda weights: weights.update({"model.extra.weight": torch.zeros(7)}))
    return rf"{release.lumos}' do not fit their config. unexpected: model.extra.weight"


def missing_weight(release):
    change_shard(release, lambda weights: weights.pop("model.norm.weight"))
    return rf"{release.lumos}' do not fit their config. missing: model.norm.weight"


def infinite_weight(release):
    change_shard(release, lambda weights: weights["model.norm.weight"].fill_(torch.inf))
    return rf"{release.lumos}' must give finite logits"


class Code:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("pickled-code-was-run",)


def pickle_with_code(release):
    for path in release.lumos.glob("model*"):
        path.unlink()
    torch.save({"model.norm.weight": torch.zeros(64), "code": Code()}, release.lumos / "pytorch_model.bin")
    return r"pytorch_model.bin' must be a file of tensors written by `torch.save`, without any code"


def pickle_of_something_else(release):
    for path in release.lumos.glob("model*"):
        path.unlink()
    torch.save([1, 2], release.lumos / "pytorch_model.bin")
    return r"pytorch_model.bin' must hold tensors by name and nothing else"


def no_config(release):
    (release.lumos / "config.json").unlink()
    return rf"{release.lumos}' must hold the file 'config.json'"


def broken_config(release):
    (release.lumos / "config.json").write_text("{", encoding="utf-8")
    return r"lumos/config.json' must be a JSON file"


def archive_with_code(release):
    torch.save({"code": Code()}, release.cosmos / "encoder.jit")
    return r"encoder.jit' must be a TorchScript archive"


class Restored(torch.nn.Module):
    """Writes a file when `torch.jit.load` restores it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight = state[0]
        self.training = state[1]
        torch.save(state[0], "archived-code-was-run")

    def forward(self, x):
        return x


def archive_that_restores_itself(release):
    torch.jit.script(Restored()).save(release.cosmos / "decoder.jit")
    return r"decoder.jit' must be a TorchScript archive, .* that only code of the archive could restore"


def names_shards(shard):
    """An index that leads elsewhere, or to files of another kind."""

    def break_release(release):
        index = release.lumos / "model.safetensors.index.json"
        torch.jit.script(Restored()).save(release.lumos / "part.jit")
        torch.save({"code": Code()}, release.lumos / "part.bin")
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        name = sorted(weight_map)[0]
        change_json(index, weight_map={**weight_map, name: str(release.cosmos) if shard == "absolute" else shard})
        return r"model.safetensors.index.json' must name a file \*.safetensors beside it for every tensor"

    return break_release


def truncated_archive(release):
    os.truncate(release.cosmos / "decoder.jit", 1000)
    return r"decoder.jit' must be a TorchScript archive"


def missing_archive(release):
    (release.cosmos / "decoder.jit").unlink()
    return r"must hold .* encoder.jit and decoder.jit, .* got config.json, encoder.jit"


def another_number_of_codes(release):
    change_json(release.cosmos / "config.json", levels=[8, 8, 8, 5, 5, 5])
    return r"`vqvae` must fit `transformer.config.visual_vocab_size`, 240, got 64000"


def infinite_pixels(release):
    tokenizer = convert_cosmos_tokenizer(release.cosmos)
    tokenizer.decoder.conv_out.conv_s.bias.data.fill_(torch.nan)
    official_names = official_cosmos_names(tokenizer)
    weights = {official_names[name]: tensor for name, tensor in tokenizer.state_dict().items()}
    save_file(weights, release.cosmos / "model.safetensors")
    return rf"{release.cosmos}' must give finite pixels"


def no_text_tokenizer(release):
    release.text_tokenizer.unlink()
    release.text_tokenizer.mkdir()
    return r"`text_tokenizer` must be a file, or a directory that holds text_tokenizer.json"


def broken_text_tokenizer(release):
    release.text_tokenizer.write_text('{"version": "1.0"}', encoding="utf-8")
    return rf"`text_tokenizer` '{release.text_tokenizer}' must be a tokenizers file"


def removes(token):
    def change(vocabulary, added_tokens):
        vocabulary[token.replace("reserved", "retired")] = vocabulary.pop(token)
        for added in added_tokens:
            added["content"] = added["content"].replace(token, token.replace("reserved", "retired"))

    return change


def no_mask_token(release):
    change_vocabulary(release.text_tokenizer, removes("<reserved08999>"))
    return r"`text_tokenizer` '.*' has no token <reserved08999> \(mask_token\)"


def no_number_token(release):
    change_vocabulary(release.text_tokenizer, removes("<reserved08812>"))
    return r"`text_tokenizer` must have the special tokens .* got <reserved08812> nothing instead of 8816"


def exchanged_special_tokens(release):
    def change(vocabulary, added_tokens):
        vocabulary["<eoss>"], vocabulary["<racm3:break>"] = vocabulary["<racm3:break>"], vocabulary["<eoss>"]
        for added in added_tokens:
            added["id"] = vocabulary[added["content"]]
        added_tokens.sort(key=lambda added: added["id"])

    change_vocabulary(release.text_tokenizer, change)
    return r"got <racm3:break> 8196 instead of 8197, <eoss> 8197 instead of 8196"


def no_visual_codes(release):
    change_vocabulary(release.text_tokenizer, lambda vocabulary, _: rename_codes(vocabulary, range(NUM_CODES)))
    return r"`text_tokenizer` must name the visual codes"


def rename_codes(vocabulary, codes):
    for code in codes:
        vocabulary[f"<gone{code}>"] = vocabulary.pop(code_name(code))


def a_code_less(release):
    change_vocabulary(release.text_tokenizer, lambda vocabulary, _: rename_codes(vocabulary, [17]))
    return r"code 17 \(VIDVIDBH\?\) has no entry instead of id 9233"


def exchanged_codes(release):
    def change(vocabulary, _):
        vocabulary["VIDVIDBHZ"], vocabulary["VIDVIDCAZ"] = vocabulary["VIDVIDCAZ"], vocabulary["VIDVIDBHZ"]

    change_vocabulary(release.text_tokenizer, change)
    return r"code 17 \(VIDVIDBH\?\) has id 9236 instead of id 9233"


def two_entries_for_a_code(release):
    def change(vocabulary, _):
        vocabulary["VIDVIDBHX"] = vocabulary.pop("<unused0>")

    change_vocabulary(release.text_tokenizer, change)
    return r"one token per visual code, got two for code 17"


def unknown_letters(release):
    def change(vocabulary, _):
        vocabulary["<gone>"] = vocabulary.pop("w")

    change_vocabulary(release.text_tokenizer, change)
    return r"`text_tokenizer` must give the prompt 'Generate a video .* back, got 'Generate a video <unk>ith"


BREAKAGES = (
    missing_shard,
    truncated_shard,
    empty_shard,
    wrong_shape,
    extra_weight,
    missing_weight,
    infinite_weight,
    pickle_with_code,
    pickle_of_something_else,
    no_config,
    broken_config,
    archive_with_code,
    archive_that_restores_itself,
    truncated_archive,
    missing_archive,
    another_number_of_codes,
    infinite_pixels,
    no_text_tokenizer,
    broken_text_tokenizer,
    no_mask_token,
    no_number_token,
    exchanged_special_tokens,
    no_visual_codes,
    a_code_less,
    exchanged_codes,
    two_entries_for_a_code,
    unknown_letters,
)


SHARDS = (
    "part.jit",
    "part.bin",
    "../cosmos/model.safetensors",
    "absolute",
    "a/part.safetensors",
    "..",
    3,
    ["a"],
    None,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "break_release",
    [*BREAKAGES, *map(names_shards, SHARDS)],
    ids=[*(breakage.__name__ for breakage in BREAKAGES), *(f"shard {shard}" for shard in SHARDS)],
)
def test_broken_releases_are_refused(release, tmp_path, break_release, monkeypatch):
    monkeypatch.chdir(tmp_path)
    release = copy_of(release, tmp_path)
    message = break_release(release)
    with pytest.raises(ValueError, match=message):
        convert_original_checkpoint(*release, tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "`dtype` must be one of torch.float64, .* or its name, got 'int8'"),
        ({"pipeline_defaults": {"hight": 32}}, "`pipeline_defaults` must be among height, .*, got hight"),
        ({"pipeline_defaults": {"height": 33}}, "`height` must be a positive integer and a multiple of 32, got 33"),
    ],
)
def test_bad_arguments_are_refused(release, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        convert_original_checkpoint(*release, tmp_path / "checkpoint", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(release, tmp_path):
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    for output_dir in (tmp_path, tmp_path / "note.txt"):
        with pytest.raises(ValueError, match=f"`output_dir` must be a new or an empty directory, got '{output_dir}'"):
            convert_original_checkpoint(*release, output_dir)
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["mine"]


# A full disk


@pytest.mark.slow
def test_too_little_space_is_told_before_anything_is_written(release, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with pytest.raises(OSError, match=r"0.01 GB needed, 0.00 GB free: '.*checkpoint'"):
            convert_original_checkpoint(*release, disk / "checkpoint")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1_000, 1_000_000], ids=["of text", "of weights"])
def test_a_failing_write_leaves_nothing(release, tmp_path, limit):
    """A limit on the size of a file stands for a disk that fills up half-way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match="[Ff]ile too large"):
            convert_original_checkpoint(*release, tmp_path / "checkpoint")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
