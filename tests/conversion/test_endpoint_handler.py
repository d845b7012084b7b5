# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""The exported handler, called as Inference Endpoints call it: from the repository's files, in a process without the package."""

import base64
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.cli import app


pytestmark = pytest.mark.slow

NO_PACKAGE = Path(__file__).parents[1] / "hub" / "without_lumos_hf"
PROMPT = "A red star jumps in the snow."
# What the service does: the module is loaded by its path, its class made with the path of the files.
SERVICE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("handler", "handler.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
handler = module.EndpointHandler("SELF")
print(json.dumps([handler(json.loads(line)) for line in sys.stdin]))
assert "lumos_hf" not in sys.modules
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    output = tmp_path_factory.mktemp("endpoint") / "demo"
    result = CliRunner().invoke(
        app, ["export-remote-code", "--model", str(demo_checkpoint()), "-o", str(output), "--handler"]
    )
    assert result.exit_code == 0, result.output
    return output


@pytest.fixture(scope="module")
def handler(exported):
    spec = importlib.util.spec_from_file_location("exported_handler", exported / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(exported))


def test_requests_are_answered_without_the_package(exported, tmp_path):
    parameters = {"seed": 3, "num_frames": 5, "num_inference_steps": 2}
    requests = [
        {"inputs": PROMPT, "parameters": parameters},
        {"inputs": PROMPT, "parameters": {**parameters, "output": "frames"}},
    ]
    process = subprocess.run(
        [sys.executable, "-c", SERVICE.replace("SELF", str(exported))],
        input="\n".join(map(json.dumps, requests)),
        env={**os.environ, "PYTHONPATH": str(NO_PACKAGE), "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)},
        cwd=exported,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    video, pictures = json.loads(process.stdout.splitlines()[-1])

    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    expected = pipe(PROMPT, num_frames=5, num_inference_steps=2, generator=torch.Generator().manual_seed(3)).frames[0]
    frames = [PIL.Image.open(io.BytesIO(base64.b64decode(frame))) for frame in pictures["frames"]]
    assert all(np.array_equal(*map(np.asarray, pair)) for pair in zip(frames, expected, strict=True))
    with av.open(io.BytesIO(base64.b64decode(video["video"]))) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == video["fps"] == 8
    assert len(decoded) == 5 and video["seed"] == 3
    assert np.abs(decoded[0].astype(int) - np.asarray(expected[0])).mean() < 8


def test_an_image_is_what_the_video_begins_with(handler):
    content = io.BytesIO()
    picture = PIL.Image.new("RGB", (128, 128), "blue")
    picture.save(content, format="PNG")
    image = base64.b64encode(content.getvalue()).decode()
    options = {"num_frames": 5, "num_inference_steps": 1}
    answer = handler({"inputs": PROMPT, "parameters": {"image": image, "output": "frames", "seed": 0, **options}})
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    expected = pipe(PROMPT, image=picture, generator=torch.Generator().manual_seed(0), **options).frames[0]
    for frame, direct in zip(answer["frames"], expected, strict=True):
        assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(frame)))), np.asarray(direct))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"inputs": ["a", "b"]}, "`inputs` must be the prompt"),
        ({"inputs": "", "parameters": {}}, "`prompt` must not be empty"),
        ({"inputs": PROMPT, "parameters": {"output": "avi"}}, "`output` must be one of mp4, frames, got 'avi'"),
        ({"inputs": PROMPT, "parameters": {"callback_on_step_end": 1}}, "got 'callback_on_step_end'"),
        ({"inputs": PROMPT, "parameters": {"seed": -1}}, "`seed` must be an integer from 0"),
        ({"inputs": PROMPT, "parameters": {"image": "bm8="}}, "`image` must be a PNG, JPEG or WebP"),
        ({"inputs": PROMPT, "parameters": {"num_frames": 10**6}}, "must be at most 67108864"),
        ({"inputs": PROMPT, "parameters": {"height": "tall"}}, "`height` must be a positive integer, got 'tall'"),
        ({"inputs": PROMPT, "parameters": {"guidance_scale": "much"}}, "`guidance_scale`"),
    ],
)
def test_bad_requests_are_refused_by_name(handler, request_, message):
    with pytest.raises(ValueError, match=message):
        handler(request_)


def test_requirements_are_those_of_the_package(exported):
    lines = (exported / "requirements.txt").read_text().splitlines()
    names = {re.split(r"\W", line)[0] for line in lines}
    assert names == {"torch", "transformers", "diffusers", "accelerate", "safetensors", "imageio"}
