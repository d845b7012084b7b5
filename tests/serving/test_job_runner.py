# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import asyncio
import gc
import resource
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pipeline_lumos_video import CAPTIONS, SMALL, build_pipeline, random_image

from lumos_hf.serving import JobCancelled, JobLimits, JobRequest, JobRunner, JobState, QueueFull


LIMITS = JobLimits(max_area=64 * 64, max_num_frames=17, max_num_inference_steps=400, max_queued_per_client=20)
TIMEOUT = 60
# Longer than any test, if it is not cancelled.
LONG = {**SMALL, "prompt": CAPTIONS[0], "num_inference_steps": 400, "num_frames": 17}


@pytest.fixture(scope="module")
def pipe():
    return build_pipeline()


@pytest.fixture
def runner(pipe):
    with JobRunner(pipe, LIMITS) as runner:
        yield runner


def arguments(index=0, **changes):
    return {**SMALL, "prompt": CAPTIONS[index % len(CAPTIONS)], **changes}


def direct(pipe, seed, **options):
    return pixels(pipe(generator=torch.Generator().manual_seed(seed), **options).frames[0])


def pixels(frames):
    return np.stack([np.asarray(frame) for frame in frames])


def wait_for(job, is_reached):
    return next(status for status in job.updates(TIMEOUT) if is_reached(status))


def start(runner, client="busy", **changes):
    """A long job that is being decoded."""
    job = runner.submit(client, {**LONG, **changes})
    wait_for(job, lambda status: status.step > 0)
    return job


@pytest.mark.slow
def test_a_job_gives_what_a_direct_call_gives(pipe, runner):
    job = runner.submit("me", arguments(), seed=7)
    assert np.array_equal(pixels(job.result(TIMEOUT)), direct(pipe, 7, **arguments()))
    assert job.status.state is JobState.DONE
    assert job.error is None


def test_a_random_seed_is_kept(pipe, runner):
    job = runner.submit("me", arguments())
    assert np.array_equal(pixels(job.result(TIMEOUT)), direct(pipe, job.seed, **arguments()))
    assert runner.submit("me", arguments()).seed != job.seed


def test_given_images_are_continued(pipe, runner):
    given = arguments(image=random_image(), height=32, width=64)
    job = runner.submit("me", given, seed=1)
    assert np.array_equal(pixels(job.result(TIMEOUT)), direct(pipe, 1, **given))


@pytest.mark.slow
def test_frames_come_one_latent_frame_after_another_with_every_step_counted(runner):
    job = runner.submit("me", arguments(num_inference_steps=30))
    statuses = list(job.updates(TIMEOUT))
    steps = [status.step for status in statuses]
    assert steps == sorted(steps) and steps[-1] == statuses[-1].num_steps == 3 * 30
    first = next(status for status in statuses if status.num_frames)
    assert first.num_frames == 1 and first.state is JobState.RUNNING and 30 <= first.step < 60
    assert statuses[-1].num_frames == len(job.frames) == 9
    assert first.seconds_left > 0
    assert statuses[-1].seconds_left is None


def test_coroutines_watch_without_threads(runner):
    async def watch_all(jobs):
        async def states(job):
            return [status.state async for status in job.watch()]

        before = threading.active_count()
        watching = asyncio.gather(*map(states, jobs))
        await asyncio.sleep(0)
        assert threading.active_count() == before
        return await watching

    jobs = [runner.submit("me", arguments(index)) for index in range(5)]
    for states in asyncio.run(watch_all(jobs)):
        assert states[-1] is JobState.DONE
        assert states == sorted(states, key=list(JobState).index)


def test_a_watcher_whose_loop_has_ended_harms_nobody(runner):
    job = start(runner)
    loop = asyncio.new_event_loop()
    watching = job.watch()
    loop.run_until_complete(anext(watching))
    loop.close()
    runner.cancel(job)
    with pytest.raises(JobCancelled):
        job.result(TIMEOUT)
    runner.submit("me", arguments()).result(TIMEOUT)


def note_beginning(job, begun):
    if job.status.state is JobState.RUNNING and job not in begun:
        begun.append(job)


def test_clients_take_turns(runner):
    running = start(runner)
    many = [runner.submit("many", arguments(num_frames=1)) for _ in range(4)]
    one = runner.submit("one", arguments(num_frames=1))
    two = [runner.submit("two", arguments(num_frames=1)) for _ in range(2)]
    expected = [many[0], one, two[0], many[1], two[1], *many[2:]]
    assert [job.status.num_ahead for job in expected] == [1, 2, 3, 4, 5, 6, 7]

    begun = []
    with ExitStack() as listeners:
        for job in expected:
            listeners.enter_context(job._listener(lambda job=job: note_beginning(job, begun)))
        runner.cancel(running)
        for job in expected:
            job.result(TIMEOUT)
    assert begun == expected
    assert {job.status.num_ahead for job in expected} == {0}


