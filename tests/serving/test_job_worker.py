# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Workers of one store, and what becomes of jobs when they come and go."""

import time
from collections import Counter
from contextlib import ExitStack

import pytest
from test_pipeline_lumos_video import CAPTIONS, build_pipeline

from lumos_hf.serving import JobRunner, JobState
from lumos_hf.serving.job_files import JobFiles
from lumos_hf.serving.job_store import JobStore, NewJob, new_job_id
from lumos_hf.serving.job_worker import JobWorker

from .conftest import DEFAULTS, LIMITS


SETTINGS = {"width": 64, "height": 32, "num_frames": 5, "fps": 4, "num_inference_steps": 2}


def add(store, count, **changes):
    jobs = [
        NewJob(
            id=new_job_id("video"),
            kind="video",
            owner="me",
            client=f"client {index % 3}",
            arguments={"prompt": CAPTIONS[index % len(CAPTIONS)], **SETTINGS, **changes},
            details={"model": "tiny"},
            seed=index,
            shape=str(sorted(changes.items())),
        )
        for index in range(count)
    ]
    return [job.id for job in store.add(jobs)]


def wait_until(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def work(tmp_path):
    """Starts a worker with a pipeline of its own, which tells of ends in a list."""
    with ExitStack() as stack:

        def start(store, **options):
            runner = stack.enter_context(JobRunner(build_pipeline(**DEFAULTS), LIMITS, max_batch_size=3))
            ended = []
            worker = JobWorker(
                runner,
                store,
                JobFiles(tmp_path),
                "tiny",
                on_end=lambda job, state, _: ended.append((job.id, state)),
                **options,
            )
            stack.callback(worker.close)
            return worker, ended

        yield start


def test_of_two_workers_on_one_database_none_makes_a_job_twice(work, store, database):
    ids = add(store, 24)
    other = JobStore(database)
    ended = [work(each)[1] for each in (store, other)]
    wait_until(lambda: store.count() == {"completed": 24})
    wait_until(lambda: sum(map(len, ended)) == 24)
    assert Counter(id for each in ended for id, _ in each) == Counter(ids)
    assert {state for each in ended for _, state in each} == {JobState.DONE}
    assert all(store.get(id).attempts == 1 for id in ids)
    other.close()


def test_a_worker_that_ends_gives_back_what_it_runs(work, store):
    (id,) = add(store, 1, num_inference_steps=400)
    worker, _ = work(store)
    wait_until(lambda: (progress := worker.progress(id)) is not None and progress.step > 0)
    worker.close()
    assert (store.get(id).status, store.get(id).attempts) == ("queued", 0)


def test_progress_is_told_to_the_store(work, store):
    (id,) = add(store, 1, num_inference_steps=300)
    work(store)
    wait_until(lambda: store.get(id).progress > 0)
    job = store.get(id)
    assert job.status == "in_progress" and 0 < job.step < job.num_steps == 600 and job.seconds_left > 0
    store.delete(id, "me")


def test_a_job_that_was_deleted_elsewhere_is_ended_here(work, store):
    (id,) = add(store, 1, num_inference_steps=400)
    worker, ended = work(store)
    wait_until(lambda: worker.progress(id) is not None)
    store.delete(id, "me")
    wait_until(lambda: ended == [(id, JobState.CANCELLED)])
    assert not worker.files.path(id, "").exists()


def test_what_has_expired_is_removed_with_its_files(work, store):
    (id,) = add(store, 1)
    worker, ended = work(store)
    wait_until(lambda: len(ended) == 1)
    assert worker.files.path(id, "video.mp4").is_file()
    store.seconds_to_live = 0
    (late,) = add(store, 1)
    wait_until(lambda: len(ended) == 2)
    worker._clean_up()
    assert store.get(late) is None and not worker.files.path(late, "").exists()
    assert store.get(id) is not None and worker.files.path(id, "").exists()
