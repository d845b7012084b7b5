# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Puts the trained parts of the demo together as one checkpoint: `python examples/demo_world/assemble.py`.

Turbo weights that lie there fit the transformer that they were distilled from alone, so another one removes them:
`make demo-turbo` distills new ones.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from lumos_hf.cosmos_video_tokenizer import CosmosVideoTokenizer
from lumos_hf.evaluation.clips import FPS, NUM_FRAMES, SIZE
from lumos_hf.evaluation.vocabulary import demo_text_tokenizer
from lumos_hf.hub.pipeline_repository import remove_model_code
from lumos_hf.modeling_lumos import LumosForCausalLM
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler


# The best of the sweep in docs/demo.md.
NUM_INFERENCE_STEPS = 12
GUIDANCE_SCALE = 1.5
HISTORY_MASK_RATIO = 0.7
TOKEN_TEMPERATURE = 0.5
CHECKPOINT = Path(__file__).parents[2] / "src" / "lumos_hf" / "demo" / "checkpoint"


def demo_pipeline(transformer: LumosForCausalLM, vqvae: CosmosVideoTokenizer) -> LumosVideoPipeline:
    """The demo's pipeline, with the settings that suit it best as its defaults."""
    return LumosVideoPipeline(
        tokenizer=demo_text_tokenizer(),
        transformer=transformer,
        vqvae=vqvae,
        scheduler=MaskDecodingScheduler(token_temperature=TOKEN_TEMPERATURE),
        default_height=SIZE,
        default_width=SIZE,
        default_num_frames=NUM_FRAMES,
        default_fps=FPS,
        default_num_inference_steps=NUM_INFERENCE_STEPS,
        default_guidance_scale=GUIDANCE_SCALE,
        default_history_mask_ratio=HISTORY_MASK_RATIO,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", type=Path, default=Path("outputs/demo-training"))
    parser.add_argument("--output", type=Path, default=CHECKPOINT)
    args = parser.parse_args(arguments)
    transformer = LumosForCausalLM.from_pretrained(args.training / "transformer", dtype=torch.bfloat16)
    vqvae = CosmosVideoTokenizer.from_pretrained(args.training / "vqvae", torch_dtype=torch.bfloat16)
    weights = args.output / "transformer" / "model.safetensors"
    before = weights.read_bytes() if weights.is_file() else None
    demo_pipeline(transformer, vqvae).save_pretrained(args.output)
    if weights.read_bytes() != before:
        shutil.rmtree(args.output / "turbo", ignore_errors=True)
    # The checkpoint comes with the package, which is its code.
    remove_model_code(args.output)


if __name__ == "__main__":
    main()
