# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Ends a process that is asked to end as one that is interrupted: with what it had begun removed."""

import os
import signal


def interrupt_on_termination() -> None:
    """
    Has SIGTERM, which job schedulers and containers send, raise `KeyboardInterrupt` as Ctrl+C does, in this process. Those
    that it forks still end by it at once. To be called in the main thread.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_end_at_once)


def _end_at_once() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
