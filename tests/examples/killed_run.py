# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Runs an example in a process that kills itself where the Trainer calls a method of its own for the nth time.

    python tests/examples/killed_run.py examples/finetune_lora.py save_model 4 --model ...
"""

import itertools
import os
import runpy
import signal
import sys
from typing import Any

from transformers import Trainer


def kill_at(method: str, call: int) -> None:
    numbers = itertools.count(1)
    original = getattr(Trainer, method)

    def counted(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if next(numbers) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args, **kwargs)

    setattr(Trainer, method, counted)


if __name__ == "__main__":
    example, method, call, *arguments = sys.argv[1:]
    kill_at(method, int(call))
    sys.argv = [example, *arguments]
    runpy.run_path(example, run_name="__main__")
