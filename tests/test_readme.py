# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The README says what is there: its tree names every source file, and its example runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def listed_files() -> set[str]:
    """Paths in the README's tree, whose folders are told by two spaces of indentation each."""
    tree = next(block for block in README.split("```") if block.strip().startswith("src/lumos_hf/"))
    folders, files = [], set()
    for line in tree.strip().splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        folders = [*folders[: len(indent) // 2], name]
        if not name.endswith("/"):
            files.add("".join(folders))
    return files


@pytest.mark.parametrize("folder", ["src/lumos_hf", "benchmarks", "examples", "scripts"])
def test_the_tree_lists_every_python_file(folder):
    files = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / folder).rglob("*.py")}
    assert {path for path in listed_files() if path.startswith(folder) and path.endswith(".py")} == files


def test_everything_listed_exists():
    assert not [path for path in listed_files() if not (REPOSITORY / path).exists()]


def test_every_link_leads_somewhere():
    for document in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8"))
        assert not [link for link in links if not (document.parent / link).exists()], document.name


@pytest.mark.slow
def test_the_example_runs_without_a_warning(tmp_path):
    example = next(block for block in README.split("```python\n") if "demo_checkpoint()" in block).split("```")[0]
    # What the libraries say of each other while they are imported comes before the mark.
    libraries = (
        "import diffusers.quantizers, diffusers.loaders, transformers.modeling_utils, transformers.quantizers.auto"
    )
    mark = "== from here on, warnings are ours =="
    result = subprocess.run(
        [
            sys.executable,
            "-W",
            "default",
            "-c",
            f"{libraries}\nimport sys\nprint({mark!r}, file=sys.stderr)\n{example}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "star.mp4").stat().st_size > 0
    lines = re.split(r"[\r\n]+", result.stderr.partition(mark)[2])
    assert not [line for line in lines if line.strip() and not re.search(r"it/s|s/it", line)]
