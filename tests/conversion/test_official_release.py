# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The official release in one line, from a Hub on the loopback interface that is laid out as the official one."""

import json
import re
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from typer.testing import CliRunner

from lumos_hf import LumosVideoPipeline, convert_original_checkpoint
from lumos_hf.cli import app
from lumos_hf.conversion.original_checkpoint import COSMOS_REPOSITORY, TEXT_TOKENIZER_REPOSITORY
from lumos_hf.generation_defaults import OFFICIAL_CHECKPOINTS, OFFICIAL_DEFAULTS, OFFICIAL_REPOSITORY

from ..hub.conftest import LoopbackHub, Repository
from .official_release import (
    assert_same_tensors,
    chameleon_tokenizer,
    change_json,
    copy_of,
    read_all,
    save_archives,
    write_json,
)
from .test_text_tokenizer import AS_PUBLISHED, CHAMELEON_SHAPED, unpack


STAGES = ("stage-1-image", "stage-2-joint", "stage-2-joint-384p", "v2-stage2-joint-384p-sft")
NAMES = [f"{size}/{stage}" for size in ("1B", "3B") for stage in STAGES]


@pytest.fixture(scope="module")
def official_files(release):
    """The files of the three repositories. All checkpoints have the same weights."""
    lumos = {path.name: path.read_bytes() for path in release.lumos.iterdir()}
    named = release.text_tokenizer.read_bytes()
    text = json.loads(named)
    text["model"]["vocab"] = {name: i for name, i in text["model"]["vocab"].items() if not name.startswith("VIDVID")}
    return {
        OFFICIAL_REPOSITORY: {
            **{f"{name}/{file}": content for name in NAMES for file, content in lumos.items()},
            "tokenizer/text_tokenizer.json": named,
            "README.md": b"# Lumos-1\n",
        },
        COSMOS_REPOSITORY: {path.name: path.read_bytes() for path in release.cosmos.iterdir()},
        TEXT_TOKENIZER_REPOSITORY: {"tokenizer.json": json.dumps(text).encode(), "config.json": b"{}"},
    }


@pytest.fixture
def official_hub(official_files, tmp_path, monkeypatch):
    with LoopbackHub() as server:
        for location, files in official_files.items():
            name, _, revision = location.partition("@")
            repository = server.repositories[name] = Repository()
            sha = repository.commit(dict(files))
            if revision:
                repository.commits[revision] = repository.commits.pop(sha)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def convert(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)], env={"COLUMNS": "80"})


