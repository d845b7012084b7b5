# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Masks over pixels, and what of a given clip is made again."""

import numpy as np
import PIL.Image
import pytest
import torch
from tiny_pipelines import CAPTIONS, SMALL, ForwardCalls, H, W, codes_of, generators, random_codes, random_image

from lumos_hf.decoding.masks import blend_weights, outpainting_canvas, read_masks, touched_codes


HEIGHT, WIDTH, NUM_FRAMES = 32, 64, 9
VIDEO = [random_image(HEIGHT, WIDTH, seed=index) for index in range(NUM_FRAMES)]


def box(top, bottom, left, right, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[top:bottom, left:right] = 255
    return PIL.Image.fromarray(mask)


MASK = box(9, 15, 20, 40)


def edited(pipe, prompt="waves", **options):
    options = {**SMALL, "num_frames": None, "video": VIDEO, "mask": MASK, "generator": generators(0)[0], **options}
    return pipe(prompt, **options).frames


def given_codes(pipe):
    with torch.no_grad():
        return pipe.encode_video(pipe.video_processor.preprocess_video(VIDEO, HEIGHT, WIDTH))


@pytest.mark.slow
def test_every_touched_code_is_made_again_and_no_other(pipe):
    """Rows 9 to 14 lie in codes of row 1, columns 20 to 39 in those of columns 2 to 4."""
    made = []

    def callback(pipe, step, timestep, callback_kwargs):
        made.append((callback_kwargs["latents"] == -1).nonzero()[:, 1:].tolist())
        return {}

    codes = edited(pipe, output_type="latent", num_inference_steps=2, callback_on_step_end=callback)
    places = {tuple(place) for step in made for place in step}
    assert places <= {(1, 2), (1, 3), (1, 4)} and places
    differing = (codes != given_codes(pipe)).nonzero()
    assert {(row, column) for _, _, row, column in differing.tolist()} <= {(1, 2), (1, 3), (1, 4)}


@pytest.mark.slow
@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_pixels_outside_are_those_of_the_input(pipe, output_type):
    frames = edited(pipe, output_type=output_type)
    if output_type == "pil":
        frames = np.stack([np.asarray(frame) for frame in frames[0]])
    else:
        frames = frames[0] if output_type == "np" else frames[0].permute(0, 2, 3, 1).numpy()
        # Values of uint8 come back to the bit.
        frames = (frames * 255).astype(np.uint8)
    source = np.stack([np.asarray(frame) for frame in VIDEO])
    weights = blend_weights(torch.from_numpy(np.asarray(MASK) > 0)[None, None], 4)[0, 0].numpy()
    difference = np.abs(frames.astype(int) - source)
    assert difference[:, weights == 0].max() == 0
    assert difference[:, weights == 1].max() > 0
    # The seam is half a code wide.
    assert (weights > 0).nonzero()[0].min() == 9 - 4 and (weights == 1).sum() == 6 * 20


@pytest.mark.slow
def test_pixels_may_come_from_the_tokenizer(pipe):
    codes = edited(pipe, output_type="latent")
    with torch.no_grad():
        decoded = pipe.vqvae.decode(codes)
    frames = edited(pipe, output_type="pt", preserve_unmasked=False)
    torch.testing.assert_close(frames.transpose(1, 2), (decoded / 2 + 0.5).clamp(0, 1))


@pytest.mark.slow
def test_streams_and_sessions_of_edits(pipe, tmp_path):
    expected = edited(pipe, output_type="pt")
    options = {**SMALL, "video": VIDEO, "mask": MASK, "output_type": "pt"}
    parts = list(pipe.stream("waves", generator=generators(0)[0], **options))
    assert torch.equal(torch.cat(parts, dim=1), expected)
    session = pipe.session("waves", generator=generators(0)[0], **{**options, "num_frames": None})
    first = session.next()
    session.save(tmp_path / "session.safetensors")
    rest = list(pipe.load_session(tmp_path / "session.safetensors"))
    assert torch.equal(torch.cat([first, *rest], dim=1), expected)


@pytest.mark.slow
def test_edits_that_roll_keep_the_pixels_outside(pipe):
    frames = edited(pipe, output_type="pil", temporal_tile_size=5, temporal_overlap=1)[0]
    outside = blend_weights(torch.from_numpy(np.asarray(MASK) > 0)[None, None], 4)[0, 0].numpy() == 0
    assert len(frames) == NUM_FRAMES
    for frame, source in zip(frames, VIDEO, strict=True):
        np.testing.assert_array_equal(np.asarray(frame)[outside], np.asarray(source)[outside])


@pytest.mark.slow
def test_an_image_is_edited_and_may_move_afterwards(pipe):
    image = edited(pipe, video=None, image=VIDEO[0])[0]
    assert len(image) == 1
    clip = edited(pipe, video=None, image=VIDEO[0], num_frames=9)[0]
    assert len(clip) == 9
    outside = np.asarray(MASK)[:4] == 0
    np.testing.assert_array_equal(np.asarray(clip[0])[:4][outside], np.asarray(VIDEO[0])[:4][outside])


def test_masks_of_every_kind_are_the_same(pipe):
    array = np.asarray(MASK)
    expected = read_masks(MASK, VIDEO, "video", HEIGHT, WIDTH)
    assert expected.shape == (1, NUM_FRAMES, HEIGHT, WIDTH) and expected.sum() == NUM_FRAMES * 6 * 20
    kinds = [
        [MASK] * NUM_FRAMES,
        [[MASK] * NUM_FRAMES],
        array,
        array[..., None],
        array > 0,
        array / 255,
        np.stack([array] * NUM_FRAMES),
        torch.from_numpy(array.copy()),
        torch.from_numpy(array.copy())[None] > 0,
        torch.from_numpy(np.stack([array] * NUM_FRAMES)),
        MASK.convert("RGB"),
        MASK.convert("1"),
    ]
    for mask in kinds:
        assert torch.equal(read_masks(mask, VIDEO, "video", HEIGHT, WIDTH), expected)


def test_masks_are_cropped_like_the_frames():
    frames = [random_image(64, 64)] * 5
    mask = read_masks(box(0, 64, 0, 20, 64, 64), frames, "video", 32, 64)
    # The middle half of the height; the left 20 of 64 columns.
    assert torch.equal(mask[0, 0], torch.from_numpy(np.asarray(box(0, 32, 0, 20)) > 0))


def test_touched_codes():
    mask = torch.zeros(1, 9, 32, 64, dtype=torch.bool)
    mask[0, 0, 0, 0] = mask[0, 4, 8, 63] = mask[0, 5, 31, 7] = True
    assert touched_codes(mask, 8, 4).nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 1, 7], [0, 2, 3, 0]]