def test_a_client_that_comes_later_waits_for_one_job_of_another(runner):
    running = start(runner, "many")
    many = [runner.submit("many", arguments(num_frames=1)) for _ in range(3)]
    late = runner.submit("late", arguments(num_frames=1))
    assert [job.status.num_ahead for job in (many[0], late, many[1], many[2])] == [1, 2, 3, 4]
    runner.cancel(many[0])
    assert [job.status.num_ahead for job in (many[1], late, many[2])] == [1, 2, 3]
    runner.cancel(running)


@pytest.mark.slow
def test_a_prompt_that_changes_is_that_of_prompt_segments(pipe, runner):
    settings = {**LONG, "num_inference_steps": 40}
    job = runner.submit("me", settings, seed=3)
    wait_for(job, lambda status: status.num_frames >= 1)
    runner.change_prompt(job, CAPTIONS[1])
    frames = pixels(job.result(TIMEOUT))
    (segment,) = job.prompt_segments
    assert segment["text"] == CAPTIONS[1] and segment["start_frame"] in (5, 9)
    assert np.array_equal(frames, direct(pipe, 3, **settings, prompt_segments=job.prompt_segments))
    assert not np.array_equal(frames, direct(pipe, 3, **settings))


def test_a_prompt_is_changed_in_time_and_to_a_prompt(runner):
    job = runner.submit("me", arguments())
    with pytest.raises(ValueError, match="`prompt` must not be empty"):
        runner.change_prompt(job, " ")
    with pytest.raises(ValueError, match="`prompt` must be a string, got None"):
        runner.change_prompt(job, None)
    job.result(TIMEOUT)
    with pytest.raises(ValueError, match="must be one that has not ended, got one that is done"):
        runner.change_prompt(job, CAPTIONS[1])


def test_an_edit_gives_what_a_direct_call_gives(pipe, runner):
    mask = np.zeros((32, 64), dtype=bool)
    mask[:, :32] = True
    video = [random_image(32, 64, seed) for seed in range(5)]
    edit = {name: value for name, value in arguments(video=video, mask=mask).items() if name != "num_frames"}
    frames = pixels(runner.submit("me", edit, seed=1).result(TIMEOUT))
    assert len(frames) == 5
    assert np.array_equal(frames, direct(pipe, 1, **edit))


def test_a_running_job_is_cancelled_within_a_step(runner):
    job = start(runner)
    runner.cancel(job)
    step = job.status.step
    with pytest.raises(JobCancelled):
        job.result(TIMEOUT)
    # The step that was being made, and the one after which the status was read.
    assert job.status.step <= step + 2 < job.status.num_steps
    assert job.status.state is JobState.CANCELLED


@pytest.mark.slow
def test_a_cancelled_job_keeps_the_frames_that_were_finished(pipe, runner):
    job = runner.submit("me", {**LONG, "num_inference_steps": 40}, seed=2)
    wait_for(job, lambda status: status.num_frames >= 1)
    runner.cancel(job)
    with pytest.raises(JobCancelled):
        job.result(TIMEOUT)
    whole = direct(pipe, 2, **{**LONG, "num_inference_steps": 40})
    assert 1 <= len(job.frames) < len(whole)
    assert np.array_equal(pixels(job.frames), whole[: len(job.frames)])


def test_a_waiting_job_is_cancelled_at_once_and_makes_room(runner):
    running = start(runner)
    waiting = runner.submit("me", arguments())
    runner.cancel(waiting)
    assert waiting.status.state is JobState.CANCELLED
    assert waiting.frames == []
    assert runner.submit("me", arguments()).status.num_ahead == 1
    runner.cancel(running)


def test_cancelling_what_has_ended_changes_nothing(runner):
    job = runner.submit("me", arguments())
    frames = job.result(TIMEOUT)
    runner.cancel(job)
    assert job.status.state is JobState.DONE
    assert job.result() == frames


def test_a_failed_job_leaves_the_others_alone(pipe, runner):
    broken = {"image": "not an image", "height": 32, "width": 64}
    running = start(runner)
    jobs = [runner.submit("me", arguments(index, **(broken if index == 1 else {})), seed=index) for index in range(3)]
    runner.cancel(running)
    with pytest.raises(ValueError, match="image"):
        jobs[1].result(TIMEOUT)
    assert jobs[1].status.state is JobState.FAILED
    for index in (0, 2):
        assert np.array_equal(pixels(jobs[index].result(TIMEOUT)), direct(pipe, index, **arguments(index)))


