# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Which files a checkpoint consists of, with its weights whole, in shards, or as a variant such as "bf16"."""

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..files import partial_path, read_json, whole_directory, whole_file, write_json


CONFIG_FILES = {
    "tokenizer": "tokenizer_config.json",
    "transformer": "config.json",
    "vqvae": "config.json",
    "scheduler": "scheduler_config.json",
}
# Of Linux's renameat2: paths as they are, and both names stay, exchanged.
_HERE_FD = -100
_RENAME_EXCHANGE = 2
# Without suffix: weights may be stored as a variant, in shards, or pickled.
WEIGHT_FILES = {"transformer": "model", "vqvae": "diffusion_pytorch_model"}


def check_complete(
    directory: str | os.PathLike,
    passed_components: Collection[str] = (),
    variant: str | None = None,
    name: str | os.PathLike | None = None,
) -> None:
    """Raises `ValueError` if `directory`, called `name` in the message, lacks files; see [`missing_files`]."""
    missing = missing_files(Path(directory), passed_components, variant)
    if missing:
        raise ValueError(
            "`pretrained_model_name_or_path` must be a directory or repository written by `save_pretrained`, but "
            f"'{name or directory}' has no {', '.join(missing)}."
        )


def missing_files(directory: Path, passed_components: Collection[str] = (), variant: str | None = None) -> list[str]:
    """
    The files that a checkpoint in `directory` lacks, apart from those of components that are passed ready-made. Weights
    without the `variant` stand in for weights that do not have it.
    """
    index_file = directory / DiffusionPipeline.config_name
    if not index_file.is_file():
        return [index_file.name]
    index = read_json(index_file)
    stored = [
        component
        for component in CONFIG_FILES
        if component not in passed_components and _class_entry(index_file, index, component)[0] is not None
    ]
    missing = []
    for component in stored:
        config_file = f"{component}/{CONFIG_FILES[component]}"
        if not (directory / config_file).is_file():
            missing.append(config_file)
        if component in WEIGHT_FILES:
            missing.extend(_missing_weights(directory, component, variant))
    return missing


def weight_map(index_file: Path) -> dict[str, str]:
    """
    Which shard has which tensor, by an index such as `model.safetensors.index.json`.

    Raises:
        ValueError: if it does not name, for every tensor, a file of the index's kind that lies beside it. An index must
            not lead elsewhere.
    """
    entries = read_json(index_file).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise ValueError(f"'{index_file}' must tell the shard of every tensor in its `weight_map`.")
    suffix = Path(index_file.name.partition(".index.")[0]).suffix
    for name, shard in entries.items():
        if not isinstance(shard, str) or not re.fullmatch(r"[\w.-]+" + re.escape(suffix), shard):
            raise ValueError(
                f"'{index_file}' must name a file *{suffix} beside it for every tensor in its `weight_map`, got {shard!r} "
                f"for {name}."
            )
    return entries


def _class_entry(index_file: Path, index: dict[str, Any], component: str) -> list[str | None]:
    entry = index.get(component, [None, None])
    is_entry = (
        isinstance(entry, list) and len(entry) == 2 and all(part is None or isinstance(part, str) for part in entry)
    )
    if not is_entry:
        raise ValueError(f"`{component}` in '{index_file}' must be a module and a class, got {entry!r}.")
    return entry


def _missing_weights(directory: Path, component: str, variant: str | None) -> list[str]:
    stem = f"{component}/{WEIGHT_FILES[component]}"
    suffixes = [""] if variant is None else [f".{variant}", ""]
    for suffix in suffixes:
        index_file = directory / f"{stem}.safetensors.index{suffix}.json"
        if index_file.is_file():
            shards = weight_map(index_file).values()
            return sorted(
                f"{component}/{shard}" for shard in set(shards) if not (directory / component / shard).is_file()
            )
        if any((directory / f"{stem}{suffix}.{ending}").is_file() for ending in ("safetensors", "bin")):
            return []
    return [f"{stem}.safetensors"]


