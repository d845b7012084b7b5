# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Files are there whole or not at all, and what killed processes leave is found again."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from lumos_hf import files
from lumos_hf.files import partial_path, remove_leftovers, whole_directory, whole_file, write_json, write_text


# The module alone: that of the package would take seconds more.
IMPORT = f"import os, sys; sys.path.insert(0, {os.path.dirname(files.__file__)!r}); from files import *"
KILLED = """
with whole_file(sys.argv[1]) as file, whole_directory(sys.argv[2]) as directory:
    file.write_text("half")
    (directory / "part").write_text("half")
    print("written", flush=True)
    {end}
"""


def start(tmp_path, end):
    arguments = ["-I", "-c", IMPORT + KILLED.format(end=end), str(tmp_path / "file"), str(tmp_path / "directory")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, *arguments], **pipes)
    assert process.stdout.readline() == "written\n"
    return process


def test_files_replace_earlier_ones_when_they_are_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "ä")
    with whole_file(path) as partial:
        partial.write_text("second")
        assert path.read_text(encoding="utf-8") == "ä"
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


def test_json_is_indented_and_ends_with_a_line_break(tmp_path):
    write_json(tmp_path / "a.json", {"b": "ä", "a": 1}, sort_keys=True)
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 1,\n  "b": "\\u00e4"\n}\n'
    write_json(tmp_path / "a.json", {"b": "ä", "a": 1}, ensure_ascii=False)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": "ä",\n  "a": 1\n}\n'


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failures_leave_what_was_there(tmp_path, error):
    (tmp_path / "file").write_text("first")
    with pytest.raises(error), whole_file(tmp_path / "file") as file:
        file.write_text("second")
        raise error
    with pytest.raises(error), whole_directory(tmp_path / "directory") as directory:
        (directory / "part").write_text("half")
        raise error
    assert [path.read_text() for path in tmp_path.iterdir()] == ["first"]


def test_directories_take_the_place_of_empty_ones_only(tmp_path):
    for name in ("empty", "full", "new/nested"):
        path = tmp_path / name
        if name != "new/nested":
            path.mkdir()
        if name == "full":
            (path / "mine").write_text("mine")
            with pytest.raises(OSError, match="not empty"), whole_directory(path):
                pass
            assert [file.name for file in path.iterdir()] == ["mine"]
            continue
        with whole_directory(path) as directory:
            (directory / "part").write_text("whole")
        assert (path / "part").read_text() == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "new"]


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, "日" * 85, "\udcff" * 100], ids=["a", "ä", "日", "bytes"])
def test_long_names(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert os.listdir(tmp_path) == [name]
    assert len(os.fsencode(partial_path(tmp_path / name).name)) <= 255


def test_temporary_names_are_never_the_same(tmp_path):
    names = {partial_path(tmp_path / "file").name for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(r"\.file\.[0-9a-f-]+\.partial", name) for name in names)


@pytest.mark.slow
def test_the_next_run_removes_what_a_killed_one_left(tmp_path):
    start(tmp_path, "os.kill(os.getpid(), 9)").wait()
    (tmp_path / ".mine.partial").write_text("mine")
    assert len(list(tmp_path.iterdir())) == 3
    code = f"{IMPORT}; write_text(sys.argv[1], 'whole')"
    subprocess.run([sys.executable, "-I", "-c", code, str(tmp_path / "another")], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.partial", "another"]


def test_what_a_running_process_writes_is_left_alone(tmp_path):
    process = start(tmp_path, "sys.stdin.read()")
    with whole_file(tmp_path / "own") as own:
        own.write_text("own")
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3
    process.kill()
    process.wait()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_an_earlier_process_of_the_same_id_is_no_longer_there(tmp_path):
    """As in a container that is started again."""
    own = partial_path(tmp_path / "file")
    earlier = own.with_name(re.sub(r"-[0-9a-f]{8}-", "-01234567-", own.name))
    earlier.write_text("half")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_of_other_machines_are_left_alone_for_a_day(tmp_path):
    paths = [tmp_path / f".{name}.0123abcd-1-01234567-0.partial" for name in ("old", "new")]
    for path in paths:
        path.write_text("half")
    day_ago = time.time() - 25 * 60 * 60
    os.utime(paths[0], (day_ago, day_ago))
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [paths[1]]


def test_contents_are_json(tmp_path):
    write_json(tmp_path / "list.json", [1, None])
    assert json.loads((tmp_path / "list.json").read_text()) == [1, None]
