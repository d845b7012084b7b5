# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Prompt files of the benchmarks' forms, in our own words, and where the real ones are looked for."""

import json
from pathlib import Path

import pytest


OFFICIAL_PROMPTS = Path(__file__).parents[3] / "shared" / "official" / "prompts"
needs_official_prompts = pytest.mark.skipif(
    not OFFICIAL_PROMPTS.is_dir(), reason="the official prompt files are not beside the repository"
)

GENEVAL_LINES = [
    {"tag": "single_object", "include": [{"class": "star", "count": 1}], "prompt": "a photo of a star"},
    {"tag": "counting", "include": [{"class": "heart", "count": 2}], "prompt": "a photo of two hearts"},
    {
        "tag": "colors",
        "include": [{"class": "circle", "count": 1, "color": "red"}],
        "prompt": "a photo of a red circle",
    },
]
T2V_PROMPTS = ["A star, frozen in time", "A heart that jumps. Slowly.", "A circle"]
I2V_ITEMS = [
    {"prompt_en": "a star waits", "dimension": ["i2v_subject", "aesthetic_quality"], "image_name": "a star.png"},
    {"prompt_en": "a star waits, camera zooms in", "dimension": ["camera_motion"], "image_name": "a star.png"},
]


def longer(prompt: str) -> str:
    return f"In the meadow, {prompt.lower()} by the sea"


def write_geneval(path: Path) -> Path:
    lines = [{**line, "prompt_rewrite_qwen32b": longer(line["prompt"])} for line in GENEVAL_LINES]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_t2v(path: Path) -> Path:
    path.write_text(json.dumps({f"{prompt}.mp4": longer(prompt) for prompt in T2V_PROMPTS}))
    return path


def write_t2v_standard(path: Path) -> Path:
    dimensions = [["temporal_flickering"], ["human_action", "color"], ["scene"]]
    items = [{"prompt_en": prompt, "dimension": one} for prompt, one in zip(T2V_PROMPTS, dimensions, strict=True)]
    path.write_text(json.dumps([*items, {"prompt_en": T2V_PROMPTS[2], "dimension": ["appearance_style"]}]))
    return path


def write_i2v(path: Path) -> Path:
    path.write_text(json.dumps([{**item, "prompt_en_qwen32b_vl": longer(item["prompt_en"])} for item in I2V_ITEMS]))
    return path
