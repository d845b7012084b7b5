# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Fragmented MP4 of a video while it is made: pieces that can be played when they come, and whose sequence is one file.

Notable: every piece is encoded by itself and begins with a key frame, so it is complete at once. The first one carries the
description of the stream; of the others, what repeats it is left out, and numbers and times of the fragments go on.
"""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction

import av
import PIL.Image


MIME_TYPE = 'video/mp4; codecs="avc1"'

_ENCODER = {"crf": "18", "preset": "veryfast", "tune": "zerolatency"}
_MUXER = {"movflags": "empty_moov+default_base_moof+frag_keyframe+skip_trailer"}
_DESCRIPTION = (b"ftyp", b"moov")
_FRAGMENT = (b"moof", b"mdat")


class FragmentedMp4:
    """
    Args:
        width, height: of the frames, even numbers.
        fps: frames per second.
    """

    def __init__(self, width: int, height: int, fps: int):
        self.width, self.height, self.fps = width, height, fps
        self._num_frames = 0
        self._num_fragments = 0

    def piece(self, frames: list[PIL.Image.Image]) -> bytes:
        """The frames that follow, at least one."""
        kept = _FRAGMENT if self._num_fragments else _DESCRIPTION + _FRAGMENT
        content = b"".join(
            self._continued(box) if kind == b"moof" else box
            for kind, box in _boxes(self._encode(frames))
            if kind in kept
        )
        self._num_frames += len(frames)
        return content

    def _encode(self, frames: list[PIL.Image.Image]) -> bytes:
        file = io.BytesIO()
        with av.open(file, "w", format="mp4", options=_MUXER) as container:
            # The same for every piece, since the first one describes all of them.
            stream = container.add_stream("libx264", rate=self.fps, options=dict(_ENCODER))
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            stream.codec_context.time_base = Fraction(1, self.fps)
            for index, picture in enumerate(frames):
                frame = av.VideoFrame.from_image(picture)
                frame.pts, frame.time_base = index, Fraction(1, self.fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return file.getvalue()

    def _continued(self, moof: bytes) -> bytes:
        """A fragment with its number (`mfhd`) and its time (`tfdt`, in units of which a frame has what `tfhd` says)."""
        self._num_fragments += 1
        number, header, time = (moof.index(kind) + 8 for kind in (b"mfhd", b"tfhd", b"tfdt"))
        (duration,) = struct.unpack_from(">I", moof, header + 4)
        content = bytearray(moof)
        struct.pack_into(">I", content, number, self._num_fragments)
        struct.pack_into(">Q", content, time, self._num_frames * duration)
        return bytes(content)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The outermost boxes by their kinds."""
    position = 0
    while position < len(content):
        (size,) = struct.unpack_from(">I", content, position)
        yield content[position + 4 : position + 8], content[position : position + size]
        position += size
