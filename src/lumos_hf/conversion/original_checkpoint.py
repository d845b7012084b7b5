# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
A whole official release as one checkpoint of [`LumosVideoPipeline`].

Everything is checked first, up to a forward pass, and only then written. The transformer is never in memory as a whole:
it is checked layer by layer and written tensor by tensor.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import cpu_offload, init_empty_weights
from transformers import AutoModelForCausalLM

from ..configuration_lumos import LumosConfig
from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..generation_defaults import OFFICIAL_DEFAULTS
from ..hub.model_card import model_card
from ..hub.pipeline_repository import write_model_code
from ..modeling_lumos import LumosForCausalLM
from ..pipeline_lumos_video import LumosVideoPipeline
from ..scheduling_mask_decoding import MaskDecodingScheduler
from ..token_layout import UNKNOWN_CODE, prompt_ids, sequence_from_codes
from .cosmos import COSMOS_FILES, convert_cosmos_tokenizer
from .lumos import LUMOS_FILES, open_lumos_checkpoint, torch_dtype
from .text_tokenizer import (
    TEXT_TOKENIZER_FILES,
    check_text_tokenizer,
    load_text_tokenizer,
    sample_prompt_ids,
    visual_code_ids,
)
from .weight_files import WeightFiles, check_new_directory, local_source, new_directory, write_weights


# Latent frames, rows and columns of the smallest video.
_SMALLEST_GRID = (1, 4, 4)


class _Release(NamedTuple):
    """An official release that has been found in order. The transformer of `pipe` is without weights."""

    pipe: LumosVideoPipeline
    weights: WeightFiles


def convert_original_checkpoint(
    lumos_dir: str | Path,
    cosmos_dir: str | Path,
    text_tokenizer: str | Path,
    output_dir: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    name: str | None = None,
    pipeline_defaults: Mapping[str, int | float] | None = None,
) -> Path:
    """
    Makes a checkpoint that [`LumosVideoPipeline.from_pretrained`] loads of an official release.

    No more than one tensor of the transformer is in memory at a time, and nothing is left behind if anything fails.

    Args:
        lumos_dir: the official model: `config.json` and weights, see [`convert_lumos_model`].
        cosmos_dir: the official video tokenizer, see [`convert_cosmos_tokenizer`].
        text_tokenizer: the official `text_tokenizer.json`, or a directory that holds it.
            Any of the three may also lie on the Hub: `USER/NAME[@REVISION][/SUBFOLDER]`. Of weights, only safetensors
            and TorchScript archives are downloaded.
        output_dir: a new or an empty directory.
        dtype: to store the weights in, such as `torch.bfloat16`; by default each part keeps its own.
        name: of the model, for its card; defaults to that of `output_dir`.
        pipeline_defaults: what a call of the pipeline uses for arguments that are not given: some of `height`,
            `width`, `num_frames`, `fps`, `num_inference_steps`, `guidance_scale`, `history_mask_ratio`. Others have the
            official values.

    Returns:
        `output_dir`.

    Raises:
        ValueError: if a part of the release is missing, broken, or does not fit the others, or an argument is invalid.
            The message names the file or the argument.
        OSError: if a part cannot be downloaded, or the checkpoint cannot be written, for want of space for example.
    """
    output_dir = Path(output_dir)
    check_new_directory("output_dir", output_dir)
    dtype = None if dtype is None else torch_dtype(dtype)
    defaults = _check_defaults(pipeline_defaults or {})
    release = _open_release(
        local_source("lumos_dir", lumos_dir, LUMOS_FILES),
        local_source("cosmos_dir", cosmos_dir, COSMOS_FILES),
        local_source("text_tokenizer", text_tokenizer, TEXT_TOKENIZER_FILES),
        dtype,
        defaults,
    )
    _try_transformer(release)
    _try_vqvae(release.pipe.vqvae, cosmos_dir)
    with new_directory(output_dir, _num_bytes(release.pipe)) as directory:
        _write(release, directory)
        write_model_code(directory)
        model_card(directory, name=name or output_dir.resolve().name).save(directory / "README.md")
    return output_dir


