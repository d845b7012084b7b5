# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Official pre-tokenised sets in and out, on small ones of our own and on the public ones where they are at hand."""

import csv
import json
import multiprocessing
import os
import pickle
import shutil
import signal
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments
from typer.testing import CliRunner

from lumos_hf import LumosConfig, LumosForCausalLM, demo_checkpoint
from lumos_hf.cli import app
from lumos_hf.data import export_tokenized_dataset, import_tokenized_dataset, tokenized_dataset
from lumos_hf.data.official_items import load_plain_pickle
from lumos_hf.evaluation.clips import FPS as DEMO_FPS
from lumos_hf.evaluation.clips import draw_clip, single_specs
from lumos_hf.media import write_media
from lumos_hf.token_layout import prompt_ids, sequence_from_codes, video_duration
from lumos_hf.training import DataCollatorForDiffusionForcing, load_tokenized_dataset, tokenize_dataset


CONFIG = LumosConfig()
PUBLIC = Path(__file__).parents[3] / "shared" / "official" / "pretokenized"
needs_public_sets = pytest.mark.skipif(not PUBLIC.is_dir(), reason="the official sets are not at hand")

NUM_FRAMES, FPS = 65539, 65540
DIGITS = range(16399, 16409)
WIDTH_AND_HEIGHT = [DIGITS[3], DIGITS[2], 16471, DIGITS[3], DIGITS[2]]


def write_item(file, item_id, num_latents, text=(20000, 16582, 20001), **changes):
    """A whole item of frames of 32 by 32 pixels; gives its length."""
    duration, fps = (1, 1) if num_latents == 1 else (round((num_latents - 1) * 4 / 12), 12)
    codes = np.random.default_rng(item_id).integers(64000, size=(num_latents, 4, 4)) + 65536
    # The codes that the placeholders look like.
    codes[:, 0, :2] = NUM_FRAMES, FPS
    rows = [[*row, 8803] for frame in codes for row in frame.tolist()]
    frames = [
        token for k in range(num_latents) for token in [8197, 8805, 8805, *sum(rows[4 * k : 4 * k + 4], []), 8196]
    ]
    prompt = [0, 22807, *WIDTH_AND_HEIGHT, 31291, NUM_FRAMES, 32559, FPS, *text, 8710]
    tokens = [*prompt, 9004, 8804 + duration, 8804 + fps, *frames, 9005, 8710]
    content = {"token": tokens, "label": [-100] * len(prompt) + tokens[len(prompt) :], "id": item_id, **changes}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content, protocol=4))
    return len(tokens)


def write_set(folder, num_latents=(22, 1, 7, 4), prefix="pre_tokenize/data/mine"):
    """A set as the official scripts leave it, of two processes."""
    entries = []
    for item_id, length in enumerate(num_latents):
        name = f"1-in-1/files/{item_id}.pkl"
        num_tokens = write_item(folder / name, item_id, length)
        entries.append({"file": f"{prefix}/{name}", "len": num_tokens, "id": item_id})
    (folder / "merge-record.json").write_text(json.dumps(entries))
    half = len(entries) // 2
    for rank, part in enumerate((entries[:half], entries[half:])):
        lines = "".join(json.dumps(entry) + "\n" for entry in part)
        (folder / "1-in-1" / f"{rank}-of-2-record.jsonl").write_text(lines)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def official(tmp_path):
    return write_set(tmp_path / "official" / "mine")


def rows(output):
    return load_tokenized_dataset(output).to_list()


def sequence(row):
    duration = video_duration(row["num_frames"], row["fps"])
    return sequence_from_codes(
        prompt_ids(row["text_ids"], CONFIG), torch.tensor(row["codes"]), duration, row["fps"], CONFIG
    )


def without_source(row):
    return {name: value for name, value in row.items() if name not in ("source", "source_sha256")}


