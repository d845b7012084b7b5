# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""On `PYTHONPATH`, this makes an environment look as if lumos_hf was not installed in it."""

import sys
from importlib.abc import MetaPathFinder


class NoLumos(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] == "lumos_hf":
            raise ModuleNotFoundError(f"No module named '{fullname}'", name=fullname)
        return None


sys.meta_path.insert(0, NoLumos())
