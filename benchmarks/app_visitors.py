# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Many visitors at the page of `lumos-hf app`: does each get their own, is any call lost, does the app's memory grow?

    python benchmarks/app_visitors.py --visitors 20 --calls 3

The app runs in a process of its own, with the demo checkpoint. All visitors come at the same time over loopback, as sessions
of gradio that speak HTTP; each makes its calls one after another and leaves. Every picture that they download is compared
with a direct call of the same seed. Resident memory of the app is read after a round of all visitors with one call each, and
after the round that is measured.
"""

import argparse
import io
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from socket import create_server
from typing import Any

import httpx
import numpy as np
import PIL.Image
import psutil
import torch

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.media import frame_grid


PROMPTS = ("A red star jumps in the snow.", "A blue circle rises at night.", "A green heart waits in the meadow.")
# Seconds, for a call that waits for all others.
_TIMEOUT = 900
_SIDE, _GUIDANCE_SCALE, _HISTORY_MASK_RATIO = 128, 1.5, 0.7


@dataclass(frozen=True)
class Outcome:
    """
    Args:
        num_lost: calls without a picture.
        num_wrong: pictures that are not those of a direct call with their seed.
        seconds: of the measured round.
        memory_before, memory_after: bytes that the app held, resident.
    """

    num_lost: int
    num_wrong: int
    seconds: float
    memory_before: int
    memory_after: int

    @property
    def growth(self) -> float:
        return self.memory_after / self.memory_before - 1


@contextmanager
def running_app(*options: str) -> Iterator[tuple[str, psutil.Process]]:
    """Its address and its process."""
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "lumos_hf", "app", "--port", str(port), *options]
    # With other numbers of threads, some pixels are rounded in another way.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    app = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, app)
        yield address, psutil.Process(app.pid)
    finally:
        app.terminate()
        app.wait(60)


def wait_for(address: str, app: subprocess.Popen) -> None:
    """Returns when an app answers; raises `RuntimeError` if it ends before."""
    deadline = time.monotonic() + 300
    while True:
        try:
            httpx.get(address, timeout=10).raise_for_status()
            return
        except httpx.HTTPError:
            if app.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The app did not start.") from None
            time.sleep(0.2)


def visit(address: str, seeds: list[int], options: argparse.Namespace) -> dict[int, np.ndarray | None]:
    """The calls of one visitor, who leaves after them; pictures by seed, None for a call that brought none."""
    session = secrets.token_hex(8)
    with (
        httpx.Client(base_url=f"{address}/gradio_api/", timeout=_TIMEOUT) as client,
        client.stream("GET", f"heartbeat/{session}"),
    ):
        return {seed: _picture(client, session, seed, options) for seed in seeds}


def _picture(client: httpx.Client, session: str, seed: int, options: argparse.Namespace) -> np.ndarray | None:
    settings = (options.frames, _SIDE, _SIDE, options.steps, _GUIDANCE_SCALE, _HISTORY_MASK_RATIO, "", False)
    request = {"data": [_prompt(seed), seed, *settings], "session_hash": session}
    event = client.post("call/generate", json=request).raise_for_status().json()["event_id"]
    with client.stream("GET", f"call/generate/{event}") as answer:
        ended = _last_data(answer.iter_lines())
    path = next((path for path in _paths(ended) if path.endswith(".png")), None)
    if path is None:
        return None
    content = client.get(f"file={path}").raise_for_status().content
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB"))


def _last_data(lines: Iterator[str]) -> Any:
    """Of an event stream of gradio, what the call ended with."""
    is_end = False
    for line in lines:
        if line.startswith("event: "):
            is_end = line.removeprefix("event: ") in ("complete", "error")
        elif is_end and line.startswith("data: "):
            return json.loads(line.removeprefix("data: "))
    return None


def _paths(content: Any) -> Iterator[str]:
    """Of all files in an answer."""
    if isinstance(content, dict):
        if isinstance(content.get("path"), str):
            yield content["path"]
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            yield from _paths(each)


def _prompt(seed: int) -> str:
    return PROMPTS[seed % len(PROMPTS)]


def run_round(address: str, seeds_by_visitor: list[list[int]], options: argparse.Namespace) -> dict[int, Any]:
    with ThreadPoolExecutor(len(seeds_by_visitor)) as visitors:
        rounds = visitors.map(lambda seeds: visit(address, seeds, options), seeds_by_visitor)
        return {seed: picture for pictures in rounds for seed, picture in pictures.items()}


def measure(options: argparse.Namespace) -> Outcome:
    seeds = [
        [visitor + options.visitors * call for call in range(options.calls)] for visitor in range(options.visitors)
    ]
    with running_app() as (address, process):
        run_round(address, [visitor[:1] for visitor in seeds], options)
        memory_before, start = process.memory_info().rss, time.perf_counter()
        pictures = run_round(address, seeds, options)
        seconds, memory_after = time.perf_counter() - start, process.memory_info().rss
    return Outcome(
        num_lost=sum(picture is None for picture in pictures.values()),
        num_wrong=num_wrong(pictures, options),
        seconds=seconds,
        memory_before=memory_before,
        memory_after=memory_after,
    )


def num_wrong(pictures: dict[int, np.ndarray | None], options: argparse.Namespace) -> int:
    """How many are not what a direct call gives."""
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    count = 0
    for seed, picture in pictures.items():
        arguments = {"num_frames": options.frames, "num_inference_steps": options.steps}
        frames = pipe(_prompt(seed), generator=torch.Generator().manual_seed(seed), **arguments).frames[0]
        expected = frames[0] if len(frames) == 1 else frame_grid(frames)
        count += picture is not None and not np.array_equal(picture, np.asarray(expected))
    return count


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--calls", type=int, default=3, help="of each visitor")
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of each latent frame")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> Outcome:
    options = parse_arguments(arguments)
    outcome = measure(options)
    print(
        f"{options.visitors} visitors with {options.calls} calls each of {options.frames} frames, {options.steps} steps: "
        f"{outcome.num_lost} lost, {outcome.num_wrong} wrong, {outcome.seconds:.1f} s; memory of the app "
        f"{outcome.memory_before / 2**20:.0f} MB before, {outcome.memory_after / 2**20:.0f} MB after: {outcome.growth:+.1%}"
    )
    return outcome


if __name__ == "__main__":
    main()
