# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Pipelines of tiny real components."""

import pytest
from tiny_pipelines import build_pipeline


@pytest.fixture(scope="module")
def pipe():
    return build_pipeline()


@pytest.fixture(scope="module")
def code_pipe():
    """From ids to codes, without text tokenizer and video tokenizer."""
    return build_pipeline(tokenizer=None, vqvae=None)
