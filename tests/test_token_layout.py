# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from lumos_hf.configuration_lumos import LumosConfig
from lumos_hf.token_layout import (
    UNKNOWN_CODE,
    check_text_ids,
    codes_from_frame_ids,
    content_positions,
    derive_layout,
    frame_ids_from_codes,
    frame_length,
    grid_size,
    num_latent_frames,
    prompt_ids,
    prompt_text,
    sequence_from_codes,
    video_duration,
    video_header_ids,
    visual_positions,
)


BOS = 0
IMAGE_END = 100
IMAGE_START = 101
SEPARATOR = 102
NEW_LINE = 103
SIZE = 104
MASK = 130
VIDEO_START = 131
VIDEO_END = 132
VISUAL = 140


@pytest.fixture
def config():
    return LumosConfig(
        vocab_size=200,
        eos_token_id=SEPARATOR,
        separator_token_id=SEPARATOR,
        image_start_token_id=IMAGE_START,
        image_end_token_id=IMAGE_END,
        new_line_token_id=NEW_LINE,
        size_token_offset=SIZE,
        mask_token_id=MASK,
        video_start_token_id=VIDEO_START,
        video_end_token_id=VIDEO_END,
        visual_token_offset=VISUAL,
        visual_vocab_size=60,
    )


def random_codes(*shape):
    return torch.randint(0, 60, shape, generator=torch.Generator().manual_seed(0))


def reference_layout(ids, config):
    """Positions and frame ids of one row without padding, token by token."""
    frames, start = [], None
    for index, token in enumerate(ids):
        if token == IMAGE_START:
            start = index
        elif token == IMAGE_END and start is not None:
            frames.append((start, index))
            start = None
    if VIDEO_START in ids and VIDEO_END in ids:
        frames = [(a, b) for a, b in frames if ids.index(VIDEO_START) < a and b < ids.index(VIDEO_END)]

    positions = [[index] * 3 for index in range(len(ids))]
    frame_ids = [-1] * len(ids)
    for number, (a, b) in enumerate(frames):
        base = frames[0][0] + 3
        rows, columns = (4 * (ids[a + side] - SIZE) for side in (1, 2))
        for index in range(a, b + 1):
            frame_ids[index] = number
        for content in range(min(rows * (columns + 1), b - a - 3)):
            row, column = divmod(content, columns + 1)
            positions[a + 3 + content] = [base + 4 * number, base + 8 * row, base + 8 * column]
    return torch.tensor(positions).T, torch.tensor(frame_ids)


def assert_layout_equals_reference(ids, config):
    position_ids, frame_ids = derive_layout(torch.tensor([ids]), config)
    expected_positions, expected_frames = reference_layout(ids, config)
    assert torch.equal(position_ids[:, 0], expected_positions)
    assert torch.equal(frame_ids[0], expected_frames)


def test_prompt_text_has_the_official_template():
    assert prompt_text("a red kite", height=384, width=672, duration=2, fps=12) == (
        "Generate a video with a resolution of 672x384, consisting of 24 frames at 12 frames per second, according to "
        "the following prompt:\n a red kite"
    )


@pytest.mark.parametrize(
    ("num_frames", "fps", "duration"), [(1, 12, 1), (25, 12, 2), (25, 24, 1), (13, 24, 1), (19, 12, 2), (33, 8, 4)]
)
def test_video_duration(num_frames, fps, duration):
    assert video_duration(num_frames, fps) == duration


@pytest.mark.parametrize(("num_frames", "latent_frames"), [(1, 1), (5, 2), (25, 7)])
def test_num_latent_frames(num_frames, latent_frames, config):
    assert num_latent_frames(num_frames, config) == latent_frames


def test_frame_layout(config):
    codes = random_codes(4, 8)
    ids = frame_ids_from_codes(codes, config)
    assert len(ids) == frame_length(4, 8) == 40
    assert ids[:3].tolist() == [IMAGE_START, SIZE + 1, SIZE + 2]
    assert ids[-1] == IMAGE_END
    assert torch.equal(ids[visual_positions(4, 8)], codes.flatten() + VISUAL)
    new_lines = set(content_positions(4, 8).tolist()) - set(visual_positions(4, 8).tolist())
    assert len(new_lines) == 4
    assert all(ids[position] == NEW_LINE for position in new_lines)


def test_codes_survive_the_round_trip(config):
    codes = random_codes(2, 3, 8, 4)
    codes[0, 1, :2] = UNKNOWN_CODE
    ids = frame_ids_from_codes(codes, config)
    assert ids.shape == (2, 3, frame_length(8, 4))
    assert (ids[0, 1] == MASK).sum() == 8
    assert torch.equal(codes_from_frame_ids(ids, 8, 4, config), codes)


