# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The page of `lumos-hf app`; of the extra `app`, and imported by that command alone."""
