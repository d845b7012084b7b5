# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The node pack, by ComfyUI's own loader, validation, executor, progress bar and interrupt.

ComfyUI is no package of an index: `COMFYUI=DIRECTORY` names a copy of its repository, and `COMFYUI_PYTHON` an interpreter that
has its requirements and this package, if it is another one.
"""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from lumos_hf import LumosVideoPipeline, demo_checkpoint


PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
COMFYUI = os.environ.get("COMFYUI")
NODES = {"LumosLoader", "LumosLora", "LumosTextToVideo", "LumosImageToVideo", "LumosContinue", "LumosEdit"}


def test_the_registry_finds_its_metadata():
    metadata = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"PublisherId", "DisplayName"} <= metadata["tool"]["comfy"].keys()
    assert {"name", "version", "description", "license"} <= metadata["project"].keys()
    assert (PACK / "requirements.txt").read_text().split("\n")[:-1] == metadata["project"]["dependencies"]


def test_the_example_workflow_is_wired(tmp_path):
    (path,) = (PACK / "example_workflows").glob("*.json")
    workflow = json.loads(path.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert {node["type"] for node in nodes.values()} - {"SaveAnimatedWEBP"} <= NODES
    for link, source, output, target, slot, kind in workflow["links"]:
        assert link in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == link
        assert nodes[source]["outputs"][output]["type"] == nodes[target]["inputs"][slot]["type"] == kind


@pytest.mark.slow
@pytest.mark.skipif(COMFYUI is None, reason="ComfyUI is not at hand: COMFYUI names a copy of its repository")
def test_nodes_run_in_comfyui(tmp_path):
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    pipe.save_lora_weights(tmp_path / "lora")
    script = Path(__file__).with_name("run_in_comfyui.py")
    process = subprocess.run(
        [os.environ.get("COMFYUI_PYTHON", sys.executable), script, COMFYUI, PACK, tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads(process.stdout.splitlines()[-1])
    assert results["loaded"] == [True, True]
    frames = dict.fromkeys(("text", "image", "edited", "lora", "without again"), 5) | {"continued": 9}
    assert results["shapes"] == {name: [count, 128, 128, 3] for name, count in frames.items()}
    assert 0 <= results["range"][0] < results["range"][1] <= 1
    assert results["progress"][-1] == [4, 4]
    assert results["previews"] == sum(frames.values())
    assert results["interrupted"] == ["execution_interrupted", False]
    assert results["refused"]

    kept = torch.load(tmp_path / "kept.pt", weights_only=True)
    direct = LumosVideoPipeline.from_pretrained(demo_checkpoint())(
        "A red star jumps in the snow.",
        num_frames=5,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).frames[0]
    assert torch.equal(kept["text"], direct.permute(0, 2, 3, 1))
    assert torch.equal(kept["without again"], kept["text"]) and not torch.equal(kept["lora"], kept["text"])
    assert torch.equal(kept["continued"][:5], kept["text"])
    outside = torch.ones(128, 128, dtype=torch.bool)
    # There is a seam of half a code around the mask.
    outside[24:104, 24:104] = False
    assert (kept["edited"] - kept["text"])[:, outside].abs().max() < 1 / 255
    assert not torch.equal(kept["edited"], kept["text"])
