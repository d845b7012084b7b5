# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Loads a model and a whole pipeline, from a directory or the Hub, where lumos_hf is not installed."""

import json
import sys

import torch
from diffusers import DiffusionPipeline
from transformers import AutoModel, AutoModelForCausalLM


PROMPT = "A red star jumps in the snow."


def load(model_source: str, pipeline_source: str, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(model_source, subfolder="transformer", trust_remote_code=True)
    base = AutoModel.from_pretrained(model_source, subfolder="transformer", trust_remote_code=True)
    pipe = DiffusionPipeline.from_pretrained(pipeline_source, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    if "lumos_hf" in sys.modules:
        raise AssertionError("lumos_hf was imported.")
    try:
        pipe.push_to_hub("someone/again")
        raise AssertionError("The pipeline was pushed without the code that writes repositories.")
    except NotImplementedError:
        pass
    with torch.no_grad():
        return {
            "model": model(input_ids).logits,
            "base model": model.lm_head(base(input_ids).last_hidden_state),
            "pipeline's model": pipe.transformer(input_ids).logits,
            "frames": pipe(PROMPT, generator=torch.Generator().manual_seed(0), output_type="pt").frames,
        }


def main(ids_file: str, results_file: str, *sources: str) -> None:
    input_ids = torch.load(ids_file, weights_only=True)
    torch.save([load(*pair, input_ids) for pair in zip(sources[::2], sources[1::2])], results_file)
    print(json.dumps({}))


if __name__ == "__main__":
    main(*sys.argv[1:])
