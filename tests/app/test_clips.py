# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import io

import PIL.Image
import pytest

from lumos_hf.app.clips import FORMATS, Clip, read_drawing, read_mask, read_upload, write_files
from lumos_hf.media import read_settings, write_media


COLORS = ("red", "lime", "blue")
SIZE = {"height": 32, "width": 64, "max_num_frames": 9, "fps": 8}


def frames(count=3, size=(64, 32)):
    return [PIL.Image.new("RGB", size, COLORS[index % 3]) for index in range(count)]


def png(picture):
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_an_image_becomes_one_frame_of_the_size(tmp_path, ending):
    write_media(tmp_path / f"image.{ending}", frames(1, (200, 100)))
    clip = read_upload(tmp_path / f"image.{ending}", **SIZE)
    assert [(frame.size, frame.getpixel((9, 9))) for frame in clip.frames] == [((64, 32), (255, 0, 0))]
    assert (clip.fps, clip.settings) == (8, {})


def test_of_a_video_the_beginning_is_taken(tmp_path):
    write_media(tmp_path / "video.mp4", frames(30), fps=24)
    clip = read_upload(tmp_path / "video.mp4", **SIZE)
    # Every third of its frames is of the same colour.
    assert len(clip.frames) == 9
    assert all(frame.getpixel((9, 9))[0] > 200 for frame in clip.frames)
    assert len(read_upload(tmp_path / "video.mp4", **{**SIZE, "max_num_frames": 5}).frames) == 5


@pytest.mark.parametrize("name", ["text.png", "text.mp4", "text", "playlist.m3u8"])
def test_what_is_no_picture_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("#EXTM3U\n/etc/passwd\n")
    with pytest.raises(ValueError, match=f"'{name}' cannot be used"):
        read_upload(tmp_path / name, **SIZE)


def test_too_large_pictures_are_refused_before_they_are_decoded(tmp_path):
    PIL.Image.new("1", (4097, 4096)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match="4097x4096 pixels, more than"):
        read_upload(tmp_path / "large.png", **SIZE)
    with pytest.raises(ValueError, match="4097x4096 pixels, more than"):
        read_drawing((tmp_path / "large.png").read_bytes())


@pytest.mark.parametrize("content", [b"", b"no picture", png(frames(1)[0])[:40]])
def test_broken_drawings_are_refused(content):
    with pytest.raises(ValueError, match="the file cannot be read"):
        read_drawing(content)


def test_drawings_of_other_formats_are_refused():
    content = io.BytesIO()
    frames(1)[0].save(content, format="BMP")
    with pytest.raises(ValueError, match="the file cannot be read"):
        read_drawing(content.getvalue())


def test_a_mask_is_where_something_was_drawn():
    drawing = PIL.Image.new("RGBA", (256, 128))
    drawing.paste((255, 0, 0, 255), (0, 0, 64, 128))
    mask = read_mask(read_drawing(png(drawing)), height=32, width=64)
    assert mask.shape == (32, 64) and mask.dtype == bool
    assert mask[:, :16].all() and not mask[:, 16:].any()


@pytest.mark.parametrize(("color", "covered"), [((0, 0, 0, 0), "nothing"), ((9, 9, 9, 255), "everything")])
def test_a_mask_covers_a_part(color, covered):
    with pytest.raises(ValueError, match=f"{covered} is marked"):
        read_mask(PIL.Image.new("RGBA", (64, 32), color), height=32, width=64)


def test_files_of_all_formats_say_how_they_were_made(tmp_path):
    settings = {"lumos_hf": "1", "prompt": "a red kite"}
    paths = write_files(Clip(frames(), 8, settings), tmp_path, "lumos-3")
    assert sorted(paths) == sorted(FORMATS)
    assert {read_settings(path)["prompt"] for path in paths.values()} == {"a red kite"}
