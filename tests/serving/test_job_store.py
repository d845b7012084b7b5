# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Every test runs with SQLite and, where it is installed, with PostgreSQL."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lumos_hf.serving.job_store import (
    JobStore,
    NewJob,
    Progress,
    StoreFull,
    StoreLimits,
    StoreUnavailable,
    new_job_id,
    sqlite_url,
)
from lumos_hf.serving.worker_identity import is_known_dead, new_worker_name


LEASE = 60.0


def new_job(client="me", **changes):
    fields = {
        "id": new_job_id("video"),
        "kind": "video",
        "owner": client,
        "client": client,
        "arguments": {"prompt": "a red kite"},
        "seed": 2**63 - 1,
        "shape": "small",
    }
    return NewJob(**{**fields, **changes})


def add(store, *clients, **changes):
    return [job for client in clients for job in store.add([new_job(client, **changes)])]


def ids(jobs):
    return [job.id for job in jobs]


def test_a_job_is_kept_as_it_was_given(store, database):
    job = new_job(details={"model": "tiny"}, num_bytes=10)
    (stored,) = store.add([job])
    assert stored.status == "queued" and stored.progress == 0 and stored.created_at <= time.time()
    again = JobStore(database)
    found = again.get(job.id)
    assert found == stored
    assert {name: getattr(found, name) for name in vars(job)} == vars(job)
    assert again.num_bytes() == 10
    again.close()


def test_jobs_are_seen_by_their_owner_only(store):
    (job,) = add(store, "me")
    assert store.get(job.id, "you") is None and store.delete(job.id, "you") is None
    assert store.page("you") == ([], False)
    assert store.get(job.id, "me") == job
    with pytest.raises(KeyError):
        store.page("you", after=job.id)


def test_pages_follow_each_other_in_both_orders(store):
    jobs = ids(add(store, *["me"] * 5))
    add(store, "you")
    first, has_more = store.page("me", limit=2)
    assert (ids(first), has_more) == ([jobs[4], jobs[3]], True)
    second, has_more = store.page("me", after=first[-1].id, limit=3)
    assert (ids(second), has_more) == ([jobs[2], jobs[1], jobs[0]], False)
    assert ids(store.page("me", after=jobs[1], limit=2, is_ascending=True)[0]) == jobs[2:4]


def test_clients_take_turns(store):
    many = add(store, *["many"] * 3)
    (one,) = add(store, "one")
    two = add(store, *["two"] * 2)
    expected = [many[0], one, two[0], many[1], two[1], many[2]]
    taken = [job for _ in expected for job in store.take("w", LEASE)]
    assert ids(taken) == ids(expected)
    assert store.take("w", LEASE) == []


def test_a_batch_is_of_one_shape_and_of_as_many_clients_as_there_are(store):
    mine = add(store, "me", "me")
    add(store, "me", shape="large")
    yours = add(store, "you", "you")
    assert ids(store.take("w", LEASE, limit=3)) == ids([mine[0], mine[1], yours[0]])
    alone = add(store, "she", shape=None)
    assert ids(store.take("w", LEASE, limit=3)) == ids(alone)
    assert ids(store.take("w", LEASE, limit=3, shape="small")) == [yours[1].id]


def test_a_job_is_taken_once_by_many_who_ask(store):
    jobs = add(store, *(f"client {index % 5}" for index in range(40)))

    def work(worker):
        taken = []
        while batch := store.take(worker, LEASE, limit=3):
            taken += ids(batch)
        return taken

    with ThreadPoolExecutor(8) as workers:
        taken = [id for batch in workers.map(work, map(str, range(8))) for id in batch]
    assert sorted(taken) == sorted(ids(jobs))


def test_progress_is_kept_and_the_end_is_the_worker_s_to_tell(store):
    (job,) = add(store, "me")
    store.take("w", LEASE)
    assert store.renew("w", LEASE, {job.id: Progress(3, 12, 4.5)}) == {job.id}
    found = store.get(job.id)
    assert (found.step, found.num_steps, found.seconds_left, found.progress) == (3, 12, 4.5, 25)
    assert not store.complete(job.id, "another", num_bytes=1)
    assert store.complete(job.id, "w", num_bytes=7)
    assert not store.fail(job.id, "w", {"code": "late", "message": "late"})
    done = store.get(job.id)
    assert (done.status, done.progress, done.num_bytes, done.error) == ("completed", 100, 7, None)
    assert done.expires_at == pytest.approx(done.completed_at + store.seconds_to_live)


def test_what_is_unfinished_never_says_100(store):
    (job,) = add(store, "me")
    store.take("w", LEASE)
    store.renew("w", LEASE, {job.id: Progress(12, 12, 0.0)})
    assert store.get(job.id).progress == 99


def test_a_lease_that_has_ended_lets_another_worker_take_the_job(store):
    (job,) = add(store, "me")
    store.take("slow", 0.05)
    assert store.take("w", LEASE) == []
    time.sleep(0.1)
    (again,) = store.take("w", LEASE)
    assert again.id == job.id and again.attempts == 1
    assert store.renew("slow", LEASE, {}) == set()
    assert not store.complete(job.id, "slow", num_bytes=1)
    assert store.complete(job.id, "w", num_bytes=1)


def test_what_was_begun_before_is_made_alone_and_not_for_ever(database):
    store = JobStore(database, StoreLimits(max_attempts=2))
    jobs = add(store, "me", "me", "me")
    for _ in range(2):
        for _ in jobs:
            store.take("w", 0)
        time.sleep(0.01)
    assert store.take("w", LEASE, limit=3) == []
    for job in jobs:
        failed = store.get(job.id)
        assert failed.status == "failed" and "2 processes ended" in failed.error["message"]
    store.close()


