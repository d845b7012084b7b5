# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import re
from pathlib import Path

import pytest


nbformat = pytest.importorskip("nbformat", reason="nbformat, which comes with nbclient, is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
NOTEBOOK = Path(__file__).parents[2] / "examples" / "lumos.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.slow
def test_the_notebook_is_kept_without_outputs(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert "colab.research.google.com/github/OWNER/lumos_hf/blob/main/examples/lumos.ipynb" in notebook.cells[0].source


@pytest.mark.slow
def test_the_notebook_runs_and_shows_its_videos(notebook, tmp_path, monkeypatch):
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    shown = [shown_clips(cell) for cell in notebook.cells if cell.cell_type == "code"]
    # Two prompts, a stream, a video from an image, an edit, and one with LoRA weights.
    assert [clips for clips in shown if clips] == [[9, 9], [9], [9], [9], [9]]


def shown_clips(cell):
    """The numbers of frames of the clips in the outputs of a cell."""
    pages = [output.get("data", {}).get("text/html", "") for output in cell.outputs]
    return [int(count) for page in pages for count in re.findall(r'lumos-clip.*?data-frames="(\d+)"', "".join(page))]
