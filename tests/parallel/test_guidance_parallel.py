# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`pipe.enable_guidance_parallel`: one branch of guidance in each of two processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from parallel.two_processes import run_in_two_processes
from tiny_pipelines import CAPTIONS, SMALL, build_pipeline, generators

from lumos_hf import LumosVideoPipeline
from lumos_hf.decoding.guidance_branch import GuidanceBranch
from lumos_hf.decoding.guidance_parallel import GuidanceParallel
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler


CALLS: dict[str, dict[str, Any]] = {
    "exact": {},
    "batch": {"prompt": CAPTIONS[:2], "num_videos_per_prompt": 2},
    "negative prompt": {"negative_prompt": CAPTIONS[1]},
    "fast": {"approximations": "fast", "num_inference_steps": 6},
    "no guidance": {"guidance_scale": 1.0},
    "rolls": {"num_frames": 17, "temporal_tile_size": 9},
    "strength": {"latents": torch.arange(96).view(1, 3, 4, 8) % 60, "strength": 0.5, "num_frames": None},
}


class StepsWithAllLogits(MaskDecodingScheduler):
    def step(self, *args, **kwargs):
        return super().step(*args, **kwargs)


def ends_guidance(pipe: LumosVideoPipeline, step: int, timestep: torch.Tensor, _: dict[str, Any]) -> dict[str, Any]:
    """Without guidance in the second frame, and with it again in the third."""
    pipe.guidance_scale = 1.0 if 2 <= step < 6 else 3.0
    return {}


def codes_of_calls(pipe: LumosVideoPipeline) -> dict[str, torch.Tensor]:
    codes = {name: call(pipe, **changes) for name, changes in CALLS.items()}
    codes["guidance comes back"] = call(pipe, callback_on_step_end=ends_guidance)
    codes["session"] = codes_of_session(pipe)
    other = build_pipeline(scheduler=StepsWithAllLogits())
    other._guidance_parallel = pipe._guidance_parallel
    codes["scheduler's own step"] = call(other)
    return codes


def call(pipe: LumosVideoPipeline, **changes: Any) -> torch.Tensor:
    arguments = {"prompt": CAPTIONS[:1], **SMALL, **changes}
    count = len(arguments["prompt"]) * arguments.get("num_videos_per_prompt", 1)
    return pipe(generator=generators(*range(count)), output_type="latent", **arguments).frames


def codes_of_session(pipe: LumosVideoPipeline) -> torch.Tensor:
    """Of one that goes back, and branches off."""
    settings = {name: value for name, value in SMALL.items() if name != "num_frames"}
    session = pipe.session(CAPTIONS[0], generator=generators(3)[0], output_type="latent", **settings)
    for _ in range(3):
        session.next()
    session.rewind(2)
    session.prompt = CAPTIONS[2]
    session.next()
    fork = session.fork()
    session.next()
    fork.next()
    assert torch.equal(fork.codes, session.codes)
    return session.codes


def with_a_branch_each(directory: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    pipe = build_pipeline()
    pipe.enable_guidance_parallel()
    calls, forward = [], GuidanceBranch.forward

    def counting(branch, *args, **kwargs):
        calls.append(branch)
        return forward(branch, *args, **kwargs)

    GuidanceBranch.forward = counting
    call(pipe)
    results: dict[str, Any] = {"forwards": len(calls), "codes": codes_of_calls(pipe)}
    torch.manual_seed(torch.distributed.get_rank())
    results["without generator"] = pipe(CAPTIONS[0], output_type="latent", **SMALL).frames
    try:
        pipe(CAPTIONS[torch.distributed.get_rank()], output_type="latent", **SMALL)
    except ValueError as error:
        results["different calls"] = str(error)
    groups = [torch.distributed.new_group([rank]) for rank in range(2)]
    for name, group in zip(("first alone", "second alone"), groups, strict=True):
        try:
            pipe.enable_guidance_parallel(group)
        except ValueError as error:
            results[name] = str(error)
    pipe.disable_guidance_parallel()
    calls.clear()
    call(pipe)
    results["forwards of both"] = len(calls)
    return results


@pytest.mark.slow
def test_two_processes_make_the_codes_of_one(tmp_path: Path) -> None:
    expected = codes_of_calls(build_pipeline())
    first, second = run_in_two_processes(with_a_branch_each, tmp_path, tmp_path)
    for results in (first, second):
        for name, codes in expected.items():
            assert torch.equal(results["codes"][name], codes), name
        assert results["forwards"] * 2 == results["forwards of both"]
        assert "wants the same call in both processes" in results["different calls"]
    assert torch.equal(first["without generator"], second["without generator"])
    assert (first["first alone"], second["second alone"]) == (
        "`group` must be of two processes, this one among them, got one of 1.",
    ) * 2
    assert (second["first alone"], first["second alone"]) == (
        "`group` must be of two processes, this one among them, got one without this process.",
    ) * 2


def test_without_a_process_group_it_says_how_to_start() -> None:
    with pytest.raises(ValueError, match="`group` must be of two processes, got none: .*torchrun"):
        build_pipeline().enable_guidance_parallel()
    with pytest.raises(ValueError, match="`group` must be of two processes"):
        GuidanceParallel(None, torch.device("cpu"))
