# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import tracemalloc

import numpy as np
import PIL.Image
import pytest

from lumos_hf.partial_resize import enlarge_part
from lumos_hf.video_processor_lumos import resize_and_crop


@pytest.mark.parametrize("seed", range(150))
def test_the_part_is_what_pillow_makes_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    width, height = rng.integers(1, 40, 2).tolist()
    size = int(rng.integers(width, 200)), int(rng.integers(height, 200))
    left, top = (int(rng.integers(side)) for side in size)
    box = (left, top, int(rng.integers(left, size[0])) + 1, int(rng.integers(top, size[1])) + 1)
    # Black and white go beyond the range of values most.
    levels = [0, 255] if seed % 2 else range(256)
    image = PIL.Image.fromarray(rng.choice(levels, size=(height, width, 3)).astype(np.uint8))
    expected = image.resize(size, resample=PIL.Image.Resampling.BICUBIC).crop(box)
    np.testing.assert_array_equal(enlarge_part(image, size, box), expected)


@pytest.mark.parametrize("shape", [(400, 3), (3, 400), (1, 90), (200, 20)])
def test_elongated_images_are_cropped_as_others_are(shape):
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8))
    scale = max(64 / image.width, 32 / image.height)
    size = round(image.width * scale), round(image.height * scale)
    left, top = (size[0] - 64) // 2, (size[1] - 32) // 2
    whole = image.resize(size, resample=PIL.Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize_and_crop(image, 32, 64), whole.crop((left, top, left + 64, top + 32)))


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_much_elongated_images_need_little_memory(size):
    """The whole would have 27 and 14 billion pixels."""
    image = PIL.Image.new("RGB", size, (10, 20, 30))
    tracemalloc.start()
    try:
        crop = resize_and_crop(image, 384, 672)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert crop.size == (672, 384) and crop.getcolors() == [(672 * 384, (10, 20, 30))]
    assert peak < 64e6
