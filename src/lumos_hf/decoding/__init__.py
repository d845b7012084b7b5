# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""How codes are made, frame by frame."""