def weight_files(directory: Path, component: str, variant: str | None) -> list[Path]:
    """The safetensors files that a component is loaded from; none where its weights are pickled."""
    for suffix in [""] if variant is None else [f".{variant}", ""]:
        stem = directory / component / WEIGHT_FILES[component]
        index_file = stem.with_name(f"{stem.name}.safetensors.index{suffix}.json")
        if index_file.is_file():
            return sorted({index_file.with_name(shard) for shard in weight_map(index_file).values()})
        file = stem.with_name(f"{stem.name}{suffix}.safetensors")
        if file.is_file():
            return [file]
        if file.with_suffix(".bin").is_file():
            return []
    return []


def file_patterns(component: str, variant: str | None) -> list[str]:
    """The files of a component, its weights in the given variant alone."""
    if component not in WEIGHT_FILES:
        return [f"{component}/*"]
    stem = f"{component}/{WEIGHT_FILES[component]}{'' if variant is None else f'.{variant}'}"
    return [f"{component}/*.json", f"{stem}.safetensors", f"{stem}-*-of-*.safetensors"]


def update_json(file: Path, **entries: Any) -> None:
    """Sets entries of a JSON object in a file, or removes those that are None; the file is never half written."""
    content = {**read_json(file), **entries}
    for name in [name for name, value in entries.items() if value is None]:
        del content[name]
    write_json(file, content, sort_keys=True)


def replace_checkpoint(directory: Path, write: Callable[[Path], None], variant: str | None = None) -> None:
    """
    Writes a checkpoint beside `directory` and puts it in its place in one step, with whatever else was there: files that
    the new one has not, apart from weights of the same variant.

    Where `directory` cannot be replaced, its files are.

    Args:
        directory: may exist, or not.
        write: writes a checkpoint into the empty directory that it is given.
        variant: of the weights that are written.
    """
    directory = directory.resolve()
    if not directory.exists():
        with whole_directory(directory) as partial:
            write(partial)
        return
    try:
        partial = partial_path(directory)
        partial.mkdir()
    except OSError:
        # Nothing can be made beside it.
        write(directory)
        return
    try:
        write(partial)
        kept = [file for file in _files_in(directory) if not _is_superseded(file, partial, variant)]
        for file in kept:
            _link(directory / file, partial / file)
        if not _exchange(partial, directory):
            # The index last: until then it is not taken for complete.
            files = sorted(
                set(_files_in(partial)) - set(kept), key=lambda file: file.name == DiffusionPipeline.config_name
            )
            for file in files:
                (directory / file).parent.mkdir(parents=True, exist_ok=True)
                with whole_file(directory / file) as copy:
                    shutil.copyfile(partial / file, copy)
            for file in set(_files_in(directory)) - set(kept) - set(files):
                (directory / file).unlink()
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _files_in(directory: Path) -> list[Path]:
    return [path.relative_to(directory) for path in directory.rglob("*") if path.is_symlink() or path.is_file()]


def _is_superseded(file: Path, new: Path, variant: str | None) -> bool:
    """Whether a file of the old checkpoint has no place in the new one."""
    if (new / file).exists():
        return True
    stem = WEIGHT_FILES.get(file.parts[0]) if len(file.parts) == 2 else None
    suffix = "" if variant is None else re.escape(f".{variant}")
    shard = r"(-\d+-of-\d+)?"
    return stem is not None and bool(
        re.fullmatch(
            rf"{stem}({suffix}{shard}\.(safetensors|bin)|\.(safetensors|bin)\.index{suffix}\.json)", file.name
        )
    )


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _exchange(new: Path, old: Path) -> bool:
    """Exchanges two directories, in one step where the system can; otherwise the name is free for a moment."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if rename is not None and rename(_HERE_FD, os.fsencode(new), _HERE_FD, os.fsencode(old), _RENAME_EXCHANGE) == 0:
        return True
    aside = partial_path(old)
    try:
        old.rename(aside)
    except OSError:
        return False
    new.rename(old)
    aside.rename(new)
    return True
