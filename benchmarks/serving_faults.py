# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
`lumos-hf serve` under load while it is killed: is a job lost, mixed up, or made into other bytes?

Clients send jobs of mixed shapes and ask for them until they are there. Meanwhile the server is ended by SIGKILL at random
moments and started again; with `--servers 2`, which needs `--database postgresql://...`, one of several at a time. In the
end every video is compared, byte by byte, with what a direct call of the pipeline gives for its seed. Without kills the
memory of the server is measured after a third of the jobs and after all of them.

    python benchmarks/serving_faults.py --jobs 300 --clients 20 --kills 20
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import torch

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.cli.serving import run_app, working_server
from lumos_hf.generation_record import generation_record
from lumos_hf.media import write_media
from lumos_hf.serving import JobLimits
from lumos_hf.serving.job_store import JobStore, sqlite_url


SHAPES = (
    {"width": 64, "height": 64, "num_frames": 5, "num_inference_steps": 3},
    {"width": 64, "height": 64, "num_frames": 9, "num_inference_steps": 4},
    {"width": 128, "height": 64, "num_frames": 5, "num_inference_steps": 2},
    {"width": 64, "height": 96, "num_frames": 5, "num_inference_steps": 3, "guidance_scale": 1.0},
)
COLORS, FORMS = ("red", "blue", "green", "purple", "orange", "yellow"), ("star", "heart", "circle", "square")
FPS, HISTORY_MASK_RATIO, GUIDANCE = 8, 0.7, 1.5
GIVE_UP = 1200


class Nursery:
    """
    Servers with the demo checkpoint, each a process of its own that is forked from one with the model loaded: what a start
    costs otherwise, twenty kills would wait for.

    Args:
        options: of the command line.
        directory: for the data.
    """

    def __init__(self, options: argparse.Namespace, directory: Path):
        self._connection, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=run_nursery, args=(other, options, directory), daemon=True)
        self._process.start()
        self._connection.recv()

    def start(self, port: int) -> int:
        """The process id of a new server, which does not listen yet."""
        self._connection.send(port)
        return self._connection.recv()

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()


def run_nursery(connection: Connection, options: argparse.Namespace, directory: Path) -> None:
    """The process of a [`Nursery`]."""
    pipe = load_pipeline()
    limits = JobLimits(max_area=128 * 128, max_num_frames=33, max_queued=64)
    # Whoever is killed leaves nothing behind.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    connection.send("ready")
    while (port := connection.recv()) is not None:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            url = options.database or sqlite_url(directory / "data" / "jobs.sqlite")
            with working_server(
                pipe,
                demo_checkpoint(),
                JobStore(url),
                directory / "data",
                limits,
                lease=options.lease_seconds,
                max_batch_size=options.max_batch_size,
            ) as server:
                run_app(server.app, "127.0.0.1", port)
            os._exit(0)
        connection.send(pid)


def load_pipeline() -> LumosVideoPipeline:
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    return pipe


