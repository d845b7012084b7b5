# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Spaces: the files, started as the Hub starts them; sessions in processes of their own, as on ZeroGPU."""

import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from lumos_hf import demo_checkpoint
from lumos_hf.cli import app
from lumos_hf.hub.space_files import is_space
from lumos_hf.serving import JobCancelled, JobLimits, JobRunner


REPOSITORY = Path(__file__).parents[2]
PROMPT = "A red star jumps in the snow."


def export(directory, *options):
    result = CliRunner().invoke(app, ["export-space", "-o", str(directory), *options])
    assert result.exit_code == 0, result.output
    return directory


def test_the_files_are_those_of_a_space(tmp_path):
    space = export(
        tmp_path / "page", "--model", "me/lumos-1b", "--title", "A page: mine", "--requirement", "lumos_hf[app]"
    )
    readme = (space / "README.md").read_text(encoding="utf-8")
    data = yaml.safe_load(re.match("---\n(.*?)\n---\n", readme, flags=re.DOTALL)[1])
    assert (data["title"], data["sdk"], data["app_file"], data["models"]) == (
        "A page: mine",
        "gradio",
        "app.py",
        ["me/lumos-1b"],
    )
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", data["sdk_version"]) and len(data["short_description"]) <= 60
    assert 'serve("me/lumos-1b")' in (space / "app.py").read_text()
    assert (space / "requirements.txt").read_text() == "lumos_hf[app]\n"
    assert is_space(space) and not is_space(demo_checkpoint())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "./here"], "`--model` must be a repository like USER/NAME"),
        (["-o", "."], "`--output` must be a new or an empty directory"),
    ],
)
def test_bad_options_are_refused(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(REPOSITORY)
    result = CliRunner().invoke(app, ["export-space", "-o", str(tmp_path / "page"), *options])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "page").exists()


@pytest.fixture
def fresh_python(tmp_path):
    """Of an environment with the wheel of this package, and for the rest the libraries that are here."""
    # Building writes into the sources.
    copy = Path(shutil.copytree(REPOSITORY / "src", tmp_path / "sources" / "src")).parent
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(REPOSITORY / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(copy)]
    subprocess.run([*command, "--wheel-dir", str(copy)], check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (wheel,) = copy.glob("*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    (site / "libraries.pth").write_text("\n".join(_library_paths()))
    return tmp_path / "venv" / "bin" / "python"


def _library_paths():
    return [path for path in {sysconfig.get_path("purelib"), *sys.path} if path.endswith("site-packages")]


@pytest.mark.slow
def test_a_space_starts_in_a_fresh_environment_and_makes_a_clip(tmp_path, fresh_python, monkeypatch):
    pytest.importorskip("gradio", reason="gradio, of the extra `app`, is not installed")
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import app_visitors

    space = export(tmp_path / "page")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [fresh_python, "app.py"]
    process = subprocess.Popen(command, cwd=space, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        app_visitors.wait_for(f"http://127.0.0.1:{port}", process)
        options = app_visitors.parse_arguments(["--frames=5", "--steps=2"])
        pictures = app_visitors.visit(f"http://127.0.0.1:{port}", [7], options)
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert pictures[7] is not None, errors
    assert app_visitors.num_wrong(pictures, options) == 0


def in_a_fork(function):
    """What `spaces.GPU` does with a generator function: it runs in a copy of the process, and what it yields is pickled."""

    def run(*arguments):
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)

        def work():
            for part in function(*arguments):
                sender.send((os.getpid(), part))
            sender.send(None)

        process = context.Process(target=work, daemon=True)
        process.start()
        try:
            while (message := receiver.recv()) is not None:
                pid, part = message
                assert pid != os.getpid()
                yield part
        finally:
            process.terminate()
            process.join()

    return run


@pytest.fixture
def runner(demo_pipe):
    pytest.importorskip("gradio", reason="gradio, of the extra `app`, is not installed")
    from lumos_hf.app.space import ZeroGpuPipeline

    with JobRunner(ZeroGpuPipeline(demo_pipe, in_a_fork), JobLimits(max_area=128 * 128, max_num_frames=33)) as runner:
        yield runner


@pytest.mark.slow
def test_sessions_in_other_processes_make_the_same_videos(runner, demo_pipe):
    options = {"prompt": PROMPT, "num_frames": 9, "num_inference_steps": 2}
    job = runner.submit("me", options, seed=5)
    statuses = list(job.updates(timeout=120))
    expected = demo_pipe(**options, generator=torch.Generator().manual_seed(5)).frames[0]
    assert all(np.array_equal(*map(np.asarray, pair)) for pair in zip(job.result(), expected, strict=True))
    assert (statuses[-1].step, statuses[-1].num_steps) == (6, 6)


@pytest.mark.slow
def test_sessions_in_other_processes_can_be_cancelled(runner):
    job = runner.submit("me", {"prompt": PROMPT, "num_frames": 33, "num_inference_steps": 40}, seed=5)
    start = time.monotonic()
    for status in job.updates(timeout=120):
        if status.num_frames:
            runner.cancel(job)
    with pytest.raises(JobCancelled):
        job.result()
    assert len(job.frames) < 33 and time.monotonic() - start < 120
    runner.close()
    assert multiprocessing.active_children() == []
