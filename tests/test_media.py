# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import io

import imageio.v3 as iio
import numpy as np
import PIL.Image
import pytest

from lumos_hf.media import SHEET_MARGIN, contact_sheet, frame_grid, read_settings, write_media


WIDTH, HEIGHT = 32, 16
COLORS = ("red", "lime", "blue", "yellow", "cyan")


@pytest.fixture
def clip():
    return [PIL.Image.new("RGB", (WIDTH, HEIGHT), color) for color in COLORS]


def rgb(color):
    return PIL.Image.new("RGB", (1, 1), color).getpixel((0, 0))


def shown_colors(sheet, columns, rows):
    """The colour in the middle of every place of a sheet, row by row."""
    step_x, step_y = WIDTH + SHEET_MARGIN, HEIGHT + SHEET_MARGIN
    assert sheet.size == (columns * step_x + SHEET_MARGIN, rows * step_y + SHEET_MARGIN)
    places = [[(step_x * x + step_x // 2, step_y * y + step_y // 2) for x in range(columns)] for y in range(rows)]
    return [[sheet.getpixel(place) for place in row] for row in places]


@pytest.mark.slow
def test_mp4_keeps_size_frames_rate_and_about_the_colors(tmp_path, clip):
    write_media(tmp_path / "clip.mp4", clip, fps=8)
    video = iio.imread(tmp_path / "clip.mp4", plugin="pyav")
    metadata = iio.immeta(tmp_path / "clip.mp4", plugin="pyav")

    assert video.shape == (len(clip), HEIGHT, WIDTH, 3)
    assert metadata["fps"] == 8
    assert metadata["video_format"] == "yuv420p"
    expected = np.array([rgb(color) for color in COLORS])[:, None, None]
    assert np.abs(video.astype(int) - expected).max() <= 8


def test_gif_keeps_frames_and_rate_and_loops(tmp_path, clip):
    write_media(tmp_path / "clip.gif", clip, fps=10)
    with PIL.Image.open(tmp_path / "clip.gif") as gif:
        assert (gif.n_frames, gif.size) == (len(clip), (WIDTH, HEIGHT))
        assert gif.info["duration"] == 100
        assert gif.info["loop"] == 0
        for index, color in enumerate(COLORS):
            gif.seek(index)
            assert gif.convert("RGB").getpixel((0, 0)) == rgb(color)


def test_png_of_one_frame_is_the_picture(tmp_path, clip):
    write_media(tmp_path / "picture.png", clip[:1])
    with PIL.Image.open(tmp_path / "picture.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(clip[0]))


def test_png_of_several_frames_is_a_sheet_of_them(tmp_path, clip):
    write_media(tmp_path / "sheet.png", clip)
    with PIL.Image.open(tmp_path / "sheet.png") as sheet:
        assert shown_colors(sheet, columns=3, rows=2) == [
            [rgb("red"), rgb("lime"), rgb("blue")],
            [rgb("yellow"), rgb("cyan"), rgb("white")],
        ]


def test_frame_grid_takes_a_number_of_columns(clip):
    sheet = frame_grid(clip[:4], columns=4)
    assert shown_colors(sheet, columns=4, rows=1) == [[rgb(color) for color in COLORS[:4]]]


def test_contact_sheet_has_a_row_per_clip_from_first_to_last_frame(clip):
    sheet = contact_sheet([clip, clip[::-1]], columns=3)
    colors = [rgb(color) for color in ("red", "blue", "cyan")]
    assert shown_colors(sheet, columns=3, rows=2) == [colors, colors[::-1]]


def test_contact_sheet_shows_all_frames_by_default(clip):
    assert shown_colors(contact_sheet([clip]), columns=5, rows=1) == [[rgb(color) for color in COLORS]]


def test_the_case_of_an_ending_does_not_matter(tmp_path, clip):
    write_media(tmp_path / "CLIP.GIF", clip)
    assert (tmp_path / "CLIP.GIF").read_bytes().startswith(b"GIF")


def test_directories_are_created_and_files_replaced(tmp_path, clip):
    path = tmp_path / "new" / "directory" / "picture.png"
    write_media(path, clip[:1])
    write_media(path, clip[1:2])
    with PIL.Image.open(path) as picture:
        assert picture.getpixel((0, 0)) == rgb("lime")
    assert list(path.parent.iterdir()) == [path]


SETTINGS = {
    "lumos_hf": "1.2",
    "prompt": 'ein "Äffchen" 🐒 \\ [[',
    "seed": 2**63 - 1,
    "guidance_scale": 1.5,
    "lora": ["a:1"],
}


@pytest.mark.parametrize("ending", ("mp4", "gif", "png"))
@pytest.mark.parametrize("prompt", [SETTINGS["prompt"], "word " * 2000], ids=["odd", "long"])
def test_settings_in_a_file_are_read_back(tmp_path, clip, ending, prompt):
    settings = {**SETTINGS, "prompt": prompt}
    write_media(tmp_path / f"clip.{ending}", clip, settings=settings)
    assert read_settings(tmp_path / f"clip.{ending}") == settings
    write_media(tmp_path / f"picture.{ending}", clip[:1], settings=settings)
    assert read_settings(tmp_path / f"picture.{ending}") == settings


@pytest.mark.slow
@pytest.mark.parametrize("ending", ("mp4", "gif", "png"))
def test_settings_change_nothing_but_the_comment(tmp_path, clip, ending):
    write_media(tmp_path / f"with.{ending}", clip, settings=SETTINGS)
    write_media(tmp_path / f"without.{ending}", clip)
    frames = [iio.imread(tmp_path / f"{name}.{ending}", index=None) for name in ("with", "without")]
    assert np.array_equal(*frames)
    assert read_settings(tmp_path / f"without.{ending}") is None


@pytest.mark.parametrize("comment", ["a holiday", '{"prompt": "of another program"}', "[" * 100_000, "3"])
def test_comments_of_others_are_not_taken_for_settings(tmp_path, clip, comment):
    clip[0].save(tmp_path / "picture.gif", comment=comment.encode())
    assert read_settings(tmp_path / "picture.gif") is None


@pytest.mark.parametrize("ending", ("mp4", "gif", "png"))
def test_settings_of_broken_files_are_refused(tmp_path, ending):
    path = tmp_path / f"broken.{ending}"
    path.write_bytes(b"no such format")
    with pytest.raises(ValueError, match=f"broken.{ending}' cannot be read"):
        read_settings(path)
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path / f"missing.{ending}")


@pytest.mark.parametrize(
    ("name", "frames", "message"),
    [
        ("clip.avi", [PIL.Image.new("RGB", (WIDTH, HEIGHT))], "must end in one of .mp4, .gif, .png, got '.*clip.avi'"),
        ("clip", [PIL.Image.new("RGB", (WIDTH, HEIGHT))], "must end in one of"),
        ("clip.gif", [], "`frames` must hold at least one image"),
        ("clip.gif", [PIL.Image.new("RGB", size) for size in ((32, 16), (16, 16))], "same size, got .*16.*32"),
        ("clip.mp4", [PIL.Image.new("RGB", (31, 16))], "even width and height, got 31x16"),
    ],
)
def test_bad_input_leaves_no_file(tmp_path, name, frames, message):
    with pytest.raises(ValueError, match=message):
        write_media(tmp_path / name, frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ("mp4", "gif", "png"))
def test_a_failing_write_leaves_the_earlier_file(tmp_path, clip, ending):
    whole = io.BytesIO()
    PIL.Image.fromarray(np.random.randint(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)).save(whole, format="PNG")
    truncated = PIL.Image.open(io.BytesIO(whole.getvalue()[:-200]))
    path = tmp_path / f"clip.{ending}"
    write_media(path, clip)
    before = path.read_bytes()

    with pytest.raises(OSError, match="truncated"):
        write_media(path, [*clip, truncated])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
