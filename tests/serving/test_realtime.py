# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The socket: a stream that is directed, and whose joined pieces play."""

import io
import json
from contextlib import contextmanager

import av
import numpy as np
import PIL.Image
import pytest
import torch
from starlette.websockets import WebSocketDisconnect
from test_pipeline_lumos_video import CAPTIONS

from lumos_hf.serving import realtime
from lumos_hf.serving.fragmented_mp4 import FragmentedMp4


START = {"type": "session.start", "prompt": CAPTIONS[0], "num_inference_steps": 3, "seed": 11}


@contextmanager
def connect(served, **changes):
    with served.client.websocket_connect("/v1/realtime/video") as socket:
        socket.send_json({**START, **changes})
        yield socket


def receive_chunk(socket):
    """The metadata and the piece that come next, with other messages before them."""
    others = []
    while (message := socket.receive_json())["type"] != "video.chunk_metadata":
        if message["type"] == "session.done":
            return message, b"", others
        others.append(message)
    piece = socket.receive_bytes()
    assert len(piece) == message["num_bytes"]
    return message, piece, others


def play(content):
    with av.open(io.BytesIO(content)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return [time for time, _ in frames], np.stack([pixels for _, pixels in frames])


def test_the_prompt_changes_half_way_and_the_joined_stream_plays(served, tiny_pipe):
    with connect(served, num_frames=17, num_inference_steps=100, fps=4) as socket:
        start = socket.receive_json()
        assert start["type"] == "video.start" and (start["width"], start["height"], start["seed"]) == (64, 32, 11)
        pieces, seen = [], []
        metadata, piece, _ = receive_chunk(socket)
        assert (metadata["chunk_index"], metadata["num_frames"], metadata["prompt"]) == (0, 1, CAPTIONS[0])
        pieces.append(piece)
        socket.send_json({"type": "session.interaction", "event_id": "e1", "event": {"prompt": CAPTIONS[1]}})
        socket.send_json({"type": "session.ping"})
        while metadata["type"] != "session.done":
            metadata, piece, others = receive_chunk(socket)
            pieces.append(piece)
            seen += others
        assert [message["type"] for message in seen] == ["session.interaction.queued", "session.pong"]
        assert seen[0]["event_id"] == "e1"
        assert (metadata["num_frames"], metadata["state"]) == (17, "done")
        (segment,) = metadata["prompt_segments"]
        assert segment["text"] == CAPTIONS[1] and 1 <= segment["start_frame"] < 17
        times, _ = play(b"".join(pieces))
        assert np.allclose(times, np.arange(17) / 4)
        call = {
            "width": 64,
            "height": 32,
            "fps": 4,
            "num_frames": 17,
            "num_inference_steps": 100,
            "prompt": CAPTIONS[0],
        }
        call |= {"generator": torch.Generator().manual_seed(11), "prompt_segments": metadata["prompt_segments"]}
        expected = tiny_pipe(**call).frames[0]
        mp4 = FragmentedMp4(64, 32, 4)
        cuts = [slice(0, 1), *(slice(first, first + 4) for first in range(1, 17, 4))]
        assert b"".join(pieces) == b"".join(mp4.piece(expected[cut]) for cut in cuts)


def test_an_interaction_that_fails_leaves_the_stream_alone(served):
    with connect(served, num_frames=9, num_inference_steps=100) as socket:
        assert socket.receive_json()["type"] == "video.start"
        for event in ({"prompt": " "}, {"prompt": "kite " * 600}, {}, None):
            socket.send_json({"type": "session.interaction", "event_id": "bad", "event": event})
        socket.send_json({"type": "session.nonsense"})
        failures = []
        while (chunk := receive_chunk(socket))[0]["type"] != "session.done":
            failures += chunk[2]
        failures += chunk[2]
        assert [message["code"] for message in failures] == ["interaction_failed"] * 4 + ["invalid_message"]
        assert chunk[0]["num_frames"] == 9 and chunk[0]["prompt_segments"] == []


def test_a_stream_is_stopped(served):
    with connect(served, num_frames=17, num_inference_steps=400) as socket:
        assert socket.receive_json()["type"] == "video.start"
        socket.send_json({"type": "session.stop"})
        done, _, _ = receive_chunk(socket)
        assert (done["type"], done["state"]) == ("session.done", "cancelled")


def test_who_leaves_has_the_stream_ended(served):
    with connect(served, num_frames=17, num_inference_steps=400) as socket:
        assert socket.receive_json()["type"] == "video.start"
        (job,) = served.worker.runner._running or served.worker.runner._waiting_jobs()
        socket.close()
        for status in job.updates(30):
            pass
        assert status.state == "cancelled"
        assert served.make(num_frames=5, num_inference_steps=1)


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ({"type": "session.stop"}, "invalid_message", "must be `session.start`"),
        ({**START, "prompt": 1}, "invalid_message", "`prompt`"),
        ({**START, "format": "webm"}, "invalid_message", "`format`"),
        ({**START, "colour": "red"}, "invalid_message", "`colour`"),
        ({**START, "prompt": " "}, "invalid_value", "must not be empty"),
        ({**START, "width": 640}, "invalid_value", "at most 4096 here"),
        ({**START, "model": "other"}, "model_not_found", "must be 'tiny'"),
        ("not json", "invalid_message", "must be JSON"),
        ("[]", "invalid_message", "must be JSON"),
    ],
)
def test_what_cannot_be_streamed_is_refused(served, message, code, text):
    with served.client.websocket_connect("/v1/realtime/video") as socket:
        socket.send_text(message if isinstance(message, str) else json.dumps(message))
        error = socket.receive_json()
        assert (error["type"], error["code"]) == ("error", code) and text in error["message"]
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_a_start_must_come_soon(served, monkeypatch):
    monkeypatch.setattr(realtime, "START_TIMEOUT", 0.05)
    with served.client.websocket_connect("/v1/realtime/video") as socket:
        assert socket.receive_json()["code"] == "start_timeout"


def test_pieces_have_the_times_of_one_stream():
    frames = [PIL.Image.new("RGB", (64, 32), (index * 12, 0, 0)) for index in range(9)]
    mp4 = FragmentedMp4(64, 32, 12)
    pieces = [mp4.piece(frames[:1]), mp4.piece(frames[1:5]), mp4.piece(frames[5:])]
    times, pixels = play(b"".join(pieces))
    assert np.allclose(times, np.arange(9) / 12)
    reds = pixels[..., 0].mean((1, 2))
    assert np.allclose(reds, np.arange(9) * 12, atol=6)
    # Whoever comes in time plays what there is.
    assert len(play(pieces[0])[0]) == 1 and len(play(pieces[0] + pieces[1])[0]) == 5
