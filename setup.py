# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Everything about the package is in pyproject.toml, but for its description: the README, with links for an index."""

import re
import tomllib
from pathlib import Path

from setuptools import setup


ROOT = Path(__file__).parent


def description() -> str:
    """The README, whose relative links and pictures lead into the repository that pyproject.toml names."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    repository = pyproject["project"]["urls"]["Repository"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = re.sub(r"(!\[[^]]*\]\()(?![a-z]+:|#)", rf"\g<1>{repository}/raw/main/", readme)
    return re.sub(r"((?<!!)\[[^]]*\]\()(?![a-z]+:|#)", rf"\g<1>{repository}/blob/main/", readme)


setup(long_description=description(), long_description_content_type="text/markdown")