@pytest.mark.slow
def test_rows_are_what_training_sees(official, tmp_path):
    summary = import_tokenized_dataset(official, tmp_path / "output")
    assert (summary.num_rows, summary.skipped) == (4, ())
    video, image, short, shorter = rows(tmp_path / "output")
    assert [len(row["codes"]) for row in (video, image, short, shorter)] == [7, 1, 7, 4]
    assert [(row["num_frames"], row["fps"]) for row in (video, image, shorter)] == [(25, 12), (1, 1), (13, 12)]
    assert (video["height"], video["width"], video["caption"]) == (32, 32, None)
    assert (video["source"], video["clip"]) == ("1-in-1/files/0.pkl", 0)
    assert video["text_ids"][6:12] == [31291, DIGITS[2], DIGITS[4], 32559, DIGITS[1], DIGITS[2]]
    assert image["text_ids"][6:10] == [31291, DIGITS[1], 32559, DIGITS[1]]

    ids = sequence(video)
    assert len(ids) == video["length"]
    start = ids.tolist().index(9004)
    assert ids[start + 1 : start + 3].tolist() == [8806, 8816]
    assert ids[start + 6 : start + 8].tolist() == [NUM_FRAMES, FPS]
    collator = DataCollatorForDiffusionForcing(CONFIG, prompt_drop_probability=0)
    batch = collator([video])
    is_masked = batch["input_ids"][0] == CONFIG.mask_token_id
    assert torch.equal(batch["input_ids"][0][~is_masked], ids[~is_masked]) and is_masked.any()


@pytest.mark.parametrize("place", ["", "merge-record.json", "1-in-1", "1-in-1/0-of-2-record.jsonl"])
def test_sets_are_found_by_any_of_their_parts(official, tmp_path, place):
    import_tokenized_dataset(official / place, tmp_path / "output")
    expected = 2 if place.endswith("jsonl") else 4
    assert [row["clip"] for row in rows(tmp_path / "output")] == list(range(expected))


@pytest.mark.slow
def test_several_sets_have_weights(official, tmp_path):
    write_set(tmp_path / "official" / "other", (1,) * 10, prefix="data/other")
    mixture = tmp_path / "official" / "mixture.yaml"
    mixture.write_text(
        "META:\n  - {path: ./data/mine/merge-record.json, ratio: 2}\n  - {path: other/merge-record.json, ratio: 0.3}\n"
    )
    import_tokenized_dataset(mixture, tmp_path / "output")
    sources = [row["source"] for row in rows(tmp_path / "output")]
    assert sources[:8] == [f"mine/1-in-1/files/{item}.pkl" for item in (0, 1, 2, 3)] * 2
    assert len(sources) == 11 and all(source.startswith("other/") for source in sources[8:])


def test_captions_stand_beside_the_text(official, tmp_path):
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "text"], *([f"{n}.mp4", f"caption {n}"] for n in range(3))])
    import_tokenized_dataset(official, tmp_path / "output", captions=[tmp_path / "captions.csv"])
    assert [row["caption"] for row in rows(tmp_path / "output")] == ["caption 0", "caption 1", "caption 2", None]


@pytest.mark.slow
def test_processes_share_the_work_and_runs_go_on(official, tmp_path):
    whole = tmp_path / "whole"
    summary = import_tokenized_dataset(official, whole, clips_per_shard=1)
    shared = tmp_path / "shared"
    first = import_tokenized_dataset(official, shared, clips_per_shard=1, rank=0, world_size=2)
    assert first.num_unfinished_shards == 2
    (shared / "shards" / "00002.json").unlink()
    second = import_tokenized_dataset(official, shared, clips_per_shard=1, num_proc=1)
    assert second == summary and rows(shared) == rows(whole)
    with pytest.raises(ValueError, match="`seconds` must be 2, with which '.*' was begun, got 3"):
        import_tokenized_dataset(official, shared, clips_per_shard=1, seconds=3)


@pytest.mark.slow
def test_the_way_out_and_in_again_changes_nothing(official, tmp_path):
    import_tokenized_dataset(official, tmp_path / "whole", seconds=None)
    assert export_tokenized_dataset(tmp_path / "whole", tmp_path / "out", path_prefix="somewhere/out") == 4
    for item in range(4):
        name = f"1-in-1/files/{item}.pkl"
        assert (tmp_path / "out" / name).read_bytes() == (official / name).read_bytes()
    entries = json.loads((tmp_path / "out" / "merge-record.json").read_text())
    assert entries[1]["file"] == "somewhere/out/1-in-1/files/1.pkl"
    assert [entry["len"] for entry in entries] == [
        row["length"] + n for row, n in zip(rows(tmp_path / "whole"), (-2, 0, -2, -2))
    ]
    import_tokenized_dataset(tmp_path / "out", tmp_path / "again", seconds=None)
    assert [*map(without_source, rows(tmp_path / "again"))] == [*map(without_source, rows(tmp_path / "whole"))]


