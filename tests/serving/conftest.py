# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""A PostgreSQL of its own, stores in both databases, and the app with a pipeline that is as small as can be."""

import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from postgresql_server import PostgresqlServer
from test_pipeline_lumos_video import CAPTIONS, build_pipeline

from lumos_hf.serving import JobLimits, JobRunner


pytest.importorskip("sqlalchemy", reason="sqlalchemy, of the extra `serve`, is not installed")
pytest.importorskip("fastapi", reason="fastapi, of the extra `serve`, is not installed")

from starlette.testclient import TestClient  # noqa: E402

from lumos_hf.serving.job_events import JobEvents  # noqa: E402
from lumos_hf.serving.job_files import JobFiles  # noqa: E402
from lumos_hf.serving.job_store import JobStore, sqlite_url  # noqa: E402
from lumos_hf.serving.job_worker import JobWorker  # noqa: E402
from lumos_hf.serving.served_model import ServedModel  # noqa: E402
from lumos_hf.serving.videos_api import create_app  # noqa: E402


DEFAULTS = {
    "default_height": 32,
    "default_width": 64,
    "default_num_frames": 9,
    "default_fps": 4,
    "default_num_inference_steps": 3,
    "default_guidance_scale": 3.0,
}
LIMITS = JobLimits(max_area=64 * 64, max_num_frames=17, max_num_inference_steps=400, max_queued_per_client=64)


@pytest.fixture(scope="session")
def postgresql():
    server = PostgresqlServer.start()
    if server is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """The URL of an empty database."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "jobs.sqlite")
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture
def store(database):
    store = JobStore(database)
    yield store
    store.close()


@pytest.fixture(scope="session")
def tiny_pipe():
    return build_pipeline(**DEFAULTS)


@pytest.fixture(scope="session")
def runner(tiny_pipe):
    with JobRunner(tiny_pipe, LIMITS, max_batch_size=4) as runner:
        yield runner


@pytest.fixture
def serve(tiny_pipe, runner, tmp_path):
    """Makes apps with a worker, and what belongs to them; `serve(...)` takes arguments of `create_app`."""
    with ExitStack() as stack:

        def start(store=None, **options):
            store = store or JobStore(sqlite_url(tmp_path / "jobs.sqlite"))
            files, events = JobFiles(tmp_path / "files"), JobEvents()
            worker = stack.enter_context(JobWorker(runner, store, files, "tiny", on_end=events.ended))
            model = ServedModel.of(tiny_pipe, "tiny", LIMITS)
            app = create_app(store, files, model, events=events, worker=worker, **options)
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            return Served(client, store, files, worker, model)

        yield start


@dataclass
class Served:
    client: TestClient
    store: JobStore
    files: JobFiles
    worker: JobWorker
    model: ServedModel

    def make(self, **fields):
        """The id of a completed video."""
        answer = self.client.post("/v1/videos", json={"prompt": CAPTIONS[0], **fields})
        assert answer.status_code == 200, answer.text
        return self.wait(answer.json()["id"])["id"]

    def wait(self, id, timeout=60):
        deadline = time.monotonic() + timeout
        while (video := self.client.get(f"/v1/videos/{id}").json())["status"] not in ("completed", "failed"):
            assert time.monotonic() < deadline, video
            time.sleep(0.02)
        assert video["status"] == "completed", video
        return video


@pytest.fixture
def served(serve):
    return serve()
