# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The files that checkpoints carry are those of the package; tests/hub loads them where it is not installed."""

import ast
import inspect
import json
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lumos_hf import LumosVideoPipeline, configuration_lumos, demo_checkpoint, modeling_lumos, token_layout
from lumos_hf.cli import app
from lumos_hf.conversion.remote_code import COMPONENT_CLASSES, bundle, export_remote_code


# What comes with torch, transformers, diffusers and accelerate.
AVAILABLE = {"torch", "transformers", "diffusers", "accelerate", "huggingface_hub", "safetensors", "numpy", "PIL"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    output = tmp_path_factory.mktemp("remote_code") / "demo"
    export_remote_code(demo_checkpoint(), output)
    return output


@pytest.mark.slow
def test_every_part_has_its_code_in_one_file(exported):
    files = {file.relative_to(exported).as_posix() for file in exported.rglob("*.py")}
    assert files == {
        "lumos_video_pipeline.py",
        "transformer/lumos_transformer.py",
        "vqvae/lumos_vqvae.py",
        "scheduler/lumos_scheduler.py",
        "configuration_lumos.py",
        "frame_attention.py",
        "linear_cross_entropy.py",
        "modeling_lumos.py",
        "onednn_linear.py",
        "token_layout.py",
    }
    index = json.loads((exported / "model_index.json").read_text())
    assert index["_class_name"] == ["lumos_video_pipeline", "LumosVideoPipeline"]
    assert index["transformer"] == ["lumos_transformer", "LumosForCausalLM"]
    assert index["tokenizer"][0] == "transformers"


@pytest.mark.slow
def test_the_code_is_that_of_the_package(exported):
    for module in (configuration_lumos, modeling_lumos, token_layout):
        name = module.__name__.rpartition(".")[2]
        assert (exported / f"{name}.py").read_text() == inspect.getsource(module)
    for component, component_class in COMPONENT_CLASSES.items():
        code = (exported / component / f"lumos_{component}.py").read_text()
        assert inspect.getsource(component_class) in code
    assert "PipelineRepositoryMixin:" in (exported / "lumos_video_pipeline.py").read_text()


@pytest.mark.slow
def test_the_code_is_complete_and_needs_little(exported):
    subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", exported], check=True)
    for file in exported.glob("*/*.py"):
        imports = [node for node in ast.parse(file.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
        assert not [node for node in imports if isinstance(node, ast.ImportFrom) and node.level]
        assert {name.partition(".")[0] for name in names} <= AVAILABLE | set(sys.stdlib_module_names), file


@pytest.mark.slow
def test_stand_ins_take_the_place_of_definitions():
    code = bundle(LumosVideoPipeline, "class PipelineRepositoryMixin:\n    marker = 1\n")
    assert code.count("class PipelineRepositoryMixin") == 1 and "marker = 1" in code


def test_names_with_two_meanings_are_refused():
    with pytest.raises(ValueError, match="`math` has two meanings"):
        bundle(LumosVideoPipeline, "import cmath as math\n\nclass PipelineRepositoryMixin:\n    pi = math.pi\n")


def test_the_output_must_be_new_and_the_source_complete(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="`output` must be a new or an empty directory, got '.*mine'"):
        export_remote_code(demo_checkpoint(), tmp_path / "mine")
    with pytest.raises(ValueError, match="has no model_index.json"):
        export_remote_code(tmp_path / "mine", tmp_path / "new")
    assert [file.name for file in tmp_path.rglob("*")] == ["mine", "notes.txt"]


@pytest.mark.slow
def test_only_files_of_the_checkpoint_are_copied(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(demo_checkpoint(), source)
    (tmp_path / "secret").write_text("secret")
    others = ["notes.txt", "transformer/other.py", "vqvae/notes.md", "private/key.json", ".token"]
    (source / "private").mkdir()
    for name in others:
        (source / name).write_text("{}")
    (source / "vqvae" / "linked.txt").symlink_to(tmp_path / "secret")
    export_remote_code(source, tmp_path / "output")
    copied = {path.relative_to(tmp_path / "output").as_posix() for path in (tmp_path / "output").rglob("*")}
    assert not copied & {*others, "vqvae/linked.txt", "private"}
    assert (tmp_path / "output" / "transformer" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["tokenizer/special.json", "model_index.json", "vqvae"])
def test_links_are_not_followed(tmp_path, name):
    source = tmp_path / "source"
    shutil.copytree(demo_checkpoint(), source)
    elsewhere = tmp_path / "elsewhere"
    if (source / name).exists():
        (source / name).rename(elsewhere)
    else:
        elsewhere.write_text('{"secret": 1}')
    (source / name).symlink_to(elsewhere)
    with pytest.raises(ValueError, match=f"must hold its files themselves, but '.*{name}' is a link"):
        export_remote_code(source, tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.slow
def test_the_command(tmp_path):
    arguments = ["export-remote-code", "--model", str(demo_checkpoint()), "--output", str(tmp_path / "new")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (tmp_path / "new" / "lumos_video_pipeline.py").is_file()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "`--output` must be" in again.stderr
