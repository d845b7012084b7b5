# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The official release as one repository: its checkpoints by name, and what converting one of them would take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import torch
from diffusers.utils import logging

from ..generation_defaults import OFFICIAL_CHECKPOINTS, OFFICIAL_DEFAULTS
from .cosmos import COSMOS_FILES
from .lumos import LUMOS_FILES, LUMOS_WEIGHT_FILES, torch_dtype
from .original_checkpoint import (
    COSMOS_REPOSITORY,
    TEXT_TOKENIZER_REPOSITORY,
    check_defaults,
    convert_original_checkpoint,
    num_bytes,
    open_release,
    try_release,
)
from .sources import ListedSource, is_on_hub, listed_source, local_source
from .text_tokenizer import CODE_NAMES_FILE, TEXT_TOKENIZER_FILES
from .weight_files import check_new_directory


logger = logging.get_logger(__name__)

_CODE_NAMES = f"tokenizer/{CODE_NAMES_FILE}"


class ConversionPlan(NamedTuple):
    """
    What a conversion would do.

    Args:
        written: what would be written, a line for each part.
        downloaded: bytes that would be downloaded before, by where they come from.
        defaults: of the pipeline.
        missing: what stands against it, a line for each; nothing if it would go through as far as can be told.
    """

    written: list[str]
    downloaded: dict[str, int]
    defaults: dict[str, int | float]
    missing: list[str]


def convert_official_release(
    source: str | Path,
    checkpoint: str,
    output_dir: str | Path,
    *,
    cosmos_dir: str | Path | None = None,
    text_tokenizer: str | Path | None = None,
    dtype: str | torch.dtype | None = None,
    name: str | None = None,
    pipeline_defaults: Mapping[str, int | float] | None = None,
) -> Path:
    """
    Makes a checkpoint that [`LumosVideoPipeline.from_pretrained`] loads of one of the official release.

    Args:
        source: the release, on the Hub (`"Alibaba-DAMO-Academy/Lumos-1"`, with `@REVISION` after it if wanted) or a
            directory of the same layout. The ids of the visual codes are looked up in its
            `tokenizer/text_tokenizer.json`, if it has one and `text_tokenizer` does not name them.
        checkpoint: one of [`OFFICIAL_CHECKPOINTS`]. What a call of the pipeline uses for arguments that are not given is
            what the checkpoint was made for, where `pipeline_defaults` does not say otherwise.
        output_dir, cosmos_dir, text_tokenizer, dtype, name, pipeline_defaults: see [`convert_original_checkpoint`].

    Returns:
        `output_dir`.

    Raises:
        ValueError: if there is no such checkpoint, or as [`convert_original_checkpoint`] does.
        OSError: as there.
    """
    check_checkpoint(checkpoint)
    check_new_directory("output_dir", Path(output_dir))
    # Under the name that it has here; what is downloaded is kept for the conversion.
    local_source("source", f"{source}/{checkpoint}", LUMOS_FILES)
    code_names = _find_code_names(source, download=True)
    if text_tokenizer is None and code_names is not None:
        try:
            local_source("text_tokenizer", TEXT_TOKENIZER_REPOSITORY, TEXT_TOKENIZER_FILES)
        except OSError as error:
            logger.warning(f"{error} The text tokenizer of the release, '{code_names}', is taken instead.")
            text_tokenizer = code_names
    return convert_original_checkpoint(
        f"{source}/{checkpoint}",
        cosmos_dir,
        text_tokenizer,
        output_dir,
        code_names=code_names,
        dtype=dtype,
        name=name,
        pipeline_defaults=_defaults_of(checkpoint, pipeline_defaults),
    )


class ReleaseOptions(TypedDict, total=False):
    """The optional arguments of [`convert_official_release`] that a plan depends on."""

    cosmos_dir: str | Path | None
    text_tokenizer: str | Path | None
    dtype: str | torch.dtype | None
    pipeline_defaults: Mapping[str, int | float] | None


def plan_official_release(
    source: str | Path, checkpoint: str, output_dir: str | Path, **options: Unpack[ReleaseOptions]
) -> ConversionPlan:
    """
    What [`convert_official_release`] would do with these arguments. Nothing is written, and nothing downloaded but lists of
    files.

    Raises:
        ValueError: if there is no such checkpoint, or `dtype` or `pipeline_defaults` is none.
    """
    check_checkpoint(checkpoint)
    try:
        code_names = _find_code_names(source, download=False)
    except OSError:
        # It is told of the checkpoint, which comes from the same repository.
        code_names = None
    plan = plan_conversion(
        f"{source}/{checkpoint}",
        options.get("cosmos_dir"),
        options.get("text_tokenizer"),
        output_dir,
        code_names=code_names,
        dtype=options.get("dtype"),
        pipeline_defaults=_defaults_of(checkpoint, options.get("pipeline_defaults")),
    )
    return plan._replace(missing=[line.replace("`lumos_dir`", "`source`") for line in plan.missing])


