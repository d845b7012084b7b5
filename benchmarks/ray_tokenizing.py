# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Clips tokenised by one process and by two actors of Ray Data, one of which is killed, and then all of Ray: are the files
the same to the byte, and how long does it take?

    python benchmarks/ray_tokenizing.py [--num-clips 300] [--directory outputs/ray-tokenizing]
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from PIL import Image

from lumos_hf import demo_checkpoint
from lumos_hf.evaluation.clips import caption, draw_clip, single_specs
from lumos_hf.media import write_media


ACTOR = "ray::MapWorker"


def write_clips(folder: Path, count: int) -> None:
    """Clips of the demo's world with captions beside them."""
    specs = single_specs()
    for index in range(count):
        spec = specs[index % len(specs)]
        path = folder / f"{index:04d}.mp4"
        if not path.exists():
            write_media(path, list(map(Image.fromarray, draw_clip(spec))), fps=8)
            path.with_suffix(".txt").write_text(caption(spec, random.Random(index)))


def command(clips: Path, output: Path, *options: str) -> list[str]:
    settings = ["--fps", "8", "--clips-per-shard", "10", *options]
    return [
        sys.executable,
        "-m",
        "lumos_hf",
        "tokenize",
        str(clips),
        "--model",
        str(demo_checkpoint()),
        "-o",
        str(output),
        *settings,
    ]


def start(arguments: list[str], num_threads: int | None = None) -> subprocess.Popen:
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    if num_threads is not None:
        environment["OMP_NUM_THREADS"] = str(num_threads)
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def timed(arguments: list[str], num_threads: int | None = None) -> float:
    began = time.perf_counter()
    if start(arguments, num_threads).wait() != 0:
        raise RuntimeError(f"failed: {' '.join(arguments)}")
    return time.perf_counter() - began


def checksums(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of a set."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def num_shards(output: Path) -> int:
    return len(list((output / "shards").glob("*.json"))) if (output / "shards").is_dir() else 0


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, what: str) -> None:
    while not condition():
        if process.poll() is not None:
            raise RuntimeError(f"the job ended before {what}")
        time.sleep(0.05)


def actors_of(process: subprocess.Popen) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if ACTOR in " ".join(child.cmdline())]


def kill_actor_then_driver(arguments: list[str], output: Path, total: int) -> tuple[int, int]:
    """How many shards there were at the two kills."""
    process = start(arguments)
    family = psutil.Process(process.pid)
    wait_until(lambda: num_shards(output) >= total // 6 and len(actors_of(process)) == 2, process, "the first kill")
    first = num_shards(output)
    actors_of(process)[0].send_signal(signal.SIGKILL)
    wait_until(lambda: num_shards(output) >= first + total // 3, process, "the second kill")
    second = num_shards(output)
    children = family.children(recursive=True)
    process.kill()
    process.wait()
    # Ray's own processes notice, and end.
    psutil.wait_procs(children, timeout=30)
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=300)
    parser.add_argument("--directory", type=Path, default=Path("outputs/ray-tokenizing"))
    options = parser.parse_args()
    clips = options.directory / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    write_clips(clips, options.num_clips)
    outputs = {name: options.directory / name for name in ("one", "ray", "killed")}
    for output in outputs.values():
        shutil.rmtree(output, ignore_errors=True)
    on_ray = ["--ray", "local", "--num-actors", "2"]

    one = timed(command(clips, outputs["one"]))
    ray = timed(command(clips, outputs["ray"], *on_ray))
    expected = checksums(outputs["one"])
    total = num_shards(outputs["one"])
    kills = kill_actor_then_driver(command(clips, outputs["killed"], *on_ray), outputs["killed"], total)
    again = timed(command(clips, outputs["killed"], *on_ray))
    print(
        f"{options.num_clips} clips in {total} shards; one process {one:.1f} s, two actors {ray:.1f} s ({ray / one:.2f})"
    )
    print(f"an actor killed at {kills[0]} shards, the driver at {kills[1]}; resumed in {again:.1f} s")
    for name in ("ray", "killed"):
        found = checksums(outputs[name])
        differing = sorted(file for file in expected.keys() | found.keys() if expected.get(file) != found.get(file))
        print(f"{name}: {'the same files to the byte' if not differing else f'other files: {differing}'}")


if __name__ == "__main__":
    main()
