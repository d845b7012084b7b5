# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Names of processes that others on the same machine can tell to be alive or dead.

A process id alone says little: containers count from 1, machines share a database, and ids are used again. A name holds
the boot of the machine, the space that process ids count in, the id, and when the process began. Where the system does not
say these, a name says nothing of death, and others wait for the lease to end.
"""

import os
import secrets
from pathlib import Path


_UNKNOWN = "unknown"


def new_worker_name() -> str:
    """A name for a worker of this process."""
    place = _place()
    start = None if place is None else _start_time(os.getpid())
    if place is None or start is None:
        return f"{_UNKNOWN}/{os.getpid()}/0/{secrets.token_hex(4)}"
    return f"{place}/{os.getpid()}/{start}/{secrets.token_hex(4)}"


def is_known_dead(worker: str) -> bool:
    """Whether the process of a worker ran where this one runs, and has ended."""
    place, *numbers = worker.split("/")
    if len(numbers) != 3 or place == _UNKNOWN or place != _place():
        return False
    pid, start = numbers[:2]
    return _start_time(int(pid)) != start


def _place() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return None


def _start_time(pid: int) -> str | None:
    """In ticks since the boot; None if there is no such process, or it has ended and only its parent has not noticed."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program, in brackets, may hold anything.
    state, *fields = status.rpartition(")")[2].split()
    return None if state in ("Z", "X") else fields[18]
