# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Checkpoints that carry all of their code, for `DiffusionPipeline.from_pretrained(..., trust_remote_code=True)` where this
package is not installed.

diffusers wants the code of the pipeline as one file at the root, and that of each component as one file in its folder;
it imports them as independent modules. So each file is put together from the modules of this package: the class, and
whatever it uses, in the order of the sources.
"""

import ast
import importlib.metadata
import importlib.util
import inspect
import re
import shutil
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, cast

from .. import __version__
from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..files import whole_directory
from ..hub.checkpoint_files import CONFIG_FILES, WEIGHT_FILES, check_complete, update_json
from ..hub.pipeline_repository import write_model_code
from ..modeling_lumos import LumosForCausalLM
from ..pipeline_lumos_video import LumosVideoPipeline
from ..scheduling_mask_decoding import MaskDecodingScheduler


COMPONENT_CLASSES = {
    "transformer": LumosForCausalLM,
    "vqvae": CosmosVideoTokenizer,
    "scheduler": MaskDecodingScheduler,
}
# diffusers imports the files of all repositories into one folder, so their names must be nobody else's.
_PIPELINE_MODULE = "lumos_video_pipeline"
_HANDLER_NEEDS = frozenset({"torch", "transformers", "diffusers", "accelerate", "safetensors", "imageio"})
_WEIGHT_ENDINGS = ("safetensors", "bin")
_VOCABULARIES = ("tokenizer/*.txt", "tokenizer/*.model", "tokenizer/*.jinja")
_COMPONENT_MODULES = {component: f"lumos_{component}" for component in COMPONENT_CLASSES}

# What the file of the pipeline does without: components have files of their own, whose classes are other objects than
# copies here would be, and what writes repositories needs the package.
_STAND_INS = '''\
from diffusers import ModelMixin, SchedulerMixin
from transformers import PreTrainedModel

LumosForCausalLM = PreTrainedModel

CosmosVideoTokenizer = ModelMixin

MaskDecodingScheduler = SchedulerMixin


class PipelineRepositoryMixin:
    """Saving takes the code as well, which is in the package."""

    def save_pretrained(self, *args, **kwargs):
        raise NotImplementedError("Install `lumos_hf` and load with its `LumosVideoPipeline` to save this pipeline.")

    def push_to_hub(self, *args, **kwargs):
        raise NotImplementedError("Install `lumos_hf` and load with its `LumosVideoPipeline` to publish this pipeline.")


def write_lora_card(directory, weight_name=None):
    """Cards are written by the package."""
'''


def export_remote_code(source: Path, output: Path, *, handler: bool = False) -> None:
    """
    Copies the checkpoint in `source` to `output`, with the code of its pipeline and its components.

    The model card is left behind, since another way of loading is needed now.

    Args:
        source: the checkpoint.
        output: a new or an empty directory.
        handler: whether handler.py and requirements.txt are added, which Inference Endpoints of the Hub look for.

    Raises:
        ValueError: if `source` is no complete checkpoint of [`LumosVideoPipeline`] or has links among its files, or `output`
            exists and is not empty.
    """
    check_complete(source)
    files = _checkpoint_files(source)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"`output` must be a new or an empty directory, got '{output}'.")
    with whole_directory(output) as directory:
        for file in files:
            (directory / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / file, directory / file, follow_symlinks=False)
        write_model_code(directory)
        _write_pipeline_code(directory)
        if handler:
            _write_handler(directory)


def _checkpoint_files(directory: Path) -> list[Path]:
    """Configs, weights and vocabularies of the components, and nothing else that lies there, such as others' code."""
    weights = [
        f"{component}/{stem}*.{ending}" for component, stem in WEIGHT_FILES.items() for ending in _WEIGHT_ENDINGS
    ]
    configs = [f"{component}/*.json" for component in CONFIG_FILES]
    patterns = [LumosVideoPipeline.config_name, *configs, *weights, *_VOCABULARIES]
    files = sorted({path.relative_to(directory) for pattern in patterns for path in directory.glob(pattern)})
    for file in files:
        for path in (directory / file, (directory / file).parent):
            # It could lead anywhere, and what is there would be published with the checkpoint.
            if path.is_symlink() and path != directory:
                raise ValueError(f"`source` must hold its files themselves, but '{path}' is a link.")
    return files


