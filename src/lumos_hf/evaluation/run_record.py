# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a run of samples is, in its directory: `run.json`, and `timings.jsonl` with a line for each batch.

`run.json` begins with what decides on the samples; a directory whose samples another checkpoint or other settings made is
refused. How many prompts were taken, and by how many processes, may change from call to call.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..files import write_json
from .benchmarks import Entry
from .sample_plan import Sample


RUN_FILE, TIMINGS_FILE = "run.json", "timings.jsonl"
SAMPLES, SCORES = "samples", "scores"
_PACKAGES = ("lumos_hf", "torch", "transformers", "diffusers", "av")
# Of a checkpoint, what its samples depend on.
_CHECKPOINT_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja"}
_SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class RunRecord:
    """
    A directory of samples.

    Args:
        directory: of the run.
        device: that this process computes on, in words.
    """

    directory: Path
    device: str = "cpu"

    @property
    def samples_directory(self) -> Path:
        # Alone: VBench takes the ending of whatever file is listed first for that of all videos.
        return self.directory / SAMPLES

    @property
    def scores_directory(self) -> Path:
        return self.directory / SCORES

    def begin(self, made_by: Mapping[str, Any], samples: Sequence[Sample]) -> None:
        """
        Begins the run, or goes on with it.

        Args:
            made_by: what decides on the samples, as JSON.
            samples: that will be there.

        Raises:
            ValueError: if there are samples of another run, or files that belong to none.
        """
        made_by = json.loads(json.dumps(made_by))
        seeds = {sample.file: sample.seed for sample in samples}
        if (self.directory / RUN_FILE).is_file():
            earlier = self.read()
            _check_same(self.directory, earlier["made_by"], made_by)
            seeds = {**earlier["seeds"], **seeds}
        elif self.directory.is_dir() and any(self.directory.iterdir()):
            raise ValueError(
                f"`output` must be a new directory or that of a run, got '{self.directory}', which has files and no "
                f"{RUN_FILE}."
            )
        self._write(made_by, seeds)

    def read(self) -> dict[str, Any]:
        """
        The content of `run.json`.

        Raises:
            ValueError: if there is none, or it is of something else.
        """
        path = self.directory / RUN_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"'{self.directory}' must be the directory of a run, but has no {RUN_FILE}.") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"'{path}' is damaged: {error}.") from error
        if not isinstance(content, dict) or not {"made_by", "seeds"} <= set(content):
            raise ValueError(f"'{path}' must describe samples of `lumos-hf evaluate`, but does not.")
        return content

    def note_batch(self, samples: Sequence[Sample], seconds: float) -> None:
        """Adds a line to the timings: `seconds` for all of `samples` together."""
        line = {
            "files": [sample.file for sample in samples],
            "seconds": round(seconds, 3),
            "device": self.device,
            "versions": package_versions(),
        }
        # One write at the end of the file, which lines of other processes cannot get into.
        handle = os.open(self.directory / TIMINGS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, (json.dumps(line) + "\n").encode())
        finally:
            os.close(handle)

    def summarize(self) -> None:
        """Puts what the timings say so far into `run.json`."""
        content = self.read()
        self._write(content["made_by"], content["seeds"])

    def _write(self, made_by: Mapping[str, Any], seeds: Mapping[str, int]) -> None:
        content = {"made_by": made_by, "made_on": self._machines(), "seeds": seeds}
        write_json(self.directory / RUN_FILE, content, ensure_ascii=False)

    def _machines(self) -> list[dict[str, Any]]:
        """By device and versions: how many samples were made, and the mean time of one."""
        totals: dict[str, dict[str, Any]] = {}
        for line in self._timings():
            key = json.dumps([line["device"], line["versions"]], sort_keys=True)
            machine = totals.setdefault(
                key, {"device": line["device"], "versions": line["versions"], "num_samples": 0, "seconds": 0.0}
            )
            machine["num_samples"] += len(line["files"])
            machine["seconds"] = round(machine["seconds"] + line["seconds"], 3)
        return [
            {**machine, "seconds_per_sample": round(machine["seconds"] / machine["num_samples"], 3)}
            for _, machine in sorted(totals.items())
        ]

    def _timings(self) -> list[dict[str, Any]]:
        path = self.directory / TIMINGS_FILE
        if not path.is_file():
            return []
        lines = []
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            # A machine that lost its power may leave half a line.
            except json.JSONDecodeError:
                continue
        return lines


def checkpoint_revision(directory: Path) -> str:
    """
    What tells checkpoints apart: the commit of a download from the Hub, or else a SHA-256 over the files of a directory.
    """
    directory = directory.resolve()
    if directory.parent.name == _SNAPSHOTS:
        return directory.name
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.suffix in _CHECKPOINT_SUFFIXES:
            digest.update(f"{path.relative_to(directory).as_posix()}\n{path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def prompts_checksum(entries: Sequence[Entry]) -> str:
    """SHA-256 of what the entries of a whole prompt file ask for."""
    asked = [[entry.name, entry.prompt, entry.text, entry.image] for entry in entries]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def images_checksum(directory: Path | None, entries: Sequence[Entry]) -> str | None:
    """SHA-256 of the images of a folder that entries ask for; None if there is no folder."""
    if directory is None:
        return None
    digest = hashlib.sha256()
    for name in sorted({entry.image for entry in entries if entry.image is not None}):
        if (directory / name).is_file():
            digest.update(name.encode())
            digest.update((directory / name).read_bytes())
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _check_same(directory: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differing = [
        f"{name} {earlier.get(name)!r} (now {now.get(name)!r})"
        for name in dict.fromkeys([*earlier, *now])
        if earlier.get(name) != now.get(name)
    ]
    if differing:
        raise ValueError(
            f"`output` must be a new directory or that of the same run, got '{directory}', whose samples were made with "
            f"{'; '.join(differing)}."
        )
