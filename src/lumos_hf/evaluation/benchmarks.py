# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
GenEval, VBench-T2V and VBench-I2V: their settings, their prompt files, and where a file is found that was not given.

Two protocols: `"official"` is that of the Lumos-1 release (prompts rewritten by a language model, 5 videos of each),
`"standard"` what the benchmarks themselves ask for (their own prompts, 25 videos where flickering is measured). No prompt
file comes with this package: each is read from a path, from an installed `vbench`, or downloaded and compared with its
checksum.

Notable: nothing here needs PyTorch.
"""

import hashlib
import importlib.util
import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..argument_checks import check_choice
from ..files import whole_file


Protocol: TypeAlias = Literal["official", "standard"]

GENEVAL, VBENCH_T2V, VBENCH_I2V = "geneval", "vbench-t2v", "vbench-i2v"
FLICKERING = "temporal_flickering"
NUM_STATIC_SAMPLES = 25

_REWRITTEN_PROMPT = "prompt_rewrite_qwen32b"
_IMAGE_PROMPT = "prompt_en_qwen32b_vl"


@dataclass(frozen=True)
class Entry:
    """
    One prompt of a benchmark.

    Args:
        prompt: the benchmark's own, by which its scorer knows it.
        text: what the model reads.
        name: of the samples: a folder of GenEval, the beginning of a file name of VBench.
        num_samples: to make.
        dimensions: that are measured on it; the task of GenEval.
        image: file name of the image that its videos begin with.
        metadata: what GenEval's scorer reads.
    """

    prompt: str
    text: str
    name: str
    num_samples: int
    dimensions: tuple[str, ...]
    image: str | None = None
    metadata: Mapping[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class PromptFile:
    """Where a prompt file is published: an address at a fixed revision, and the SHA-256 of what lies there."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Benchmark:
    """
    Args:
        name: as in the command.
        title: as in tables.
        dimensions: the scorer's names, in the order of its tables.
        settings: arguments of the pipeline's call that do not come from the checkpoint.
        prompt_files: by protocol.
    """

    name: str
    title: str
    dimensions: tuple[str, ...]
    settings: Mapping[str, int | float]
    prompt_files: Mapping[Protocol, PromptFile]


_LUMOS = "https://raw.githubusercontent.com/alibaba-damo-academy/Lumos/5a4db17575ed7e0ca02509317f435f74b27b8271/lumos-1/lumos-1/eval/prompts"
_VBENCH = "https://raw.githubusercontent.com/Vchitect/VBench/6149cafdc8f53df13bcd7108ce05ea4ad67e3ff3"
_GENEVAL = "https://raw.githubusercontent.com/djghosh13/geneval/16f1681160a110fd077309eb04c1e004f951e06d"

_VIDEO_SETTINGS = {
    "num_frames": 25,
    "fps": 12,
    "num_inference_steps": 50,
    "guidance_scale": 15.0,
    "history_mask_ratio": 0.7,
}

BENCHMARKS = {
    GENEVAL: Benchmark(
        name=GENEVAL,
        title="GenEval",
        dimensions=("single_object", "two_object", "counting", "colors", "position", "color_attr"),
        settings={
            "height": 256,
            "width": 448,
            "num_frames": 1,
            "fps": 1,
            "num_inference_steps": 50,
            "guidance_scale": 16.0,
        },
        prompt_files={
            "official": PromptFile(f"{_LUMOS}/geneval_evaluation_metadata.jsonl", "b78709d528df597ffff4a299ebb5e027243619480d96fed255456a102109c0da"),
            "standard": PromptFile(f"{_GENEVAL}/prompts/evaluation_metadata.jsonl", "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"),
        },
    ),
    VBENCH_T2V: Benchmark(
        name=VBENCH_T2V,
        title="VBench-T2V",
        dimensions=(
            "subject_consistency",
            "background_consistency",
            FLICKERING,
            "motion_smoothness",
            "dynamic_degree",
            "aesthetic_quality",
            "imaging_quality",
            "object_class",
            "multiple_objects",
            "human_action",
            "color",
            "spatial_relationship",
            "scene",
            "appearance_style",
            "temporal_style",
            "overall_consistency",
        ),
        settings=_VIDEO_SETTINGS,
        prompt_files={
            "official": PromptFile(f"{_LUMOS}/vbench_t2v_all_dimension_longer.json", "93ead376a59086aa275e07e72bdb7e0894cd04e8fb3c612ccdb9376b35ef56ea"),
            "standard": PromptFile(f"{_VBENCH}/vbench/VBench_full_info.json", "5dd2de80ee43cda750b2b72ea7023657c0b90d3702041c7e4608c65dbe50dccd"),
        },
    ),
    VBENCH_I2V: Benchmark(
        name=VBENCH_I2V,
        title="VBench-I2V",
        dimensions=(
            "camera_motion",
            "i2v_subject",
            "i2v_background",
            "subject_consistency",
            "background_consistency",
            "motion_smoothness",
            "dynamic_degree",
            "aesthetic_quality",
            "imaging_quality",
            FLICKERING,
        ),
        settings=_VIDEO_SETTINGS,
        prompt_files={
            "official": PromptFile(f"{_LUMOS}/vbench2_i2v_full_info_qwen32b_vl.json", "1e0017c50dea4d745e138b1621f11881e66e624e90c24bbc3a533a07e4c55a26"),
            "standard": PromptFile(f"{_VBENCH}/vbench2_beta_i2v/vbench2_i2v_full_info.json", "8cf4d34dc11779a336c216a1a71d482927cfa24a1bf736ab5c92425609f129f8"),
        },
    ),
}  # fmt: skip