def _defaults_of(checkpoint: str, given: Mapping[str, int | float] | None) -> dict[str, int | float]:
    return {**OFFICIAL_CHECKPOINTS[checkpoint], **(given or {})}


def check_checkpoint(checkpoint: str | None) -> str:
    """`checkpoint` itself; raises `ValueError` if the official release has none of that name."""
    if checkpoint is None or checkpoint not in OFFICIAL_CHECKPOINTS:
        raise ValueError(f"`checkpoint` must be one of {', '.join(OFFICIAL_CHECKPOINTS)}, got {checkpoint!r}.")
    return checkpoint


def _find_code_names(source: str | Path, download: bool) -> Path | str | None:
    location = f"{source}/{_CODE_NAMES}"
    if not is_on_hub(location):
        return location if Path(location).is_file() else None
    try:
        return local_source("source", location, []) if download else listed_source("source", location, []) and location
    except ValueError:
        return None


def plan_conversion(
    lumos_dir: str | Path,
    cosmos_dir: str | Path | None,
    text_tokenizer: str | Path | None,
    output_dir: str | Path,
    *,
    code_names: str | Path | None = None,
    dtype: str | torch.dtype | None = None,
    pipeline_defaults: Mapping[str, int | float] | None = None,
) -> ConversionPlan:
    """
    What [`convert_original_checkpoint`] would do with these arguments.

    Nothing is written, and nothing downloaded but lists of files. Parts that are here already are read and tried; of others
    it is told whether their files are there.

    Raises:
        ValueError: if `dtype` or `pipeline_defaults` is none.
    """
    dtype = None if dtype is None else torch_dtype(dtype)
    defaults = check_defaults(pipeline_defaults or {})
    parts: dict[str, tuple[str | Path, Sequence[str]]] = {
        "lumos_dir": (lumos_dir, LUMOS_FILES),
        "cosmos_dir": (cosmos_dir or COSMOS_REPOSITORY, COSMOS_FILES),
        "text_tokenizer": (text_tokenizer or TEXT_TOKENIZER_REPOSITORY, TEXT_TOKENIZER_FILES),
    }
    if code_names is not None:
        parts["code_names"] = (code_names, [CODE_NAMES_FILE])
    plan = ConversionPlan([], {}, {**OFFICIAL_DEFAULTS, **defaults}, [])
    listed: dict[str, ListedSource] = {}
    try:
        check_new_directory("output_dir", Path(output_dir))
    except ValueError as error:
        plan.missing.append(str(error))
    for argument, (source, patterns) in parts.items():
        try:
            listed[argument] = listed_source(argument, source, patterns)
        except (ValueError, OSError) as error:
            plan.missing.append(str(error))
            continue
        if listed[argument].path is None:
            plan.downloaded[str(source)] = sum(listed[argument].files.values())
            plan.missing.extend(_missing_files(argument, source, listed[argument].files))
    paths = {argument: source.path for argument, source in listed.items() if source.path is not None}
    weights_bytes = sum(size for name, size in _files(listed, "lumos_dir").items() if "config" not in name)
    if len(paths) == len(parts):
        try:
            release = open_release(
                paths["lumos_dir"],
                paths["cosmos_dir"],
                paths["text_tokenizer"],
                paths.get("code_names"),
                dtype,
                defaults,
            )
            try_release(release, paths["cosmos_dir"])
            weights_bytes = num_bytes(release.pipe)
        except (ValueError, OSError) as error:
            plan.missing.append(str(error))
    plan.written.append(f"transformer/, vqvae/: weights of {weights_bytes / 1e9:.2f} GB, and their configs")
    plan.written.append("tokenizer/, scheduler/, model_index.json, README.md, and the code of the model")
    return plan


def _files(listed: dict[str, ListedSource], argument: str) -> dict[str, int]:
    return listed[argument].files if argument in listed else {}


def _missing_files(argument: str, source: str | Path, files: Mapping[str, int]) -> list[str]:
    """What a part that is not here yet lacks, as far as names tell."""
    every: dict[str, list[tuple[str, ...]]] = {
        "lumos_dir": [("config.json", name) for name in LUMOS_WEIGHT_FILES if "bin" not in name],
        "cosmos_dir": [("model.safetensors",), ("encoder.jit", "decoder.jit")],
    }
    alternatives = every.get(argument, [])
    shards = {name for name in files if "-of-" in name}
    expected = {int(name.rpartition("-of-")[2].partition(".")[0]) for name in shards}
    lines = []
    if alternatives and not any(set(names) <= set(files) for names in alternatives):
        options = ", or ".join(" and ".join(names) for names in alternatives)
        lines.append(f"`{argument}` '{source}' must hold {options}, got {', '.join(sorted(files)) or 'nothing'}.")
    elif "model.safetensors.index.json" in files and "model.safetensors" not in files and expected != {len(shards)}:
        lines.append(
            f"`{argument}` '{source}' has {len(shards)} shards, of {max(expected, default='an unknown number')}."
        )
    return lines
