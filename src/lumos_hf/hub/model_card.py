# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Model cards: what a checkpoint is, how it is used, how large and how good it is.

Metadata and text are put together by `huggingface_hub.ModelCard`. What can be read from the checkpoint's files is; the
rest of the text is in a template, `model_card_template.md` or another one with the same variables.
"""

import html
import json
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from huggingface_hub import ModelCard, ModelCardData, parse_local_safetensors_file_metadata

from ..configuration_lumos import PIXELS_PER_SIZE_UNIT, LumosConfig
from ..files import read_json, write_text
from ..generation_defaults import OFFICIAL_DEFAULTS, resolve_default
from ..token_layout import grid_size, num_latent_frames
from .checkpoint_files import CONFIG_FILES


TEMPLATE = Path(__file__).parent / "model_card_template.md"
TAGS = ("lumos", "text-to-video", "text-to-image", "image-to-video", "discrete-diffusion", "autoregressive")
EXAMPLE_PROMPT = "A cat runs over the grass."

Scores = dict[str, dict[str, dict[str, float]]]


def model_card(
    directory: str | os.PathLike,
    *,
    name: str | None = None,
    license: str | None = None,
    base_model: str | list[str] | None = None,
    language: str | list[str] = "en",
    tags: Sequence[str] = TAGS,
    template: Path = TEMPLATE,
    scores: Path | None = None,
    samples: Sequence[str] = (),
    training_data: str | None = None,
    limits: str | None = None,
) -> ModelCard:
    """
    The model card of a checkpoint.

    Args:
        directory: the checkpoint, with `model_index.json`.
        name: what its users pass to `from_pretrained`, such as `"user/name"`; `directory` if not given.
        license: identifier of the Hub, such as `"apache-2.0"`. Left out if not given: it is not for software to guess.
        base_model: repositories that the checkpoint was made from.
        language: ISO 639-1 codes of the languages of prompts.
        tags: what the Hub finds the checkpoint by.
        template: Jinja template of the text.
        scores: JSON file of tables, `{title: {row: {column: number}}}`, as [`lumos_hf.evaluation.score`] writes it.
        samples: paths of pictures and videos to show, relative to the card.
        training_data: Markdown on what the checkpoint was trained on.
        limits: Markdown on what the checkpoint cannot do, beside what its configuration says.

    Raises:
        ValueError: if `directory` has no `model_index.json`, or `scores` is not such a file.
    """
    directory = Path(directory)
    index_file = directory / "model_index.json"
    if not index_file.is_file():
        raise ValueError(f"`directory` must be a checkpoint with a model_index.json, got '{directory}'.")
    index = read_json(index_file)
    data = ModelCardData(
        license=license,
        base_model=base_model,
        language=language,
        library_name="lumos_hf",
        pipeline_tag="text-to-video",
        tags=list(tags),
    )
    card = ModelCard.from_template(
        data,
        template_path=str(template),
        name=in_string(name or str(directory)),
        title=plain_text((name or directory.resolve().name).rpartition("/")[2]),
        prompt=EXAMPLE_PROMPT,
        carries_all_code=not isinstance(index["_class_name"], str),
        carries_model_code=_carries_model_code(directory),
        parts=_parts_table(directory, index),
        scores={plain_text(title): format_table(table) for title, table in _read_scores(scores).items()},
        samples=[_embed(sample) for sample in samples],
        training_data=training_data,
        limits=limits,
        **_describe(directory, index),
    )
    # Jinja takes the last line break off.
    card.text += "\n"
    return card


def write_card(path: str | os.PathLike, card: ModelCard) -> None:
    """Writes a card whole: a run that is killed leaves the one that was there before."""
    write_text(path, str(card))


def format_table(scores: dict[str, dict[str, float]]) -> str:
    """Markdown table, one row per kind of clip."""
    columns = list(next(iter(scores.values())))
    header = ["clips", *map(plain_text, columns)]
    rows = [[plain_text(name), *(f"{values[column]:.3f}" for column in columns)] for name, values in scores.items()]
    return markdown_table([header, *rows])


def plain_text(value: Any) -> str:
    """`value` on one line of Markdown, whatever is in it: no markup, no HTML, no end of a table's cell."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(str(value).split()))


def code_span(value: Any) -> str:
    """`value` as code in Markdown, in a table as well."""
    return f"`{' '.join(str(value).replace('`', chr(39)).split())}`".replace("|", r"\|")


