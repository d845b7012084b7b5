# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
A whole official release as one checkpoint of [`LumosVideoPipeline`].

Everything is checked first, up to a forward pass, and only then written. The transformer is never in memory as a whole:
it is checked layer by layer and written tensor by tensor.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from accelerate import cpu_offload, init_empty_weights
from transformers import AutoModelForCausalLM

from ..configuration_lumos import LumosConfig
from ..cosmos_video_tokenizer import CosmosVideoTokenizer
from ..files import read_json
from ..generation_defaults import OFFICIAL_DEFAULTS, check_settings
from ..hub.model_card import model_card
from ..hub.pipeline_repository import write_model_code
from ..modeling_lumos import LumosForCausalLM
from ..pipeline_lumos_video import LumosVideoPipeline
from ..scheduling_mask_decoding import MaskDecodingScheduler
from ..token_layout import UNKNOWN_CODE, prompt_ids, sequence_from_codes
from .cosmos import COSMOS_FILES, convert_cosmos_tokenizer
from .lumos import LUMOS_FILES, open_lumos_checkpoint, torch_dtype
from .sources import is_on_hub, local_source, repository
from .text_tokenizer import (
    CODE_NAMES_FILE,
    TEXT_TOKENIZER_FILES,
    check_text_tokenizer,
    load_text_tokenizer,
    sample_prompt_ids,
)
from .weight_files import WeightFiles, check_new_directory, existing_file, new_directory, write_weights


COSMOS_REPOSITORY = "nvidia/Cosmos-Tokenizer-DV4x8x8"
# The revision that the official code was written for.
TEXT_TOKENIZER_REPOSITORY = "Alpha-VLLM/Lumina-mGPT-7B-768@9624463a82ea5ce814af9b561dcd08a31082c3af"

# Latent frames, rows and columns of the smallest video.
_SMALLEST_GRID = (1, 4, 4)

_ASSUMED_CODE_IDS = (
    "The text tokenizer that this checkpoint was converted with does not name the visual codes: their ids are taken to be "
    "{offset} + code, as in the official data."
)


class Release(NamedTuple):
    """
    An official release that has been found in order.

    Args:
        pipe: its transformer is without weights.
        weights: of the transformer.
        names_codes: whether the ids of the visual codes were read, not assumed.
    """

    pipe: LumosVideoPipeline
    weights: WeightFiles
    names_codes: bool