@pytest.mark.slow
def test_a_batch_equals_single_calls_for_unlike_masks(pipe):
    masks = [[box(0, 32, 8 * row, 8 * row + 9)] * (NUM_FRAMES if row % 2 else 1) for row in range(4)]
    options = {"output_type": "latent", "num_frames": 13}
    batch = edited(pipe, CAPTIONS, mask=masks, generator=generators(0, 1, 2, 3), **options)
    for row, caption in enumerate(CAPTIONS):
        single = edited(pipe, caption, mask=masks[row], generator=generators(row), **options)
        assert torch.equal(batch[row], single[0])
    shared = edited(pipe, CAPTIONS[:2], video=[VIDEO, VIDEO], generator=generators(0, 1), **options)
    assert torch.equal(shared[0], edited(pipe, CAPTIONS[0], generator=generators(0), **options)[0])


# Strength


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_strength_is_the_share_of_codes_that_are_made_again(pipe, strength):
    given = random_codes(1, 3, H, W)
    made = []

    def callback(pipe, step, timestep, callback_kwargs):
        made.append(int((callback_kwargs["latents"] == -1).sum()))
        return {}

    options = {"latents": given, "strength": strength, "num_inference_steps": 2, "callback_on_step_end": callback}
    codes = codes_of(pipe, "waves", **options, num_frames=None)
    assert codes.shape == given.shape
    num_same = (codes == given).flatten(2).sum(-1)
    assert (num_same >= H * W - round(strength * H * W)).all()
    if strength == 0:
        assert torch.equal(codes, given) and not made
    elif strength == 1:
        assert torch.equal(codes, codes_of(pipe, "waves", num_inference_steps=2))
    else:
        # Of 8 codes, cos(pi / 4) are left after the first of two steps.
        assert made == [5, 0] * 3


@pytest.mark.slow
@torch.no_grad()
def test_strength_keeps_the_codes_that_the_model_expects(code_pipe):
    """What it would have made itself stays before what it would not."""
    likely = codes_of(code_pipe, input_ids=[0, 5, 102], num_frames=1, guidance_scale=1.0)
    given = likely.clone()
    session = code_pipe.session(
        input_ids=[0, 5, 102], latents=likely, strength=0.5, output_type="latent", **{**SMALL, "guidance_scale": 1.0}
    )
    decoder = session._decoder
    branches = decoder._branches_up_to_date(is_guided=False)
    logits = decoder._all_logits(branches, torch.full_like(given[:, 0], -1))[0]
    worst = logits.argmin(dim=-1)
    given[0, 0, 0] = worst[:W]
    chosen = decoder.least_probable(given[:, 0], W, 1.0)
    assert chosen[0, 0].all() and chosen.sum() == W