def test_narrow_integer_codes_do_not_overflow(config):
    codes = torch.full((4, 4), 59, dtype=torch.uint8)
    assert frame_ids_from_codes(codes, config).dtype == torch.int64
    assert (codes_from_frame_ids(frame_ids_from_codes(codes, config), 4, 4, config) == 59).all()


def test_sequence_layout(config):
    codes = random_codes(2, 4, 4)
    prefix_ids = prompt_ids([7, 8, 9], config)
    assert prefix_ids == [BOS, 7, 8, 9, SEPARATOR]
    header_ids = video_header_ids(2, 12, config)
    assert header_ids == [VIDEO_START, SIZE + 2, SIZE + 12]

    frames = frame_ids_from_codes(codes, config).flatten().tolist()
    closed = sequence_from_codes(prefix_ids, codes, 2, 12, config)
    assert closed.tolist() == [*prefix_ids, *header_ids, *frames, VIDEO_END, SEPARATOR]
    still_open = sequence_from_codes(prefix_ids, codes, 2, 12, config, closed=False)
    assert still_open.tolist() == [*prefix_ids, *header_ids, *frames]


@pytest.mark.parametrize("closed", (True, False))
@pytest.mark.parametrize("num_frames", (1, 3))
@pytest.mark.parametrize("text_ids", ([], [5, 6, 7]))
def test_layout_of_whole_sequences(text_ids, num_frames, closed, config):
    ids = sequence_from_codes(prompt_ids(text_ids, config), random_codes(num_frames, 4, 8), 1, 4, config, closed)
    assert_layout_equals_reference(ids.tolist(), config)


def test_layout_of_text(config):
    assert_layout_equals_reference([BOS, 5, 6, 7, SEPARATOR], config)


