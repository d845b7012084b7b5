# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The running app, called by script."""

import asyncio
import os
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from lumos_hf import demo_checkpoint
from lumos_hf.app.kept_data import ClipStore
from lumos_hf.cli import app
from lumos_hf.media import read_settings
from lumos_hf.serving import JobLimits, JobRunner


pytestmark = pytest.mark.slow

PROMPTS = ["A red star jumps in the snow.", "A blue circle rises at night.", "A green heart waits in the meadow."]
# Images, since what is tried is not how long videos take.
SMALL = {"num_frames": 1, "num_inference_steps": 3}


@pytest.fixture
def visit(address):
    client = pytest.importorskip("gradio_client", reason="gradio, of the extra `app`, is not installed")

    def visit(directory, address=address):
        return client.Client(address, verbose=False, download_files=str(directory), httpx_kwargs={"timeout": 300})

    return visit


def submit(visitor, seed):
    options = {"width": 128, "height": 128, "guidance_scale": 1.5, "history_mask_ratio": 0.7}
    names = ["seed", "num_frames", "width", "height", "num_inference_steps", "guidance_scale", "history_mask_ratio"]
    values = {"seed": seed, **SMALL, **options}
    arguments = [PROMPTS[seed % 3], *(values[name] for name in names), "", False]
    return visitor.submit(*arguments, api_name="/generate")


def downloaded(job):
    """The path of the png, among what the page shows in the end."""
    values = [value.get("value") if isinstance(value, dict) else value for value in job.result(timeout=600)]
    return next(value for value in values if isinstance(value, str) and value.endswith(".png"))


def run_visitors(visit, directory):
    """Twenty visitors with three calls each; the pictures by seed."""

    def calls(number):
        visitor = visit(directory / str(number))
        seeds = [number + 20 * call for call in range(3)]
        jobs = {seed: submit(visitor, seed) for seed in seeds}
        return {seed: downloaded(job) for seed, job in jobs.items()}

    with ThreadPoolExecutor(20) as visitors:
        return {seed: path for made in visitors.map(calls, range(20)) for seed, path in made.items()}


def test_twenty_visitors_with_three_calls_each_get_their_own(visit, demo_pipe, tmp_path):
    paths = run_visitors(visit, tmp_path)
    assert sorted(paths) == list(range(60))
    for seed, path in paths.items():
        frames = demo_pipe(PROMPTS[seed % 3], generator=torch.Generator().manual_seed(seed), **SMALL).frames[0]
        with PIL.Image.open(path) as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(frames[0]))
        assert (read_settings(path)["seed"], read_settings(path)["prompt"]) == (seed, PROMPTS[seed % 3])


def test_a_video_is_not_continued_beyond_the_limit(demo_pipe, tmp_path):
    gradio = pytest.importorskip("gradio", reason="gradio, of the extra `app`, is not installed")
    from lumos_hf.app.clips import Clip
    from lumos_hf.app.page import Page

    clip = Clip([PIL.Image.new("RGB", (128, 128))] * 17, fps=8)
    with JobRunner(demo_pipe, JobLimits(max_area=128 * 128, max_num_frames=17)) as runner:
        page = Page(runner, demo_checkpoint(), tmp_path)
        page.clips["me"] = clip
        settings = [component.value for component in page.settings.values()]
        continued = page._continue(SimpleNamespace(session_hash="me"), PROMPTS[0], *settings)
        with pytest.raises(gradio.Error, match="too long.*at most 17 here, got 21"):
            asyncio.run(anext(continued))


def test_the_clip_of_a_visitor_goes_with_the_visitor(demo_pipe, visit, tmp_path, monkeypatch):
    served = pytest.importorskip("lumos_hf.app.page", reason="gradio, of the extra `app`, is not installed")
    kept = []
    monkeypatch.setattr(served, "ClipStore", lambda max_bytes: kept.append(ClipStore(max_bytes)) or kept[-1])
    with (
        JobRunner(demo_pipe, JobLimits(max_area=128 * 128, max_num_frames=9)) as runner,
        served.served_page(runner, demo_checkpoint(), is_quiet=True) as address,
    ):
        visitor = visit(tmp_path, address)
        downloaded(submit(visitor, seed=1))
        assert kept[0][visitor.session_hash] is not None
        visitor.close()
        deadline = time.monotonic() + 60
        while kept[0][visitor.session_hash] is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert kept[0][visitor.session_hash] is None


def test_files_of_an_app_go_with_it(demo_pipe, temporary_directory, visit, tmp_path, monkeypatch):
    page = pytest.importorskip("lumos_hf.app.page", reason="gradio, of the extra `app`, is not installed")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    before = set(temporary_directory.iterdir())
    with (
        JobRunner(demo_pipe, JobLimits(max_area=128 * 128, max_num_frames=9)) as runner,
        page.served_page(runner, demo_checkpoint(), is_quiet=True) as address,
    ):
        (room,) = set(temporary_directory.glob("lumos-hf-app-*")) - before
        downloaded(submit(visit(tmp_path, address), seed=1))
        assert sorted(path.name for path in room.rglob("lumos-1.*")) == ["lumos-1.gif", "lumos-1.mp4", "lumos-1.png"]
    assert not room.exists()
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_only_loopback_is_listened_on(address):
    assert address.startswith("http://127.0.0.1:")


def test_no_file_of_the_machine_is_served(address):
    for path in ("/etc/passwd", str(Path(__file__).resolve())):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{address}gradio_api/file={path}")
        assert error.value.code in (403, 404)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-frames", "5"], "`--max-frames` must be at least the checkpoint's own, 9, got 5"),
        (["--max-area", "1024"], "`--max-area` must be at least the checkpoint's own, 16384, got 1024"),
        (["--model", "nowhere"], "`--model` must be an existing directory or a repository like USER/NAME"),
    ],
)
def test_bad_options_are_refused(arguments, message):
    result = CliRunner().invoke(app, ["app", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_port_in_use_is_one_line(address):
    port = address.rstrip("/").rsplit(":", 1)[1]
    result = CliRunner().invoke(app, ["app", "--port", port])
    assert result.exit_code == 2
    assert port in result.stderr.strip().splitlines()[-1]
