# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Benchmarks of any checkpoint; and the demo's world: its clips, what captions promise, whether pixels keep it."""