def test_masked_tokens_do_not_disturb_the_layout(config):
    ids = sequence_from_codes(prompt_ids([5], config), random_codes(2, 4, 8), 1, 4, config)
    masked_ids = ids.clone()
    masked_ids[len(ids) // 2 :][ids[len(ids) // 2 :] == NEW_LINE] = MASK
    assert all(
        torch.equal(a, b) for a, b in zip(derive_layout(ids[None], config), derive_layout(masked_ids[None], config))
    )


def test_only_frames_of_a_closed_video_count(config):
    frame = frame_ids_from_codes(random_codes(4, 4), config).tolist()
    assert_layout_equals_reference([BOS, *frame, VIDEO_START, *frame, VIDEO_END, *frame], config)
    assert_layout_equals_reference([BOS, *frame, VIDEO_START, *frame, *frame], config)
    assert_layout_equals_reference([BOS, *frame, VIDEO_END, *frame], config)


def test_malformed_frames_are_text(config):
    frame = frame_ids_from_codes(random_codes(4, 4), config).tolist()
    unfinished, unopened = frame[:-1], frame[1:]
    for ids in ([BOS, *unfinished], [BOS, *unopened], [IMAGE_START], [IMAGE_END, IMAGE_START]):
        position_ids, frame_ids = derive_layout(torch.tensor([ids]), config)
        assert torch.equal(position_ids[:, 0], torch.arange(len(ids)).expand(3, -1))
        assert (frame_ids == -1).all()
    assert_layout_equals_reference([BOS, *unfinished, *frame, *frame], config)


def test_frames_that_contradict_their_size_stay_inside_their_end(config):
    ids = [BOS, IMAGE_START, SIZE + 1, SIZE + 1, VISUAL, VISUAL, IMAGE_END, 5]
    assert_layout_equals_reference(ids, config)
    ids = [BOS, IMAGE_START, 5, 6, VISUAL, IMAGE_END, IMAGE_START, IMAGE_END]
    position_ids, frame_ids = derive_layout(torch.tensor([ids]), config)
    assert torch.equal(position_ids[:, 0], torch.arange(len(ids)).expand(3, -1))
    assert frame_ids.tolist() == [[-1, 0, 0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize("side", ("left", "right"))
def test_rows_of_a_padded_batch_are_independent(side, config):
    rows = [
        sequence_from_codes(prompt_ids([5, 6, 7], config), random_codes(2, 4, 8), 1, 4, config),
        sequence_from_codes([], random_codes(1, 8, 4), 1, 1, config, closed=False),
        torch.tensor(prompt_ids([9], config)),
    ]
    length = max(map(len, rows))
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    columns = [slice(length - len(row), length) if side == "left" else slice(0, len(row)) for row in rows]
    for index, row in enumerate(rows):
        input_ids[index, columns[index]] = row
        attention_mask[index, columns[index]] = 1

    position_ids, frame_ids = derive_layout(input_ids, config, attention_mask)
    assert position_ids.shape == (3, *input_ids.shape) and frame_ids.shape == input_ids.shape
    for index, row in enumerate(rows):
        row_positions, row_frames = derive_layout(row[None], config)
        assert torch.equal(position_ids[:, index, columns[index]], row_positions[:, 0])
        assert torch.equal(frame_ids[index, columns[index]], row_frames[0])
        assert (frame_ids[index][attention_mask[index] == 0] == -1).all()


def test_layout_tokens_in_padding_are_ignored(config):
    row = sequence_from_codes([], random_codes(1, 4, 4), 1, 1, config)
    noise = torch.tensor([VIDEO_START, VIDEO_END, IMAGE_START])
    attention_mask = torch.tensor([[0] * len(noise) + [1] * len(row)])
    position_ids, frame_ids = derive_layout(torch.cat([noise, row])[None], config, attention_mask)
    expected_positions, expected_frames = derive_layout(row[None], config)
    assert torch.equal(position_ids[..., len(noise) :], expected_positions)
    assert torch.equal(frame_ids[:, len(noise) :], expected_frames)


def test_one_dimensional_positions_are_the_plain_index(config):
    config.position_encoding = "rope_1d"
    ids = sequence_from_codes([], random_codes(2, 4, 4), 1, 1, config)
    position_ids, frame_ids = derive_layout(ids[None], config)
    assert torch.equal(position_ids, torch.arange(len(ids)).expand(3, 1, -1))
    assert frame_ids.max() == 1


def test_layout_reads_nothing_back_from_the_device(config):
    input_ids = torch.zeros(2, 50, dtype=torch.long, device="meta")
    position_ids, frame_ids = derive_layout(input_ids, config, torch.ones_like(input_ids))
    assert position_ids.device.type == frame_ids.device.type == "meta"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda config: grid_size(48, 64, config), "`height` must be a multiple of 32, got 48"),
        (lambda config: grid_size(64, 0, config), "`width` must be at least 1, got 0"),
        (lambda config: grid_size(64, 32 * 26, config), "`width` needs a number token from 1 to 25, got 26"),
        (lambda config: video_header_ids(0, 4, config), "`duration` needs a number token from 1 to 25, got 0"),
        (lambda config: video_header_ids(1, 26, config), "`fps` needs a number token from 1 to 25, got 26"),
        (lambda config: num_latent_frames(24, config), "`num_frames` must be 1 plus a multiple of 4, got 24"),
        (lambda config: num_latent_frames(0, config), "`num_frames` must be at least 1, got 0"),
        (lambda config: video_duration(5, 0), "`fps` must be at least 1, got 0"),
        (lambda config: frame_ids_from_codes(random_codes(4, 6), config), "`w` must be a whole number .* got 6"),
        (lambda config: codes_from_frame_ids(torch.zeros(40).long(), 4, 4, config), "whole frames of 24 tokens"),
        (
            lambda config: sequence_from_codes([], random_codes(4, 4), 1, 1, config),
            "shape \\(t, h, w\\), got \\(4, 4\\)",
        ),
        (
            lambda config: sequence_from_codes([], torch.full((1, 4, 4), 60), 1, 1, config),
            "0 to 59, got values from 60",
        ),
        (
            lambda config: sequence_from_codes([], torch.full((1, 4, 4), -2), 1, 1, config),
            "0 to 59, got values from -2",
        ),
        (
            lambda config: derive_layout(torch.zeros(1, 4).long(), config, torch.ones(1, 5)),
            "`attention_mask` must have the shape of `input_ids`, \\(1, 4\\), got \\(1, 5\\)",
        ),
    ],
)
def test_bad_input_is_refused(call, message, config):
    with pytest.raises(ValueError, match=message):
        call(config)


def test_text_is_neither_layout_nor_numbers_nor_codes(config):
    text_ids = set(range(1, IMAGE_END)) | set(range(VIDEO_END + 1, VISUAL))
    check_text_ids(sorted(text_ids), config)
    for token_id in set(range(-1, 201)) - text_ids:
        with pytest.raises(ValueError, match=f"token 1 of the text must be .*, got {token_id}"):
            check_text_ids([1, token_id, 2], config)
