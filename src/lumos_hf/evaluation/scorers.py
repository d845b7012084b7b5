# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Starts the benchmarks' own scorers, in their own environments, and collects what they write.

Each dimension of VBench is a process of its own: what it wrote stays if another one dies, and is not measured again.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm.auto import tqdm

from ..files import remove_leftovers, whole_file
from .benchmark_scores import GENEVAL_RESULTS, VBENCH_RESULTS_SUFFIX
from .benchmarks import GENEVAL, VBENCH_T2V


# The command of `vbench` runs with CUDA alone; its class does without.
_VBENCH_SCRIPT = """
import sys
from pathlib import Path
import torch
import vbench
videos, output, dimension = sys.argv[1:]
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
information = Path(vbench.__file__).parent / "VBench_full_info.json"
scorer = vbench.VBench(device, str(information), output)
scorer.evaluate(videos_path=videos, name=dimension, dimension_list=[dimension])
"""
_LAST_LINES = 5


@dataclass(frozen=True)
class Scorer:
    """
    Where the scorer of a benchmark is.

    Args:
        benchmark: its name.
        python: of the environment that the scorer runs in.
        repository: of GenEval or VBench, for GenEval and VBench-I2V.
        detector: the folder of GenEval's Mask2Former weights.
    """

    benchmark: str
    python: str = sys.executable
    repository: Path | None = None
    detector: Path | None = None

    def check_installed(self) -> None:
        """
        Raises:
            ValueError: if the scorer is not there; the message has three lines, on what to install.
        """
        if not self._is_installed():
            raise ValueError(_INSTALLATION[self.benchmark])

    def _is_installed(self) -> bool:
        if self.benchmark == VBENCH_T2V:
            check = [
                self.python,
                "-c",
                "import importlib.util, sys; sys.exit(importlib.util.find_spec('vbench') is None)",
            ]
            try:
                return subprocess.run(check, check=False, capture_output=True).returncode == 0
            except OSError:
                return False
        script = self._script()
        return script is not None and script.is_file() and (self.benchmark != GENEVAL or self.detector is not None)

    def _script(self) -> Path | None:
        if self.repository is None:
            return None
        return self.repository / ("evaluation/evaluate_images.py" if self.benchmark == GENEVAL else "evaluate_i2v.py")

    def score(self, samples: Path, scores: Path, dimensions: Sequence[str]) -> None:
        """
        Measures what has not been measured yet.

        Args:
            samples: folder of all samples.
            scores: folder that gets the results, and what the scorer said, `*.log`.
            dimensions: of VBench.

        Raises:
            OSError: if the scorer died; what it finished is kept.
        """
        scores.mkdir(parents=True, exist_ok=True)
        # VBench takes any file for a video.
        remove_leftovers(samples)
        if self.benchmark == GENEVAL:
            self._score_geneval(samples, scores)
            return
        deaths = []
        for dimension in tqdm(dimensions, desc="Scoring", unit="dimension"):
            if not _is_current(scores / f"{dimension}{VBENCH_RESULTS_SUFFIX}", samples):
                deaths += self._score_dimension(samples, scores, dimension)
        if deaths:
            raise OSError("\n".join(deaths))

    def _score_geneval(self, samples: Path, scores: Path) -> None:
        results = scores / GENEVAL_RESULTS
        if _is_current(results, samples):
            return
        with whole_file(results) as partial:
            command = [
                str(self._script()),
                str(samples),
                "--outfile",
                str(partial),
                "--model-path",
                str(self.detector),
            ]
            death = self._run(command, scores / "geneval.log", "GenEval")
            if death is None and not partial.is_file():
                death = f"The scorer of GenEval ended without results; see '{scores / 'geneval.log'}'."
            if death is not None:
                raise OSError(death)

    def _score_dimension(self, samples: Path, scores: Path, dimension: str) -> list[str]:
        """What is to be said if the scorer died."""
        target = scores / f"{dimension}{VBENCH_RESULTS_SUFFIX}"
        log = scores / f"{dimension}.log"
        with TemporaryDirectory(dir=scores, prefix=f".{dimension}-") as folder:
            output = Path(folder)
            if self.benchmark == VBENCH_T2V:
                command = ["-c", _VBENCH_SCRIPT, str(samples), str(output), dimension]
            else:
                command = [str(self._script()), "--videos_path", str(samples), "--output_path", str(output)]
                command += ["--dimension", dimension, "--ratio", "7-4"]
            death = self._run(command, log, dimension)
            written = sorted(output.glob(f"*{VBENCH_RESULTS_SUFFIX}"))
            if death is None and not written:
                death = f"The scorer of {dimension} ended without results; see '{log}'."
            if death is None:
                os.replace(written[0], target)
        return [] if death is None else [death]

    def _run(self, command: Sequence[str], log: Path, name: str) -> str | None:
        """Runs the scorer to its end; what is to be said if it died."""
        with log.open("w", encoding="utf-8") as file:
            try:
                status = subprocess.run(
                    [self.python, *command], check=False, stdout=file, stderr=subprocess.STDOUT
                ).returncode
            except OSError as error:
                return f"The scorer of {name} could not be started: {error}."
        if status == 0:
            return None
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:]
        return f"The scorer of {name} died with status {status}; the end of '{log}':\n" + "\n".join(last)


def _is_current(results: Path, samples: Path) -> bool:
    """Whether results are there, and no sample was made after them."""
    if not results.is_file():
        return False
    newest = max((path.stat().st_mtime_ns for path in samples.rglob("*") if path.is_file()), default=0)
    return newest <= results.stat().st_mtime_ns


_INSTALLATION = {
    GENEVAL: (
        "The scorer of GenEval is needed: `git clone https://github.com/djghosh13/geneval`, and what its README installs (Python\n"
        "3.9, mmdet 2, a CUDA GPU) into an environment of its own; its evaluation/download_models.sh fetches the detector.\n"
        "Then: --scorer-repo GENEVAL --scorer-python ENVIRONMENT/bin/python --detector FOLDER."
    ),
    VBENCH_T2V: (
        "The scorer of VBench is needed: `python -m venv vbench-env`, since it pins old versions of transformers and numpy,\n"
        "then `vbench-env/bin/pip install vbench==0.1.5`, and detectron2 for object_class, multiple_objects, color and\n"
        "spatial_relationship. Then: --scorer-python vbench-env/bin/python."
    ),
    "vbench-i2v": (
        "The scorer of VBench-I2V is needed: `git clone https://github.com/Vchitect/VBench`, which the package on PyPI lacks in\n"
        "part, and its requirements and those of vbench2_beta_i2v in an environment of its own, with a CUDA GPU.\n"
        "Then: --scorer-repo VBENCH --scorer-python ENVIRONMENT/bin/python."
    ),
}
