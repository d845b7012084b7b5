# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Small files that stand for huge pictures, read by a process that may not take much memory."""

import io
import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image


# Of address space, above what the process needs anyway.
LIMIT_IN_BYTES = 2 * 10**9


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


def limited(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs Python that may take so much more memory than it has after its imports."""
    prologue = (
        "import resource, sys\n"
        "import lumos_hf.cli, lumos_hf.data.tokenization\n"
        "from lumos_hf import LumosVideoPipeline\n"
        "used = 1024 * int(next(l for l in open('/proc/self/status') if l.startswith('VmSize')).split()[1])\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {LIMIT_IN_BYTES}, used + {LIMIT_IN_BYTES}))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prologue + code, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
@pytest.mark.parametrize("name", BOMBS)
def test_generate_and_tokenize(checkpoint, tmp_path, name):
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / name).write_bytes(BOMBS[name]())
    (clips / name).with_suffix(".txt").write_text("A red star.", encoding="utf-8")
    common = f"'--model', {str(checkpoint)!r}, '-o'"
    generate = limited(
        f"from lumos_hf.cli import app\napp(['generate', 'A red star.', '--image', {str(clips / name)!r}, '--height', "
        f"'384', '--width', '672', '--num-frames', '1', '--steps', '1', {common}, {str(tmp_path / 'out.png')!r}])"
    )
    assert generate.returncode in (0, 2), generate.stderr[-2000:]
    assert "Traceback" not in generate.stderr
    tokenize = limited(
        f"from lumos_hf.cli import app\napp(['tokenize', {str(clips)!r}, '--height', '128', '--width', '128', "
        f"'--num-frames', '5', {common}, {str(tmp_path / 'set')!r}])"
    )
    assert tokenize.returncode in (0, 3), tokenize.stderr[-2000:]
    assert "Traceback" not in tokenize.stderr
