# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes the README's Python examples into a module for the type checker: `make quality`."""

import re
import sys
from pathlib import Path


README = Path(__file__).parents[1] / "README.md"


def examples(readme: str) -> list[str]:
    """The Python blocks of a Markdown text."""
    return re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)


if __name__ == "__main__":
    module = Path(sys.argv[1])
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text("\n".join(examples(README.read_text(encoding="utf-8"))), encoding="utf-8")