def in_string(value: str) -> str:
    """`value` as it stands in a string of Python between double quotes, on one line."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


def markdown_table(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def _read_scores(file: Path | None) -> Scores:
    if file is None:
        return {}
    try:
        scores = json.loads(file.read_text(encoding="utf-8"))
        for table in scores.values():
            format_table(table)
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise ValueError(
            f"`scores` must be a JSON file of tables {{title: {{row: {{column: number}}}}}}, got '{file}': {error!r}"
        ) from error
    return scores


def _embed(sample: str) -> str:
    name = Path(sample).stem.replace("_", " ")
    if sample.endswith(".mp4"):
        return f'<video controls loop src="{html.escape(sample)}" title="{html.escape(name)}"></video>'
    return f"![{plain_text(name)}]({quote(sample, safe='/:')})"


def _carries_model_code(directory: Path) -> bool:
    config = _read_config(directory, "transformer")
    reference = config.get("auto_map", {}).get("AutoModelForCausalLM", "")
    return (directory / f"{reference.partition('.')[0]}.py").is_file()


def _parts_table(directory: Path, index: dict[str, Any]) -> str:
    rows = [["part", "class", "parameters", "size"]]
    for part in CONFIG_FILES:
        class_name = index.get(part, [None, None])[1]
        if class_name is not None:
            rows.append([part, code_span(class_name), *_sizes(directory / part)])
    return markdown_table(rows)


def _sizes(folder: Path) -> tuple[str, str]:
    """Number of parameters, and bytes of the weights, or of all files of a part without weights."""
    weights = _weight_files(folder)
    if not weights:
        return "", _format_bytes(sum(file.stat().st_size for file in folder.iterdir()))
    num_parameters = sum(
        sum(parse_local_safetensors_file_metadata(file).parameter_count.values())
        for file in next(iter(weights.values()))
    )
    sizes = [
        f"{_format_bytes(sum(file.stat().st_size for file in files))}{f' as {plain_text(variant)}' if variant else ''}"
        for variant, files in weights.items()
    ]
    return format_count(num_parameters), ", ".join(sizes)


def _weight_files(folder: Path) -> dict[str, list[Path]]:
    """Weight files, in shards or not, by variant; those without one first, under an empty string."""
    files = defaultdict(list)
    for file in sorted(folder.glob("*.safetensors")):
        name = re.sub(r"-\d+-of-\d+", "", file.name)
        files[name.partition(".")[2].removesuffix("safetensors").rstrip(".")].append(file)
    return dict(sorted(files.items()))


def _format_bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"


def format_count(count: int) -> str:
    for unit, factor in (("billion", 1e9), ("million", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:,}"


def _describe(directory: Path, index: dict[str, Any]) -> dict[str, Any]:
    """What the configurations say, in words and numbers."""
    config = LumosConfig.from_pretrained(directory / "transformer")
    levels = _read_config(directory, "vqvae").get("levels")
    scheduler = _read_config(directory, "scheduler")
    default = {name: _number(name, resolve_default(name, None, index)) for name in OFFICIAL_DEFAULTS}
    num_latents = num_latent_frames(int(default["num_frames"]), config)
    h, w = grid_size(int(default["height"]), int(default["width"]), config)
    side = config.spatial_compression
    return {
        "architecture": (
            f"The transformer has {config.num_hidden_layers} layers of width {config.hidden_size} with "
            f"{config.num_attention_heads} heads; the tokenizer turns {config.temporal_compression} frames of "
            f"{side}x{side} pixels into one of {config.visual_vocab_size} codes"
            f"{f' (FSQ levels {_enumerate(levels)})' if levels else ''}, so a clip is {num_latents} latent frames of "
            f"{h * w} codes. Weights are stored in {config.dtype or torch.float32}.".replace("torch.", "")
        ),
        "clips": (
            f"{default['num_frames']} frames of {default['width']}x{default['height']} pixels at {default['fps']} "
            "frames per second"
        ),
        "settings": (
            f"guidance {default['guidance_scale']}, {default['num_inference_steps']} steps per latent frame, history "
            f"mask ratio {default['history_mask_ratio']}, token temperature "
            f"{plain_text(scheduler.get('token_temperature', 1.0))}"
        ),
        "max_position_embeddings": config.max_position_embeddings,
        "temporal_compression": config.temporal_compression,
        "frame_unit": PIXELS_PER_SIZE_UNIT,
        "fps": default["fps"],
    }


def _enumerate(values: Sequence[int]) -> str:
    return ", ".join(plain_text(value) for value in values)


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"`default_{name}` in model_index.json must be a number, got {value!r}.")
    return value


def _read_config(directory: Path, part: str) -> dict[str, Any]:
    file = directory / part / CONFIG_FILES[part]
    return read_json(file) if file.is_file() else {}
