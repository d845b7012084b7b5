# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The server as replicas of Ray Serve on one database, and what the death of one leaves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import openai
import psutil
import pytest
import torch
import websockets.sync.client

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.media import read_settings, write_media


ray_app = pytest.importorskip("lumos_hf.serving.ray_app", reason="Ray, of the extra `cluster`, is not installed")
pytestmark = pytest.mark.slow

PROMPT = "A red star jumps in the snow."
CALL = {"num_frames": 5, "num_inference_steps": 12}
NUM_JOBS = 24
_REPLICA = "ray::ServeReplica:default:lumos"
# Ray gives up on a proxy that a busy machine starts slowly, and its workers are nicer than others.
_ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    # Its sockets want a short path, which what pytest makes is not.
    "RAY_TMPDIR": "/tmp",
}
_SERVE = """
import json, sys
import ray
from ray import serve
from lumos_hf.serving.ray_app import build
port, arguments = int(sys.argv[1]), json.loads(sys.argv[2])
ray.init(address="local", include_dashboard=False, num_cpus=6, object_store_memory=200_000_000)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(build(arguments), blocking=True)
"""


@contextmanager
def serving(log, **arguments):
    """The address of an application that is ready."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {**os.environ, **_ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _SERVE, str(port), json.dumps(arguments)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or is_ready(url))
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()


def is_ready(url):
    try:
        return httpx.get(f"{url}/health", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def replicas():
    return [process for process in psutil.process_iter() if _REPLICA in title(process)]


def title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def direct_bytes(tmp_path_factory):
    """What a call with the settings of a served file writes."""
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    path = tmp_path_factory.mktemp("direct") / "video.mp4"

    def direct_bytes(content):
        served = path.with_name("served.mp4")
        served.write_bytes(content)
        settings = read_settings(served)
        generator = torch.Generator().manual_seed(settings["seed"])
        frames = pipe(settings["prompt"], **CALL, width=64, height=64, generator=generator).frames[0]
        write_media(path, frames, fps=8, settings=settings)
        return path.read_bytes()

    return direct_bytes


def test_what_a_killed_replica_had_in_hand_is_made_by_another(tmp_path, postgresql, direct_bytes):
    options = {"database": postgresql.new_database(), "data_dir": str(tmp_path / "data"), "lease_seconds": "4"}
    with serving(tmp_path / "log", **options, min_replicas=2, max_replicas=2) as url:
        wait_until(lambda: len(replicas()) == 2)
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none is asked for")
        jobs = {}
        for seed in range(NUM_JOBS):
            body = {**CALL, "seed": seed}
            jobs[client.videos.create(prompt=PROMPT, size="64x64", extra_body=body).id] = seed
        wait_until(lambda: any(client.videos.retrieve(id).status == "completed" for id in jobs))
        killed = replicas()[0]
        killed.kill()
        for id, seed in jobs.items():
            wait_until(lambda id=id: finished(client, id))
            content = client.videos.download_content(id).read()
            assert content == direct_bytes(content)
            assert client.videos.retrieve(id).prompt == PROMPT and seed == jobs[id]
        wait_until(lambda: len(replicas()) == 2)
        assert killed.pid not in {process.pid for process in replicas()}
        play_a_stream(url)


def finished(client, id):
    """Whether a job is completed; whoever asks a replica that dies at that moment asks again."""
    try:
        status = client.videos.retrieve(id).status
    except openai.APIError:
        return False
    assert status != "failed"
    return status == "completed"


def play_a_stream(url):
    address = url.replace("http", "ws") + "/v1/realtime/video"
    with websockets.sync.client.connect(address) as connection:
        start = {"type": "session.start", "prompt": PROMPT, "format": "m4s", "width": 64, "height": 64}
        connection.send(json.dumps({**start, "num_frames": 5, "num_inference_steps": 2}))
        messages = [json.loads(message) for message in connection if isinstance(message, str)]
    assert [message["type"] for message in messages] == [
        "video.start",
        "video.chunk_metadata",
        "video.chunk_metadata",
        "session.done",
    ]


@pytest.mark.parametrize(("num_jobs", "replicas"), [(0, 0), (1, 1), (4, 1), (5, 2), (40, 10)])
def test_there_is_a_replica_for_so_many_jobs(num_jobs, replicas):
    told = {"num_jobs": {"one": num_jobs, "other": max(num_jobs - 1, 0)}}
    context = SimpleNamespace(aggregated_metrics=told, target_num_replicas=3)
    assert ray_app.ScaleWithQueue(jobs_per_replica=4)(context) == (replicas, {})


@pytest.mark.parametrize("told", [None, {}, {"num_jobs": {}}])
def test_before_anything_is_told_the_number_stays(told):
    context = SimpleNamespace(aggregated_metrics=told, target_num_replicas=3)
    assert ray_app.ScaleWithQueue(jobs_per_replica=4)(context) == (3, {})


def test_options_are_those_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ray_app.read_options({"max_replicas": "3", "allow_media_host": "a.org,b.org", "max_queued": "7"})
    assert (options.max_replicas, options.allow_media_host, options.max_queued) == (3, ["a.org", "b.org"], 7)
    assert options.data_dir == tmp_path / "lumos-jobs"
    assert ray_app.build({"max_replicas": "3"}) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_replica": "3"}, "`max_replica` is none of the options, which are model, name,"),
        ({"max_replicas": "0"}, "`max_replicas` must be at least `min_replicas`, 1, got 0"),
        ({"min_replicas": "0"}, "`min_replicas` must be at least 1, got 0"),
        ({"jobs_per_replica": "0"}, "`jobs_per_replica` must be at least 1, got 0"),
        ({"max_queued": "many"}, "`max_queued`: .*integer.*, got 'many'"),
        ({"max_disk": "-1"}, "`max_disk` must be above 0, got -1.0"),
        ({"dtype": "fp3"}, "`dtype`: .*'float32', .*got 'fp3'"),
        ({"model": "no/such/model"}, "`model` must be an existing directory or a repository like USER/NAME"),
        ({"api_key_file": "nowhere"}, "`api_key_file` must be a file, got 'nowhere'"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(arguments, message):
    with pytest.raises(ValueError, match=message):
        ray_app.build(arguments)
