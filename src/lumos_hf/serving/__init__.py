# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""One pipeline for many clients. What owns it imports PyTorch, when it is asked for: stores and files need none."""

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .job_runner import Job, JobCancelled, JobLimits, JobRequest, JobRunner, JobState, JobStatus, QueueFull


__all__ = ["Job", "JobCancelled", "JobLimits", "JobRequest", "JobRunner", "JobState", "JobStatus", "QueueFull"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import job_runner

    return getattr(job_runner, name)