def test_even_an_exit_from_inside_of_a_job_ends_that_job_only(pipe, runner):
    def leave(module, inputs):
        hook.remove()
        raise SystemExit("leaving")

    hook = pipe.transformer.register_forward_pre_hook(leave)
    with pytest.raises(SystemExit, match="leaving"):
        runner.submit("me", arguments()).result(TIMEOUT)
    runner.submit("me", arguments()).result(TIMEOUT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": ""}, "`prompt` must not be empty"),
        ({"prompt": CAPTIONS[:2]}, "`prompt` must be a string"),
        ({"colour": "red"}, "`arguments` must be those of a call.*colour"),
        ({"generator": None, "output_type": "np"}, r"what the runner sets itself, got \['generator', 'output_type'\]"),
        ({"height": 33}, "`height` must be a positive integer and a multiple of 32"),
        ({"height": 96}, "`height` times `width` must be at most 4096 here, got 96x64"),
        ({"height": None, "width": None}, "at most 4096 here, got 384x672"),
        ({"num_frames": 21}, "`num_frames` must be at most 17 here, got 21"),
        ({"num_inference_steps": 401}, "`num_inference_steps` must be at most 400 here, got 401"),
    ],
)
def test_bad_requests_are_refused_before_they_wait(runner, changes, message):
    running = start(runner)
    with pytest.raises(ValueError, match=message):
        runner.submit("me", arguments(**changes))
    assert runner.submit("me", arguments()).status.num_ahead == 1
    runner.cancel(running)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1"])
def test_bad_seeds_are_refused(runner, seed):
    with pytest.raises(ValueError, match="`seed` must be"):
        runner.submit("me", arguments(), seed=seed)


@pytest.mark.parametrize("changes", [{"max_area": 0}, {"max_num_frames": 1.5}, {"max_queued": -1}])
def test_bad_limits_are_refused(changes):
    with pytest.raises(ValueError, match=f"`{next(iter(changes))}` must be a positive integer"):
        JobLimits(**{"max_area": 1, "max_num_frames": 1, **changes})


def test_the_queue_is_limited_in_all_and_per_client(pipe):
    limits = JobLimits(
        max_area=4096, max_num_frames=17, max_num_inference_steps=400, max_queued=3, max_queued_per_client=2
    )
    with JobRunner(pipe, limits) as runner:
        start(runner)
        jobs = [runner.submit("me", arguments()) for _ in range(2)]
        with pytest.raises(QueueFull, match="2 of your jobs"):
            runner.submit("me", arguments())
        runner.submit("you", arguments())
        with pytest.raises(QueueFull, match="3 jobs are waiting"):
            runner.submit("she", arguments())
        runner.cancel(jobs[0])
        runner.submit("she", arguments())


def test_closing_cancels_everything_and_ends_the_thread(pipe):
    runner = JobRunner(pipe, LIMITS)
    jobs = [start(runner), *(runner.submit("me", arguments()) for _ in range(2))]
    runner.close()
    assert [job.status.state for job in jobs] == [JobState.CANCELLED] * 3
    assert not runner._thread.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        runner.submit("me", arguments())
    runner.close()


def test_waiting_can_end_without_a_result(runner):
    running = start(runner)
    waiting = runner.submit("me", arguments())
    with pytest.raises(TimeoutError, match="queued without a change for 0.05 seconds"):
        waiting.result(timeout=0.05)
    runner.cancel(running)
    waiting.result(TIMEOUT)


@pytest.mark.slow
def test_twenty_clients_with_three_calls_each_get_their_own_results(pipe, runner):
    seeds = range(60)
    expected = [direct(pipe, seed, **arguments(seed)) for seed in seeds]

    def visit(client):
        mine = [client + 20 * call for call in range(3)]
        jobs = [runner.submit(f"client {client}", arguments(seed), seed=seed) for seed in mine]
        return {seed: job.result(TIMEOUT) for seed, job in zip(mine, jobs, strict=True)}

    with ThreadPoolExecutor(20) as clients:
        results = {seed: frames for visited in clients.map(visit, range(20)) for seed, frames in visited.items()}
    assert sorted(results) == list(seeds)
    for seed, frames in results.items():
        assert np.array_equal(pixels(frames), expected[seed])
    assert len({frames.tobytes() for frames in expected}) == 60


@pytest.mark.slow
def test_a_finished_job_is_kept_by_nobody(runner):
    job = runner.submit("me", arguments())
    job.result(TIMEOUT)
    # The thread lets go of a job when it turns to the next.
    runner.submit("me", arguments()).result(TIMEOUT)
    forgotten = weakref.ref(job)
    del job
    gc.collect()
    assert forgotten() is None


@pytest.mark.slow
def test_memory_stays_as_it_is(runner):
    def resident():
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def run(count):
        for seed in range(count):
            runner.submit("me", arguments(seed), seed=seed).result(TIMEOUT)

    run(20)
    before = resident()
    run(100)
    assert resident() <= before * 1.05


