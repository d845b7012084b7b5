# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Kills an action at each of its file operations.

The action runs in a fork of the test process, so that nothing is imported again; there, the calls of Python that change a
file or directory are counted, and the process kills itself before the chosen one. Writers in compiled code (safetensors,
FFmpeg, parquet) are seen when their files are renamed, not while they write.
"""

import builtins
import io
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


_CHANGES = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "link", "symlink", "truncate")
_NEVER = sys.maxsize


def count_operations(action: Callable[[], object]) -> int:
    """Runs an action to its end, and tells how many file operations it took."""
    reader, writer = os.pipe()
    status = _in_fork(action, _NEVER, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as counts:
        count = counts.read()
    if status != 0:
        raise AssertionError(f"the action failed without being killed: wait status {status}")
    return int(count)


def run_killed_before(action: Callable[[], object], operation: int) -> bool:
    """Runs an action that is killed before that operation, counted from 0; whether it came so far."""
    reader, writer = os.pipe()
    status = _in_fork(action, operation, writer)
    os.close(writer)
    os.close(reader)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def run_terminated_before(action: Callable[[], object], operation: int) -> int:
    """Runs an action that gets SIGTERM before that operation; the exit status of its process, negative if a signal ended it."""
    reader, writer = os.pipe()
    status = _in_fork(action, operation, writer, signal.SIGTERM)
    os.close(writer)
    os.close(reader)
    return os.waitstatus_to_exitcode(status)


def run_with_largest_file(action: Callable[[], object], limit: int) -> bool:
    """
    Runs an action for which no file grows beyond so many bytes, which stands for a disk that is full by then, also for writers
    in compiled code; whether it ended without an error.
    """
    pid = os.fork()
    if pid != 0:
        return os.waitpid(pid, 0)[1] == 0
    status = 3
    try:
        # What the tests' output is caught in is a file as well.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def spread(count: int, most: int) -> list[int]:
    """At most so many of the operations 0 to `count - 1`, evenly spread, first and last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def snapshot(directory: Path) -> dict[str, bytes]:
    """The contents of all files below a directory, by their path in it."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def _in_fork(action: Callable[[], object], operation: int, writer: int, sent: int = signal.SIGKILL) -> int:
    pid = os.fork()
    if pid != 0:
        return os.waitpid(pid, 0)[1]
    status = 3
    try:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        counter = _Counter(operation, sent)
        counter.install()
        action()
        counter.active = False
        os.write(writer, str(counter.count).encode())
        status = 0
    except KeyboardInterrupt:
        # What a shell says of a program that it ends.
        status = 128 + signal.SIGINT
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 3
    except BaseException:
        traceback.print_exc()
    os._exit(status)


class _Counter:
    def __init__(self, operation: int, sent: int):
        self.operation = operation
        self.sent = sent
        self.count = 0
        self.active = True

    def install(self) -> None:
        for name in _CHANGES:
            setattr(os, name, self._counted(getattr(os, name)))
        builtins.open = io.open = self._counted_open(io.open)

    def _next(self) -> None:
        if not self.active:
            return
        self.count += 1
        if self.count == self.operation + 1:
            os.kill(os.getpid(), self.sent)

    def _counted(self, function: Callable) -> Callable:
        def call(*args, **kwargs):
            self._next()
            return function(*args, **kwargs)

        return call

    def _counted_open(self, function: Callable) -> Callable:
        def call(file, mode="r", *args, **kwargs):
            if not set(mode) & set("wax+"):
                return function(file, mode, *args, **kwargs)
            self._next()
            opened = function(file, mode, *args, **kwargs)
            # Now the file is there and empty, which is the worst that half of it can be.
            self._next()
            return opened

        return call
