# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import hashlib
import json

import pytest

from lumos_hf.evaluation.benchmarks import BENCHMARKS, PromptFile, download, geneval_metadata, read_entries
from lumos_hf.evaluation.sample_plan import cut_batches, plan_samples, sample_seed

from .benchmark_files import (
    GENEVAL_LINES,
    OFFICIAL_PROMPTS,
    T2V_PROMPTS,
    longer,
    needs_official_prompts,
    write_geneval,
    write_i2v,
    write_t2v,
    write_t2v_standard,
)


def real(name):
    return json.loads((OFFICIAL_PROMPTS / name).read_text(encoding="utf-8"))


def write_one(path):
    path.write_text(json.dumps([{"prompt_en": "A star", "dimension": ["scene"]}]))
    return path


def lines_of(name):
    return [json.loads(line) for line in (OFFICIAL_PROMPTS / name).read_text(encoding="utf-8").splitlines()]


@needs_official_prompts
def test_all_names_of_geneval_are_those_that_its_scorer_wants():
    """Its scorer takes a folder of digits with metadata.jsonl, and in samples/ files of digits."""
    standard = lines_of("geneval_standard.jsonl")
    for protocol, file in (("official", "geneval_evaluation_metadata.jsonl"), ("standard", "geneval_standard.jsonl")):
        entries = read_entries("geneval", protocol, OFFICIAL_PROMPTS / file)
        assert [entry.name for entry in entries] == [f"{number:05d}" for number in range(553)]
        assert [entry.metadata for entry in entries] == standard
        files = {sample.file for sample in plan_samples("geneval", entries)}
        assert files == {f"{number:05d}/samples/{index:05d}.png" for number in range(553) for index in range(4)}
    official = read_entries("geneval", "official", OFFICIAL_PROMPTS / "geneval_evaluation_metadata.jsonl")
    rewritten = [line["prompt_rewrite_qwen32b"] for line in lines_of("geneval_evaluation_metadata.jsonl")]
    assert [entry.text for entry in official] == rewritten


@needs_official_prompts
def test_all_names_of_vbench_t2v_are_those_that_its_scorer_wants():
    wanted = {item["prompt_en"] for item in real("vbench_full_info.json")}
    assert len(wanted) == 944
    entries = read_entries("vbench-t2v", "official", OFFICIAL_PROMPTS / "vbench_t2v_all_dimension_longer.json")
    files = [sample.file for sample in plan_samples("vbench-t2v", entries)]
    assert len(files) == 4720
    assert set(files) == {f"{prompt}-{index}.mp4" for prompt in wanted for index in range(5)}

    static = {
        item["prompt_en"] for item in real("vbench_full_info.json") if "temporal_flickering" in item["dimension"]
    }
    entries = read_entries("vbench-t2v", "standard", OFFICIAL_PROMPTS / "vbench_full_info.json")
    files = {sample.file for sample in plan_samples("vbench-t2v", entries)}
    assert len(static) == 75
    assert files == {f"{p}-{index}.mp4" for p in wanted for index in range(25 if p in static else 5)}


@needs_official_prompts
def test_all_names_of_vbench_i2v_are_those_that_its_scorer_wants():
    standard = real("vbench_i2v_full_info.json")
    files = {
        "official": OFFICIAL_PROMPTS / "vbench2_i2v_full_info_qwen32b_vl.json",
        "standard": OFFICIAL_PROMPTS / "vbench_i2v_full_info.json",
    }
    for protocol, file in files.items():
        entries = read_entries("vbench-i2v", protocol, file)
        samples = plan_samples("vbench-i2v", entries)
        assert len(samples) == 5590
        assert {sample.file for sample in samples} == {
            f"{item['prompt_en']}-{index}.mp4" for item in standard for index in range(5)
        }
        assert [entry.image for entry in entries] == [item["image_name"] for item in standard]


@needs_official_prompts
def test_the_checksums_are_those_of_the_published_files():
    names = {
        ("geneval", "official"): "geneval_evaluation_metadata.jsonl",
        ("geneval", "standard"): "geneval_standard.jsonl",
        ("vbench-t2v", "official"): "vbench_t2v_all_dimension_longer.json",
        ("vbench-t2v", "standard"): "vbench_full_info.json",
        ("vbench-i2v", "official"): "vbench2_i2v_full_info_qwen32b_vl.json",
        ("vbench-i2v", "standard"): "vbench_i2v_full_info.json",
    }
    for (benchmark, protocol), name in names.items():
        checksum = hashlib.sha256((OFFICIAL_PROMPTS / name).read_bytes()).hexdigest()
        assert BENCHMARKS[benchmark].prompt_files[protocol].sha256 == checksum


def test_what_counting_prompts_exclude_is_put_back():
    metadata = geneval_metadata({**GENEVAL_LINES[1], "prompt_rewrite_qwen32b": "Two hearts."})
    assert metadata == {
        "tag": "counting",
        "include": [{"class": "heart", "count": 2}],
        "exclude": [{"class": "heart", "count": 3}],
        "prompt": "a photo of two hearts",
    }
    assert "exclude" not in geneval_metadata(GENEVAL_LINES[0])


