# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The files of a Space of the Hub that serves the page of `lumos-hf app`."""

import importlib.metadata
import json
import re
from pathlib import Path

from huggingface_hub import SpaceCardData

from ..files import write_text


# The version of gradio where none is installed: the oldest that pyproject.toml allows.
_OLDEST_GRADIO = "6.31"
_APP = '''"""The page of lumos_hf, which says at {url} what this is."""

from lumos_hf.app.space import serve


serve({model})
'''
_TEXT = """
# {title}

Images and video from text by [Lumos-1](https://arxiv.org/abs/2507.08801), with {checkpoint} and [lumos_hf]({url}).
Written by `lumos-hf export-space`.
"""


def write_space(
    directory: Path, *, model: str | None, title: str | None = None, requirement: str | None = None
) -> list[str]:
    """
    Writes README.md, app.py and requirements.txt, ready to be pushed.

    Args:
        directory: exists.
        model: the repository of the checkpoint, such as `"user/name"`; None for the demo checkpoint of this package.
        title: of the Space; by default one of the model's name.
        requirement: what pip installs as this package, with its extra `app`; by default from its repository.

    Returns:
        the names of the files.
    """
    url = _repository_url()
    title = title or f"Lumos: {model.rpartition('/')[2] if model else 'demo'}"
    data = SpaceCardData(
        title=title,
        emoji="🎞️",
        colorFrom="indigo",
        colorTo="purple",
        sdk="gradio",
        sdk_version=_gradio_version(),
        python_version="3.11",
        app_file="app.py",
        pinned=False,
        short_description="Images and video from text with Lumos-1",
        models=[model] if model else None,
        suggested_hardware="zero-a10g" if model else "cpu-basic",
        tags=["lumos", "text-to-video"],
    )
    checkpoint = f"[{model}](https://huggingface.co/{model})" if model else "the small demo checkpoint of the package"
    text = _TEXT.format(title=title, checkpoint=checkpoint, url=url)
    files = {
        "README.md": f"---\n{data.to_yaml()}\n---\n{text}",
        "app.py": _APP.format(model="" if model is None else json.dumps(model), url=url),
        "requirements.txt": f"{requirement or f'lumos_hf[app] @ git+{url}'}\n",
    }
    for name, content in files.items():
        write_text(directory / name, content)
    return list(files)


def is_space(directory: Path) -> bool:
    """Whether the front matter of its README.md names the SDK of a Space."""
    readme = directory / "README.md"
    if not readme.is_file():
        return False
    match = re.match(r"---\n(.*?)\n---", readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    return bool(match and re.search(r"^sdk: gradio$", match[1], flags=re.MULTILINE))


def _repository_url() -> str:
    for entry in importlib.metadata.metadata("lumos_hf").get_all("Project-URL") or ():
        name, _, url = entry.partition(", ")
        if name == "Repository":
            return url
    raise AssertionError("The metadata of lumos_hf must name its repository.")


def _gradio_version() -> str:
    try:
        return importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        return _OLDEST_GRADIO
