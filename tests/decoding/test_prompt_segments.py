# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Prompts that change on the way, see also test_session.py."""

import pytest
import torch
from tiny_pipelines import CAPTIONS, SMALL, H, W, codes_of, generators

from lumos_hf.decoding.prompt_segments import captions_by_latent_frame, rows_of_segments
from lumos_hf.token_layout import (
    UNKNOWN_CODE,
    frame_ids_from_codes,
    prompt_ids,
    prompt_text,
    video_duration,
    video_header_ids,
    visual_positions,
)


def segments(*pairs):
    return [{"start_frame": start, "text": text} for start, text in pairs]


def test_the_latent_frame_that_holds_the_start():
    rows = [segments((0, "a"), (1, "b"), (8, "c"), (24, "d"))]
    assert captions_by_latent_frame(rows, 100, 4) == [{0: "a", 1: "b", 2: "c", 6: "d"}]


@pytest.mark.slow
def test_frames_before_the_switch_stay_and_later_ones_follow_it(pipe):
    plain = codes_of(pipe, "waves", num_frames=17)
    switched = codes_of(pipe, "waves", num_frames=17, prompt_segments=segments((9, "a red kite")))
    assert torch.equal(switched[:, :3], plain[:, :3])
    assert not torch.equal(switched[:, 3], plain[:, 3])


@pytest.mark.slow
def test_segments_stand_for_the_prompt(pipe):
    expected = codes_of(pipe, "waves")
    assert torch.equal(codes_of(pipe, prompt_segments=segments((0, "waves"))), expected)
    assert torch.equal(codes_of(pipe, "grass", prompt_segments=segments((0, "waves"))), expected)
    # A text that is followed by itself is no switch.
    assert torch.equal(codes_of(pipe, prompt_segments=segments((0, "waves"), (4, "waves"))), expected)


@pytest.mark.slow
@pytest.mark.parametrize("switch", [1, 2])
def test_after_a_switch_a_video_is_what_a_fresh_call_makes_of_its_beginning(pipe, switch):
    """To the bit: with frames as they are given, a switch is a call with the new prompt and these frames."""
    given = torch.randint(60, (1, switch, H, W), generator=torch.Generator().manual_seed(5))
    options = {"latents": given, "num_frames": 13}
    fresh = codes_of(pipe, "a red kite", **options)
    switched = codes_of(pipe, "waves", prompt_segments=segments((4 * switch, "a red kite")), **options)
    # The frame that holds pixel frame 4 * switch is the last one that is given.
    assert torch.equal(switched, fresh)


@pytest.mark.slow
@torch.no_grad()
def test_logits_after_a_switch_are_those_of_a_fresh_pass(pipe):
    """Over the same tokens: the new prompt, the history as it is masked, the frame in hand."""
    session = pipe.session("waves", generator=generators(0)[0], output_type="latent", **SMALL)
    session.next(), session.next()
    session.prompt = "a red kite"
    session.next()
    decoder = session._decoder
    config = pipe.transformer.config
    unknown = torch.full((1, H, W), UNKNOWN_CODE)
    # Before the last frame was history.
    decoder.rewind(session._marks[-1].decoder)
    decoder.switch_prompts(*session._prompt_ids)
    logits = decoder._all_logits(decoder._branches_up_to_date(is_guided=True), unknown)

    history = decoder._past_ids()[0].flatten()
    text = prompt_text("a red kite", height=32, width=64, duration=video_duration(9, 4), fps=4)
    prefix = prompt_ids(pipe.tokenizer(text).input_ids, config)
    header = video_header_ids(video_duration(9, 4), 4, config)
    for branch_logits, ids_before in zip(logits, (prefix, []), strict=True):
        head = torch.tensor([*ids_before, *header])
        ids = torch.cat([head, history, frame_ids_from_codes(unknown[0], config)])
        fresh = pipe.transformer(input_ids=ids[None], use_cache=False).logits[0, len(head) + len(history) :]
        fresh = fresh[visual_positions(H, W), config.visual_token_offset :][:, : config.visual_vocab_size]
        torch.testing.assert_close(branch_logits, fresh, atol=5e-4, rtol=0)


@pytest.mark.slow
def test_a_batch_equals_single_calls_for_unlike_segments(pipe):
    rows = [
        segments((5, "a red kite")),
        segments((1, "grass"), (9, "a cat")),
        segments((0, "waves")),
        segments((9, "the blue kite climbs over the grass")),
    ]
    options = {"num_frames": 13}
    batch = codes_of(pipe, CAPTIONS, prompt_segments=rows, generator=generators(0, 1, 2, 3), **options)
    for row, caption in enumerate(CAPTIONS):
        single = codes_of(pipe, caption, prompt_segments=rows[row], generator=generators(row), **options)
        assert torch.equal(batch[row], single[0])


@pytest.mark.slow
def test_negative_prompts_and_several_videos_per_prompt(pipe):
    options = {"negative_prompt": "grass", "num_videos_per_prompt": 2, "prompt_segments": segments((5, "a red kite"))}
    batch = codes_of(pipe, "waves", generator=generators(0, 1), **options)
    options["num_videos_per_prompt"] = 1
    for row in range(2):
        assert torch.equal(batch[row], codes_of(pipe, "waves", generator=generators(row), **options)[0])


BAD_SEGMENTS = {
    "order": (segments((4, "waves"), (1, "grass")), r"must be in the order of their `start_frame`, got \[4, 1\]"),
    "overlap": (segments((1, "waves"), (3, "grass")), r"must not overlap: .* got the starts \[1, 3\]"),
    "behind the end": (segments((9, "waves")), r"must start before frame `num_frames` \(9\), got 9"),
    "negative start": (segments((-1, "waves")), "must be an integer of at least 0, got -1"),
    "empty": ([], "must be a non-empty list of dicts"),
    "no dicts": (["waves"], "must be a non-empty list of dicts"),
    "text": (segments((0, " ")), "must have texts that are not empty"),
    "keys": ([{"start": 0, "text": "waves"}], r"must have the keys \['start_frame', 'text'\]"),
    "rows": ([segments((0, "waves"))] * 2, "must be a list for all prompts or 1 lists, one per prompt, got 2"),
}


@pytest.mark.parametrize("value, message", BAD_SEGMENTS.values(), ids=BAD_SEGMENTS.keys())
def test_bad_segments(pipe, value, message):
    with pytest.raises(ValueError, match=message):
        codes_of(pipe, "waves", prompt_segments=value)


def test_segments_need_texts_from_the_first_frame_on(pipe):
    with pytest.raises(ValueError, match="must start at frame 0 without `prompt`"):
        codes_of(pipe, prompt_segments=segments((1, "waves")))
    with pytest.raises(ValueError, match="must be given with `prompt` or alone, got them with `input_ids`"):
        codes_of(pipe, input_ids=[0, 5, 102], prompt_segments=segments((0, "waves")))


def test_rows_of_segments():
    assert rows_of_segments(segments((0, "a"))) == [segments((0, "a"))]
    assert rows_of_segments([segments((0, "a")), segments((3, "b"))]) == [segments((0, "a")), segments((3, "b"))]
