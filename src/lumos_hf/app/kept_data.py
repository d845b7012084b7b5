# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What a running app keeps of its visitors: clips in memory, files on disk, both within limits."""

import os
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .clips import Clip


# Where gradio keeps what is uploaded and handed out.
_GRADIO_DIRECTORY = "GRADIO_TEMP_DIR"
# A directory so young may be waiting for its file.
_MIN_AGE = 60


class ClipStore:
    """
    The clip that each visitor saw last. Those that were not asked for longest are dropped when there are too many.

    Args:
        max_bytes: of the pixels of all clips; the last one is kept in any case.
    """

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._clips: OrderedDict[str, Clip] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, visitor: str) -> Clip | None:
        with self._lock:
            if visitor in self._clips:
                self._clips.move_to_end(visitor)
            return self._clips.get(visitor)

    def __setitem__(self, visitor: str, clip: Clip) -> None:
        with self._lock:
            self._clips[visitor] = clip
            self._clips.move_to_end(visitor)
            excess = sum(each.num_bytes for each in self._clips.values()) - self._max_bytes
            while excess > 0 and len(self._clips) > 1:
                excess -= self._clips.popitem(last=False)[1].num_bytes

    def discard(self, visitor: str) -> None:
        """Drops the clip of a visitor, if there is one."""
        with self._lock:
            self._clips.pop(visitor, None)


@contextmanager
def temporary_room() -> Iterator[Path]:
    """
    A directory for all that an app writes, gradio's files included, which is removed in the end.

    It is made in `GRADIO_TEMP_DIR` if that is set, else where temporary files belong.
    """
    before = os.environ.get(_GRADIO_DIRECTORY)
    if before is not None:
        Path(before).mkdir(parents=True, exist_ok=True)
    # gradio may still be writing.
    with tempfile.TemporaryDirectory(prefix="lumos-hf-app-", dir=before, ignore_cleanup_errors=True) as directory:
        os.environ[_GRADIO_DIRECTORY] = str(Path(directory) / "gradio")
        try:
            yield Path(directory)
        finally:
            os.environ.pop(_GRADIO_DIRECTORY)
            if before is not None:
                os.environ[_GRADIO_DIRECTORY] = before


@contextmanager
def limited_size(
    directory: Path, max_bytes: int, interval: float, forget: Callable[[set[str]], object]
) -> Iterator[None]:
    """Calls [`remove_oldest_files`] every `interval` seconds, and `forget` with the paths that are gone."""
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(interval):
            forget(remove_oldest_files(directory, max_bytes))

    thread = threading.Thread(target=work, name="lumos-app-files", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def remove_oldest_files(directory: Path, max_bytes: int) -> set[str]:
    """
    Removes the oldest files until the others have at most `max_bytes`, and directories that were left empty.

    Returns:
        the paths of the files.
    """
    files, size, removed = [], 0, set()
    for root, names, file_names in os.walk(directory):
        for name in file_names:
            path = Path(root) / name
            status = _status(path)
            if status is not None:
                files.append((status.st_ctime, status.st_size, path))
                size += status.st_size
        if not names and not file_names and Path(root) != directory:
            _remove_if_abandoned(Path(root))
    for _, num_bytes, path in sorted(files):
        if size <= max_bytes:
            break
        path.unlink(missing_ok=True)
        removed.add(str(path))
        size -= num_bytes
    return removed


def _remove_if_abandoned(directory: Path) -> None:
    status = _status(directory)
    if status is not None and time.time() - status.st_ctime > _MIN_AGE:
        try:
            directory.rmdir()
        except OSError:
            # Somebody wrote into it after all.
            return


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