def _write_handler(directory: Path) -> None:
    shutil.copyfile(Path(__file__).with_name("endpoint_handler.py"), directory / "handler.py")
    entries = importlib.metadata.requires("lumos_hf") or []
    requirements = [entry for entry in entries if re.split(r"\W", entry)[0] in _HANDLER_NEEDS]
    (directory / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")


def _write_pipeline_code(directory: Path) -> None:
    (directory / f"{_PIPELINE_MODULE}.py").write_text(bundle(LumosVideoPipeline, _STAND_INS), encoding="utf-8")
    entries = {"_class_name": [_PIPELINE_MODULE, LumosVideoPipeline.__name__]}
    for component, component_class in COMPONENT_CLASSES.items():
        if not (directory / component).is_dir():
            continue
        module = _COMPONENT_MODULES[component]
        (directory / component / f"{module}.py").write_text(bundle(component_class), encoding="utf-8")
        entries[component] = [module, component_class.__name__]
    update_json(directory / LumosVideoPipeline.config_name, **entries)


def bundle(entry: type, stand_ins: str = "") -> str:
    """
    The source of one module that defines `entry` and everything of this package that it uses.

    Args:
        entry: a class of this package.
        stand_ins: source of definitions that take the place of those of the same name.

    Raises:
        ValueError: if two modules define a name in different ways, or use Python in a way that is not understood here.
    """
    module = _load_module(entry.__module__)
    parts = _Bundle(_Module(stand_ins, "stand-ins"))
    parts.add(module, entry.__name__)
    header = (
        "# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.\n"
        f'"""{entry.__name__} of lumos_hf {__version__} in one file, written by `lumos-hf export-remote-code`."""'
    )
    return "\n\n".join([header, parts.import_block(), *(f"\n{text}" for text in parts.definitions(module))]) + "\n"


class _Module:
    """The top level of a module: what it defines, what it imports from outside, and what from this package."""

    def __init__(self, source: str, name: str = ""):
        self.name = name
        self.lines = source.splitlines()
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, str] = {}
        self.relative_imports: dict[str, tuple[str, str]] = {}
        tree = ast.parse(source)
        for statement in tree.body:
            self._read(statement)
        self.imported_modules = list(dict.fromkeys(target for target, _ in self.relative_imports.values()))
        self._inner_imports = [
            node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level and node.col_offset
        ]
        for node in self._inner_imports:
            self._read_import(node)

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            self._read_import(statement)
        elif isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
            self.definitions[statement.name] = statement
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                for node in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if not isinstance(node, ast.Name):
                        raise self._not_understood(statement)
                    self.definitions[node.id] = statement
        elif not _has_no_effect(statement):
            raise self._not_understood(statement)

    def _read_import(self, statement: ast.Import | ast.ImportFrom) -> None:
        for alias in statement.names:
            local_name = alias.asname or alias.name.partition(".")[0]
            renamed = f" as {alias.asname}" if alias.asname else ""
            if isinstance(statement, ast.Import):
                self.imports[local_name] = f"import {alias.name}{renamed}"
            elif statement.level == 0:
                self.imports[local_name] = f"from {statement.module} import {alias.name}{renamed}"
            elif statement.module is None or alias.asname:
                raise self._not_understood(statement)
            else:
                target = importlib.util.resolve_name(
                    "." * statement.level + statement.module, self.name.rpartition(".")[0]
                )
                self.relative_imports[local_name] = (target, alias.name)

    def text_of(self, statement: ast.stmt) -> str:
        """The lines of a statement, with its decorators and the comment above it, without imports from this package."""
        first = min([statement.lineno, *(node.lineno for node in getattr(statement, "decorator_list", []))])
        while first > 1 and self.lines[first - 2].startswith("#"):
            first -= 1
        dropped = {number for node in self._inner_imports for number in _lines_of(node)}
        kept = [number for number in range(first, _lines_of(statement).stop) if number not in dropped]
        return "\n".join(self.lines[number - 1] for number in kept)

    def _not_understood(self, statement: ast.stmt) -> ValueError:
        return ValueError(
            f"`lumos-hf export-remote-code` does not understand line {statement.lineno} of {self.name}: "
            f"{self.lines[statement.lineno - 1].strip()}"
        )