def test_what_ends_processes_waits_for_other_jobs_of_its_client(store):
    deadly, other = add(store, "me", "me")
    for _ in range(3):
        assert ids(store.take("w", 0)) == [deadly.id]
        time.sleep(0.01)
    assert ids(store.take("w", LEASE)) == [other.id]
    assert ids(store.take("w", LEASE)) == [deadly.id]


def test_a_worker_that_ends_gives_its_jobs_back(store):
    jobs = add(store, "me", "me")
    store.take("w", LEASE, limit=2)
    assert store.release("w") == 2
    assert ids(store.take("w", LEASE, limit=2)) == ids(jobs)


def test_jobs_of_a_dead_process_are_taken_at_once(store):
    jobs = add(store, "me", "me")
    program = "from lumos_hf.serving.worker_identity import new_worker_name\nprint(new_worker_name())"
    dead = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    alive = new_worker_name()
    store.take(dead, LEASE)
    store.take(alive, LEASE)
    assert store.release_those_of_the_dead() == 1
    assert ids(store.take("w", LEASE, limit=2)) == [jobs[0].id]
    assert store.release_those_of_the_dead() == 0


def test_death_is_known_of_processes_of_the_same_place_only():
    place, pid, start, token = new_worker_name().split("/")
    assert not is_known_dead(f"{place}/{pid}/{start}/{token}")
    # The same number, of a process that began at another time.
    assert is_known_dead(f"{place}/{pid}/{int(start) - 1}/{token}")
    assert not is_known_dead(f"elsewhere/{pid}/{int(start) - 1}/{token}")
    assert not is_known_dead(f"unknown/{os.getpid()}/0/{token}")


def test_what_is_deleted_is_gone_for_all_and_its_worker_learns_of_it(store):
    waiting, running = add(store, "me", "me", num_bytes=5)
    store.delete(waiting.id, "me")
    store.take("w", LEASE)
    assert store.delete(running.id, "me").status == "in_progress"
    assert store.renew("w", LEASE, {}) == set()
    assert not store.complete(running.id, "w", num_bytes=1)
    assert store.page("me") == ([], False) and store.get(running.id) is None
    assert store.num_bytes() == 0 and store.take("w", LEASE) == []
    assert store.those_without_files([waiting.id, running.id, "video_0"]) == {waiting.id, running.id, "video_0"}


def test_results_expire(database):
    store = JobStore(database, seconds_to_live=0.05)
    done, waiting = add(store, "me", "me")
    store.take("w", LEASE)
    store.complete(done.id, "w", num_bytes=1)
    time.sleep(0.1)
    assert store.remove_expired() == [done.id]
    assert store.get(done.id) is None and store.get(waiting.id) is not None
    store.close()


def test_room_is_limited_in_all_per_client_and_on_disk(database):
    store = JobStore(database, StoreLimits(max_queued=3, max_queued_per_client=2, max_bytes=100))
    add(store, "me", "me")
    with pytest.raises(StoreFull, match="2 of your jobs are waiting") as error:
        store.add([new_job()])
    assert not error.value.is_disk
    with pytest.raises(StoreFull, match="3 jobs are waiting"):
        store.add([new_job("you"), new_job("she")])
    with pytest.raises(StoreFull, match="fill the 100 bytes") as error:
        store.check_room("you", num_bytes=101)
    assert error.value.is_disk
    assert store.count() == {"queued": 2}
    store.add([new_job("you", num_bytes=100)])
    store.close()


def test_ten_thousand_waiting_jobs_are_taken_quickly(database):
    store = JobStore(database, StoreLimits(max_queued=10_000, max_queued_per_client=10_000))
    for _ in range(10):
        store.add([new_job(f"client {index % 20}") for index in range(1000)])
    with pytest.raises(StoreFull):
        store.add([new_job()])
    start = time.process_time()
    for _ in range(5):
        assert len(store.take("w", LEASE, limit=4)) == 4
    assert time.process_time() - start < 2
    store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://me@here/jobs", "must begin with sqlite:/// or postgresql://, got 'mysql'"),
        ("jobs", "must be a URL of SQLAlchemy, got 'jobs'"),
        ("sqlite://", "must name a file"),
    ],
)
def test_other_databases_are_refused(url, message):
    with pytest.raises(ValueError, match=f"`database` {message}"):
        JobStore(url)


@pytest.mark.slow
def test_a_database_that_goes_away_and_comes_back_has_lost_nothing(postgresql):
    store = JobStore(postgresql.new_database())
    (job,) = add(store, "me")
    postgresql.stop()
    try:
        with pytest.raises(StoreUnavailable):
            store.get(job.id)
        with pytest.raises(StoreUnavailable):
            add(store, "me")
    finally:
        postgresql.resume()
    assert store.get(job.id) == job
    store.close()


def test_a_database_that_is_not_there_is_unavailable():
    with pytest.raises(StoreUnavailable):
        JobStore("postgresql://postgres@127.0.0.1:1/jobs")


def test_whoever_reads_does_not_wait_for_whoever_writes(tmp_path):
    store = JobStore(sqlite_url(tmp_path / "jobs.sqlite"))
    (job,) = add(store, "me")
    is_writing, may_end = threading.Event(), threading.Event()

    def write():
        with store._transaction():
            is_writing.set()
            may_end.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    is_writing.wait(10)
    assert store.get(job.id) == job
    may_end.set()
    writer.join()
    store.close()