def convert_original_checkpoint(
    lumos_dir: str | Path,
    cosmos_dir: str | Path | None,
    text_tokenizer: str | Path | None,
    output_dir: str | Path,
    *,
    code_names: str | Path | None = None,
    dtype: str | torch.dtype | None = None,
    name: str | None = None,
    pipeline_defaults: Mapping[str, int | float] | None = None,
) -> Path:
    """
    Makes a checkpoint that [`LumosVideoPipeline.from_pretrained`] loads of an official release.

    No more than one tensor of the transformer is in memory at a time, and nothing is left behind if anything fails.

    Args:
        lumos_dir: the official model: `config.json` and weights, see [`convert_lumos_model`].
        cosmos_dir: the official video tokenizer, see [`convert_cosmos_tokenizer`]; None for NVIDIA's own repository.
        text_tokenizer: the official `text_tokenizer.json`, or the `tokenizer.json` of Chameleon or Lumina-mGPT, or a
            directory that holds one of them or both; None for the repository of Lumina-mGPT, whose tokenizer official
            prompts are encoded by. Names of visual codes in a text are text: the checkpoint's tokenizer has no such
            tokens.
            Any of the three may also lie on the Hub: `USER/NAME[@REVISION][/SUBFOLDER]`. Of weights, only safetensors
            and TorchScript archives are downloaded.
        output_dir: a new or an empty directory.
        code_names: the official `text_tokenizer.json` to look up the ids of the visual codes in, if `text_tokenizer` does
            not name them. Without it they are taken to be 65536 + code, and the model card says so.
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
    defaults = check_defaults(pipeline_defaults or {})
    cosmos_dir, text_tokenizer = cosmos_dir or COSMOS_REPOSITORY, text_tokenizer or TEXT_TOKENIZER_REPOSITORY
    release = open_release(
        local_source("lumos_dir", lumos_dir, LUMOS_FILES),
        local_source("cosmos_dir", cosmos_dir, COSMOS_FILES),
        local_source("text_tokenizer", text_tokenizer, TEXT_TOKENIZER_FILES),
        None if code_names is None else local_source("code_names", code_names, [CODE_NAMES_FILE]),
        dtype,
        defaults,
    )
    try_release(release, cosmos_dir)
    config = release.pipe.transformer.config
    with new_directory(output_dir, num_bytes(release.pipe)) as directory:
        _write(release, directory)
        write_model_code(directory)
        card = model_card(
            directory,
            name=name or output_dir.resolve().name,
            base_model=[repository(source) for source in (lumos_dir, cosmos_dir) if is_on_hub(source)] or None,
            limits=None if release.names_codes else _ASSUMED_CODE_IDS.format(offset=config.visual_token_offset),
        )
        card.save(directory / "README.md")
    return output_dir


def check_defaults(defaults: Mapping[str, int | float]) -> dict[str, int | float]:
    """The same, if all of them have an official value and are what they may be; raises `ValueError` otherwise."""
    unknown = sorted(set(defaults) - set(OFFICIAL_DEFAULTS))
    if unknown:
        raise ValueError(
            f"`pipeline_defaults` must be among {', '.join(OFFICIAL_DEFAULTS)}, got {', '.join(unknown)}."
        )
    check_settings(**cast(dict[str, Any], defaults))
    return dict(defaults)


def open_release(
    lumos_dir: Path,
    cosmos_dir: Path,
    text_tokenizer: Path,
    code_names: Path | None,
    dtype: torch.dtype | None,
    defaults: dict[str, int | float],
) -> Release:
    """Checks a release whose parts are here, as far as can be told without computing; raises `ValueError`."""
    tokenizer, code_ids, tokenizer_file = load_text_tokenizer(text_tokenizer)
    if code_ids is None and code_names is not None:
        code_ids = load_text_tokenizer(text_tokenizer, code_names).code_ids
    config, weights = _open_transformer(lumos_dir, dtype, code_ids)
    check_text_tokenizer(tokenizer, config, tokenizer_file)
    pipe = LumosVideoPipeline(
        tokenizer=tokenizer,
        transformer=_empty_transformer(config),
        vqvae=convert_cosmos_tokenizer(cosmos_dir, dtype=dtype),
        scheduler=MaskDecodingScheduler(),
        **cast(dict[str, Any], {f"default_{name}": value for name, value in defaults.items()}),
    )
    _check_call(pipe, {**OFFICIAL_DEFAULTS, **defaults})
    return Release(pipe, weights, names_codes=code_ids is not None)


def _open_transformer(
    lumos_dir: Path, dtype: torch.dtype | None, code_ids: range | None
) -> tuple[LumosConfig, WeightFiles]:
    if code_ids is not None:
        layout = {"visual_token_offset": code_ids.start, "visual_vocab_size": len(code_ids)}
        return open_lumos_checkpoint(lumos_dir, dtype=dtype, **layout)
    if lumos_dir.is_dir():
        vocab_size, usual = read_json(existing_file(lumos_dir, "config.json")).get("vocab_size"), LumosConfig()
        if isinstance(vocab_size, int) and vocab_size < usual.visual_token_offset + usual.visual_vocab_size:
            raise ValueError(
                f"`text_tokenizer` must name the visual codes for the model in '{lumos_dir}': its vocabulary of "
                f"{vocab_size} has not {usual.visual_vocab_size} codes from {usual.visual_token_offset} on."
            )
    return open_lumos_checkpoint(lumos_dir, dtype=dtype)


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


def try_release(release: Release, cosmos_dir: str | Path) -> None:
    """Computes with both networks; raises `ValueError` if that gives no numbers."""
    _try_transformer(release)
    _try_vqvae(release.pipe.vqvae, cosmos_dir)


@torch.no_grad()
def _try_transformer(release: Release) -> None:
    """One forward pass over a prompt and a masked frame, with the weights of one layer in memory at a time."""
    pipe, weights = release.pipe, release.weights
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


def num_bytes(pipe: LumosVideoPipeline) -> int:
    """Of all weights."""
    tensors = (*pipe.transformer.parameters(), *pipe.vqvae.parameters())
    return sum(tensor.nbytes for tensor in tensors)


def _write(release: Release, directory: Path) -> None:
    pipe, weights = release.pipe, release.weights
    pipe.save_config(directory)
    for part in ("tokenizer", "scheduler", "vqvae"):
        getattr(pipe, part).save_pretrained(directory / part)
    transformer = pipe.transformer
    transformer.config.architectures = [type(transformer).__name__]
    transformer.config.save_pretrained(directory / "transformer")
    tied = transformer.all_tied_weights_keys if transformer.config.tie_word_embeddings else {}
    names = [name for name in weights if name not in tied]
    # A type, since the configuration was made with one, and no name of one.
    write_weights(weights, names, directory / "transformer", cast(torch.dtype | None, transformer.config.dtype))
