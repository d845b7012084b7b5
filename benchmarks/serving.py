# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The server against plain calls of the pipeline, in one process and with one pipeline: throughput, latency, what the server
costs per job, and what batches give.

    python benchmarks/serving.py --rounds 5 --jobs 8

A plain call makes the video and writes the MP4. Through the server the same video is asked for by HTTP, stored, made,
written with its pictures, and fetched. The ways take turns; each figure is the median over rounds of the ratio to the plain
calls of the same round, once by the wall clock and once by the processor time of the process, client included: where other
work shares the machine, the second one is the steadier.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx
import torch
import uvicorn
from measure import device_name
from results import RESULTS, append_rows

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.generation_record import generation_record
from lumos_hf.media import write_media
from lumos_hf.serving import JobLimits, JobRunner
from lumos_hf.serving.job_events import JobEvents
from lumos_hf.serving.job_files import JobFiles
from lumos_hf.serving.job_store import JobStore, sqlite_url
from lumos_hf.serving.job_worker import JobWorker
from lumos_hf.serving.served_model import ServedModel
from lumos_hf.serving.videos_api import create_app


COLUMNS = (
    "date",
    "device",
    "way",
    "rounds, jobs",
    "videos a second",
    "p50 s",
    "p99 s",
    "time of a job, ratio (range)",
    "processor time, ratio (range)",
)
PROMPT = "A {} star jumps in the snow."
WORDS = ("red", "blue", "green", "purple", "orange", "yellow")


@dataclass
class Round:
    """What a number of videos took: in all, by the processor, and each."""

    wall: float
    processor: float
    latencies: list[float]


def plain_calls(pipe: LumosVideoPipeline, directory: Path) -> Callable[[int], None]:
    def make(index: int) -> None:
        call = {"prompt": PROMPT.format(WORDS[index % 6]), "fps": pipe.config.default_fps}
        frames = pipe(**call, generator=torch.Generator().manual_seed(index)).frames[0]
        record = generation_record(pipe, call, seed=index, checkpoint=demo_checkpoint())
        write_media(directory / f"{index}.mp4", frames, fps=call["fps"], settings=record)

    return make


@contextmanager
def served_calls(pipe: LumosVideoPipeline, directory: Path, max_batch_size: int) -> Iterator[Callable[[int], None]]:
    limits = JobLimits(max_area=128 * 128, max_num_frames=33, max_queued_per_client=64)
    store, files, events = JobStore(sqlite_url(directory / "jobs.sqlite")), JobFiles(directory), JobEvents()
    with (
        JobRunner(pipe, limits, max_batch_size=max_batch_size, batch_delay=0.02) as runner,
        JobWorker(runner, store, files, demo_checkpoint(), on_end=events.ended) as worker,
    ):
        model = ServedModel.of(pipe, demo_checkpoint(), limits)
        app = create_app(store, files, model, events=events, worker=worker)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:

            def make(index: int) -> None:
                body = {"prompt": PROMPT.format(WORDS[index % 6]), "seed": index}
                client.post("/v1/videos/sync", json=body).raise_for_status()

            yield make
        server.should_exit = True
        thread.join()
    store.close()


def measure(make: Callable[[int], None], jobs: int, clients: int) -> Round:
    def timed(index: int) -> float:
        start = time.perf_counter()
        make(index)
        return time.perf_counter() - start

    wall, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(clients) as threads:
        latencies = list(threads.map(timed, range(jobs)))
    return Round(time.perf_counter() - wall, time.process_time() - processor, latencies)


def run(rounds: int, jobs: int) -> dict[str, list[Round]]:
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    results: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)

        def add(way: str, make: Callable[[int], None], clients: int) -> None:
            results.setdefault(way, []).append(measure(make, jobs, clients))

        plain = plain_calls(pipe, directory)
        with (
            served_calls(pipe, directory / "single", 1) as single,
            served_calls(pipe, directory / "batch", 4) as batch,
        ):
            for make in (plain, single, batch):
                make(0)
            for _ in range(rounds):
                add("plain calls", plain, 1)
                add("server, 1 client", single, 1)
                add(f"server, {jobs} clients", single, jobs)
                add(f"server, {jobs} clients, batches of 4", batch, jobs)
    return results


def rows(results: dict[str, list[Round]], rounds: int, jobs: int) -> list[tuple[str, ...]]:
    plain = results["plain calls"]
    return [
        (
            str(date.today()),
            device_name(argparse.Namespace(device="cpu", threads=torch.get_num_threads())),
            way,
            f"{rounds}, {jobs}",
            f"{jobs / statistics.median(each.wall for each in measured):.2f}",
            *percentiles([latency for each in measured for latency in each.latencies]),
            ratio([each.wall / own.wall for each, own in zip(measured, plain, strict=True)]),
            ratio([each.processor / own.processor for each, own in zip(measured, plain, strict=True)]),
        )
        for way, measured in results.items()
    ]


def percentiles(latencies: list[float]) -> tuple[str, str]:
    ordered = sorted(latencies)
    return f"{statistics.median(ordered):.2f}", f"{ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]:.2f}"


def ratio(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.2f}-{max(values):.2f})"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    measured = rows(run(options.rounds, options.jobs), options.rounds, options.jobs)
    append_rows(options.results, "Server (serving.py)", COLUMNS, measured)
    for row in measured:
        print(" | ".join(row))


if __name__ == "__main__":
    main()