def read_entries(
    benchmark: str,
    protocol: Protocol = "official",
    prompts: str | os.PathLike | None = None,
    dimensions: Sequence[str] | None = None,
    full_info: str | os.PathLike | None = None,
) -> list[Entry]:
    """
    The entries of a benchmark, in the order of its file.

    Args:
        benchmark: `"geneval"`, `"vbench-t2v"` or `"vbench-i2v"`.
        protocol: `"official"` or `"standard"`.
        prompts: the prompt file; by default that of an installed `vbench`, or else the published one.
        dimensions: only entries that one of these is measured on.
        full_info: `VBench_full_info.json`, which tells what the official prompts of `vbench-t2v` are for, where
            `dimensions` are chosen; found as `prompts` are.

    Raises:
        ValueError: if the file is of another benchmark or protocol, two entries would have samples of the same name, or
            a dimension is unknown.
        OSError: if the file cannot be read.
    """
    check_choice("benchmark", benchmark, BENCHMARKS)
    for dimension in dimensions or ():
        check_choice("dimensions", dimension, BENCHMARKS[benchmark].dimensions)
    path = _find_prompts(benchmark, protocol) if prompts is None else Path(prompts)
    content = _read_content(path)
    try:
        entries = _READERS[benchmark](content, protocol)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`prompts` must be the {protocol} prompt file of {benchmark}, got '{path}', which has another form ({error!r})."
        ) from error
    _check_names(path, entries)
    if dimensions is None:
        return entries
    if not all(entry.dimensions for entry in entries):
        measured = _dimensions_of_prompts(full_info)
        entries = [replace(entry, dimensions=measured.get(entry.prompt, ())) for entry in entries]
    chosen = [entry for entry in entries if set(entry.dimensions) & set(dimensions)]
    if not chosen:
        raise ValueError(
            f"`dimensions` must be those of some prompt, got {list(dimensions)}, of which '{path}' has none."
        )
    return chosen


def _read_content(path: Path) -> Any:
    """Of a JSON file, or of one JSON object per line, then as a list."""
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        raise ValueError(f"`prompts` must be a file of JSON, got '{path}': {error}.") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated = next(key for key in content if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"`prompts` must give each prompt a file name of its own, got two of {repeated!r}.")
    return content


def _geneval_entries(content: list[dict[str, Any]], protocol: Protocol) -> list[Entry]:
    return [
        Entry(
            prompt=item["prompt"],
            text=_text(item[_REWRITTEN_PROMPT if protocol == "official" else "prompt"]),
            name=f"{index:05d}",
            num_samples=4,
            dimensions=(item["tag"],),
            metadata=geneval_metadata(item),
        )
        for index, item in enumerate(content)
    ]


def geneval_metadata(item: Mapping[str, Any]) -> dict[str, Any]:
    """
    A prompt of GenEval as its scorer reads it, in the benchmark's own words.

    The official release leaves out what counting prompts exclude, with which "at least n" objects would do; the benchmark
    wants exactly n, so it is put back.
    """
    metadata = {key: value for key, value in item.items() if key not in (_REWRITTEN_PROMPT, "prompt")}
    if item["tag"] == "counting" and "exclude" not in item:
        metadata["exclude"] = [{"class": one["class"], "count": one["count"] + 1} for one in item["include"]]
    return {**metadata, "prompt": item["prompt"]}