@pytest.mark.slow
def test_the_help_page_lists_the_checkpoints():
    page = convert("--help")
    assert page.exit_code == 0
    assert list(OFFICIAL_CHECKPOINTS) == NAMES and all(name in page.output for name in NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_line_for_each_checkpoint(name, official_hub, tmp_path, checkpoint):
    result = convert(OFFICIAL_REPOSITORY, "--checkpoint", name, "-o", tmp_path / "converted")
    assert result.exit_code == 0, result.output
    for part in ("transformer", "vqvae"):
        assert_same_tensors(read_all(tmp_path / "converted" / part), read_all(checkpoint / part))
    config = LumosVideoPipeline.load_config(tmp_path / "converted")
    made_for = {key: config[f"default_{key}"] or value for key, value in OFFICIAL_DEFAULTS.items()}
    is_image, is_small = "stage-1" in name, "384p" not in name
    assert (made_for["height"], made_for["width"]) == ((256, 448) if is_small else (384, 672))
    assert made_for["num_frames"] == (1 if is_image else 25)
    assert made_for["guidance_scale"] == (16 if is_image else 15)
    assert (made_for["num_inference_steps"], made_for["history_mask_ratio"]) == (50, 0.7)
    card = (tmp_path / "converted" / "README.md").read_text(encoding="utf-8")
    assert OFFICIAL_REPOSITORY in card and "are taken to be" not in card
    downloaded = {(repository, path) for repository, path, _ in official_hub.downloads}
    assert not [path for _, path in downloaded if path[:3] in ("1B/", "3B/") and not path.startswith(f"{name}/")]


@pytest.mark.slow
def test_the_tokenizer_of_the_release_stands_in(official_hub, tmp_path):
    del official_hub.repositories[TEXT_TOKENIZER_REPOSITORY.partition("@")[0]]
    assert convert(OFFICIAL_REPOSITORY, "--checkpoint", NAMES[0], "-o", tmp_path / "converted").exit_code == 0


@pytest.mark.slow
def test_a_directory_laid_out_like_the_release(official_files, release, tmp_path):
    for name, content in official_files[OFFICIAL_REPOSITORY].items():
        (tmp_path / "release" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "release" / name).write_bytes(content)
    sources = ["--cosmos", release.cosmos, "--text-tokenizer", release.text_tokenizer]
    result = convert(tmp_path / "release", "--checkpoint", NAMES[3], *sources, "-o", tmp_path / "converted")
    assert result.exit_code == 0, result.output


# Saying only what would be done


@pytest.mark.slow
def test_check_only_downloads_and_writes_nothing(official_hub, tmp_path):
    arguments = [OFFICIAL_REPOSITORY, "--checkpoint", NAMES[1], "-o", tmp_path / "converted", "--check-only"]
    result = convert(*arguments)
    assert result.exit_code == 0, result.output
    for text in (
        "Would write",
        "height 256, width 448",
        f"from {OFFICIAL_REPOSITORY}/{NAMES[1]}",
        "Nothing is missing",
    ):
        assert text in result.output.replace("\n", " ")
    assert official_hub.downloads == [] and list(tmp_path.rglob("*")) == []

    files = official_hub.repositories[OFFICIAL_REPOSITORY].files
    del files[f"{NAMES[1]}/model-00002-of-00003.safetensors"]
    del official_hub.repositories[COSMOS_REPOSITORY].files["decoder.jit"]
    result = convert(*arguments)
    assert result.exit_code == 2
    assert "has 2 shards, of 3" in result.stderr and "must hold model.safetensors, or encoder.jit" in result.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.slow
def test_check_only_tries_what_is_here(release, tmp_path):
    copy = copy_of(release, tmp_path)
    sources = ["--lumos", copy.lumos, "--cosmos", copy.cosmos, "--text-tokenizer", copy.text_tokenizer]
    arguments = [*sources, "-o", tmp_path / "converted", "--check-only"]
    assert "Nothing is missing" in convert(*arguments).output
    change_json(copy.lumos / "config.json", hidden_size=128)
    result = convert(*arguments)
    assert result.exit_code == 2 and "Missing: The weights in" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


# What is refused, in one line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([OFFICIAL_REPOSITORY], "`--checkpoint` must be one of 1B/stage-1-image, .*, got None"),
        ([OFFICIAL_REPOSITORY, "--checkpoint", "1B/sft"], "`--checkpoint` must be one of .*, got '1B/sft'"),
        ([], "Give either RELEASE and `--checkpoint`, or `--lumos`"),
        (["--lumos", "a/b", "--checkpoint", NAMES[0]], "`--checkpoint` goes with RELEASE"),
        (["--lumos", "./nowhere/at/all"], "`--lumos` must be .* got './nowhere/at/all', a path that does not exist"),
        (
            ["./nowhere", "--checkpoint", NAMES[0]],
            "`RELEASE` must be .* got './nowhere/.*', a path that does not exist",
        ),
        (["--lumos", "cosmos/model"], "`--lumos` must be .* got 'cosmos/model', a path that does not exist"),
    ],
)
def test_wrong_arguments(arguments, message, tmp_path, monkeypatch):
    (tmp_path / "cosmos").mkdir()
    monkeypatch.chdir(tmp_path)
    result = convert(*arguments, "-o", tmp_path / "converted")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("Error: ")
    assert re.search(message, lines[0])
    assert [path.name for path in tmp_path.iterdir()] == ["cosmos"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(["./nowhere", "--checkpoint", NAMES[0]], "`RELEASE`"), (["--lumos", "./nowhere"], "`--lumos`")],
)
def test_plans_name_the_options_too(arguments, name, tmp_path):
    """What is missing is told in the words of the command."""
    result = convert(
        *arguments, "--cosmos", "./no/cosmos", "--text-tokenizer", "./no.json", "-o", tmp_path / "new", "--check-only"
    )
    assert result.exit_code == 2
    names = [re.match(r"Missing: (`\S+`) must be an existing path", line)[1] for line in result.stderr.splitlines()]
    assert names == [name, "`--cosmos`", "`--text-tokenizer`"]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[OFFICIAL_REPOSITORY, "--checkpoint", NAMES[0]], ["--lumos", "someone/else"]])
