# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import json

import datasets
import PIL.Image
import pytest

from lumos_hf.data.clip_listing import list_clips


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    """A folder with these files, which are never opened."""
    folder = tmp_path / "clips"
    for name in ("b.mp4", "a.png", "inner/c.gif", "inner/d.webm", ".hidden/e.mp4", "notes.pdf"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def captions(clips):
    return [(clip.source, clip.caption) for clip in clips]


def problems(clips):
    return [(clip.source, clip.problem) for clip in clips]


def test_captions_stand_beside_the_files_of_a_folder(folder):
    (folder / "b.txt").write_text("a ball", encoding="utf-8")
    (folder / "inner" / "c.txt").write_text("ein Würfel", encoding="utf-8")
    clips = list_clips(folder)
    assert captions(clips) == [
        ("a.png", None),
        ("b.mp4", "a ball"),
        ("inner/c.gif", "ein Würfel"),
        ("inner/d.webm", None),
    ]
    assert [clip.is_image for clip in clips] == [True, False, False, False]
    with clips[1].open_file() as file:
        assert file.read() == b"b.mp4"


def test_metadata_files_hold_for_their_own_folder(folder):
    (folder / "metadata.csv").write_text("file_name,text\nb.mp4,a ball\ninner/d.webm,from above\n")
    rows = [{"file_name": "c.gif", "text": "a cube"}, {"file_name": "gone.gif", "text": "nothing"}]
    (folder / "inner" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clips = list_clips(folder)
    assert captions(clips) == [
        ("a.png", None),
        ("b.mp4", "a ball"),
        ("inner/c.gif", "a cube"),
        ("inner/d.webm", "from above"),
        ("inner/gone.gif", "nothing"),
    ]
    assert [clip.listed_at for clip in clips][1:3] == ["metadata.csv, line 2", "metadata.jsonl, line 1"]
    assert clips[4].problem == "there is no such file"


def test_a_table_is_listed_in_its_own_order(folder):
    table = folder / "clips.csv"
    table.write_text(f'path,text,more\nb.mp4,"a ball, red",1\n{folder}/a.png,a picture,2\nb.mp4,again,3\n')
    assert captions(list_clips(table)) == [("b.mp4", "a ball, red"), ("a.png", "a picture"), ("b.mp4", "again")]


def test_broken_rows_are_told_and_the_others_kept(folder):
    table = folder / "clips.jsonl"
    table.write_text('{"path": "b.mp4", "text": "a ball"}\n\n{"path": "b.mp4"\n["b.mp4"]\n{"text": "x"}\n')
    clips = list_clips(table)
    assert [clip.listed_at for clip in clips] == [f"clips.jsonl, line {line}" for line in (1, 3, 4, 5)]
    assert [clip.problem is None for clip in clips] == [True, False, False, False]
    assert "not JSON" in clips[1].problem
    assert clips[2].problem == "the line is not a JSON object"
    assert clips[3].problem == "the column `path` names no file"

    (folder / "clips.csv").write_text("path,text\nb.mp4\ngone.mp4,x\nnotes.pdf,x\n")
    clips = list_clips(folder / "clips.csv")
    assert captions(clips)[0] == ("b.mp4", None)
    assert clips[1].problem == "there is no such file"
    assert "must end in one of .avi" in clips[2].problem


def test_columns_have_other_names_on_request(folder):
    (folder / "clips.csv").write_text("video,prompt\nb.mp4,a ball\n")
    clips = list_clips(folder / "clips.csv", media_column="video", caption_column="prompt")
    assert captions(clips) == [("b.mp4", "a ball")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("clips.csv", b"file,caption\nb.mp4,a ball\n", "must have the columns path, text, got file, caption"),
        ("clips.csv", b"", "must have the columns path, text, got none"),
        ("clips.csv", b"path,text\n", "at least one clip, got none in '.*clips.csv'"),
        ("clips.csv", b"path,text\nb.mp4,\xff\xfe\n", "'.*clips.csv' must be text in UTF-8"),
        ("clips.jsonl", b"\n", "at least one clip"),
        ("clips.xlsx", b"", "ends in .csv or .jsonl, or a data set, got '.*clips.xlsx'"),
        ("metadata.csv", b"name,text\nb.mp4,a ball\n", "must have the columns file_name, text, got name, text"),
    ],
)
def test_spoilt_listings_are_refused(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list_clips(folder if name.startswith("metadata") else folder / name)


@pytest.fixture
def dataset_folder(tmp_path):
    """A data set of two images inside a parquet file."""
    images = [PIL.Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    dataset = datasets.Dataset.from_dict(
        {"image": images, "text": ["red", None], "number": [1, 2]},
        features=datasets.Features(
            {"image": datasets.Image(), "text": datasets.Value("string"), "number": datasets.Value("int32")}
        ),
    )
    (tmp_path / "set" / "data").mkdir(parents=True)
    dataset.to_parquet(tmp_path / "set" / "data" / "train-00000-of-00001.parquet")
    return tmp_path / "set"


@pytest.mark.slow
def test_rows_of_a_data_set_are_clips(dataset_folder):
    clips = list_clips(dataset_folder)
    assert captions(clips) == [("train/0", "red"), ("train/1", None)]
    assert all(clip.is_image for clip in clips)
    with clips[1].open_file() as file, PIL.Image.open(file) as image:
        assert image.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"caption_column": "caption"}, "`caption_column` must be a column of .*'text'.* got 'caption'"),
        ({"media_column": "number"}, "`media_column` must hold images or videos, got 'number'"),
    ],
)
def test_columns_that_a_data_set_lacks_are_named(dataset_folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        list_clips(dataset_folder, **arguments)


def test_data_sets_without_pictures_are_refused(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no clip")
    with pytest.raises(ValueError, match=r"one column of images or videos, .* got \[\] among the columns \['text'\]"):
        list_clips(tmp_path / "texts")
