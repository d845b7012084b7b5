# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Files and directories that appear whole or not at all.

Each is written under a temporary name beside its own, `.NAME.MACHINE-PID-RUN-COUNT.partial`, and takes its place when all
went well. What a killed process leaves under such a name is removed by the next one that writes into the directory.
"""

import itertools
import json
import os
import re
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any


# What file systems allow for a name.
_MAX_NAME_BYTES = 255

_PARTIAL_NAME = re.compile(
    r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<run>[0-9a-f]{8})-\d+\.partial", flags=re.DOTALL
)

# Machines and containers may share a directory, and know nothing of each other's processes.
_MACHINE = f"{zlib.crc32(socket.gethostname().encode()):08x}"
# In a container that is started again, a process often has the id of the one before it.
_RUN = os.urandom(4).hex()
_COUNT = itertools.count()

# A partial file of another machine that nobody wrote to for so long is taken for left behind.
_MAX_IDLE_SECONDS = 24 * 60 * 60


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """
    Gives a temporary path beside `path` to write a file to, which takes the place of `path` if no error comes up.

    Directories are created. If writing fails, a file that was there before stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clean_once(path.parent.resolve())
    partial = partial_path(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_directory(path: str | os.PathLike) -> Iterator[Path]:
    """
    Gives a temporary directory beside `path` to write into, which becomes `path` if no error comes up, and is removed
    otherwise.

    Raises:
        OSError: if there is anything at `path` at the end, apart from an empty directory.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _clean_once(path.parent)
    partial = partial_path(path)
    partial.mkdir()
    try:
        yield partial
        if path.is_dir():
            path.rmdir()
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file whole, in UTF-8."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: Any, *, sort_keys: bool = False, ensure_ascii: bool = True) -> None:
    """Writes a JSON file whole, indented by two spaces."""
    write_text(path, json.dumps(content, indent=2, sort_keys=sort_keys, ensure_ascii=ensure_ascii) + "\n")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON object in a file; raises `ValueError` with its name if it holds none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    # Brackets inside brackets end in a RecursionError.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' must be a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' must hold a JSON object, got {str(content)[:40]!r}.")
    return content


def partial_path(path: Path) -> Path:
    """A name beside `path` that no other file has, no longer than names may be, by which [`remove_leftovers`] knows it."""
    suffix = f".{_MACHINE}-{os.getpid()}-{_RUN}-{next(_COUNT)}.partial"
    room = _MAX_NAME_BYTES - len(suffix) - len(".")
    # A cut may go through a character of several bytes.
    name = os.fsencode(path.name)[:room].decode(errors="ignore")
    return path.with_name(f".{name}{suffix}")


def remove_leftovers(directory: str | os.PathLike[str]) -> None:
    """Removes what processes that are no longer there left in `directory` while writing; others' work is not touched."""
    with os.scandir(directory) as entries:
        leftovers = [Path(entry.path) for entry in entries if _is_leftover(entry)]
    for path in leftovers:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# Bounded: a server writes into ever new directories.
@lru_cache(maxsize=1024)
def _clean_once(directory: Path) -> None:
    """What is left behind there is the trace of an earlier run, so that one look per run is enough."""
    remove_leftovers(directory)


def _is_leftover(entry: os.DirEntry) -> bool:
    match = _PARTIAL_NAME.fullmatch(entry.name)
    if match is None:
        return False
    # Signal 0, which asks for nothing but whether the process is there, is another one on Windows.
    if match["machine"] == _MACHINE and os.name == "posix":
        pid = int(match["pid"])
        return match["run"] != _RUN if pid == os.getpid() else not _is_running(pid)
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _MAX_IDLE_SECONDS
    except FileNotFoundError:
        return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
