# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The page in a Space of the Hub: what the app.py of `lumos-hf export-space` calls.

On ZeroGPU hardware the GPU is there only inside functions that `spaces.GPU` has decorated, which run in processes of their
own. So sessions of the pipeline run in such a function, and hand out the frames of each latent frame.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable, Generator
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from ..cli.model_loading import check_model, load_pipeline
from ..demo import demo_checkpoint


if TYPE_CHECKING:
    from ..pipeline_lumos_video import LumosVideoPipeline


# The frames of a latent frame, of each video; steps done and steps in all; whether they are the last.
_Part = tuple[Any, int, int, bool]
_Parts = Callable[[dict[str, Any], list[int]], Generator[_Part, None, None]]


def serve(model: str | None = None, *, gpu_seconds: int = 120) -> None:
    """
    Serves the page until the process is interrupted, where `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT` say.

    Args:
        model: the checkpoint, a directory or `"user/name"`; None for the demo checkpoint of this package.
        gpu_seconds: for how long ZeroGPU lends a GPU to a call, at most.

    Raises:
        ValueError: if there is no such checkpoint.
    """
    # Where it is there, it must come before CUDA is asked for anything.
    on_gpu = _zero_gpu(gpu_seconds)

    from ..cli.page import job_limits, serve_until_interrupted

    source = demo_checkpoint() if model is None else check_model(model)
    pipe = load_pipeline(source, None, None)
    pipe.set_progress_bar_config(disable=True)
    port = os.environ.get("GRADIO_SERVER_PORT")
    served = pipe if on_gpu is None else cast("LumosVideoPipeline", ZeroGpuPipeline(pipe, on_gpu))
    serve_until_interrupted(
        served,
        job_limits(pipe),
        source,
        host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        port=None if port is None else int(port),
    )


class ZeroGpuPipeline:
    """
    A pipeline whose sessions run where there is a GPU.

    It is what a [`~lumos_hf.serving.JobRunner`] needs of a pipeline. The prompt of a session cannot be changed, and it is
    cancelled when its latent frame is finished.

    Args:
        pipe: the pipeline.
        on_gpu: decorates a generator function; `spaces.GPU`.
    """

    can_change_prompt = False

    def __init__(self, pipe: "LumosVideoPipeline", on_gpu: Callable[[_Parts], _Parts]):
        self._pipe = pipe
        # The function runs in a copy of this process, so that only arguments and frames travel.
        self._parts = on_gpu(self._make_parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def session(
        self, *, generator: list[Any], callback_on_step_end: Callable[..., Any], **arguments: Any
    ) -> "_GpuSession":
        """As `session` of the pipeline, but that `callback_on_step_end` is called after each latent frame."""
        seeds = [each.initial_seed() for each in generator]
        return _GpuSession(self._parts(arguments, seeds), callback_on_step_end, arguments["prompt"])

    def _make_parts(self, arguments: dict[str, Any], seeds: list[int]) -> Generator[_Part, None, None]:
        import torch

        done = 0

        def count(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal done
            done = step + 1
            return {}

        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        session = self._pipe.session(**arguments, generator=generators, callback_on_step_end=count)
        with closing(session):
            while not session.is_finished:
                yield session.next(), done, self._pipe.num_timesteps, session.is_finished


class _GpuSession:
    def __init__(self, parts: Generator[_Part, None, None], callback: Callable[..., Any], prompt: str | list[str]):
        self._parts, self._callback = parts, callback
        self.prompt = prompt
        self.is_finished = False

    def next(self) -> list[Any]:
        frames, done, total, self.is_finished = next(self._parts)
        self._callback(SimpleNamespace(num_timesteps=total), done - 1, None, {})
        return frames

    def close(self) -> None:
        self._parts.close()


def _zero_gpu(seconds: int) -> Callable[[_Parts], _Parts] | None:
    if importlib.util.find_spec("spaces") is None:
        return None
    spaces = importlib.import_module("spaces")
    return spaces.GPU(duration=seconds)