def _check_defaults(defaults: Mapping[str, int | float]) -> dict[str, int | float]:
    unknown = sorted(set(defaults) - set(OFFICIAL_DEFAULTS))
    if unknown:
        raise ValueError(
            f"`pipeline_defaults` must be among {', '.join(OFFICIAL_DEFAULTS)}, got {', '.join(unknown)}."
        )
    return dict(defaults)


def _open_release(
    lumos_dir: Path,
    cosmos_dir: Path,
    text_tokenizer: Path,
    dtype: torch.dtype | None,
    defaults: dict[str, int | float],
) -> _Release:
    tokenizer = load_text_tokenizer(text_tokenizer)
    code_ids = visual_code_ids(tokenizer)
    config, weights = open_lumos_checkpoint(
        lumos_dir, dtype=dtype, visual_token_offset=code_ids.start, visual_vocab_size=len(code_ids)
    )
    check_text_tokenizer(tokenizer, config)
    pipe = LumosVideoPipeline(
        tokenizer=tokenizer,
        transformer=_empty_transformer(config),
        vqvae=convert_cosmos_tokenizer(cosmos_dir, dtype=dtype),
        scheduler=MaskDecodingScheduler(),
        **{f"default_{name}": value for name, value in defaults.items()},
    )
    _check_call(pipe, {**OFFICIAL_DEFAULTS, **defaults})
    return _Release(pipe, weights)


def _empty_transformer(config: LumosConfig) -> LumosForCausalLM:
    with init_empty_weights(include_buffers=False):
        return AutoModelForCausalLM.from_config(config, dtype=config.dtype).eval()


def _check_call(pipe: LumosVideoPipeline, settings: dict[str, int | float]) -> None:
    """Checks the defaults of a pipeline, and that its video tokenizer fits its transformer, as a call does."""
    pipe.check_inputs(
        prompt="A cat runs over the grass.",
        negative_prompt=None,
        image=None,
        video=None,
        **settings,
        num_videos_per_prompt=1,
        input_ids=None,
        attention_mask=None,
        latents=None,
        output_type="pil",
        callback_on_step_end_tensor_inputs=[],
    )


@torch.no_grad()
def _try_transformer(release: _Release) -> None:
    """One forward pass over a prompt and a masked frame, with the weights of one layer in memory at a time."""
    pipe, weights = release
    config = pipe.transformer.config
    model = cpu_offload(_empty_transformer(config), execution_device=torch.device("cpu"), state_dict=weights)
    prefix_ids = prompt_ids(sample_prompt_ids(pipe.tokenizer), config)
    codes = torch.full(_SMALLEST_GRID, UNKNOWN_CODE)
    input_ids = sequence_from_codes(prefix_ids, codes, duration=1, fps=1, config=config, closed=False)
    logits = model(input_ids=input_ids[None], use_cache=False).logits
    if not logits.isfinite().all():
        raise ValueError(f"The weights in '{weights.directory}' must give finite logits, got NaN or infinity.")


@torch.no_grad()
def _try_vqvae(vqvae: CosmosVideoTokenizer, cosmos_dir: str | Path) -> None:
    """Decodes and encodes one small frame."""
    video = vqvae.decode(torch.zeros(1, *_SMALLEST_GRID, dtype=torch.long))
    if not (video.isfinite().all() and vqvae.encode_latents(torch.zeros_like(video)).isfinite().all()):
        raise ValueError(f"The weights in '{cosmos_dir}' must give finite pixels and latents, got NaN or infinity.")


def _num_bytes(pipe: LumosVideoPipeline) -> int:
    tensors = (*pipe.transformer.parameters(), *pipe.vqvae.parameters())
    return sum(tensor.nbytes for tensor in tensors)


def _write(release: _Release, directory: Path) -> None:
    pipe, weights = release
    pipe.save_config(directory)
    for part in ("tokenizer", "scheduler", "vqvae"):
        getattr(pipe, part).save_pretrained(directory / part)
    transformer = pipe.transformer
    transformer.config.architectures = [type(transformer).__name__]
    transformer.config.save_pretrained(directory / "transformer")
    tied = transformer.all_tied_weights_keys if transformer.config.tie_word_embeddings else {}
    names = [name for name in weights if name not in tied]
    write_weights(weights, names, directory / "transformer", transformer.config.dtype)
