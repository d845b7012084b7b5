# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Small files that stand for huge pictures, read by a process that may not take much memory or time."""

import io
import json
import os
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from lumos_hf.cli import app


# Of address space, above what the test process has.
LIMIT_IN_BYTES = 2 * 10**9
# Of the processor, so that a machine that is busy with other things makes no difference.
LIMIT_IN_SECONDS = 60

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")


def png(width: int, height: int) -> bytes:
    """A grey picture; its rows are zeros, which are a few bytes when packed."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content) & 0xFFFFFFFF)
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(bytes(width + 1)) for _ in range(height)), packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    """One pixel on a large canvas."""
    buffer = io.BytesIO()
    Image.new("P", (1, 1)).save(buffer, format="GIF")
    content = bytearray(buffer.getvalue())
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


BOMBS = {
    "column.png": lambda: png(1, 60_000),
    "row.png": lambda: png(60_000, 1),
    "square.png": lambda: png(30_000, 30_000),
    "canvas.gif": lambda: gif(16_000, 16_000),
    "largest_canvas.gif": lambda: gif(65_535, 65_535),
}

# Cropped before they are enlarged, they are small pictures.
DRAWN = ("column", "row")


def run_limited(action: Callable[[], object]) -> object:
    """
    What an action returns, as JSON has it, in a fork of this process, where everything is imported already.

    A limit of memory that is reached is a `MemoryError` or another one of the action; one of time a kill, and here an
    `AssertionError`, as any error of the action is.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            used = 1024 * int(_status_line("VmSize").split()[1])
            resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_IN_BYTES,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_IN_SECONDS,) * 2)
            os.write(writer, json.dumps(action()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        content = answer.read()
    status = os.waitpid(pid, 0)[1]
    assert content, f"the action was not finished: wait status {status}"
    return json.loads(content)


def run_command(*arguments: object) -> tuple[int, str]:
    """The exit code of a command under these limits, and what it says."""

    def action():
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        cause = result.exception and (result.exception.__cause__ or result.exception)
        return result.exit_code, f"{result.stderr[-2000:]}\n{cause!r:.1000}"

    exit_code, errors = run_limited(action)
    return exit_code, errors


def _status_line(name: str) -> str:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{name}:"))


@pytest.fixture
def clips(tmp_path, request):
    directory = tmp_path / "clips"
    directory.mkdir()
    (directory / request.param).write_bytes(BOMBS[request.param]())
    (directory / request.param).with_suffix(".txt").write_text("A red star.", encoding="utf-8")
    return directory


@linux_only
@pytest.mark.parametrize("clips", BOMBS, indirect=True)
def test_generate(checkpoint, tmp_path, clips):
    """It draws, or refuses the picture for its size."""
    image = next(path for path in clips.iterdir() if path.suffix != ".txt")
    exit_code, errors = run_command(
        *("generate", "A red star.", "--image", image, "--height", 352, "--width", 672),
        *("--num-frames", 1, "--steps", 1, "--model", checkpoint, "-o", tmp_path / "out.png"),
    )
    assert exit_code == (0 if image.stem in DRAWN else 2), errors
    assert image.stem in DRAWN or "--max-pixels" in errors, errors


@linux_only
@pytest.mark.parametrize("clips", BOMBS, indirect=True)
def test_tokenize(checkpoint, tmp_path, clips):
    """It takes the clip, or skips it and then has none."""
    exit_code, errors = run_command(
        *("tokenize", clips, "--height", 128, "--width", 128),
        *("--num-frames", 5, "--model", checkpoint, "-o", tmp_path / "set"),
    )
    is_taken = any((clips / f"{stem}.png").exists() for stem in DRAWN)
    assert exit_code == (0 if is_taken else 3), errors
    assert is_taken or "Skipped 1" in errors, errors


@linux_only
@pytest.mark.parametrize("scale", [100_000, 2**40])
def test_scales(checkpoint, tmp_path, scale):
    exit_code, errors = run_command(
        *("generate", "A red star.", "--num-frames", 1, "--steps", 1),
        *("--model", checkpoint, "--scale", scale, "-o", tmp_path / "out.png"),
    )
    assert exit_code == 2 and "--scale" in errors, errors


@linux_only
@pytest.mark.parametrize("action", [lambda: len(bytearray(2 * LIMIT_IN_BYTES)), lambda: max(iter(int, 1))])
def test_limits_end_an_action(action, monkeypatch):
    """Of memory and of time; otherwise the tests above would say nothing."""
    monkeypatch.setattr(sys.modules[__name__], "LIMIT_IN_SECONDS", 1)
    with pytest.raises(AssertionError, match="not finished"):
        run_limited(action)
