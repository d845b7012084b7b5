# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""What a checkpoint must never do, and what many calls must never do."""

import gc
import json

import pytest
import torch

from lumos_hf import LumosVideoPipeline


class WritesAFile:
    """As a pickle, it opens a file for writing when it is restored."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("component", ["transformer", "tokenizer", "vqvae"])
def test_code_that_a_checkpoint_names_is_not_run(copied_checkpoint, tmp_path, component):
    trace = tmp_path / "trace"
    names = {"transformer": "config.json", "tokenizer": "tokenizer_config.json", "vqvae": "config.json"}
    file = copied_checkpoint / component / names[component]
    auto_map = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "foreign.Foreign")
    auto_map["AutoTokenizer"] = ["foreign.Foreign", "foreign.Foreign"]
    file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": auto_map}))
    for directory in (copied_checkpoint, copied_checkpoint / component):
        for name in ("foreign", "modeling_lumos", "configuration_lumos"):
            (directory / f"{name}.py").write_text(f"open({str(trace)!r}, 'w')\nclass Foreign: pass\n")
    LumosVideoPipeline.from_pretrained(copied_checkpoint)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["transformer/model.safetensors", "vqvae/diffusion_pytorch_model.safetensors"])
def test_pickled_weights_run_no_code(copied_checkpoint, tmp_path, name):
    weights = copied_checkpoint / name
    weights.unlink()
    stem = "pytorch_model" if name.startswith("transformer") else weights.stem
    for file in {weights.with_suffix(".bin"), weights.with_name(f"{stem}.bin")}:
        torch.save({"weight": WritesAFile(tmp_path / "trace")}, file)
    with pytest.raises((ValueError, OSError)):
        LumosVideoPipeline.from_pretrained(copied_checkpoint)
    assert not (tmp_path / "trace").exists()


def test_calls_leave_nothing_behind(pipe):
    def num_tensors():
        gc.collect()
        return sum(torch.is_tensor(thing) for thing in gc.get_objects())

    def call():
        pipe("A red star.", height=32, width=64, num_frames=5, num_inference_steps=1, output_type="latent")

    call()
    before = num_tensors()
    for _ in range(100):
        call()
    # One more per call would be 100.
    assert num_tensors() < before + 10