def _t2v_entries(content: Any, protocol: Protocol) -> list[Entry]:
    if protocol == "official":
        return [
            Entry(prompt=key.removesuffix(".mp4"), text=_text(text), name=key.removesuffix(".mp4"), num_samples=5, dimensions=())
            for key, text in content.items()
        ]  # fmt: skip
    return [
        Entry(
            prompt=prompt,
            text=prompt,
            name=prompt,
            num_samples=NUM_STATIC_SAMPLES if FLICKERING in dimensions else 5,
            dimensions=dimensions,
        )
        for prompt, dimensions in _merged_dimensions(content).items()
    ]


def _i2v_entries(content: list[dict[str, Any]], protocol: Protocol) -> list[Entry]:
    return [
        Entry(
            prompt=item["prompt_en"],
            text=_text(item[_IMAGE_PROMPT if protocol == "official" else "prompt_en"]),
            name=item["prompt_en"],
            num_samples=5,
            dimensions=tuple(item["dimension"]),
            image=item["image_name"],
        )
        for item in content
    ]


_READERS = {GENEVAL: _geneval_entries, VBENCH_T2V: _t2v_entries, VBENCH_I2V: _i2v_entries}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _merged_dimensions(content: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """By prompt: two prompts of VBench-T2V are listed twice, for different dimensions."""
    if any("image_name" in item for item in content):
        raise KeyError("image_name")
    merged: dict[str, tuple[str, ...]] = {}
    for item in content:
        merged[item["prompt_en"]] = merged.get(item["prompt_en"], ()) + tuple(item["dimension"])
    return merged


def _dimensions_of_prompts(full_info: str | os.PathLike | None) -> dict[str, tuple[str, ...]]:
    path = _find_prompts(VBENCH_T2V, "standard") if full_info is None else Path(full_info)
    try:
        return _merged_dimensions(_read_content(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`full_info` must be VBench_full_info.json, got '{path}', which has another form ({error!r})."
        ) from error


def _check_names(path: Path, entries: Sequence[Entry]) -> None:
    if not entries:
        raise ValueError(f"`prompts` must have at least one prompt, got '{path}', which has none.")
    seen: dict[str, Entry] = {}
    for entry in entries:
        if not entry.text.strip() or not entry.name or set(entry.name) & {"/", "\\", "\0"}:
            raise ValueError(
                f"`prompts` must be texts that can name a file, got '{path}', which has {entry.name!r} with the text "
                f"{entry.text!r}."
            )
        other = seen.setdefault(entry.name, entry)
        if other is not entry:
            raise ValueError(
                f"`prompts` must give each prompt a file name of its own, got '{path}', in which two have {entry.name!r}."
            )


def _find_prompts(benchmark: str, protocol: Protocol) -> Path:
    """In an installed `vbench`, else in the cache, else downloaded to it."""
    installed = _installed_vbench()
    if benchmark == VBENCH_T2V and protocol == "standard" and installed is not None:
        return installed / "VBench_full_info.json"
    return download(BENCHMARKS[benchmark].prompt_files[protocol])


def _installed_vbench() -> Path | None:
    spec = importlib.util.find_spec("vbench")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def download(file: PromptFile) -> Path:
    """
    A published file, from the cache (`LUMOS_HF_CACHE`, or `~/.cache/lumos_hf`) if it was downloaded before.

    Raises:
        OSError: if it cannot be downloaded.
        ValueError: if what came is not what was published.
    """
    cache = Path(os.environ.get("LUMOS_HF_CACHE", Path.home() / ".cache" / "lumos_hf"))
    path = cache / "prompts" / file.sha256[:16] / Path(file.url).name
    if path.is_file():
        return path
    try:
        with urllib.request.urlopen(file.url, timeout=60) as response:
            content = response.read()
    except OSError as error:
        raise OSError(f"'{file.url}' could not be downloaded ({error}); `prompts` takes a copy of it.") from error
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != file.sha256:
        raise ValueError(f"'{file.url}' must have the SHA-256 {file.sha256}, got {checksum}.")
    with whole_file(path) as partial:
        partial.write_bytes(content)
    return path
