# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import hashlib
from dataclasses import replace

import av
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from lumos_hf.data.clip_reading import ClipReader
from lumos_hf.media import write_media
from lumos_hf.video_processor_lumos import resize_and_crop


READER = ClipReader(num_frames=3, fps=5, position="middle", height=32, width=32, buckets=False, seed=0)
# Frame k of a numbered clip is grey of this level times k, which survives lossy compression.
STEP = 10


@pytest.fixture
def write_numbered(tmp_path):
    """Writes a clip whose frames tell their number."""

    def write(num_frames, fps, name="clip.mp4", size=(32, 32)):
        frames = [PIL.Image.new("RGB", size, (STEP * number,) * 3) for number in range(num_frames)]
        write_media(tmp_path / name, frames, fps)
        return tmp_path / name

    return write


def read(reader, path, is_image=False):
    with path.open("rb") as file:
        return reader.read(file, is_image)[0]


def numbers(reader, path):
    return np.round(read(reader, path).mean(axis=(1, 2, 3)) / STEP).astype(int).tolist()


@pytest.mark.parametrize("name", ("clip.mp4", "clip.gif"))
@pytest.mark.parametrize(
    ("num_frames", "fps", "position", "expected"),
    [
        (3, 5, "middle", [0, 1, 2]),
        (9, 5, "middle", [3, 4, 5]),
        (10, 5, "middle", [3, 4, 5]),
        (9, 5, "start", [0, 1, 2]),
        (9, 10, "middle", [2, 4, 6]),
        (20, 20, "start", [0, 4, 8]),
        (2, 2, "start", [0, 0, 0]),
        (4, 4, "start", [0, 0, 1]),
    ],
)
def test_frames_follow_each_other_at_the_asked_rate(write_numbered, name, num_frames, fps, position, expected):
    path = write_numbered(num_frames, fps, name)
    assert numbers(replace(READER, position=position), path) == expected


def test_gifs_that_keep_equal_frames_once_last_as_long(tmp_path):
    colors = ["black"] * 3 + ["white"] * 3
    write_media(tmp_path / "clip.gif", [PIL.Image.new("RGB", (32, 32), color) for color in colors], fps=5)
    with PIL.Image.open(tmp_path / "clip.gif") as gif:
        assert gif.n_frames == 2
    frames = read(replace(READER, num_frames=6), tmp_path / "clip.gif")
    assert frames.mean(axis=(1, 2, 3)).tolist() == [0, 0, 0, 255, 255, 255]


def test_frames_in_the_middle_are_found_from_a_keyframe(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"g": "4", "bf": "2"})
        stream.width = stream.height = 32
        for number in range(20):
            frame = PIL.Image.new("RGB", (32, 32), (STEP * number,) * 3)
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    assert numbers(READER, path) == [8, 9, 10]


def test_random_places_depend_on_seed_and_contents_alone(write_numbered):
    path = write_numbered(20, 5)
    copy = path.with_name("copy.mp4")
    copy.write_bytes(path.read_bytes())
    reader = replace(READER, position="random")
    starts = [numbers(replace(reader, seed=seed), path)[0] for seed in range(12)]
    assert starts == [numbers(replace(reader, seed=seed), copy)[0] for seed in range(12)]
    assert len(set(starts)) > 4 and min(starts) >= 0 and max(starts) <= 17


def test_the_checksum_is_that_of_the_file(write_numbered):
    path = write_numbered(3, 5)
    with path.open("rb") as file:
        assert READER.read(file, is_image=False)[1] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_image_is_one_frame_cropped_by_the_official_rule(tmp_path):
    image = PIL.Image.fromarray(np.random.randint(256, size=(70, 150, 3), dtype=np.uint8))
    image.save(tmp_path / "image.png")
    frames = read(READER, tmp_path / "image.png", is_image=True)
    np.testing.assert_array_equal(frames, np.asarray(resize_and_crop(image, 32, 32))[None])


def test_buckets_keep_about_the_shape(write_numbered):
    reader = replace(READER, height=64, width=64, buckets=True)
    assert read(reader, write_numbered(3, 5, size=(64, 64))).shape == (3, 64, 64, 3)
    assert read(reader, write_numbered(3, 5, size=(200, 50))).shape == (3, 32, 128, 3)
    assert read(reader, write_numbered(3, 5, size=(50, 100))).shape == (3, 64, 32, 3)


def test_turned_pictures_are_turned_upright(tmp_path):
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:32] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    PIL.Image.fromarray(halves).save(path, exif=exif)
    with PIL.Image.open(path) as image:
        upright = np.asarray(PIL.ImageOps.exif_transpose(image).resize((32, 32)))
    assert np.abs(read(READER, path, is_image=True)[0].astype(int) - upright).mean() < 8


@pytest.mark.parametrize(
    ("num_frames", "fps", "message"),
    [(2, 5, "too short: 2 of 3 frames at 5"), (4, 10, "too short: 2 of 3"), (1, 5, "too short: 1 of 3")],
)
def test_short_clips_are_refused(write_numbered, num_frames, fps, message):
    with pytest.raises(ValueError, match=message):
        read(READER, write_numbered(num_frames, fps))


@pytest.mark.parametrize("name", ("image.png", "image.jpg", "image.webp", "image.bmp"))
def test_cut_images_are_refused(tmp_path, name):
    path = tmp_path / name
    PIL.Image.fromarray(np.random.randint(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="the file cannot be read"):
        read(READER, path, is_image=True)


def test_files_without_pictures_are_refused(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="the file is empty"):
        read(READER, tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no video" * 100)
    with pytest.raises(av.FFmpegError):
        read(READER, tmp_path / "text.mp4")
