# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import os
import tempfile
import threading

import PIL.Image
import pytest

from lumos_hf.app.clips import Clip
from lumos_hf.app.kept_data import ClipStore, limited_size, remove_oldest_files, temporary_room


def clip(num_frames=1):
    return Clip([PIL.Image.new("RGB", (10, 10))] * num_frames, fps=8)


def test_clips_not_asked_for_longest_are_dropped():
    store = ClipStore(max_bytes=900)
    for visitor in ("first", "second", "third"):
        store[visitor] = clip()
    assert store["first"] is not None
    store["fourth"] = clip()
    assert [store[visitor] is not None for visitor in ("first", "second", "third", "fourth")] == [
        True,
        False,
        True,
        True,
    ]


def test_a_visitor_has_one_clip_and_the_last_is_kept_however_large():
    store = ClipStore(max_bytes=300)
    store["me"] = clip()
    store["me"] = large = clip(9)
    assert store["me"] is large
    assert store["nobody"] is None


def test_the_clip_of_who_left_is_dropped():
    store = ClipStore(max_bytes=900)
    store["me"], store["other"] = clip(), clip()
    store.discard("me")
    store.discard("nobody")
    assert store["me"] is None
    assert store["other"] is not None


@pytest.mark.parametrize("is_set", [False, True])
def test_a_room_is_removed_and_the_environment_as_before(tmp_path, monkeypatch, is_set):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if is_set:
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "chosen"))
    with temporary_room() as room:
        assert room.parent == (tmp_path / "chosen" if is_set else tmp_path)
        assert os.environ["GRADIO_TEMP_DIR"] == str(room / "gradio")
        (room / "gradio").mkdir()
        (room / "gradio" / "video.mp4").write_bytes(b"0")
    assert not room.exists()
    assert os.environ.get("GRADIO_TEMP_DIR") == (str(tmp_path / "chosen") if is_set else None)


def write_files(directory, count=4):
    paths = []
    for number in range(count):
        paths.append(directory / str(number) / "video.mp4")
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(b"0" * 10)
        # Files of one instant have no order.
        while number and paths[-1].stat().st_ctime == paths[-2].stat().st_ctime:
            paths[-1].touch()
    return paths


def test_oldest_files_are_removed_and_then_their_directories(tmp_path, monkeypatch):
    paths = write_files(tmp_path)
    assert remove_oldest_files(tmp_path, max_bytes=40) == set()
    assert remove_oldest_files(tmp_path, max_bytes=25) == set(map(str, paths[:2]))
    assert [path.exists() for path in paths] == [False, False, True, True]
    remove_oldest_files(tmp_path, max_bytes=25)
    assert paths[0].parent.exists(), "a young directory may be waiting for its file"
    monkeypatch.setattr("lumos_hf.app.kept_data._MIN_AGE", -1)
    remove_oldest_files(tmp_path, max_bytes=25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_the_size_is_kept_for_as_long_as_the_app_runs(tmp_path):
    paths = write_files(tmp_path)
    forgotten, is_done = set(), threading.Event()

    def forget(gone):
        forgotten.update(gone)
        is_done.set()

    with limited_size(tmp_path, 15, 0.01, forget):
        assert is_done.wait(30)
    assert forgotten == set(map(str, paths[:3]))
    assert not [thread for thread in threading.enumerate() if thread.name == "lumos-app-files"]
