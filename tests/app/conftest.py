# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The page with the demo checkpoint, served on loopback, and a browser to open it with."""

import shutil
import tempfile

import pytest

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.serving import JobLimits, JobRunner


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session", autouse=True)
def temporary_directory(tmp_path_factory):
    """Of the app, and of gradio's client, which leaves directories behind."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("temporary")
        patch.setattr(tempfile, "tempdir", str(directory))
        patch.setenv("TMPDIR", str(directory))
        yield directory


@pytest.fixture(scope="session")
def demo_pipe():
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def address(demo_pipe, temporary_directory):
    """Of the running app."""
    page = pytest.importorskip("lumos_hf.app.page", reason="gradio, of the extra `app`, is not installed")
    limits = JobLimits(max_area=128 * 128, max_num_frames=33, max_queued=64)
    with (
        JobRunner(demo_pipe, limits) as runner,
        page.served_page(runner, demo_checkpoint(), is_quiet=True) as address,
    ):
        yield address


@pytest.fixture
def browser():
    """For each test its own, since its event loop runs in the thread of the tests for as long as it is there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"there is none of the browsers {', '.join(BROWSERS)} on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