class ServerProcess:
    """A server that can be killed and started again."""

    def __init__(self, nursery: Nursery):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._nursery = nursery
        self._client = httpx.Client(timeout=30)
        self.start()

    def start(self) -> None:
        """Returns before it listens."""
        self.pid = self._nursery.start(self.port)

    def wait_until_it_listens(self, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._client.get(f"{self.url}/health").raise_for_status()
                return
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """As the system does it, without a word."""
        os.kill(self.pid, signal.SIGKILL)

    def get(self, path: str) -> httpx.Response:
        return self._client.get(self.url + path)

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()


class Client:
    """Sends its share of the jobs, and asks for them until they are there, whatever becomes of the servers."""

    def __init__(self, urls: list[str], requests: list[dict[str, Any]], seed: int, pause: float):
        self.urls, self.requests, self.random = urls, requests, random.Random(seed)
        self.pause = pause
        self._http = httpx.Client(timeout=60)
        self.retries = 0

    def run(self) -> list[tuple[dict[str, Any], str, bytes]]:
        """For each job its request, its id and its video."""
        jobs = [(request, self._call("POST", "/v1/videos", json=request).json()["id"]) for request in self.requests]
        return [(request, id, self._result(id)) for request, id in jobs]

    def _result(self, id: str) -> bytes:
        while (video := self._call("GET", f"/v1/videos/{id}").json())["status"] != "completed":
            if video["status"] == "failed":
                raise RuntimeError(json.dumps(video))
            time.sleep(self.pause)
        return self._call("GET", f"/v1/videos/{id}/content").content

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        deadline = time.monotonic() + GIVE_UP
        while True:
            try:
                answer = self._http.request(method, self.random.choice(self.urls) + path, **options)
                if answer.status_code not in (429, 503):
                    answer.raise_for_status()
                    return answer
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            self.retries += 1
            time.sleep(self.pause)


def make_requests(count: int) -> list[dict[str, Any]]:
    """Prompts, shapes and seeds, none twice."""
    return [
        {
            "prompt": f"A {COLORS[index % 6]} {FORMS[index // 6 % 4]} jumps in the snow.",
            "seed": 1000 + index,
            "fps": FPS,
            "guidance_scale": GUIDANCE,
            **SHAPES[index % len(SHAPES)],
        }
        for index in range(count)
    ]


def kill_at_random(servers: list[ServerProcess], kills: int, pause: float, is_over: threading.Event) -> int:
    """Kills one server after another at random moments while there is work; how often."""
    chance, count = random.Random(0), 0
    while count < kills and not is_over.is_set():
        server = servers[count % len(servers)]
        server.wait_until_it_listens()
        if is_over.wait(chance.uniform(0.1, pause)):
            break
        server.kill()
        server.start()
        count += 1
    return count


def expected_bytes(pipe: LumosVideoPipeline, request: dict[str, Any], directory: Path) -> bytes:
    """The file of a direct call."""
    arguments = {"history_mask_ratio": HISTORY_MASK_RATIO, **request}
    seed = arguments.pop("seed")
    frames = pipe(**arguments, generator=torch.Generator().manual_seed(seed)).frames[0]
    settings = generation_record(pipe, arguments, seed=seed, checkpoint=demo_checkpoint())
    write_media(directory / "direct.mp4", frames, fps=FPS, settings=settings)
    return (directory / "direct.mp4").read_bytes()


def run(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    nursery = Nursery(options, directory)
    servers = [ServerProcess(nursery) for _ in range(options.servers)]
    for server in servers:
        server.wait_until_it_listens()
    requests, urls = make_requests(options.jobs), [server.url for server in servers]
    clients = [
        Client(urls, requests[index :: options.clients], index, options.poll) for index in range(options.clients)
    ]
    is_over, start = threading.Event(), time.monotonic()
    with ThreadPoolExecutor(options.clients + 1) as threads:
        killing = threads.submit(kill_at_random, servers, options.kills, options.pause, is_over)
        watching = threads.submit(watch_memory, servers[0], options.jobs, is_over) if not options.kills else None
        try:
            results = [result for client in threads.map(Client.run, clients) for result in client]
        finally:
            is_over.set()
    seconds = time.monotonic() - start
    for server in servers:
        server.wait_until_it_listens()
    counts = servers[0].get("/health").json()["jobs"]
    ends = Counter(line for server in servers for line in ended(server))
    for server in servers:
        server.kill()
    nursery.close()
    pipe = load_pipeline()
    others = [id for request, id, content in results if content != expected_bytes(pipe, request, directory)]
    return {
        "jobs": len(results),
        "ids": len({id for _, id, _ in results}),
        "kills": killing.result(),
        "other bytes": len(others),
        "in the store": counts,
        "ends told by the last processes": dict(ends),
        "retries of clients": sum(client.retries for client in clients),
        "seconds": round(seconds, 1),
        "memory": watching.result() if watching else None,
    }


def ended(server: ServerProcess) -> list[str]:
    """States of the jobs that the process has ended since it was started."""
    lines = server.get("/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith("lumos_jobs_ended_total")]
    return [line.split('state="')[1].split('"')[0] for line in counts for _ in range(int(float(line.split()[-1])))]


def watch_memory(server: ServerProcess, jobs: int, is_over: threading.Event) -> dict[str, float]:
    """Resident memory once a third of the jobs is done, and at the end."""
    early = 0
    while not is_over.wait(0.5):
        if not early and len(ended(server)) >= jobs // 3:
            early = server.resident_bytes()
    late = server.resident_bytes()
    return {"MB after a third": early / 1e6, "MB at the end": late / 1e6, "ratio": late / early if early else 0.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="a URL; by default SQLite")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pause", type=float, default=4.0, help="a server lives for up to so many seconds of work")
    parser.add_argument("--poll", type=float, default=2.0, help="a client asks again after so many seconds")
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--lease-seconds", type=float, default=30.0)
    parser.add_argument("--max-batch-size", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lumos-serving-") as directory:
        figures = run(options, Path(directory))
    print(json.dumps(figures, indent=2))
    is_right = figures["jobs"] == figures["ids"] == options.jobs and figures["other bytes"] == 0
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