@pytest.mark.slow
def test_sets_of_our_own_go_out_and_in_again(tmp_path):
    for number, spec in enumerate(single_specs()[:2]):
        frames = [PIL.Image.fromarray(frame).reduce(2) for frame in draw_clip(spec)]
        write_media(tmp_path / "clips" / f"{number}.{('mp4', 'png')[number]}", frames[: (9, 1)[number]], DEMO_FPS)
        (tmp_path / "clips" / f"{number}.txt").write_text("a red star jumps in the snow .")
    model = demo_checkpoint()
    tokenize_dataset(tmp_path / "clips", model, tmp_path / "set", height=64, width=64, num_frames=9)
    with pytest.raises(ValueError, match="`model` must be given"):
        export_tokenized_dataset(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export_tokenized_dataset(tmp_path / "set", tmp_path / "out", model=model) == 2
    assert import_tokenized_dataset(tmp_path / "out", tmp_path / "again", model=model).skipped == ()
    again = rows(tmp_path / "again")
    for row, original in zip(again, rows(tmp_path / "set"), strict=True):
        assert row.pop("text_ids")
        assert without_source(row) == without_source(original)


class Attack:
    def __reduce__(self):
        return os.system, ("echo attacked > attacked.txt",)


def damage(change):
    """Changes the content of item 0's pickle."""

    def apply(folder):
        path = folder / "1-in-1" / "files" / "0.pkl"
        content = pickle.loads(path.read_bytes())
        change(content)
        path.write_bytes(pickle.dumps(content, protocol=4))

    return apply


def set_token(place, token):
    def change(content):
        content["token"][place] = content["label"][place] = token

    return damage(change)


def set_text(place, token):
    return damage(lambda content: content["token"].__setitem__(place, token))


FIRST_FRAME = 18


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "1-in-1/files/0.pkl").write_bytes(pickle.dumps(Attack(), protocol=4)),
            r"the pickle has a global, (posix|nt)\.system, at byte \d+",
        ),
        (
            lambda folder: (folder / "1-in-1/files/0.pkl").write_bytes(pickle.dumps(Attack(), protocol=0)),
            r"the pickle has a global, (posix|nt)\.system, at byte \d+",
        ),
        (lambda folder: (folder / "1-in-1/files/0.pkl").unlink(), "there is no such file"),
        (lambda folder: (folder / "1-in-1/files/0.pkl").write_bytes(b""), "the file is no pickle, or is cut short"),
        (
            lambda folder: (folder / "1-in-1/files/0.pkl").write_bytes(
                (folder / "1-in-1/files/0.pkl").read_bytes()[:900]
            ),
            "the file is no pickle, or is cut short",
        ),
        (
            damage(lambda content: content["token"].pop()),
            "the item is cut short: its last tokens must be .*9005, 8710",
        ),
        (damage(lambda content: content["label"].pop()), "the item is cut short: it has .* tokens and .* labels"),
        (
            damage(lambda content: (content["token"].pop(-3), content["label"].pop(-3))),
            r"the size tokens 8805 and 8805 at token 19 do not fit the codes: they say 4 rows and 4 columns",
        ),
        (set_token(FIRST_FRAME + 4, 129536), "token 22 must be from 0 to 129535, got 129536"),
        (set_token(FIRST_FRAME + 4, -5), "token 22 must be from 0 to 129535, got -5"),
        (set_token(FIRST_FRAME + 1, 8806), "the size tokens 8806 and 8805 at token 19 do not fit the codes"),
        (set_token(FIRST_FRAME + 2, 8803), "the size tokens 8805 and 8803 at token 19 do not fit the codes"),
        (set_token(FIRST_FRAME + 6, 20000), "token 24, in frame 0, row 0, must be a visual token, got 20000"),
        (set_token(FIRST_FRAME + 30, 9003), "token 48, in frame 1, row 0, must be a visual token, got 9003"),
        (set_token(FIRST_FRAME + 24, 20000), "token 42 must be 8197 by the layout of an item, got 20000"),
        (set_token(FIRST_FRAME - 2, 8805), "the header says 1 seconds at 12 frames per second"),
        (set_text(2, 8197), "token 1 of the text must be text, got 8197"),
        (damage(lambda content: content.update(id=7)), "the record says item 0 of .*, the file has item 7"),
        (damage(lambda content: content["token"].__setitem__(3, "a")), "`token` must be a list of integers"),
        (damage(lambda content: content.pop("label")), "the keys token, label and id"),
        (
            damage(lambda content: content.update(more=b"bytes")),
            "must consist of lists, numbers and names, got SHORT_BINBYTES",
        ),
    ],
)
def test_a_bad_item_is_named_and_left_out(official, tmp_path, monkeypatch, spoil, message):
    monkeypatch.chdir(tmp_path)
    spoil(official)
    summary = import_tokenized_dataset(official, tmp_path / "output", seconds=None)
    (skipped,) = summary.skipped
    assert skipped.source.endswith("1-in-1/files/0.pkl") and skipped.listed_at == "merge-record.json, item 0"
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(skipped.reason)
    assert [row["clip"] for row in rows(tmp_path / "output")] == [1, 2, 3]
    assert not (tmp_path / "attacked.txt").exists()