def test_the_protocols_differ_in_texts_and_numbers_and_not_in_seeds(tmp_path):
    official = read_entries("vbench-t2v", "official", write_t2v(tmp_path / "official.json"))
    standard = read_entries("vbench-t2v", "standard", write_t2v_standard(tmp_path / "standard.json"))
    assert [entry.text for entry in official] == [longer(prompt) for prompt in T2V_PROMPTS]
    assert [entry.text for entry in standard] == T2V_PROMPTS
    assert [entry.num_samples for entry in standard] == [25, 5, 5]
    assert standard[2].dimensions == ("scene", "appearance_style")
    seeds = [{sample.file: sample.seed for sample in plan_samples("vbench-t2v", e)} for e in (official, standard)]
    assert len(seeds[0]) == 15 and len(seeds[1]) == 35
    assert seeds[0].items() <= seeds[1].items()


def test_seeds_follow_from_benchmark_prompt_and_index():
    # The first six bytes of the SHA-256 of '["geneval", "a photo of a star", 0]'.
    assert sample_seed("geneval", "a photo of a star", 0) == 0x9A9B6704B15C
    assert len({sample_seed(b, p, i) for b in ("geneval", "x") for p in ("a", "b") for i in range(5)}) == 20


def test_samples_come_prompt_by_prompt_and_are_batched_by_the_plan(tmp_path):
    entries = read_entries("geneval", "official", write_geneval(tmp_path / "prompts.jsonl"))
    samples = plan_samples("geneval", entries, num_samples=2)
    assert [sample.file for sample in samples] == [
        f"{number:05d}/samples/{index:05d}.png" for index in range(2) for number in range(3)
    ]
    assert [len(batch) for batch in cut_batches(samples, 4)] == [4, 2]


def test_dimensions_choose_prompts(tmp_path):
    entries = read_entries("vbench-i2v", "official", write_i2v(tmp_path / "i2v.json"), ["camera_motion"])
    assert [entry.name for entry in entries] == ["a star waits, camera zooms in"]
    official, full_info = write_t2v(tmp_path / "t2v.json"), write_t2v_standard(tmp_path / "full_info.json")
    entries = read_entries("vbench-t2v", "official", official, ["appearance_style", "color"], full_info)
    assert [entry.name for entry in entries] == T2V_PROMPTS[1:]
    with pytest.raises(ValueError, match="`dimensions` must be those of some prompt, got .'human_action'., of which"):
        read_entries("vbench-t2v", "standard", write_one(tmp_path / "one.json"), ["human_action"])
    with pytest.raises(ValueError, match="`full_info` must be VBench_full_info.json, got "):
        read_entries("vbench-t2v", "official", official, ["color"], official)
    with pytest.raises(ValueError, match=r"`dimensions` must be one of \[.*\], got 'colour'"):
        read_entries("vbench-t2v", "official", write_t2v(tmp_path / "t2v.json"), ["colour"])


@pytest.mark.parametrize("protocol", ["official", "standard"])
@pytest.mark.parametrize(
    ("benchmark", "write"),
    [
        ("geneval", write_t2v),
        ("geneval", write_i2v),
        ("vbench-t2v", write_geneval),
        ("vbench-t2v", write_i2v),
        ("vbench-i2v", write_t2v),
        ("vbench-i2v", write_geneval),
        ("vbench-i2v", write_t2v_standard),
    ],
)
def test_a_prompt_file_of_another_benchmark_is_refused(tmp_path, benchmark, write, protocol):
    path = write(tmp_path / ("prompts.jsonl" if write is write_geneval else "prompts.json"))
    with pytest.raises(
        ValueError, match=f"`prompts` must be the {protocol} prompt file of {benchmark}, got '.*prompts"
    ):
        read_entries(benchmark, protocol, path)


def test_two_prompts_that_give_one_file_name_are_refused(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text('{"A star.mp4": "A star.", "A star.mp4": "Another star."}')
    with pytest.raises(
        ValueError, match="`prompts` must give each prompt a file name of its own, got two of 'A star.mp4'"
    ):
        read_entries("vbench-t2v", "official", path)
    path.write_text(json.dumps([{"prompt_en": "A star", "dimension": ["scene"], "image_name": "a.png"}] * 2))
    with pytest.raises(ValueError, match="a file name of its own, got '.*prompts.json', in which two have 'A star'"):
        read_entries("vbench-i2v", "standard", path)


@pytest.mark.parametrize("content", [{"../up.mp4": "A star."}, {"A star.mp4": " "}, {}])
def test_prompts_that_cannot_name_a_file_are_refused(tmp_path, content):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="`prompts` must "):
        read_entries("vbench-t2v", "official", path)


def test_a_download_is_compared_with_its_checksum_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("LUMOS_HF_CACHE", str(tmp_path / "cache"))
    source = write_t2v(tmp_path / "prompts.json")
    right = PromptFile(source.as_uri(), hashlib.sha256(source.read_bytes()).hexdigest())
    content = source.read_bytes()
    assert download(right).read_bytes() == content
    with pytest.raises(ValueError, match="prompts.json' must have the SHA-256 00, got "):
        download(PromptFile(source.as_uri(), "00"))
    source.unlink()
    assert download(right).read_bytes() == content
    with pytest.raises(OSError, match="could not be downloaded .*; `prompts` takes a copy of it"):
        download(PromptFile(source.as_uri(), "00"))