def test_without_a_network(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    result = convert(*arguments, "-o", tmp_path / "converted")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "could not be downloaded from the Hub: http://127.0.0.1:9 could not be reached" in result.stderr
    assert arguments[0] in result.stderr or arguments[1] in result.stderr


@pytest.mark.slow
def test_repositories_and_revisions_that_are_not_there(official_hub, tmp_path):
    for source, message in (
        ("someone/else", "has no repository 'someone/else' that is open to you"),
        (f"{OFFICIAL_REPOSITORY}@v9", f"'{OFFICIAL_REPOSITORY}' has no revision 'v9'"),
        (f"{OFFICIAL_REPOSITORY}/7B", f"is not in the repository '{OFFICIAL_REPOSITORY}'"),
    ):
        result = convert("--lumos", source, "-o", tmp_path / "converted")
        # Before it there may be bars of progress.
        line = result.stderr.splitlines()[-1]
        assert result.exit_code == 2 and line.startswith("Error: ") and message in line


# The ids of the release


@pytest.fixture(scope="module")
def release_with_official_ids(golden_lumos, golden_cosmos, tmp_path_factory):
    """The golden transformer with its rows where the official vocabulary has them, and all 64,000 codes."""
    directory = tmp_path_factory.mktemp("official_ids")
    weights = {name: tensor.nan_to_num() for name, tensor in load_file(golden_lumos / "model.safetensors").items()}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = torch.zeros(129_536, weights[name].shape[1])
        rows[:9216], rows[65_536 : 65_536 + 240] = weights[name][:9216], weights[name][9216:]
        weights[name] = rows
    config = json.loads((golden_lumos / "config.json").read_text(encoding="utf-8"))
    for part in ("lumos", "cosmos"):
        (directory / part).mkdir()
    write_json(directory / "lumos" / "config.json", {**config, "vocab_size": 129_536})
    save_file(weights, directory / "lumos" / "model.safetensors")
    save_archives(load_file(golden_cosmos / "model.safetensors"), directory / "cosmos", [8, 8, 8, 5, 5, 5])
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own without names", AS_PUBLISHED, CHAMELEON_SHAPED])
def test_text_tokenizers_of_the_release(name, release_with_official_ids, tmp_path):
    if name == "own without names":
        path = tmp_path / "tokenizer.json"
        write_json(path, chameleon_tokenizer())
    else:
        path = unpack(name, tmp_path)
    parts = (release_with_official_ids / "lumos", release_with_official_ids / "cosmos", path)
    directory = convert_original_checkpoint(*parts, tmp_path / "converted")
    tokenizer = AutoTokenizer.from_pretrained(directory / "tokenizer")
    assert max(tokenizer.get_vocab().values()) < 65_536
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert ("their ids are taken to be 65536 + code" in card) == (name in ("own without names", CHAMELEON_SHAPED))
    config = json.loads((directory / "transformer" / "config.json").read_text(encoding="utf-8"))
    assert (config["visual_token_offset"], config["visual_vocab_size"]) == (65_536, 64_000)
