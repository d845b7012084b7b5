# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Tokenising whole sets with the demo checkpoint.

`pytest tests/data/test_tokenization.py -k killed --num-clips 300` is the acceptance test of its size.
"""

import json
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import signal
import time
from functools import partial

import av
import datasets
import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from lumos_hf import CosmosVideoTokenizer, LumosConfig, demo_checkpoint
from lumos_hf.cli import app
from lumos_hf.data.clip_listing import ListedClip
from lumos_hf.data.tokenized_dataset import TokenizedDirectory
from lumos_hf.evaluation.clips import FPS, caption, draw_clip, single_specs
from lumos_hf.evaluation.vocabulary import demo_text_tokenizer
from lumos_hf.files import partial_path
from lumos_hf.media import write_media
from lumos_hf.training import (
    BucketBatchSampler,
    DataCollatorForDiffusionForcing,
    load_tokenized_dataset,
    tokenize_dataset,
    video_tokenizer_checksum,
)
from lumos_hf.video_processor_lumos import LumosVideoProcessor


SETTINGS = {"height": 64, "width": 64, "num_frames": 5, "clips_per_shard": 3, "batch_size": 3}
SMALL = ["--height", "64", "--width", "64", "--num-frames", "5"]
NUM_KILLS = 3

# What is wrong with each of the broken files, and what is told of it.
BROKEN = {
    "broken/0_empty.mp4": "the file is empty",
    "broken/1_text.mp4": "the file cannot be read: Invalid data found when processing input",
    "broken/2_cut.mp4": "the clip is too short: 1 of 5 frames",
    "broken/3_sound.mp4": "the file has no pictures",
    "broken/4_short.mp4": "the clip is too short: 4 of 5 frames at 8 frames per second",
    "broken/5_cut.jpg": "the file cannot be read: image file is truncated",
    "broken/6_noise.png": "the file cannot be read",
    "broken/7_no_caption.png": "there is no caption",
    "broken/8_empty_caption.png": "the caption is empty",
    "broken/9_long_caption.png": "the caption is too long: the sequence has",
}


def demo_frames(index):
    """A demo clip of 64 by 64 pixels with its caption."""
    specs = single_specs()
    spec = specs[37 * index % len(specs)]
    frames = [PIL.Image.fromarray(frame).reduce(2) for frame in draw_clip(spec)]
    return frames, caption(spec, random.Random(index))


def write_clips(folder, num_clips):
    """Square videos, wide videos and images, with captions beside them."""
    for index in range(num_clips):
        frames, text = demo_frames(index)
        if index % 5 == 3:
            frames = [frame.crop((0, 0, 64, 32)) for frame in frames]
        name = f"{index:04d}"
        if index % 5 == 4:
            write_media(folder / f"{name}.png", frames[:1])
        else:
            write_media(folder / f"{name}.{'gif' if index % 5 == 1 else 'mp4'}", frames, FPS)
        (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")


def write_broken(folder):
    """One file of each kind that `BROKEN` lists."""
    frames, text = demo_frames(0)
    paths = [folder / name for name in BROKEN]
    empty, no_video, cut_video, sound, short, cut_image, noise, *pictures = paths
    for path in (cut_video, *pictures, noise):
        write_media(path, frames if path == cut_video else frames[:1], FPS)
    write_media(short, frames[:4], FPS)
    frames[0].save(cut_image, quality=95)
    write_sound(sound)
    empty.write_bytes(b"")
    no_video.write_text("not a video" * 100)
    for path in (cut_video, cut_image):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    damaged = bytearray(noise.read_bytes())
    damaged[200:400] = bytes(200)
    noise.write_bytes(damaged)
    for path in paths:
        path.with_suffix(".txt").write_text(text)
    pictures[0].with_suffix(".txt").unlink()
    pictures[1].with_suffix(".txt").write_text(" \n")
    pictures[2].with_suffix(".txt").write_text("a red star " * 400)


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def clips(tmp_path_factory, pytestconfig):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, pytestconfig.getoption("num_clips"))
    write_broken(folder)
    return folder


@pytest.fixture(scope="module")
def few_clips(clips, tmp_path_factory):
    """A square video, a square gif, a wide video and an image, all of them good."""
    folder = tmp_path_factory.mktemp("few")
    for path in clips.glob("000[0134].*"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    """What an uninterrupted run makes of the clips, and its summary."""
    output = tmp_path_factory.mktemp("whole") / "output"
    return output, tokenize(clips, output)


@pytest.fixture(scope="module")
def few_output(few_clips, tmp_path_factory):
    """The tokenised set of the few clips, which no test changes."""
    output = tmp_path_factory.mktemp("few_output") / "output"
    tokenize(few_clips, output)
    return output


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def tokenize(data, output, **settings):
    return tokenize_dataset(data, demo_checkpoint(), output, **{**SETTINGS, **settings})


def rows(output):
    return load_tokenized_dataset(output).to_list()


def skipped(output):
    return [json.loads(line) for line in (output / "skipped.jsonl").read_text(encoding="utf-8").splitlines()]


def file_names(output):
    return sorted(path.relative_to(output).as_posix() for path in output.rglob("*"))


def num_finished_shards(output):
    return len(list(output.glob("shards/[0-9]*.json")))


@pytest.mark.slow
def test_every_clip_becomes_a_row_or_is_told(clips, whole, pytestconfig):
    output, summary = whole
    num_good = pytestconfig.getoption("num_clips")
    assert (summary.num_clips, summary.num_rows, summary.num_unfinished_shards) == (num_good + 10, num_good, 0)

    told = skipped(output)
    assert [clip["source"] for clip in told] == [clip.source for clip in summary.skipped] == list(BROKEN)
    for clip in told:
        assert clip["reason"].startswith(BROKEN[clip["source"]]), clip
    sources = {row["clip"]: row["source"] for row in rows(output)} | {clip["clip"]: clip["source"] for clip in told}
    assert [sources[index] for index in range(num_good + 10)] == sorted(
        path.relative_to(clips).as_posix() for path in clips.rglob("*") if path.suffix not in ("", ".txt")
    )


@pytest.mark.slow
def test_rows_say_what_they_are(clips, whole):
    by_source = {row["source"]: row for row in rows(whole[0])}
    square, wide, image = (by_source[name] for name in ("0000.mp4", "0003.mp4", "0004.png"))
    assert [np.shape(row["codes"]) for row in (square, wide, image)] == [(2, 4, 4), (2, 2, 4), (1, 4, 4)]
    assert [(row["height"], row["width"]) for row in (square, wide, image)] == [(64, 64), (32, 64), (64, 64)]
    assert [(row["num_frames"], row["fps"]) for row in (square, wide, image)] == [(5, 8), (5, 8), (1, 8)]
    assert square["caption"] == (clips / "0000.txt").read_text().strip()


@pytest.mark.slow
def test_codes_are_those_of_the_video_tokenizer(clips, whole):
    vqvae = CosmosVideoTokenizer.from_pretrained(demo_checkpoint(), subfolder="vqvae", torch_dtype=torch.float32)
    with PIL.Image.open(clips / "0004.png") as image, torch.no_grad():
        expected = vqvae.encode(LumosVideoProcessor().preprocess_image(image, 64, 64))[0]
    row = next(row for row in rows(whole[0]) if row["source"] == "0004.png")
    np.testing.assert_array_equal(row["codes"], expected)


@pytest.mark.slow
def test_rows_are_features_of_the_collator(whole):
    config = LumosConfig.from_pretrained(demo_checkpoint(), subfolder="transformer")
    collator = DataCollatorForDiffusionForcing(config, demo_text_tokenizer(), prompt_drop_probability=0)
    dataset = load_tokenized_dataset(whole[0])
    batch = collator(list(dataset))
    assert batch["attention_mask"].sum(dim=1).tolist() == dataset["length"]
    # By the columns of sizes, without reading the codes.
    assert list(BucketBatchSampler(dataset)) == list(BucketBatchSampler(list(dataset)))


@pytest.mark.slow
def test_a_set_can_be_loaded_by_its_folder(whole):
    assert datasets.load_dataset(str(whole[0]), split="train").to_list() == rows(whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 8, "num_proc": 2}])
def test_batches_and_processes_change_nothing(few_clips, few_output, tmp_path, settings):
    tokenize(few_clips, tmp_path / "output", **settings)
    assert rows(tmp_path / "output") == rows(few_output)


@pytest.mark.slow
def test_ranks_share_the_shards(clips, whole, tmp_path):
    output, summary = whole
    shared = tmp_path / "output"
    first = tokenize(clips, shared, rank=0, world_size=2)
    assert 0 < first.num_unfinished_shards < num_finished_shards(output)
    assert not (shared / "skipped.jsonl").exists()
    with pytest.raises(ValueError, match="not finished: .* Give the command that began it again"):
        load_tokenized_dataset(shared)
    assert tokenize(clips, shared, rank=1, world_size=2) == summary
    assert rows(shared) == rows(output)


@pytest.mark.slow
def test_killed_runs_go_on_where_they_stopped(clips, whole, tmp_path):
    expected, summary = whole
    output = tmp_path / "output"
    rng = random.Random(0)
    num_shards = num_finished_shards(expected)
    # Not the last ones: a run that is done before it is killed would prove nothing.
    targets = sorted(rng.sample(range(num_shards // 2), NUM_KILLS))
    for target in targets:
        assert kill_when(partial(tokenize, clips, output, num_proc=1), output, target, rng.uniform(0, 0.05))
        assert target <= num_finished_shards(output) < num_shards

    assert tokenize(clips, output) == summary
    assert rows(output) == rows(expected)
    assert skipped(output) == skipped(expected)
    assert file_names(output) == file_names(expected)


def kill_when(run, output, num_finished, delay):
    """Kills a run in a process of its own after that many shards and seconds; tells whether it was running then."""
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    while process.is_alive() and num_finished_shards(output) < num_finished:
        time.sleep(0.005)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_a_shard_without_its_record_is_made_again(few_clips, tmp_path):
    tokenize(few_clips, tmp_path / "output", clips_per_shard=2)
    before = rows(tmp_path / "output")
    (tmp_path / "output" / "shards" / "00001.json").unlink()
    own = partial_path(tmp_path / "output" / "data" / "train-00001-of-00002.parquet")
    # Of an earlier process with the same id.
    leftover = own.with_name(re.sub("-[0-9a-f]{8}-", "-01234567-", own.name))
    leftover.write_bytes(b"half a shard")
    tokenize(few_clips, tmp_path / "output", clips_per_shard=2)
    assert rows(tmp_path / "output") == before
    assert not leftover.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 4}, "`fps` must be 8, with which '.*' was begun, got 4. Give another `output`"),
        ({"position": "start"}, "`position` must be 'middle'"),
        ({"clips_per_shard": 4}, "`clips_per_shard` must be 3"),
    ],
)
def test_a_run_with_other_settings_does_not_go_on(few_clips, few_output, settings, message):
    before = rows(few_output)
    with pytest.raises(ValueError, match=message):
        tokenize(few_clips, few_output, **settings)
    assert rows(few_output) == before


@pytest.mark.slow
def test_a_run_with_another_video_tokenizer_does_not_go_on(few_clips, few_output, tmp_path):
    model = shutil.copytree(demo_checkpoint(), tmp_path / "model")
    vqvae = CosmosVideoTokenizer.from_pretrained(model, subfolder="vqvae")
    vqvae.quant_conv.bias.data += 1
    vqvae.save_pretrained(model / "vqvae")
    with pytest.raises(
        ValueError, match="`tokenizer_checksum` must be '[0-9a-f]{64}', with which '.*' was begun, got"
    ):
        tokenize_dataset(few_clips, model, few_output, **SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("0001.txt", "Other words.", "clip 1 was .*'0001.gif'.* and is .*'Other words.'"),
        ("0003.mp4", "shorter", "clip 2 was .*'0003.mp4'.* bytes, .* and is .*'7 bytes"),
        ("0005.png", "new", "clip 4 was None and is .*'0005.png'"),
    ],
)
def test_a_run_with_other_data_does_not_go_on(few_clips, few_output, tmp_path, name, content, message):
    data = shutil.copytree(few_clips, tmp_path / "data")
    tokenize(data, few_output)
    (data / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        tokenize(data, few_output)


@pytest.mark.slow
def test_other_folders_are_left_alone(few_clips, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("important")
    with pytest.raises(ValueError, match="`output` must be empty or a tokenised set, got '.*mine' with .*thesis.tex"):
        tokenize(few_clips, tmp_path / "mine")
    assert file_names(tmp_path / "mine") == ["thesis.tex"]


@pytest.mark.slow
def test_sets_of_another_video_tokenizer_are_refused(whole):
    output, _ = whole
    vqvae = CosmosVideoTokenizer.from_pretrained(demo_checkpoint(), subfolder="vqvae")
    vqvae.post_quant_conv.bias.data += 1
    assert len(load_tokenized_dataset(output, video_tokenizer_checksum(vqvae))) > 0
    vqvae.quant_conv.bias.data += 1
    with pytest.raises(
        ValueError, match="made with another video tokenizer: its checksum is [0-9a-f]{64}, that of the"
    ):
        load_tokenized_dataset(output, video_tokenizer_checksum(vqvae))


@pytest.mark.slow
def test_a_set_of_broken_clips_alone_is_empty(clips, tmp_path):
    summary = tokenize(clips / "broken", tmp_path / "output")
    assert (summary.num_rows, len(summary.skipped)) == (0, 10)
    assert rows(tmp_path / "output") == []


def test_no_set_is_told(tmp_path):
    with pytest.raises(ValueError, match="`path` must be a tokenised set, with a tokenization.json, got"):
        load_tokenized_dataset(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 100}, "`height` must be a multiple of 32, got 100"),
        ({"height": 2048, "buckets": False}, "`height` needs a number token .* got 64"),
        (
            {"height": 512, "width": 512},
            r"`buckets` be off, got 512 and 512: .* cropped to \(256, 1024\), for which `width`",
        ),
        (
            {"height": 512, "width": 512, "buckets": False},
            "must fit into the context of the transformer, 1024 tokens, got 21",
        ),
        ({"num_frames": None, "fps": 0}, "`fps` must be at least 1, got 0"),
        ({"duration": 2}, "Only one of `duration` and `num_frames`"),
        ({"num_frames": None, "fps": 1, "duration": 2}, "`fps` must be higher for a `duration` of 2: 2 frames"),
        ({"position": "end"}, "`position` must be one of .*got 'end'"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "`rank` must be at least 0 and below `world_size` 2, got 2"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(few_clips, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        tokenize(few_clips, tmp_path / "output", **settings)
    assert not (tmp_path / "output").exists()


@pytest.mark.slow
def test_by_default_clips_have_size_rate_and_duration_of_the_checkpoint(few_clips, tmp_path):
    tokenize_dataset(few_clips, demo_checkpoint(), tmp_path / "output")
    manifest = json.loads((tmp_path / "output" / "tokenization.json").read_text())
    settings = {name: manifest["settings"][name] for name in ("height", "width", "fps", "num_frames", "position")}
    assert settings == {"height": 128, "width": 128, "fps": 8, "num_frames": 8, "position": "middle"}


def lumos_hf(*arguments):
    return CliRunner().invoke(app, ["tokenize", *map(str, arguments), "--model", str(demo_checkpoint()), *SMALL])


@pytest.mark.slow
def test_the_command_tells_what_it_skipped_by_its_exit_status(clips, few_clips, tmp_path):
    good = lumos_hf(few_clips, "-o", tmp_path / "good")
    assert (good.exit_code, good.stdout) == (0, f"Tokenised 4 of 4 clips into {tmp_path / 'good'}.\n")

    broken = lumos_hf(clips / "broken", "-o", tmp_path / "broken")
    assert broken.exit_code == 3
    assert f"Skipped 10, listed in {tmp_path / 'broken' / 'skipped.jsonl'}:" in broken.stderr
    assert "4_short.mp4: the clip is too short: 4 of 5 frames" in broken.stderr


@pytest.mark.slow
def test_the_command_shares_the_work_by_rank(few_clips, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = (few_clips, "-o", tmp_path / "output", "--clips-per-shard", 2)
    for rank, message in ((0, "Process 0 is done; 1 shards of other processes are not."), (1, "Tokenised 4 of 4")):
        monkeypatch.setenv("RANK", str(rank))
        assert message in lumos_hf(*arguments).stdout


@pytest.mark.slow
def test_the_command_tells_bad_data_in_one_line(tmp_path):
    (tmp_path / "clips.csv").write_text("file,caption\n")
    result = lumos_hf(tmp_path / "clips.csv", "-o", tmp_path / "output")
    assert result.exit_code == 2
    message = result.stderr.strip().splitlines()[-1]
    assert message == f"Error: '{tmp_path / 'clips.csv'}' must have the columns path, text, got file, caption."


def make_unknown_codec(folder):
    path = folder / "clip.mp4"
    write_media(path, demo_frames(0)[0], FPS)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    path.with_suffix(".txt").write_text("a red star")


def make_name_of_other_encoding(folder):
    name = os.fsencode(folder / "clip") + b"\xff.png"
    PIL.Image.new("RGB", (64, 64)).save(name.decode("utf-8", "surrogateescape"))
    pathlib.Path(os.fsdecode(name)).with_suffix(".txt").write_text("a red star")


def make_table(content, name="metadata.jsonl"):
    def make(folder):
        write_media(folder / "bad.png", demo_frames(4)[0][:1])
        (folder / name).write_text(content)

    return make


def jsonl(**row):
    return make_table(json.dumps({"file_name": "bad.png", "text": "a red star", **row}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_unknown_codec, "there is no decoder for the codec of its video|the file cannot be read"),
        (make_name_of_other_encoding, "the name of the file is not text in Unicode: surrogates not allowed"),
        (jsonl(file_name="a" * 5000 + ".png"), "its file cannot be found: File name too long"),
        (jsonl(file_name="a\0b.png"), "its file cannot be found|there is no such file"),
        (jsonl(text="a red \ud800 star"), "the caption is not text in Unicode: surrogates not allowed"),
        (jsonl(text="a red star " * 20_000), "the caption is too long"),
        (make_table('{"file_name": "bad.png", "text": ' + "[" * 100_000), "the line is not JSON"),
        (
            make_table('{"file_name": "bad.png", "text": ' + "1" * 5000 + "}"),
            "the line is not JSON: Exceeds the limit",
        ),
        (
            make_table(f'file_name,text\nbad.png,"{"a red star " * 20_000}"\n', "metadata.csv"),
            "the caption is too long",
        ),
    ],
)
def test_no_clip_ends_the_run(few_clips, tmp_path, make, reason):
    data = shutil.copytree(few_clips, tmp_path / "data")
    make(data)
    summary = tokenize(data, tmp_path / "output")
    (skipped_clip,) = [
        clip for clip in summary.skipped if not clip.source.startswith("bad.png") or "caption" in reason
    ]
    assert re.match(reason, skipped_clip.reason), skipped_clip.reason
    assert summary.num_rows == 4
    assert tokenize(data, tmp_path / "output") == summary


@pytest.mark.slow
def test_damaged_files_are_rows_or_told(few_clips, tmp_path):
    """Bytes of clips that were changed, cut or doubled at random."""
    rng = random.Random(0)
    originals = sorted(path for path in few_clips.iterdir() if path.suffix != ".txt")
    for number in range(60):
        original = originals[number % len(originals)]
        content = bytearray(original.read_bytes())
        start = rng.randrange(len(content))
        stop = min(start + rng.choice([1, 4, 64]), len(content))
        content[start:stop] = rng.choice(
            [b"", bytes(stop - start), content[start:stop] * 2, rng.randbytes(stop - start)]
        )
        path = tmp_path / "data" / f"{number:02d}{original.suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        path.with_suffix(".txt").write_text("a red star")
    summary = tokenize(tmp_path / "data", tmp_path / "output", clips_per_shard=64)
    assert summary.num_rows + len(summary.skipped) == 60 and summary.num_rows > 0
    assert all(clip.reason for clip in summary.skipped)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil", (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"))
)
def test_changed_and_lost_shards_are_noticed_and_made_again(few_clips, tmp_path, spoil):
    tokenize(few_clips, tmp_path / "output", clips_per_shard=2)
    before = rows(tmp_path / "output")
    shard = tmp_path / "output" / "data" / "train-00001-of-00002.parquet"
    content = shard.read_bytes()
    spoil(shard)
    with pytest.raises(
        ValueError, match="is damaged: '.*train-00001-of-00002.parquet' is (missing|not what was written)"
    ):
        load_tokenized_dataset(tmp_path / "output")
    tokenize(few_clips, tmp_path / "output", clips_per_shard=2)
    assert shard.read_bytes() == content and rows(tmp_path / "output") == before


@pytest.mark.slow
def test_any_number_of_processes_may_begin_at_once(few_clips, few_output, tmp_path):
    context = multiprocessing.get_context("fork")
    for attempt in range(2):
        output = tmp_path / f"output{attempt}"
        processes = [context.Process(target=tokenize, args=(few_clips, output)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 4
        assert file_names(output) == file_names(few_output)
        assert rows(output) == rows(few_output)


def begin(output, number, barrier):
    clips = [ListedClip(f"{number}.png", "a red star")]
    directory = TokenizedDirectory(output)
    settings = {"seed": 0, "clips_per_shard": 1, "tokenizer_checksum": "0"}
    barrier.wait()
    try:
        directory.begin_or_resume({"num_shards": 1, "num_clips": 1, "settings": settings}, clips)
        os._exit(0)
    except ValueError:
        os._exit(3)


@pytest.mark.slow
def test_of_several_beginnings_with_other_data_one_wins(tmp_path):
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        barrier = context.Barrier(4)
        output = tmp_path / f"output{attempt}"
        processes = [context.Process(target=begin, args=(output, number % 2, barrier)) for number in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert sorted(process.exitcode for process in processes) == [0, 0, 3, 3]


@pytest.mark.slow
def test_captions_never_turn_into_layout(few_clips, tmp_path):
    model = shutil.copytree(demo_checkpoint(), tmp_path / "model")
    config = json.loads((model / "transformer" / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer" / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zebra"] = config["video_end_token_id"]
    (model / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer))
    data = shutil.copytree(few_clips, tmp_path / "data")
    (data / "0000.txt").write_text("a zebra")
    (skipped_clip,) = tokenize_dataset(data, model, tmp_path / "output", **SETTINGS).skipped
    assert re.match(
        r"`caption` must be text to the tokenizer, .* token \d+ of the text must be text", skipped_clip.reason
    )


@pytest.mark.slow
def test_sets_that_were_begun_before_there_were_checksums_go_on(few_clips, tmp_path):
    tokenize(few_clips, tmp_path / "output", clips_per_shard=2)
    before = rows(tmp_path / "output")
    for record in (tmp_path / "output" / "shards").iterdir():
        content = json.loads(record.read_text())
        del content["sha256"]
        record.write_text(json.dumps(content))
    tokenize(few_clips, tmp_path / "output", clips_per_shard=2)
    assert rows(tmp_path / "output") == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": "all"}, "`frames` must be one of .*'clock', 'official'.*got 'all'"),
        ({"frames": "official", "fps": 8}, "`fps` must be 12 with `frames='official'`, got 8"),
        ({"frames": "official", "position": "start"}, "`position` must be 'middle' with `frames='official'`"),
        ({"frames": "official", "num_frames": 85}, "`num_frames` must be from 1 to 84 .*, got 85"),
        ({"max_pixels": 0}, "`max_pixels` must be at least 1, got 0"),
        ({"device": "meta"}, "`device` must be one that holds data, got 'meta'"),
    ],
)
def test_other_bad_arguments_are_refused_before_any_work(few_clips, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        tokenize(few_clips, tmp_path / "output", **settings)
    assert not (tmp_path / "output").exists()


@pytest.mark.slow
def test_official_frames_are_a_setting(few_clips, few_output, tmp_path):
    output = tmp_path / "output"
    summary = tokenize_dataset(
        few_clips, demo_checkpoint(), output, height=64, width=64, frames="official", num_frames=25
    )
    assert {clip.reason for clip in summary.skipped} == {
        "the official frames need a clip of at least 12 frames per second"
    }
    settings = json.loads((output / "tokenization.json").read_text())["settings"]
    assert (settings["frames"], settings["fps"], settings["num_frames"]) == ("official", 12, 25)
    with pytest.raises(ValueError, match="`.*` must be"):
        tokenize(few_clips, few_output, frames="official")


def test_the_command_refuses_a_rank_that_is_no_number_and_a_device_without_data(few_clips, tmp_path, monkeypatch):
    result = lumos_hf(few_clips, "-o", tmp_path / "output", "--device", "meta")
    assert result.exit_code == 2 and "got 'meta'" in result.stderr
    monkeypatch.setenv("RANK", "abc")
    result = lumos_hf(few_clips, "-o", tmp_path / "output")
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1].startswith("Error: The environment variable RANK must be an integer")
    assert not (tmp_path / "output").exists()
