# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
LoRA weights on disk, in either of two layouts, read as data: no file names code that is run.

- diffusers: `pytorch_lora_weights.safetensors`, its keys begin with `transformer.`, the configuration is in its header.
- peft: `adapter_model.safetensors`, its keys begin with `base_model.model.`, beside `adapter_config.json`.
"""

import glob
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

from ..files import whole_file, write_json
from .hub_errors import describe_hub_error, first_line


PEFT_WEIGHT_NAME = "adapter_model.safetensors"
PEFT_CONFIG_NAME = "adapter_config.json"
# In the header of weights that were distilled: the steps, the guidance and the scheduler that they want.
TURBO_METADATA_KEY = "lumos_hf_turbo"
_WEIGHT_NAMES = (LORA_WEIGHT_NAME_SAFE, PEFT_WEIGHT_NAME)

# Of repositories, for `snapshot_download`.
_DOWNLOAD_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision")

StateDict = dict[str, torch.Tensor]


def find_lora_file(
    source: str | os.PathLike, weight_name: str | None = None, subfolder: str | None = None, **options: Any
) -> Path:
    """
    The file with LoRA weights that `source` stands for; it is downloaded if need be.

    Args:
        source: a file, a directory, or a repository on the Hub.
        weight_name: which file of a directory or repository; by default that of diffusers' layout, that of peft's, or the
            only one that ends in `.safetensors`.
        subfolder: where it is in there.
        options: `cache_dir`, `force_download`, `local_files_only`, `token`, `revision`, for repositories.

    Raises:
        ValueError: if there is no such file, or several.
    """
    unknown = sorted(set(options) - set(_DOWNLOAD_OPTIONS))
    if unknown:
        raise ValueError(f"`{unknown[0]}` is no argument of loading LoRA weights, which takes {_DOWNLOAD_OPTIONS}.")
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        folder = path / (subfolder or "")
        name = weight_name or _choose([file.name for file in sorted(folder.glob("*.safetensors"))], source)
        if not (folder / name).is_file():
            raise ValueError(f"There is no file '{name}' in '{folder}'.")
        return folder / name
    if _looks_like_path(os.fspath(source)):
        raise ValueError(f"There is no file or directory '{source}'.")
    return _download(os.fspath(source), weight_name, subfolder, options)


def _looks_like_path(source: str) -> bool:
    return os.path.isabs(source) or source.startswith(".") or source.count("/") != 1 or source.endswith(".safetensors")


def _download(repo_id: str, weight_name: str | None, subfolder: str | None, options: dict[str, Any]) -> Path:
    names = _WEIGHT_NAMES if weight_name is None else (weight_name,)
    try:
        folder = _fetch(repo_id, names, subfolder, options)
        if weight_name is None and not any((folder / name).is_file() for name in names):
            names = (_choose(_list_safetensors(repo_id, subfolder, options), repo_id),)
            folder = _fetch(repo_id, names, subfolder, options)
    # Of the network, and of the Hub: none is there without a connection.
    except (HTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        reason = describe_hub_error(error, repo_id, options.get("revision"))
        raise ValueError(f"it is no path here, and could not be downloaded: {reason}") from error
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"the repository '{repo_id}' has no file '{'/'.join(filter(None, (subfolder, names[0])))}'.")


def _fetch(repo_id: str, names: tuple[str, ...], subfolder: str | None, options: dict[str, Any]) -> Path:
    """Downloads those of the files that are there, and the configuration beside them; the folder that they are in then."""
    folder = Path(subfolder or "")
    patterns = [glob.escape((folder / name).as_posix()) for name in (*names, PEFT_CONFIG_NAME)]
    given = {name: value for name, value in options.items() if value is not None}
    return Path(snapshot_download(repo_id, allow_patterns=patterns, **given)) / folder


def _list_safetensors(repo_id: str, subfolder: str | None, options: dict[str, Any]) -> list[str]:
    files = HfApi(token=options.get("token")).list_repo_files(repo_id, revision=options.get("revision"))
    prefix = f"{subfolder}/" if subfolder else ""
    return [file.removeprefix(prefix) for file in files if file.startswith(prefix) and file.endswith(".safetensors")]


def _choose(names: list[str], source: str | os.PathLike) -> str:
    for name in _WEIGHT_NAMES:
        if name in names:
            return name
    if len(names) != 1:
        found = f"has {', '.join(names[:5])}" if names else "has none"
        raise ValueError(
            f"`weight_name` must name a file of LoRA weights, where there is no {' or '.join(_WEIGHT_NAMES)}: '{source}' "
            f"{found}."
        )
    return names[0]


def read_lora_file(file: Path) -> tuple[StateDict, dict[str, Any] | None]:
    """
    The tensors of a file as they are named there, and the configuration of the adapter if it is known.

    A pickled file (`.bin`, `.pt`) is read by [`torch.load`] with `weights_only=True`, which resolves tensors alone.

    Raises:
        ValueError: if the file or the configuration beside it cannot be read.
    """
    if file.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        return _read_pickled(file), None
    try:
        with safetensors.safe_open(file, "pt") as weights:
            header = weights.metadata() or {}
            state_dict = {name: weights.get_tensor(name) for name in weights.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"'{file}' is no safetensors file that can be read: {first_line(error)}") from error
    config_file = file.with_name(PEFT_CONFIG_NAME)
    if file.name == PEFT_WEIGHT_NAME and config_file.is_file():
        return state_dict, _read_config(config_file)
    if LORA_ADAPTER_METADATA_KEY in header:
        return state_dict, _parse_config(header[LORA_ADAPTER_METADATA_KEY], file)
    if file.name == PEFT_WEIGHT_NAME:
        raise ValueError(f"There is no {PEFT_CONFIG_NAME} beside '{file}'.")
    return state_dict, None


def read_turbo_settings(file: Path) -> dict[str, Any] | None:
    """
    What distilled weights want: `num_inference_steps`, `guidance_scale` and the configuration of their `scheduler`; None
    for other weights.

    Raises:
        ValueError: if the file or what it wants cannot be read.
    """
    if file.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(file, "pt") as weights:
            text = (weights.metadata() or {}).get(TURBO_METADATA_KEY)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"'{file}' is no safetensors file that can be read: {first_line(error)}") from error
    if text is None:
        return None
    settings = _parse_config(text, file)
    missing = [name for name in ("num_inference_steps", "guidance_scale", "scheduler") if name not in settings]
    if missing:
        raise ValueError(f"'{file}' must say of its distilled weights `{missing[0]}`, which is not there.")
    return settings


def _read_pickled(file: Path) -> StateDict:
    try:
        state_dict = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"'{file}' is no file of tensors that can be read: {first_line(error)}") from error
    if not _is_state_dict(state_dict):
        raise ValueError(f"'{file}' must hold tensors by name, and nothing else.")
    return dict(state_dict)


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in value.items()
    )


def _read_config(file: Path) -> dict[str, Any]:
    try:
        return _parse_config(file.read_text(encoding="utf-8"), file)
    except UnicodeDecodeError as error:
        raise ValueError(f"'{file}' is no JSON that can be read: {error}") from error


def _parse_config(text: str, file: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{file}' has a configuration that cannot be read: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise ValueError(f"'{file}' must have a JSON object as its configuration, got {text[:40]!r}.")
    return config


def write_lora_directory(directory: Path, state_dict: StateDict, config: dict[str, Any]) -> None:
    """
    Writes weights in peft's layout. A run that is killed leaves those before or those after, never a mixture: the
    configuration is in the weights' header as well, which counts while there is no file of it.
    """
    header = {"format": "pt", LORA_ADAPTER_METADATA_KEY: json.dumps(config, sort_keys=True)}
    directory.mkdir(parents=True, exist_ok=True)
    with whole_file(directory / PEFT_WEIGHT_NAME) as partial:
        safetensors.torch.save_file(state_dict, partial, metadata=header)
        (directory / PEFT_CONFIG_NAME).unlink(missing_ok=True)
    write_json(directory / PEFT_CONFIG_NAME, config, sort_keys=True)


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an adapter as JSON holds it: sets as lists."""
    return {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