def test_pickles_cannot_ask_for_memory_that_they_do_not_have():
    # An index of the memo of 2 billion would take 34 GB.
    bomb = b"\x80\x04}r\xff\xff\xff\x7f."
    with pytest.raises(ValueError, match="the file is no plain pickle"):
        load_plain_pickle(bomb)
    assert load_plain_pickle(pickle.dumps({"token": [1, 300, 70000, -100]}, protocol=4)) == {
        "token": [1, 300, 70000, -100]
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("merge-record.json", "[{", "'.*merge-record.json' must be JSON in UTF-8"),
        ("merge-record.json", "{}", "must be a list of items, got a dict"),
        ("merge-record.json", "[]", "`source` must list at least one item"),
        ("mixture.yaml", "META: 3", "must list sets as `META"),
        ("mixture.yaml", "META: [{path: nowhere.json, ratio: 1}]", "names a record that is missing, 'nowhere.json'"),
        ("mixture.yaml", "META: [{path: mine, ratio: -1}]", "`ratio` of 'mine' .* must be a finite number .* got -1"),
        ("mixture.txt", "", "`source` must be a directory, a record that ends in .json or .jsonl, or a yaml file"),
    ],
)
def test_bad_records_are_refused(tmp_path, name, content, message):
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / name).write_text(content)
    with pytest.raises((ValueError, OSError), match=message):
        import_tokenized_dataset(tmp_path / "official" / name, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_bad_lines_of_a_record_are_told(official, tmp_path):
    record = official / "1-in-1" / "0-of-2-record.jsonl"
    record.write_text(
        record.read_text() + '{"file": "x"\n{"len": 3, "id": 0}\n{"file": "a.pkl", "len": true, "id": 0}\n'
    )
    summary = import_tokenized_dataset(record, tmp_path / "output")
    assert (summary.num_rows, [clip.listed_at for clip in summary.skipped]) == (
        2,
        [f"0-of-2-record.jsonl, line {line}" for line in (3, 4, 5)],
    )


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.mark.slow
def test_the_commands_tell_what_they_did(official, tmp_path):
    shutil.copy(official / "1-in-1/files/1.pkl", official / "1-in-1/files/3.pkl")
    result = run("import-tokenized", official, "-o", tmp_path / "output", "--seconds", 2, "--fps", 12)
    assert result.exit_code == 3
    assert f"Imported 3 of 4 clips into {tmp_path / 'output'}." in result.stdout
    assert "1-in-1/files/3.pkl (merge-record.json, item 3): the record says item 3" in result.stderr
    result = run("export-tokenized", tmp_path / "output", "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (0, f"Wrote 3 items to {tmp_path / 'out'}.\n")
    result = run("export-tokenized", tmp_path / "output", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "`--output` must be a new directory" in result.stderr


@pytest.mark.parametrize("name", ("RANK", "WORLD_SIZE"))
def test_a_rank_that_is_no_number_is_refused(official, tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "abc")
    result = run("import-tokenized", official, "-o", tmp_path / "output")
    assert result.exit_code == 2
    assert f"Error: The environment variable {name} must be an integer of at least 0, got 'abc'." in result.stderr


def import_until_killed(official, output):
    """Ends like kill -9 when the record of the second shard is due."""
    write = tokenized_dataset.write_json

    def write_or_die(path, content):
        if path.name == "00001.json":
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, content)

    tokenized_dataset.write_json = write_or_die
    import_tokenized_dataset(official, output, clips_per_shard=1)


@pytest.mark.slow
def test_a_killed_import_goes_on(official, tmp_path):
    output = tmp_path / "output"
    process = multiprocessing.get_context("fork").Process(target=import_until_killed, args=(official, output))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in output.glob("shards/*")] == ["00000.json"]
    import_tokenized_dataset(official, output, clips_per_shard=1)
    import_tokenized_dataset(official, tmp_path / "whole", clips_per_shard=1)
    assert rows(output) == rows(tmp_path / "whole")


@needs_public_sets
@pytest.mark.parametrize("name", ("test_image", "test_video"))
def test_public_items_give_the_sequences_of_the_official_training(tmp_path, name):
    expected = load_file(PUBLIC / name / "expected_training_sequences.safetensors")
    captions = PUBLIC / "csv_files" / f"{name}.csv"
    import_tokenized_dataset(PUBLIC / name, tmp_path / "output", seconds=2, fps=12, captions=[captions])
    imported = rows(tmp_path / "output")
    assert len(imported) == len(expected) // 2
    collator = DataCollatorForDiffusionForcing(CONFIG, prompt_drop_probability=0)
    for number, row in enumerate(imported):
        ids, labels = expected[f"{number}.input_ids"], expected[f"{number}.labels_of_training"]
        assert torch.equal(sequence(row).int(), ids)
        num_ignored = len(row["text_ids"]) + 2
        assert torch.equal(labels, torch.cat([torch.full((num_ignored,), -100), ids[num_ignored:]]).int())
        batch = collator([row])
        unmasked = batch["input_ids"][0].masked_scatter(
            batch["input_ids"][0] == CONFIG.mask_token_id, ids[batch["input_ids"][0] == CONFIG.mask_token_id].long()
        )
        assert torch.equal(unmasked.int(), ids)
        has_label = batch["labels"][0] != -100
        assert torch.equal(batch["labels"][0][has_label].int(), labels[has_label]) and has_label.any()
        assert row["caption"]


@needs_public_sets
@pytest.mark.parametrize("name", ("test_image", "test_video"))
def test_public_sets_come_out_byte_for_byte(tmp_path, name):
    import_tokenized_dataset(PUBLIC / name, tmp_path / "whole", seconds=None)
    export_tokenized_dataset(tmp_path / "whole", tmp_path / "out")
    files = sorted((PUBLIC / name / "1-in-1" / "files").iterdir())
    assert len(files) >= 4
    for file in files:
        assert (tmp_path / "out" / "1-in-1" / "files" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_the_context_limits_what_the_collator_takes_and_nothing_else(official, tmp_path):
    import_tokenized_dataset(official, tmp_path / "output")
    video = rows(tmp_path / "output")[0]
    with pytest.raises(ValueError, match=r"must fit into the context of 100 tokens"):
        DataCollatorForDiffusionForcing(LumosConfig(max_position_embeddings=100))([video])
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    batch = DataCollatorForDiffusionForcing(CONFIG, seed=0)([video])
    losses = []
    for limit in (100, 65536):
        torch.manual_seed(0)
        losses.append(LumosForCausalLM(LumosConfig(**sizes, max_position_embeddings=limit))(**batch).loss)
    assert torch.equal(*losses) and losses[0].isfinite()


@needs_public_sets
@pytest.mark.slow
@pytest.mark.parametrize("name, batch_size", [("test_image", 2), ("test_video", 1)])
def test_public_items_can_be_trained_on(name, batch_size, tmp_path):
    import_tokenized_dataset(PUBLIC / name, tmp_path / "output")
    config = LumosConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1)
    trainer = Trainer(
        LumosForCausalLM(config),
        TrainingArguments(
            tmp_path / "training",
            max_steps=1,
            per_device_train_batch_size=batch_size,
            remove_unused_columns=False,
            report_to="none",
            optim="sgd",
        ),
        DataCollatorForDiffusionForcing(config),
        train_dataset=load_tokenized_dataset(tmp_path / "output").select(range(2)),
    )
    assert 10 < trainer.train().training_loss < 12
