# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`lumos-hf serve` as it is started, with the demo checkpoint: other people's clients, and what a kill leaves."""

import asyncio
import base64
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import httpx
import openai
import PIL.Image
import pytest
import torch
import websockets.sync.client

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.media import read_settings, write_media

from .test_videos_api import png


pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
PROMPT, OTHER = "A red star jumps in the snow.", "A blue heart jumps in the snow."
# As small as the demo makes it.
SMALL = {"size": "64x64", "extra_body": {"num_inference_steps": 2, "num_frames": 5}}


class Server:
    """`lumos-hf serve` as a process."""

    def __init__(self, directory, *options):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "lumos_hf", "serve", "--port", str(self.port), "--data-dir", str(directory)]
        self.command, self.log = [*command, *options], directory.with_suffix(".log")
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + 180
        while True:
            try:
                httpx.get(f"{self.url}/health", timeout=10).raise_for_status()
                return
            except httpx.HTTPError:
                assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(60)

    def end(self, with_signal):
        self.process.send_signal(with_signal)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("serve") / "data") as server:
        yield server
        assert server.end(signal.SIGTERM) == 130
        assert "Traceback" not in server.log.read_text()


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none is asked for", max_retries=0)


def num_frames(content):
    with av.open(io.BytesIO(content)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_every_method_of_the_unmodified_client(client):
    video = client.videos.create_and_poll(prompt=PROMPT, **SMALL)
    assert (video.status, video.progress, video.size, video.seconds) == ("completed", 100, "64x64", "0.5")
    content = client.videos.download_content(video.id).read()
    assert num_frames(content) == 5
    for variant in ("thumbnail", "spritesheet"):
        assert (
            PIL.Image.open(io.BytesIO(client.videos.download_content(video.id, variant=variant).read())).format
            == "PNG"
        )
    assert client.videos.retrieve(video.id) == video
    others = [
        client.videos.remix(video.id, prompt=OTHER),
        client.videos.edit(prompt=OTHER, video=content),
        client.videos.edit(prompt=OTHER, video=openai.omit, extra_body={"video": {"id": video.id}}),
        client.videos.extend(prompt=OTHER, video=io.BytesIO(content), seconds="1"),
        client.videos.create(prompt=OTHER, input_reference=("a.png", png(64, 64)), seconds="0.5", size="64x64"),
    ]
    done = [client.videos.poll(other.id) for other in others]
    assert [other.error for other in done] == [None] * 5
    assert done[0].remixed_from_video_id == video.id and done[3].seconds == "1.5"
    assert num_frames(client.videos.download_content(done[3].id).read()) == 13
    listed = [listed.id for listed in client.videos.list(limit=2)]
    assert listed[:6] == [other.id for other in reversed(others)] + [video.id]
    assert next(iter(client.videos.list(order="asc", limit=1))).id == listed[-1]
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError, match="There is no video"):
        client.videos.retrieve(video.id)
    images = client.images.generate(prompt=PROMPT, n=2, size="64x64")
    assert [PIL.Image.open(io.BytesIO(base64.b64decode(image.b64_json))).size for image in images.data] == [
        (64, 64)
    ] * 2
    (model,) = client.models.list()
    assert client.models.retrieve(model.id).id == model.id == "lumos-demo"


def test_errors_of_the_unmodified_client(client):
    for options, kind, param in (
        ({"size": "1280x720"}, openai.BadRequestError, "size"),
        ({"seconds": "12"}, openai.BadRequestError, "seconds"),
        ({"model": "sora-2"}, openai.NotFoundError, "model"),
    ):
        with pytest.raises(kind) as error:
            client.videos.create(prompt=PROMPT, **options)
        assert error.value.param == param and error.value.body["message"]
    running = client.videos.create(prompt=PROMPT, seconds="4")
    with pytest.raises(openai.ConflictError):
        client.videos.download_content(running.id)
    client.videos.delete(running.id)


def test_the_asynchronous_client(server):
    async def use():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            videos = await asyncio.gather(*(client.videos.create_and_poll(prompt=PROMPT, **SMALL) for _ in range(4)))
            assert {video.status for video in videos} == {"completed"}
            content = await client.videos.download_content(videos[0].id)
            assert num_frames(await content.aread()) == 5
            edited = await client.videos.edit(prompt=OTHER, video=content.content)
            assert (await client.videos.poll(edited.id)).status == "completed"
            ids = {video.id async for video in client.videos.list(limit=2)}
            assert ids >= {video.id for video in videos}
            assert (await client.videos.delete(videos[0].id)).deleted
            images = await client.images.generate(prompt=PROMPT, size="64x64")
            assert images.data[0].b64_json

    asyncio.run(use())


def test_the_lines_of_the_documents_work(server, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    lines = re.findall(
        r"^curl .*$",
        (REPOSITORY / "docs" / "serving.md").read_text() + (REPOSITORY / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(lines) == 8
    id = ""
    for line in lines:
        line = line.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace(
            "curl -s", "curl -sS --fail-with-body"
        )
        result = subprocess.run(line, shell=True, cwd=tmp_path, env={"ID": id}, capture_output=True, text=True)
        assert result.returncode == 0, (line, result.stdout, result.stderr)
        if not id:
            id = json.loads(result.stdout)["id"]
            wait_for(server, id)
    assert read_settings(tmp_path / "star.mp4")["prompt"] == PROMPT


def wait_for(server, id):
    deadline = time.monotonic() + 180
    while (video := httpx.get(f"{server.url}/v1/videos/{id}").json())["status"] not in ("completed", "failed"):
        assert time.monotonic() < deadline, video
        time.sleep(0.2)
    return video


def test_a_stream_over_the_network_plays(server):
    pieces, done = [], {}
    with websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}/v1/realtime/video") as connection:
        connection.send(json.dumps({"type": "session.start", "prompt": PROMPT, "num_frames": 17}))
        while done.get("type") != "session.done":
            message = connection.recv(timeout=120)
            if isinstance(message, bytes):
                pieces.append(message)
                continue
            done = json.loads(message)
            if len(pieces) == 1 and done["type"] == "video.chunk_metadata":
                connection.send(json.dumps({"type": "session.interaction", "event_id": 1, "event": {"prompt": OTHER}}))
    assert [segment["text"] for segment in done["prompt_segments"]] == [OTHER]
    assert len(pieces) == 5 and num_frames(b"".join(pieces)) == 17


def test_what_a_killed_server_had_accepted_is_finished_by_the_next_to_the_same_bytes(tmp_path, database):
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    call = {"prompt": PROMPT, "num_frames": 5, "num_inference_steps": 30}
    with Server(tmp_path / "data", "--database", database) as server:
        jobs = {}
        for seed in range(6):
            body = {**call, "seed": seed, "size": "64x64"}
            jobs[httpx.post(f"{server.url}/v1/videos", json=body).json()["id"]] = seed
        server.end(signal.SIGKILL)
        server.start()
        for id, seed in jobs.items():
            assert wait_for(server, id)["status"] == "completed"
            path = tmp_path / "data" / id / "video.mp4"
            frames = pipe(**call, width=64, height=64, generator=torch.Generator().manual_seed(seed)).frames[0]
            write_media(tmp_path / "direct.mp4", frames, fps=8, settings=read_settings(path))
            assert path.read_bytes() == (tmp_path / "direct.mp4").read_bytes()
