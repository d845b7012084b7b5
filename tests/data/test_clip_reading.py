# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import hashlib
import io
import resource
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from lumos_hf.data.clip_reading import ClipReader, _decode, _read_timeline
from lumos_hf.media import write_media
from lumos_hf.video_processor_lumos import resize_and_crop


READER = ClipReader(num_frames=3, fps=5, position="middle", height=32, width=32, buckets=False, seed=0)
# Frame k of a numbered clip is grey of this level times k, which survives lossy compression.
STEP = 10

OFFICIAL_VIDEO = Path(__file__).parents[3] / "shared" / "official" / "media" / "01.mp4"
THREADS = Path("/proc/self/task")


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


OFFICIAL = replace(READER, num_frames=84, fps=12, height=32, width=64, frames="official")


def write_counted(path, num_frames, rate):
    """Frame n is grey of n % 16 on the left and of n // 16 on the right."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for number in range(num_frames):
            levels = np.repeat([number % 16, number // 16], 32)[None, :, None] * 8 + np.zeros((32, 1, 3), int)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(levels.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())


def counts(frames):
    left, right = (np.round(frames[:, :, part].mean(axis=(1, 2, 3)) / 8) for part in (slice(4, 28), slice(36, 60)))
    return (left + 16 * right).astype(int).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "num_frames", "step"),
    [
        (Fraction(24000, 1001), 91, 1),
        (24, 171, 2),
        (25, 168, 2),
        (Fraction(30000, 1001), 200, 2),
        (50, 401, 4),
        (60, 430, 5),
    ],
)
def test_official_frames_are_counted_around_the_middle(tmp_path, rate, num_frames, step):
    write_counted(tmp_path / "clip.mp4", num_frames, rate)
    start = num_frames // 2 - 84 * step // 2
    assert counts(read(OFFICIAL, tmp_path / "clip.mp4")) == list(range(start, start + 84 * step, step))
    # What training on 2 seconds sees of them.
    first = read(replace(OFFICIAL, num_frames=25), tmp_path / "clip.mp4")
    assert counts(first) == list(range(start, start + 25 * step, step))


@pytest.mark.parametrize(
    ("rate", "num_frames", "message"),
    [
        (25, 167, "too short: 167 of the 168 frames around which the official ones are"),
        (10, 100, "the official frames need a clip of at least 12 frames per second"),
    ],
)
def test_clips_too_short_for_the_official_frames_are_refused(tmp_path, rate, num_frames, message):
    write_counted(tmp_path / "clip.mp4", num_frames, rate)
    with pytest.raises(ValueError, match=message):
        read(OFFICIAL, tmp_path / "clip.mp4")


@pytest.mark.skipif(not OFFICIAL_VIDEO.is_file(), reason="the official video is not at hand")
def test_official_frames_of_the_official_video():
    with av.open(str(OFFICIAL_VIDEO)) as container:
        timestamps = sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)
    with OFFICIAL_VIDEO.open("rb") as file:
        chosen = OFFICIAL._choose_official(_read_timeline(file, OFFICIAL.max_pixels))
    assert [timestamps.index(timestamp) for timestamp in chosen] == list(range(94, 261, 2))


@pytest.mark.skipif(not THREADS.is_dir(), reason="the system lists no threads there")
def test_decoders_have_no_threads_that_forked_processes_would_wait_for(write_numbered):
    before = len(list(THREADS.iterdir()))
    with write_numbered(9, 5, "clip.mp4", size=(64, 64)).open("rb") as file:
        timestamps = _read_timeline(file, READER.max_pixels).timestamps
        frames = _decode(file, set(timestamps), READER.max_pixels)
        next(frames)
        assert len(list(THREADS.iterdir())) == before


def test_larger_pictures_than_allowed_are_not_decoded(tmp_path, write_numbered):
    for name in ("clip.mp4", "clip.gif"):
        path = write_numbered(3, 5, name, size=(64, 64))
        assert len(read(replace(READER, max_pixels=64 * 64), path)) == 3
        with pytest.raises((ValueError, av.error.ArgumentError)):
            read(replace(READER, max_pixels=64 * 64 - 1), path)


def test_a_gif_with_a_huge_canvas_is_refused_before_it_is_decoded(tmp_path):
    write_media(
        tmp_path / "bomb.gif", [PIL.Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")], fps=5
    )
    content = bytearray((tmp_path / "bomb.gif").read_bytes())
    content[6:10] = (16000).to_bytes(2, "little") * 2
    (tmp_path / "bomb.gif").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(av.error.ArgumentError):
        read(READER, tmp_path / "bomb.gif")
    # In kilobytes. Decoded, it takes 7 GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
m=video 5004 RTP/AVP 96
a=rtpmap:96 H264/90000
"""


@pytest.mark.parametrize("name", ("x.mp4", "x.mkv", "x.avi", "x.gif", None))
@pytest.mark.parametrize(
    "text",
    [
        SDP,
        "ffconcat version 1.0\nfile clip.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nclip.mp4\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    ],
)
def test_files_open_nothing_else(write_numbered, tmp_path, monkeypatch, name, text):
    write_numbered(3, 5)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / (name or "contents")
    path.write_text(text)
    with path.open("rb") as file, pytest.raises(av.FFmpegError):
        READER.read(file if name else io.BytesIO(file.read()), is_image=False)


def test_contents_without_a_name_are_opened_if_they_are_of_a_listed_kind(write_numbered):
    for name in ("clip.mp4", "clip.gif"):
        content = io.BytesIO(write_numbered(3, 5, name).read_bytes())
        assert READER.read(content, is_image=False)[0].shape == (3, 32, 32, 3)
