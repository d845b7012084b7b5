# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The command as a module, which `accelerate launch -m lumos_hf` starts."""

from .cli import main


main()
