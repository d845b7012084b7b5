# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""LoRA weights of a pipeline, trained for a few steps on the demo checkpoint."""

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from lumos_hf import LumosVideoPipeline, demo_checkpoint
from lumos_hf.evaluation.clips import FPS
from lumos_hf.training import DataCollatorForDiffusionForcing


pytestmark = pytest.mark.slow

PROMPT = "A purple heart floats up by the sea."


def demo_pipeline() -> LumosVideoPipeline:
    pipe = LumosVideoPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def codes(pipe: LumosVideoPipeline) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipe(PROMPT, num_frames=5, num_inference_steps=4, generator=generator, output_type="latent").frames


def train(pipe: LumosVideoPipeline, num_steps: int) -> None:
    """Teaches the transformer one clip of a single code, which moves its weights far in a few steps."""
    pipe.transformer.add_adapter(LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    clip = {"codes": torch.full((2, 8, 8), 7), "caption": PROMPT, "fps": FPS}
    collator = DataCollatorForDiffusionForcing(pipe.transformer.config, pipe.tokenizer, prompt_drop_probability=0)
    parameters = [weight for weight in pipe.transformer.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    pipe.transformer.train()
    for _ in range(num_steps):
        pipe.transformer(**collator([clip])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    pipe.transformer.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory with LoRA weights, and the codes with and without them."""
    directory = tmp_path_factory.mktemp("lora")
    torch.manual_seed(0)
    pipe = demo_pipeline()
    before = codes(pipe)
    train(pipe, num_steps=20)
    pipe.save_lora_weights(directory)
    after = codes(pipe)
    assert not torch.equal(before, after)
    return directory, before, after


@pytest.fixture
def pipe():
    return demo_pipeline()


def test_saved_weights_load_fuse_and_unfuse_to_the_same_frames(pipe, trained):
    directory, before, after = trained
    files = {file.name for file in directory.iterdir()}
    assert files == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    pipe.load_lora_weights(directory)
    assert torch.equal(codes(pipe), after)
    pipe.fuse_lora()
    assert pipe.num_fused_loras == 1
    assert torch.equal(codes(pipe), after)
    pipe.unfuse_lora()
    assert pipe.num_fused_loras == 0
    assert torch.equal(codes(pipe), after)
    pipe.disable_lora()
    assert torch.equal(codes(pipe), before)
    pipe.enable_lora()
    assert torch.equal(codes(pipe), after)
    pipe.unload_lora_weights()
    assert torch.equal(codes(pipe), before)
    assert pipe.get_list_adapters() == {}


def test_a_scale_lies_between_none_and_all(pipe, trained):
    directory, before, after = trained
    pipe.load_lora_weights(directory, adapter_name="clip")
    pipe.set_adapters("clip", 0.0)
    assert torch.equal(codes(pipe), before)
    pipe.set_adapters("clip", 1.0)
    assert torch.equal(codes(pipe), after)


def test_fused_weights_become_part_of_a_checkpoint(pipe, trained, tmp_path):
    directory, _, after = trained
    pipe.load_lora_weights(directory)
    with pytest.raises(ValueError, match=r"`save_directory` .* LoRA weights, got those of \['default'\]"):
        pipe.save_pretrained(tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.save_pretrained(tmp_path / "checkpoint")
    assert torch.equal(codes(LumosVideoPipeline.from_pretrained(tmp_path / "checkpoint")), after)


def test_loaded_weights_are_saved_as_they_came(pipe, trained, tmp_path):
    directory, _, _ = trained
    pipe.load_lora_weights(directory, adapter_name="clip")
    pipe.save_lora_weights(tmp_path)
    saved, original = (load_file(each / "adapter_model.safetensors") for each in (tmp_path, directory))
    assert saved.keys() == original.keys() and all(torch.equal(saved[name], original[name]) for name in saved)


def test_peft_itself_reads_the_weights(pipe, trained):
    from peft import PeftModel

    directory, _, after = trained
    pipe.transformer = PeftModel.from_pretrained(pipe.transformer, directory).merge_and_unload()
    assert torch.equal(codes(pipe), after)


def test_subfolders_and_names(pipe, trained):
    directory, _, after = trained
    pipe.load_lora_weights(directory.parent, adapter_name="clip", subfolder=directory.name)
    assert pipe.get_list_adapters() == {"transformer": ["clip"]}
    assert torch.equal(codes(pipe), after)
    with pytest.raises(ValueError, match="`adapter_name` must not be in use, got 'clip'"):
        pipe.load_lora_weights(directory, adapter_name="clip")


def test_what_does_not_fit_leaves_nothing_behind(pipe, trained, tmp_path):
    directory, before, _ = trained
    with pytest.raises(ValueError, match=f"`pretrained_model_name_or_path` '{tmp_path}'"):
        pipe.load_lora_weights(tmp_path)
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="does not fit the transformer: .* missing tensors .*layers.0"):
        pipe.load_lora_weights(tmp_path)
    assert pipe.get_list_adapters() == {}
    assert torch.equal(codes(pipe), before)


def test_saving_needs_weights(pipe, tmp_path):
    with pytest.raises(ValueError, match=r"`adapter_name` must be one of the loaded adapters, \[\], got None"):
        pipe.save_lora_weights(tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
