# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Files of checkpoints: finding, reading, comparing and writing them.

Weights are read and written one tensor at a time, so that no model has to fit into memory. Pickle files and TorchScript
archives are read as tensors only: no code in them is run.
"""

import errno
import json
import re
import shutil
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from tqdm import tqdm

from ..files import whole_directory, write_json
from ..hub.checkpoint_files import weight_map
from .torchscript_archive import read_torchscript_tensors


Shapes = Mapping[str, tuple[int, ...]]

# Types that weights may have, and what safetensors calls them.
WEIGHT_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}

_KINDS = {".safetensors": "a safetensors file", ".jit": "a TorchScript archive"}


def existing_file(directory: Path, name: str) -> Path:
    """The path of a file that a directory must hold; raises `ValueError` if it does not."""
    path = directory / name
    if not path.is_file():
        raise ValueError(f"'{directory}' must hold the file '{name}'.")
    return path


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """
    All tensors of a safetensors file, a pickle file or a TorchScript archive, by name. No code in the file is run.

    Raises:
        ValueError: if the file is broken, of another kind, or holds anything but tensors.
    """
    with reading(path, _KINDS.get(path.suffix, "a file of tensors written by `torch.save`, without any code")):
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".jit":
            return read_torchscript_tensors(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        are_tensors = isinstance(tensors, dict) and all(map(_is_named_tensor, tensors.items()))
    if not are_tensors:
        raise ValueError(f"'{path}' must hold tensors by name and nothing else.")
    return tensors


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    """Whether it is a name and a tensor all of whose numbers are in the file."""
    name, tensor = item
    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        return False
    is_stored = tensor.layout == torch.strided and tensor.device.type == "cpu"
    return is_stored and tensor.nbytes <= tensor.untyped_storage().nbytes()


@contextmanager
def reading(path: Path, kind: str, argument: str | None = None) -> Iterator[None]:
    """
    Turns what goes wrong inside into a `ValueError` which says that the file at `path`, given as `argument`, must be
    `kind`, in one line.

    Damaged files lead to exceptions of all types inside the libraries that read them. That the file cannot be opened
    stays an `OSError`.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        given = f"'{path}'" if argument is None else f"`{argument}` '{path}'"
        raise ValueError(f"{given} must be {kind}, but could not be read: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line; the first of several, with the next if it announces that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


class WeightFiles(Mapping[str, torch.Tensor]):
    """
    The tensors of a model that is stored in one file or in several, by name.

    Each is read from its file whenever it is asked for, and takes memory for as long as it is in use.

    Args:
        directory: holds the files.
        names: of files that may hold all weights, in order of preference; those that end in `.index.json` name the
            shards.
        ignored: names of tensors to leave out.

    Raises:
        ValueError: if there is none of the files, a shard is missing, or a file is broken.
    """

    def __init__(self, directory: Path, names: Iterable[str], ignored: re.Pattern | None = None):
        self.directory = directory
        self.paths: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._stored_names: dict[str, str] = {}
        for path in _weight_files(directory, names):
            for name, tensor in read_tensors(path).items():
                if ignored is None or not ignored.fullmatch(name):
                    check_weight_dtype(name, tensor, path)
                    self.paths[name] = path
                    self.shapes[name] = tuple(tensor.shape)

    def __getitem__(self, name: str) -> torch.Tensor:
        path, stored_name = self.paths[name], self._stored_names.get(name, name)
        if path.suffix != ".safetensors":
            return read_tensors(path)[stored_name]
        with reading(path, _KINDS[".safetensors"]), safe_open(path, framework="pt") as file:
            return file.get_tensor(stored_name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def tie(self, name: str, source: str) -> None:
        """Makes `name` another name of the tensor `source`."""
        self.paths[name], self.shapes[name] = self.paths[source], self.shapes[source]
        self._stored_names[name] = source

    def shards(self, names: Collection[str]) -> list[list[str]]:
        """The given names, in a list per file that holds some of them."""
        files = dict.fromkeys(self.paths.values())
        shards = [[name for name in self if self.paths[name] == file and name in names] for file in files]
        return [shard for shard in shards if shard]


def _weight_files(directory: Path, names: Iterable[str]) -> list[Path]:
    names = list(names)
    present = [name for name in names if (directory / name).is_file()]
    if not present:
        raise ValueError(f"'{directory}' must hold one of {', '.join(names)}.")
    path = directory / present[0]
    if path.suffix != ".json":
        return [path]
    return [existing_file(directory, shard) for shard in sorted(set(weight_map(path).values()))]


def check_weight_dtype(name: str, tensor: torch.Tensor, source: Path) -> None:
    """Raises `ValueError` if the tensor of that name in the file or directory `source` cannot be a weight."""
    if tensor.dtype not in WEIGHT_DTYPES:
        raise ValueError(f"The weight {name} in '{source}' must be of a floating-point type, got {tensor.dtype}.")


def check_fit(found: Shapes, expected: Shapes, source_dir: Path) -> None:
    """
    Checks that the weights of a checkpoint are those of its model.

    Args:
        found: shapes of the weights by name.
        expected: the same, of the model.
        source_dir: where they were found.

    Raises:
        ValueError: if they are not; all unexpected, missing and misshapen names are listed.
    """
    problems = {
        "unexpected": sorted(set(found) - set(expected)),
        "missing": sorted(set(expected) - set(found)),
        "of the wrong shape": [
            f"{name} {tuple(found[name])} instead of {tuple(expected[name])}"
            for name in sorted(set(expected) & set(found))
            if tuple(found[name]) != tuple(expected[name])
        ],
    }
    messages = [f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    if messages:
        raise ValueError(f"The weights in '{source_dir}' do not fit their config. " + "; ".join(messages) + ".")


def write_weights(
    weights: WeightFiles, names: Collection[str], directory: Path, dtype: torch.dtype | None = None
) -> None:
    """
    Writes weights as `model.safetensors`, or in as many shards as they were read from, with an index.

    No more than one tensor is in memory at a time.

    Args:
        weights: to be written.
        names: of those among them that are.
        directory: exists.
        dtype: to store them in; by default, that which they have.

    Raises:
        OSError: if a file cannot be written.
    """
    shards = weights.shards(names)
    shard_of: dict[str, str] = {}
    total_size = 0
    for number, shard_names in enumerate(tqdm(shards, desc="Writing weights", unit="shard"), start=1):
        suffix = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        file_name = f"model{suffix}.safetensors"
        total_size += write_tensors(weights, shard_names, directory / file_name, dtype)
        shard_of |= dict.fromkeys(shard_names, file_name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(shard_of.items()))}
        write_json(directory / "model.safetensors.index.json", index, sort_keys=True)


def write_tensors(
    tensors: Mapping[str, torch.Tensor], names: Collection[str], path: Path, dtype: torch.dtype | None = None
) -> int:
    """
    Writes a safetensors file and returns the bytes of its tensors.

    The library would want all tensors at once; here each is taken from `tensors` when its turn comes.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        stored_dtype = dtype or tensors[name].dtype
        start, end = end, end + tensors[name].numel() * stored_dtype.itemsize
        header[name] = {
            "dtype": WEIGHT_DTYPES[stored_dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    encoded = json.dumps(header).encode()
    # The data begins at a multiple of eight bytes.
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name in names:
            tensor = tensors[name].to(dtype).contiguous()
            file.write(tensor.flatten().view(torch.uint8).numpy().data)
    return end


def check_new_directory(argument: str, directory: Path) -> None:
    """Raises `ValueError` if there is anything at `directory`, apart from an empty directory."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"`{argument}` must be a new or an empty directory, got '{directory}'.")


@contextmanager
def new_directory(directory: Path, num_bytes: int) -> Iterator[Path]:
    """
    A directory to write into, which gets its name when all went well, and is gone otherwise.

    Args:
        directory: new or empty.
        num_bytes: that about to be written.

    Raises:
        OSError: if there is not enough space for so many bytes, or writing fails.
    """
    with whole_directory(directory) as partial:
        free = shutil.disk_usage(partial).free
        if free < num_bytes:
            message = f"No space left on device: {num_bytes / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free"
            raise OSError(errno.ENOSPC, message, str(directory))
        try:
            yield partial
        except Exception as error:
            # The libraries that write weights and tokenizers raise these instead of an OSError.
            if isinstance(error, SafetensorError) or type(error) is Exception:
                raise OSError(f"'{directory}' could not be written: {error}") from error
            raise
