# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import set_seed


REPOSITORY = Path(__file__).parents[1]
# The scripts of the workshop import each other as top-level modules, which tests do too.
sys.path.insert(0, str(REPOSITORY / "examples" / "demo_world"))
COMPACT_COPY = REPOSITORY / "tests" / "golden" / "data"


def golden_directory() -> Path:
    """`LUMOS_GOLDEN` if set, else the whole reference data beside the repository, else the copy inside it."""
    if os.environ.get("LUMOS_GOLDEN"):
        return Path(os.environ["LUMOS_GOLDEN"]).resolve()
    whole_set = REPOSITORY.parent / "shared" / "golden"
    return whole_set if whole_set.is_dir() else COMPACT_COPY


def left_out_names() -> set[str]:
    """Names of the configurations and cases that the copy in use does without."""
    listing = golden_directory() / "left_out.json"
    return set(json.loads(listing.read_text(encoding="utf-8"))) if listing.is_file() else set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--num-clips", type=int, default=20, help="size of the set whose tokenisation is killed; 300 for acceptance"
    )


def pytest_configure(config: pytest.Config) -> None:
    # The models here are so small that threads only wait for each other, more so with several test processes.
    torch.set_num_threads(1)


def pytest_report_header() -> str:
    return f"golden data: {golden_directory()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects, and so reports, tests whose parameter is a case that this copy of the golden data does without."""
    names = left_out_names()
    kept, deselected = [], []
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        left_out = any(isinstance(parameter, str) and parameter in names for parameter in parameters)
        (deselected if left_out else kept).append(item)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = kept


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Before fixtures are set up, so that random weights in them are fixed as well.
    set_seed(0)


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the reference data, described in golden/README.md."""
    directory = golden_directory()
    if not (directory / "model").is_dir():
        pytest.fail(
            f"There is no golden data in {directory}. Unset LUMOS_GOLDEN, or set it to a directory that has it."
        )
    if not (directory / "left_out.json").is_file():
        return directory
    unpacked = tmp_path_factory.mktemp("golden") / "data"
    shutil.copytree(directory, unpacked)
    for used_embeddings in unpacked.glob("model/*/used_embeddings.safetensors"):
        restore_embeddings(used_embeddings)
    return unpacked


def restore_embeddings(used_embeddings: Path) -> None:
    """Writes the kept embeddings of a model back among its weights; those that no case needs become NaN."""
    directory = used_embeddings.parent
    used = load_file(used_embeddings)
    vocab_size = json.loads((directory / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    embeddings = torch.full((vocab_size, used["rows"].shape[1]), torch.nan)
    embeddings[used["token_ids"]] = used["rows"]
    weights = load_file(directory / "model.safetensors")
    save_file({**weights, "model.embed_tokens.weight": embeddings}, directory / "model.safetensors")
