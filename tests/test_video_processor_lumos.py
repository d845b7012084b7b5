# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import io

import numpy as np
import PIL.Image
import pytest
import torch

from lumos_hf.video_processor_lumos import (
    LumosVideoProcessor,
    choose_crop_size,
    crop_budget,
    crop_sizes,
    read_image,
    resize_and_crop,
)


def random_pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def random_image(height=40, width=70, seed=0):
    return PIL.Image.fromarray(random_pixels(height, width, 3, seed=seed))


@pytest.fixture
def processor():
    return LumosVideoProcessor()


# Sizes


@pytest.mark.parametrize(
    "size, budget",
    [
        ((256, 448), 11 * 11),
        ((384, 672), 16 * 16),
        ((480, 768), 20 * 20),
        ((480, 832), 20 * 20),
        ((32, 32), 1),
        ((32, 64), 4),
        ((64, 64), 4),
        ((96, 96), 9),
    ],
)
def test_crop_budget(size, budget):
    assert crop_budget(*size) == budget


@pytest.mark.parametrize(
    "size", [(256, 448), (384, 672), (480, 832), (32, 32), (64, 64), (64, 96), (96, 64), (32, 128)]
)
def test_an_image_of_the_default_size_is_not_cropped(size):
    height, width = choose_crop_size(*size, crop_budget(*size))
    assert height * size[1] == width * size[0]


def test_crop_sizes_fit_the_budget():
    for max_blocks in (1, 2, 3, 4, 9, 121):
        sizes = crop_sizes(max_blocks)
        assert sizes
        for height, width in sizes:
            assert height % 32 == width % 32 == 0
            assert height * width <= max_blocks * 32 * 32
            assert max(height, width) <= 4 * min(height, width)


@pytest.mark.parametrize("height, width", [(0, 64), (64, -32), (40, 64), (64, 65)])
def test_bad_sizes(height, width):
    name = "height" if height in (0, 40) else "width"
    with pytest.raises(ValueError, match=f"`{name}` must be a positive multiple of 32, got"):
        crop_budget(height, width)


# Pixels


@pytest.mark.parametrize("height, width", [(32, 64), (64, 32), (96, 96)])
@pytest.mark.parametrize("image_size", [(17, 300), (300, 17), (40, 70), (64, 64), (500, 511), (1, 1)])
def test_resize_and_crop_gives_the_size_asked_for(height, width, image_size):
    assert resize_and_crop(random_image(*image_size), height, width).size == (width, height)


def test_an_image_of_the_right_size_is_kept(processor):
    image = random_image(32, 64)
    pixels = processor.preprocess_image(image, 32, 64)
    assert pixels.shape == (1, 3, 1, 32, 64) and pixels.dtype == torch.float32
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1).double() / 255 * 2 - 1
    assert torch.equal(pixels[0, :, 0], expected.float())


def test_the_middle_is_kept(processor):
    image = PIL.Image.new("RGB", (96, 32), "red")
    image.paste("blue", (32, 0, 64, 32))
    pixels = processor.preprocess_image(image, 32, 32)
    assert (pixels[:, 2] == 1).all() and (pixels[:, 0] == -1).all()


def test_all_kinds_of_images_are_equal(processor):
    values = random_pixels(40, 70, 3)
    tensor = torch.from_numpy(values).permute(2, 0, 1)
    expected = processor.preprocess_image(PIL.Image.fromarray(values), 32, 64)
    kinds = [values, values / 255, (values / 255).astype(np.float32), tensor, tensor / 255, (tensor / 255).double()]
    for image in kinds:
        assert torch.equal(processor.preprocess_image(image, 32, 64), expected)
        assert torch.equal(processor.preprocess_image([image], 32, 64), expected)
        assert torch.equal(processor.preprocess_image(image[None], 32, 64), expected)
        assert torch.equal(processor.preprocess_video([image], 32, 64), expected)
        assert torch.equal(processor.preprocess_video(image[None], 32, 64), expected)
        assert torch.equal(processor.preprocess_video(image[None, None], 32, 64), expected)


@pytest.mark.parametrize(
    "grey", [random_pixels(32, 64), random_pixels(32, 64, 1), torch.rand(32, 64), torch.rand(1, 32, 64)]
)
def test_grey_images(processor, grey):
    pixels = processor.preprocess_image([grey], 32, 64)
    assert torch.equal(pixels[:, 0], pixels[:, 1]) and torch.equal(pixels[:, 0], pixels[:, 2])


def test_images_in_other_modes(processor):
    rgb = random_image(32, 64)
    with_alpha = rgb.copy()
    with_alpha.putalpha(128)
    assert torch.equal(processor.preprocess_image(with_alpha, 32, 64), processor.preprocess_image(rgb, 32, 64))
    assert processor.preprocess_image(rgb.convert("L"), 32, 64).shape == (1, 3, 1, 32, 64)


