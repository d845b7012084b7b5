# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The world of the demo: its clips, what captions promise of them, and whether pixels keep it."""
