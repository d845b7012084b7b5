# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The pipeline as blocks of diffusers' Modular Diffusers: text, given frames, decoding, pixels.

```python
pipe = LumosBlocks().init_pipeline()
pipe.update_components(**LumosVideoPipeline.from_pretrained(source).components)
videos = pipe(prompt="A red star jumps in the snow.", generator=generator, output="videos")
```

Each block does its part by the methods of [`LumosVideoPipeline`], so that results are those of a call of it.
"""

from typing import Any

import torch
from diffusers.modular_pipelines import (
    ComponentSpec,
    ConfigSpec,
    InputParam,
    ModularPipelineBlocks,
    OutputParam,
    PipelineState,
    SequentialPipelineBlocks,
)
from transformers import PreTrainedTokenizerBase

from .cosmos_video_tokenizer import CosmosVideoTokenizer
from .generation_defaults import OFFICIAL_DEFAULTS, resolve_default
from .modeling_lumos import LumosForCausalLM
from .pipeline_lumos_video import LumosVideoPipeline
from .scheduling_mask_decoding import MaskDecodingScheduler


_SIZE = ("height", "width", "num_frames", "fps")


class _LumosStep(ModularPipelineBlocks):
    """A block that works by a pipeline of the components."""

    model_name = "lumos"
    input_params: tuple[InputParam, ...] = ()
    output_params: tuple[OutputParam, ...] = ()
    text = ""

    @property
    def description(self) -> str:
        return self.text

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [
            ComponentSpec("tokenizer", PreTrainedTokenizerBase),
            ComponentSpec("transformer", LumosForCausalLM),
            ComponentSpec("vqvae", CosmosVideoTokenizer),
            ComponentSpec("scheduler", MaskDecodingScheduler),
        ]

    @property
    def expected_configs(self) -> list[ConfigSpec]:
        return [ConfigSpec(f"default_{name}", None) for name in OFFICIAL_DEFAULTS]

    @property
    def inputs(self) -> list[InputParam]:
        return list(self.input_params)

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return list(self.output_params)

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        block_state = self.get_block_state(state)  # type: ignore[attr-defined]
        defaults = {f"default_{name}": components.config.get(f"default_{name}") for name in OFFICIAL_DEFAULTS}
        names = ("tokenizer", "transformer", "vqvae", "scheduler")
        pipe = LumosVideoPipeline(**{name: getattr(components, name) for name in names}, **defaults)
        self.work(pipe, block_state)
        self.set_block_state(state, block_state)  # type: ignore[attr-defined]
        return components, state

    def work(self, pipe: LumosVideoPipeline, state: Any) -> None:
        """Reads inputs from `state` and sets its outputs."""
        raise NotImplementedError


class LumosTextStep(_LumosStep):
    """Prompts to token ids."""

    text = "Writes prompts, with size and rate, as the token ids of everything before the video."
    input_params = (
        InputParam("prompt", required=True, type_hint=str | list[str], description="What is to be seen."),
        *(
            InputParam(name, type_hint=int, description="Of the videos; by default the checkpoint's.")
            for name in _SIZE
        ),
    )
    output_params = (OutputParam("input_ids", type_hint=list, description="A list of ids per prompt."),)

    def work(self, pipe: LumosVideoPipeline, state: Any) -> None:
        size = {name: getattr(state, name) for name in _SIZE}
        state.input_ids, _ = pipe.tokenize_prompt(state.prompt, **size)


class LumosGivenFramesStep(_LumosStep):
    """An image or a video to codes."""

    text = "Encodes the image or the video that results begin with, if there is one."
    input_params = (
        InputParam("image", description="One image, as pipelines of diffusers take them."),
        InputParam("video", description="One video: a list of images, or an array or a tensor of frames."),
        InputParam("height", type_hint=int, description="Of the videos, in pixels; by default the checkpoint's."),
        InputParam("width", type_hint=int, description="Of the videos, in pixels; by default the checkpoint's."),
    )
    output_params = (
        OutputParam(
            "given_codes", type_hint=torch.Tensor, description="Codes `(1, t, h, w)`; None if nothing is given."
        ),
    )

    def work(self, pipe: LumosVideoPipeline, state: Any) -> None:
        if state.image is not None and state.video is not None:
            raise ValueError("`image` and `video` must not both be given.")
        state.given_codes = None
        size = {name: resolve_default(name, getattr(state, name), pipe.config) for name in ("height", "width")}
        if state.image is not None:
            pixels = pipe.video_processor.preprocess_image(state.image, **size)
        elif state.video is not None:
            pixels = pipe.video_processor.preprocess_video(state.video, **size)
            step = pipe.transformer.config.temporal_compression
            pixels = pixels[:, :, : 1 + (pixels.shape[2] - 1) // step * step]
        else:
            return
        state.given_codes = pipe.encode_video(pixels)


class LumosDecodeStep(_LumosStep):
    """Token ids and given codes to codes."""

    text = "Makes the codes of the videos, latent frame by latent frame."
    options = (
        *_SIZE,
        "negative_prompt",
        "num_inference_steps",
        "guidance_scale",
        "history_mask_ratio",
        "approximations",
    )
    input_params = (
        InputParam("input_ids", required=True, description="A list of ids per prompt."),
        InputParam("given_codes", description="Codes `(1, t, h, w)` that results begin with."),
        InputParam("generator", description="A `torch.Generator`, or one per prompt."),
        *(InputParam(name, description="As of a call of LumosVideoPipeline.") for name in options),
    )
    output_params = (OutputParam("codes", type_hint=torch.Tensor, description="`(B, t, h, w)`, int64."),)

    def work(self, pipe: LumosVideoPipeline, state: Any) -> None:
        pipe.set_progress_bar_config(disable=True)
        state.codes = pipe(
            input_ids=state.input_ids,
            latents=state.given_codes,
            generator=state.generator,
            output_type="latent",
            **{name: getattr(state, name) for name in self.options},
        ).frames


class LumosPixelsStep(_LumosStep):
    """Codes to pixels."""

    text = "Decodes codes to videos."
    input_params = (
        InputParam("codes", required=True, type_hint=torch.Tensor, description="`(B, t, h, w)`."),
        InputParam("output_type", default="pil", type_hint=str, description="`pil`, `np` or `pt`."),
    )
    output_params = (OutputParam("videos", description="As `frames` of LumosPipelineOutput."),)

    def work(self, pipe: LumosVideoPipeline, state: Any) -> None:
        pixels = pipe.vqvae.decode(state.codes)
        state.videos = pipe.video_processor.postprocess_video(pixels, output_type=state.output_type)


class LumosBlocks(SequentialPipelineBlocks):
    """Text or an image or a video, to video."""

    model_name = "lumos"
    block_classes = [LumosTextStep, LumosGivenFramesStep, LumosDecodeStep, LumosPixelsStep]
    block_names = ["text", "given_frames", "decode", "pixels"]

    @property
    def description(self) -> str:
        return "Images and videos from text, from an image, or from a video, by Lumos-1."
