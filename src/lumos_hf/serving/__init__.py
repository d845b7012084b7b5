# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""One pipeline for many clients."""

from .job_runner import Job, JobCancelled, JobLimits, JobRequest, JobRunner, JobState, JobStatus, QueueFull


__all__ = ["Job", "JobCancelled", "JobLimits", "JobRequest", "JobRunner", "JobState", "JobStatus", "QueueFull"]
