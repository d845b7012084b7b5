# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import io

import av
import numpy as np
import PIL.Image
import pytest
import torch

from lumos_hf.image_reading import DECODERS, read_image_file, to_rgb
from lumos_hf.video_processor_lumos import LumosVideoProcessor


ORIENTATION = 0x0112
# What each orientation of a camera is undone by, on (height, width, 3).
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


def blocks(height=24, width=40):
    """Uniform squares of 8 by 8 pixels, which JPEG keeps about as they are."""
    colors = np.random.default_rng(0).integers(256, size=(height // 8, width // 8, 1)).repeat(3, axis=2)
    return colors.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return io.BytesIO(buffer.getvalue())


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", ("JPEG", "PNG", "WEBP", "TIFF"))
@pytest.mark.parametrize("decoder", DECODERS)
def test_images_are_upright(orientation, format, decoder):
    pixels = blocks()
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    image = read_image_file(encoded(PIL.Image.fromarray(pixels), format=format, exif=exif, **options), decoder=decoder)
    expected = UPRIGHT[orientation](pixels).astype(int)
    assert image.size == expected.shape[1::-1]
    assert np.abs(np.asarray(image) - expected).max() <= (4 if format == "JPEG" else 0)
    np.testing.assert_array_equal(to_rgb(image), image)


def test_given_images_are_upright_too():
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 5
    file = encoded(PIL.Image.fromarray(blocks(64, 32)), format="PNG", exif=exif)
    with PIL.Image.open(file) as image:
        pixels = LumosVideoProcessor().preprocess_image(image, 32, 64)
    upright = PIL.Image.fromarray(np.ascontiguousarray(UPRIGHT[5](blocks(64, 32))))
    assert torch.equal(pixels, LumosVideoProcessor().preprocess_image(upright, 32, 64))


@pytest.mark.parametrize("format", ("PNG", "TIFF"))
def test_grey_of_16_bits_keeps_its_range(format):
    levels = np.arange(0, 65536, 257 * 5, dtype=np.uint16).reshape(4, 13)
    image = read_image_file(encoded(PIL.Image.fromarray(levels), format=format))
    np.testing.assert_array_equal(np.asarray(image), (levels // 257)[..., None].repeat(3, axis=2))
    with PIL.Image.open(encoded(PIL.Image.fromarray(levels), format=format)) as given:
        np.testing.assert_array_equal(to_rgb(given), image)


@pytest.mark.parametrize("mode", ("L", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"))
def test_modes_have_the_colours_that_they_show(mode):
    image = PIL.Image.fromarray(blocks()).convert("L" if mode in "IF" else "RGB").convert(mode)
    assert np.abs(np.asarray(to_rgb(image)).astype(int) - blocks()).max() <= 2


def test_cmyk_of_a_camera_or_printer_is_the_same_by_both_decoders():
    file = encoded(PIL.Image.fromarray(blocks()).convert("CMYK"), format="JPEG")
    first, second = (np.asarray(read_image_file(io.BytesIO(file.getvalue()), decoder=decoder)) for decoder in DECODERS)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first.astype(int) - blocks()).max() <= 6


def test_transparent_pixels_of_a_palette_keep_their_colour():
    image = PIL.Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    file = encoded(image, format="PNG", transparency=1)
    assert np.unique(np.asarray(read_image_file(file)).reshape(-1, 3), axis=0).tolist() == [[10, 200, 30]]


def test_the_decoders_of_a_jpeg_are_what_they_say():
    noise = np.random.default_rng(0).integers(256, size=(32, 48, 3), dtype=np.uint8)
    file = encoded(PIL.Image.fromarray(noise), format="JPEG")
    with PIL.Image.open(file) as image:
        np.testing.assert_array_equal(read_image_file(io.BytesIO(file.getvalue())), image)
    with av.open(io.BytesIO(file.getvalue())) as container:
        by_ffmpeg = next(container.decode(video=0)).to_ndarray(format="rgb24")
    read = read_image_file(io.BytesIO(file.getvalue()), decoder="ffmpeg")
    np.testing.assert_array_equal(read, by_ffmpeg)
    assert (by_ffmpeg != np.asarray(read_image_file(io.BytesIO(file.getvalue())))).any()


@pytest.mark.parametrize("format", ("PNG", "GIF", "JPEG", "BMP"))
def test_larger_images_than_allowed_are_not_decoded(format):
    file = encoded(PIL.Image.new("L", (100, 50)), format=format)
    with pytest.raises(ValueError, match="the picture has 100x50 pixels, more than the 4999 that `max_pixels` allows"):
        read_image_file(file, max_pixels=4999)
    file.seek(0)
    assert read_image_file(file, max_pixels=5000).size == (100, 50)


def test_the_limit_may_be_above_that_of_pillow(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image_file(encoded(PIL.Image.new("L", (10, 5)), format="PNG")).size == (10, 5)
    assert PIL.Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no image", "it is no image in BMP, GIF, JPEG, PNG, TIFF, WEBP"),
        # Pillow starts Ghostscript for these.
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "it is no image in"),
        (encoded(PIL.Image.fromarray(blocks()), format="PNG").getvalue()[:-30], "the file cannot be read"),
        (encoded(PIL.Image.fromarray(blocks()), format="JPEG").getvalue()[:-90], "the file cannot be read"),
    ],
)
@pytest.mark.parametrize("decoder", DECODERS)
def test_broken_files_are_told(content, message, decoder):
    with pytest.raises(ValueError, match=message):
        read_image_file(io.BytesIO(content), decoder=decoder)


def test_unknown_decoders_are_refused():
    with pytest.raises(ValueError, match="`decoder` must be one of"):
        read_image_file(io.BytesIO(b""), decoder="opencv")


@pytest.mark.parametrize("format", ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"))
def test_damaged_files_are_read_or_told(format):
    content = encoded(PIL.Image.fromarray(blocks()), format=format).getvalue()
    rng = np.random.default_rng(0)
    num_told = 0
    for _ in range(100):
        damaged = bytearray(content)
        for place in rng.integers(len(damaged), size=rng.integers(1, 9)):
            damaged[place] = rng.integers(256)
        for decoder in DECODERS:
            try:
                assert read_image_file(io.BytesIO(damaged), decoder=decoder, max_pixels=10_000).mode == "RGB"
            except ValueError:
                num_told += 1
    assert num_told > 0
