# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The tensors of a TorchScript archive, read as data.

An archive is a zip file of compiled code, a pickle of the module and the bytes of its tensors. `torch.jit.load` restores
objects by running code of the archive; here no code is run and none is resolved. The pickle may ask for nothing but
tensors and what lists and modules are made of, modules become bags of attributes, and sizes that it declares must be those
of the bytes that are there.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch


_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

# What PyTorch writes modules with. Others could make objects in ways that are not looked at here.
_OPCODES = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID", "BINPUT", "LONG_BINPUT"),
    *("BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "POP"),
}

# A hundred times what the pickle of the official encoder takes.
_MAX_PICKLE_BYTES = 64 * 2**20
_MAX_NAMES = 100_000
_MAX_DEPTH = 100


class _Module:
    """Stands for an object of any class that the archive defines: the attributes, and nothing else."""

    def __setstate__(self, state: Any) -> None:
        # Of an object with a `__setstate__` of its own, the state is whatever that would make attributes of.
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise pickle.UnpicklingError("it holds an object that only code of the archive could restore")
        self.__dict__.update(state)


class _Storage(NamedTuple):
    """The values of one or several tensors, one after the other."""

    values: torch.Tensor


def read_torchscript_tensors(path: Path) -> dict[str, torch.Tensor]:
    """
    The parameters and buffers of the module in a TorchScript archive, by name, as its state dict has them.

    Raises:
        zipfile.BadZipFile: if it is no whole zip file.
        pickle.UnpicklingError: if it is no TorchScript archive, holds anything but modules, numbers and tensors, or tensors
            that do not fit their bytes. A damaged pickle can lead to any other exception too.
    """
    with zipfile.ZipFile(path) as archive:
        records = _Records(archive)
        content = records.read("data.pkl", _MAX_PICKLE_BYTES)
        _check_opcodes(content)
        module = _Unpickler(content, records).load()
    if not isinstance(module, _Module):
        raise pickle.UnpicklingError(f"it must hold a module, got {type(module).__name__}")
    return _named_tensors(module)


class _Records:
    """The records of an archive, all in one folder of the zip file, uncompressed as PyTorch writes them."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        entries = archive.infolist()
        folder = entries[0].filename.partition("/")[0] if entries else ""
        self._entries = {entry.filename.removeprefix(f"{folder}/"): entry for entry in entries}
        if "data.pkl" not in self._entries or "constants.pkl" not in self._entries:
            raise pickle.UnpicklingError("it has no data.pkl and constants.pkl")
        if "byteorder" in self._entries and self.read("byteorder", max_bytes=16) != b"little":
            raise pickle.UnpicklingError("its numbers must be stored with the lowest byte first")

    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        entry = self._entries.get(name)
        if entry is None:
            raise pickle.UnpicklingError(f"it has no record {name}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise pickle.UnpicklingError(f"its record {name} must not be compressed")
        if max_bytes is not None and entry.file_size > max_bytes:
            raise pickle.UnpicklingError(f"its record {name} has {entry.file_size} bytes, more than {max_bytes}")
        return self._archive.read(entry)

    def size(self, name: str) -> int | None:
        return self._entries[name].file_size if name in self._entries else None


def _check_opcodes(content: bytes) -> None:
    """Before anything is unpickled: an unknown operation, or an index that would make the list of memos grow huge."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"its data.pkl has the operation {opcode.name}, which PyTorch does not write")
        if opcode.name == "LONG_BINPUT" and argument is not None and argument > len(content):
            raise pickle.UnpicklingError(f"its data.pkl counts {argument} objects in {len(content)} bytes")


class _Unpickler(pickle.Unpickler):
    """Gives bags of attributes for modules and tensors for tensors, and refuses everything else."""

    def __init__(self, content: bytes, records: _Records):
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._records = records
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module.partition(".")[0] == "__torch__":
            return _Module
        if (module, name) not in _RESOLVED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is neither a tensor nor a module")
        return _RESOLVED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"it asks for {kind!r} {key!r}, which is no storage")
        if key not in self._storages:
            name = f"data/{key}"
            if self._records.size(name) != size * dtype.itemsize:
                raise pickle.UnpicklingError(
                    f"its record {name} must have {size * dtype.itemsize} bytes, got {self._records.size(name)}"
                )
            # Not read-only, as weights may be changed in place.
            content = bytearray(self._records.read(name))
            self._storages[key] = _Storage(
                torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            )
        storage = self._storages[key]
        if storage.values.dtype != dtype or storage.values.numel() != size:
            raise pickle.UnpicklingError(f"it has two descriptions of its record data/{key}")
        return storage


def _rebuild_tensor(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool = False,
    backward_hooks: Any = None,
) -> torch.Tensor:
    numbers = (offset, *size, *stride)
    fits = isinstance(storage, _Storage) and all(isinstance(number, int) and number >= 0 for number in numbers)
    # More numbers than are stored, read again and again by a stride of 0, would take memory once they are copied.
    if not fits or len(size) != len(stride) or math.prod(size) > storage.values.numel():
        raise pickle.UnpicklingError(f"it has a tensor of size {size} that does not fit its storage")
    return storage.values.as_strided(size, stride, offset)


def _restore_list(items: list) -> list:
    return items


def _restore_tagged(value: Any, type_name: str) -> Any:
    return value


def _device(name: str) -> None:
    """Where something was when it was saved does not matter."""


_RESOLVED = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "device"): _device,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch.jit._pickle", "build_intlist"): _restore_list,
    ("torch.jit._pickle", "build_doublelist"): _restore_list,
    ("torch.jit._pickle", "build_boollist"): _restore_list,
    ("torch.jit._pickle", "build_tensorlist"): _restore_list,
    ("torch.jit._pickle", "restore_type_tag"): _restore_tagged,
}


def _named_tensors(root: _Module) -> dict[str, torch.Tensor]:
    """Tensors among the attributes of modules inside modules; those in lists are no parameters."""
    tensors: dict[str, torch.Tensor] = {}
    pending: list[tuple[str, _Module]] = [("", root)]
    num_names = 0
    while pending:
        prefix, module = pending.pop()
        # Modules that hold each other, or the same ones many times, have names without end.
        num_names += len(module.__dict__)
        if num_names > _MAX_NAMES or prefix.count(".") > _MAX_DEPTH:
            raise pickle.UnpicklingError(
                f"it has more than {_MAX_NAMES} names, or more than {_MAX_DEPTH} levels of them"
            )
        for name, value in module.__dict__.items():
            if isinstance(value, torch.Tensor):
                tensors[prefix + name] = value
            elif isinstance(value, _Module):
                pending.append((f"{prefix}{name}.", value))
    return tensors