@cache
def _load_module(name: str) -> _Module:
    return _Module(inspect.getsource(importlib.import_module(name)), name)


def _lines_of(statement: ast.stmt) -> range:
    # What was parsed from a text has an end.
    return range(statement.lineno, cast(int, statement.end_lineno) + 1)


def _has_no_effect(statement: ast.stmt) -> bool:
    is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    is_for_type_checkers = isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
    return is_docstring or is_for_type_checkers


class _Bundle:
    """Everything that a class uses: statements of modules, and imports from outside."""

    def __init__(self, stand_ins: _Module):
        self._stand_ins = stand_ins
        self._meanings: dict[str, Any] = {}
        self._imports: set[str] = set()
        self._statements: dict[_Module, set[ast.stmt]] = defaultdict(set)

    def add(self, module: _Module, name: str) -> None:
        """Adds what `name` stands for at the top level of `module`, if anything, and what that uses."""
        if name in self._stand_ins.definitions:
            module = self._stand_ins
        if name in module.relative_imports:
            target, original_name = module.relative_imports[name]
            self.add(_load_module(target), original_name)
        elif name in module.imports:
            if self._is_new(name, _imported(name, module.imports[name])):
                self._imports.add(module.imports[name])
        elif name in module.definitions:
            statement = module.definitions[name]
            if self._is_new(name, module.text_of(statement)):
                self._statements[module].add(statement)
                for used_name in {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}:
                    self.add(module, used_name)

    def _is_new(self, name: str, meaning: Any) -> bool:
        if name in self._meanings and self._meanings[name] != meaning:
            raise ValueError(
                f"`lumos-hf export-remote-code` puts modules together in which `{name}` has two meanings:\n"
                f"{self._meanings[name]}\n\n{meaning}"
            )
        is_new = name not in self._meanings
        self._meanings[name] = meaning
        return is_new

    def import_block(self) -> str:
        """The imports from outside, those of a module together."""
        plain = sorted(line for line in self._imports if line.startswith("import "))
        names_by_module = defaultdict(list)
        for line in sorted(self._imports.difference(plain)):
            source, _, name = line.partition(" import ")
            names_by_module[source].append(name)
        return "\n".join(
            [*plain, *(f"{source} import {', '.join(names)}" for source, names in names_by_module.items())]
        )

    def definitions(self, entry_module: _Module) -> list[str]:
        """The statements in an order in which they can be executed: modules after those that they import."""
        modules = [self._stand_ins, *_in_import_order(entry_module)]
        return [
            module.text_of(statement)
            for module in modules
            for statement in sorted(self._statements[module], key=lambda statement: statement.lineno)
        ]


def _imported(name: str, statement: str) -> Any:
    """What an import makes of `name`, since libraries offer the same thing in several modules."""
    namespace: dict[str, Any] = {}
    exec(statement, namespace)
    return namespace[name]


def _in_import_order(module: _Module) -> list[_Module]:
    ordered: dict[_Module, None] = {}
    for target in module.imported_modules:
        ordered.update(dict.fromkeys(_in_import_order(_load_module(target))))
    return [*ordered, module]