@pytest.mark.slow
def test_strength_of_a_video_costs_a_pass_per_frame(pipe):
    with ForwardCalls(pipe.transformer) as calls:
        edited(pipe, mask=None, strength=0.5, guidance_scale=1.0, output_type="latent")
    # The prompt; for each frame one pass to judge it and three steps; two frames into the history.
    assert len(calls) == 1 + 3 * (1 + 3) + 2


# Outpainting


@pytest.mark.slow
def test_outpainting_keeps_the_clip_and_makes_the_rest(pipe):
    canvas, mask = outpainting_canvas(VIDEO, 64, 96)
    frames = edited(pipe, video=canvas, mask=mask, height=64, width=96)[0]
    assert frames[0].size == (96, 64)
    for frame, source in zip(frames, VIDEO, strict=True):
        # Without the seam of 4 pixels.
        inner = np.asarray(frame)[16 + 4 : 48 - 4, 16 + 4 : 80 - 4]
        np.testing.assert_array_equal(inner, np.asarray(source)[4:-4, 4:-4])
    assert np.asarray(mask).sum() == 255 * (64 * 96 - 32 * 64)
    corner, _ = outpainting_canvas(VIDEO[0], 64, 64, top=0, left=0)
    assert len(corner) == 1
    np.testing.assert_array_equal(np.asarray(corner[0])[:32], np.asarray(VIDEO[0]))


# Bad input


BAD_EDITS = {
    "another size": ({"mask": box(0, 4, 0, 4, 16, 16)}, "`mask` must have the size of the frames, 64x32 .* got 16x16"),
    "another count": ({"mask": [MASK] * 4}, "`mask` must be one for all frames or 9, one per frame, got 4"),
    "clips": ({"mask": [[MASK], [MASK]]}, "`mask` must be for all prompts or 1, one per prompt, got 2"),
    "nothing": ({"mask": box(0, 0, 0, 0)}, r"`mask` must cover a part .* \(number 0\) that covers nothing"),
    "everything": ({"mask": box(0, 32, 0, 64)}, r"`mask` must cover a part .* covers everything"),
    "empty": ({"mask": []}, "`mask` must hold at least one mask"),
    "no image": ({"mask": "mask.png"}, "`mask` must consist of PIL images"),
    "no video": ({"video": None}, "`mask` must be given with `image` or `video`"),
    "strength with mask": ({"strength": 0.5}, "`strength` must be None with `mask`"),
    "strength of nothing": ({"video": None, "mask": None, "strength": 0.5}, "`strength` must be given with `image`"),
    "high strength": ({"mask": None, "strength": 1.5}, r"`strength` must be a number in \[0, 1\], got 1.5"),
    "low strength": ({"mask": None, "strength": -0.1}, r"`strength` must be a number in \[0, 1\], got -0.1"),
    "strength of holes": (
        {"mask": None, "video": None, "latents": torch.full((1, 3, H, W), -1), "strength": 0.5},
        "`strength` must be given with `latents` that are complete",
    ),
    "no choice": ({"preserve_unmasked": "yes"}, "`preserve_unmasked` must be True, False or None, got 'yes'"),
    "choice without mask": (
        {"mask": None, "preserve_unmasked": True},
        "`preserve_unmasked` must be None without `mask`",
    ),
}


@pytest.mark.parametrize("options, message", BAD_EDITS.values(), ids=BAD_EDITS.keys())
def test_bad_edits(pipe, options, message):
    with ForwardCalls(pipe.transformer) as calls, pytest.raises(ValueError, match=message):
        edited(pipe, **options)
    assert not calls


def test_clips_that_do_not_fit_a_canvas():
    with pytest.raises(ValueError, match="`left` must leave room for 64 pixels on a canvas of 96, got 40"):
        outpainting_canvas(VIDEO, 32, 96, left=40)
    with pytest.raises(ValueError, match="`top` must leave room for 32 pixels on a canvas of 16, got -8"):
        outpainting_canvas(VIDEO, 16, 96)
    with pytest.raises(ValueError, match="`video` must be one clip, got 2"):
        outpainting_canvas([VIDEO, VIDEO], 64, 96)