@pytest.fixture
def batching(pipe):
    with JobRunner(pipe, LIMITS, max_batch_size=4) as runner:
        yield runner


def requests_of(*clients, is_streamed=True, **changes):
    return [JobRequest(client, arguments(seed, **changes), seed, is_streamed) for seed, client in enumerate(clients)]


@pytest.mark.parametrize("is_streamed", [True, False])
def test_waiting_jobs_of_one_shape_run_together_and_are_what_direct_calls_give(pipe, batching, is_streamed):
    jobs = batching.submit_all(requests_of("me", "you", "me", "she", is_streamed=is_streamed))
    for seed, job in enumerate(jobs):
        job.result(TIMEOUT)
        assert np.array_equal(pixels(job.frames), direct(pipe, seed, **arguments(seed)))


def test_batches_are_of_one_shape_and_no_larger_than_allowed(batching):
    running = start(batching)
    jobs = batching.submit_all(requests_of(*["me"] * 6))
    other = batching.submit("you", arguments(num_frames=5), seed=9)
    alone = batching.submit("she", arguments(image=random_image(), height=32, width=64), seed=9)
    assert other.shape not in (None, jobs[0].shape) and alone.shape is None
    batches = []
    for job in (*jobs, other, alone):
        job.on_change(
            lambda: batches.append(tuple(batching._running)) if tuple(batching._running) not in batches else None
        )
    batching.cancel(running)
    for job in (*jobs, other, alone):
        job.result(TIMEOUT)
    assert [len(batch) for batch in batches if running not in batch and batch] == [4, 1, 1, 2]


def test_one_of_a_batch_is_cancelled_and_the_others_go_on(pipe, batching):
    changes = {"num_inference_steps": 30}
    jobs = batching.submit_all(requests_of("me", "you", **changes))
    wait_for(jobs[0], lambda status: status.step > 0)
    batching.cancel(jobs[0])
    step = jobs[0].status.step
    with pytest.raises(JobCancelled):
        jobs[0].result(TIMEOUT)
    assert jobs[0].status.step <= step + 2
    assert np.array_equal(pixels(jobs[1].result(TIMEOUT)), direct(pipe, 1, **arguments(1, **changes)))


def test_a_job_waits_for_others_of_its_shape_but_not_for_long(pipe):
    with JobRunner(pipe, LIMITS, max_batch_size=2, batch_delay=0.5) as runner:
        first = runner.submit("me", arguments(0), seed=0)
        assert runner.room_in_batch == 1
        second = runner.submit("you", arguments(1), seed=1)
        first.result(TIMEOUT), second.result(TIMEOUT)
        assert first.status.num_steps == second.status.num_steps == 9
        alone = runner.submit("me", arguments(2), seed=2)
        assert np.array_equal(pixels(alone.result(TIMEOUT)), direct(pipe, 2, **arguments(2)))
        # Nobody waits for what can only run alone.
        assert runner.submit("me", arguments(image=random_image(), height=32, width=64)).shape is None


def test_all_calls_of_a_list_are_taken_or_none(batching):
    running = start(batching)
    with pytest.raises(ValueError, match="`prompt` must not be empty"):
        batching.submit_all([*requests_of("me"), JobRequest("me", arguments(prompt=""))])
    with pytest.raises(QueueFull):
        batching.submit_all(requests_of(*["me"] * 21))
    assert batching.submit("me", arguments()).status.num_ahead == 1
    batching.cancel(running)


def test_a_prompt_that_leaves_no_room_is_refused_before_it_waits(runner):
    with pytest.raises(ValueError, match="`prompt` and the frames must not be longer than the context"):
        runner.submit("me", arguments(prompt="kite " * 600))
    job = start(runner)
    with pytest.raises(ValueError, match="longer than the context"):
        runner.change_prompt(job, "kite " * 600)
    runner.cancel(job)


@pytest.mark.parametrize("options", [{"max_batch_size": 0}, {"batch_delay": -1}])
def test_bad_batches_are_refused(pipe, options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        JobRunner(pipe, LIMITS, **options)


def test_what_is_not_streamed_comes_at_once_and_keeps_its_prompt(pipe, runner):
    (job,) = runner.submit_all(requests_of("me", is_streamed=False, num_inference_steps=40))
    with pytest.raises(ValueError, match="whose frames are streamed"):
        runner.change_prompt(job, CAPTIONS[1])
    counts = {status.num_frames for status in job.updates(TIMEOUT)}
    assert counts == {0, 9}
    assert np.array_equal(pixels(job.frames), direct(pipe, 0, **arguments(0, num_inference_steps=40)))