def test_batches_of_images(processor):
    images = [random_image(seed=seed) for seed in range(3)]
    pixels = processor.preprocess_image(images, 32, 64)
    assert pixels.shape == (3, 3, 1, 32, 64)
    for row, image in enumerate(images):
        assert torch.equal(pixels[row : row + 1], processor.preprocess_image(image, 32, 64))


def test_batches_of_videos(processor):
    values = random_pixels(2, 5, 40, 70, 3)
    expected = processor.preprocess_video(values, 32, 64)
    assert expected.shape == (2, 3, 5, 32, 64)
    tensor = torch.from_numpy(values).permute(0, 1, 4, 2, 3)
    images = [[PIL.Image.fromarray(frame) for frame in clip] for clip in values]
    for videos in (tensor, list(values), list(tensor), images, [list(clip) for clip in values]):
        assert torch.equal(processor.preprocess_video(videos, 32, 64), expected)
    for row, clip in enumerate(images):
        assert torch.equal(processor.preprocess_video(clip, 32, 64), expected[row : row + 1])


def test_the_shape_chooses_the_size(processor):
    assert processor.preprocess_image(random_image(100, 200), max_blocks=4).shape[-2:] == (32, 64)
    assert processor.preprocess_image(random_image(100, 100), max_blocks=4).shape[-2:] == (64, 64)
    clip = [random_image(200, 100), random_image(100, 100)]
    assert processor.preprocess_video(clip, max_blocks=4).shape == (1, 3, 2, 64, 32)


def test_pixels_come_back_within_one_level(processor):
    """Values are cut off, as in the official code, so that rounding errors may cost one level."""
    image = random_image(32, 64)
    ((frame,),) = processor.postprocess_video(processor.preprocess_image(image, 32, 64), "pil")
    difference = np.array(image).astype(int) - np.array(frame)
    assert difference.min() >= 0 and difference.max() <= 1


def test_pil_output_is_cut_off_and_clamped(processor):
    decoded = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 2.0]).expand(1, 3, 1, 1, 6)
    ((frame,),) = processor.postprocess_video(decoded, "pil")
    assert np.array(frame)[0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


# Bad input


def broken_image():
    file = io.BytesIO()
    random_image().save(file, format="PNG")
    return PIL.Image.open(io.BytesIO(file.getvalue()[:2000]))


@pytest.mark.parametrize(
    "image, message",
    [
        ("kite.png", "`image` must consist of PIL images, numpy arrays or torch tensors, got <class 'str'>"),
        (None, "`image` must consist of PIL images, .* got <class 'NoneType'>"),
        (broken_image(), "`image` must be readable, got a broken image file"),
        (PIL.Image.new("RGB", (0, 8)), "`image` must consist of images of at least one pixel, got 0x8 pixels"),
        (np.zeros((8, 0, 3), dtype=np.uint8), "`image` must consist of images of at least one pixel, got 0x8 pixels"),
        (torch.zeros(4, 8, 8), r"`image` must consist of images with 1 or 3 channels, got .* \(4, 8, 8\)"),
        (np.zeros(8), r"`image` must consist of images with 1 or 3 channels, got .* \(8,\)"),
        (np.zeros((8, 8, 3), dtype=int), "`image` must have dtype uint8 or a floating-point dtype, got int64"),
        (np.full((8, 8, 3), 200.0), r"`image` must have floating-point values in \[0, 1\], got values from 200.0"),
        (torch.full((3, 8, 8), -0.5), r"`image` must have floating-point values in \[0, 1\], got values from -0.5"),
        (
            torch.full((3, 8, 8), torch.nan),
            r"`image` must have floating-point values in \[0, 1\], got values from nan",
        ),
    ],
)
def test_images_that_cannot_be_read(image, message):
    with pytest.raises(ValueError, match=message):
        read_image("image", image)


@pytest.mark.parametrize(
    "video, message",
    [
        ("kite.mp4", "`video` must be a list of images, .* got <class 'str'>"),
        (random_image(), "`video` must be a list of images, .* got <class 'PIL.Image.Image'>"),
        (random_pixels(8, 8, 3), r"`video` must be a list of images, .* of shape \(8, 8, 3\)"),
        ([], "`video` must have at least one frame, got 0"),
        ([[]], "`video` must have at least one frame, got 0"),
        (np.zeros((0, 8, 8, 3)), "`video` must have at least one frame, got 0"),
        (
            [[random_image()], [random_image()] * 2],
            r"`video` must hold videos of the same number of frames, got \[1, 2\]",
        ),
        ([random_image(), "kite.png"], "`video` must consist of PIL images, .* got <class 'str'>"),
        (
            [[random_image(100, 200)], [random_image(200, 100)]],
            r"`video` must hold items of about the same shape, .* ask for the sizes .* \[\(32, 64\), \(64, 32\)\]",
        ),
    ],
)
def test_videos_that_cannot_be_read(processor, video, message):
    with pytest.raises(ValueError, match=message):
        processor.preprocess_video(video, max_blocks=4)


def test_no_images(processor):
    with pytest.raises(ValueError, match="`image` must hold at least one image, got none"):
        processor.preprocess_image([], 32, 64)
