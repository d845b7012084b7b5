# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""docs/architecture.md names files that exist, and the package is built as it says."""

import ast
import re
from pathlib import Path


REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "lumos_hf"
DOCUMENT = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_files_it_names_exist():
    names = set(re.findall(r"[\w/]+\.py\b", DOCUMENT))
    assert len(names) > 20
    assert not [name for name in names if not (PACKAGE / name).is_file()]


def test_the_classes_and_functions_it_names_exist():
    sources = "\n".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    for name in re.findall(r"`\.?(?:\w+\.)?(\w+)`", DOCUMENT):
        if name not in ("py", "json", "Trainer", "AutoModel"):
            assert re.search(rf"\b(def|class) {name}\b", sources), name


def imports_at_the_top(file):
    """Modules of the package that a module imports when it is imported, as paths."""
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and statement.level and statement.module:
            folder = file.parents[statement.level - 1]
            target = folder.joinpath(*statement.module.split("."))
            yield target.with_suffix(".py") if target.with_suffix(".py").is_file() else target / "__init__.py"


def test_no_modules_import_each_other_in_a_circle():
    graph = {file: set(imports_at_the_top(file)) for file in PACKAGE.rglob("*.py")}
    while graph:
        free = {file for file, targets in graph.items() if not targets & graph.keys()}
        assert free, sorted(str(file.relative_to(PACKAGE)) for file in graph)
        graph = {file: targets for file, targets in graph.items() if file not in free}


def test_the_pipeline_is_short():
    """What a call does fits on a screen; the arguments and their docstring aside."""
    tree = ast.parse((PACKAGE / "pipeline_lumos_video.py").read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        if body:
            assert body[-1].end_lineno - body[0].lineno < 60, function.name


def test_no_function_is_longer_than_a_screen():
    """Docstrings aside; arguments count."""
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            docstring = function.body[0] if ast.get_docstring(function) else None
            length = function.end_lineno - function.lineno + 1
            length -= docstring.end_lineno - docstring.lineno + 1 if docstring else 0
            assert length <= 70, f"{file.relative_to(PACKAGE)}: {function.name} has {length} lines"
