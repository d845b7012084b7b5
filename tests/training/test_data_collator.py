# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import copy
import pickle

import numpy as np
import pytest
import torch
from tiny_models import NUM_CODES, VISUAL_TOKEN_OFFSET, tiny_batch_config, tiny_config
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments

from lumos_hf.modeling_lumos import LumosForCausalLM
from lumos_hf.token_layout import content_positions, prompt_ids, prompt_text, sequence_from_codes
from lumos_hf.training import DataCollatorForDiffusionForcing


VISUAL_VOCAB_SIZE = 64
TEXT_IDS = [11, 12, 13]
HEADER_LENGTH = 3


@pytest.fixture(scope="module")
def config():
    return tiny_batch_config(VISUAL_VOCAB_SIZE)


@pytest.fixture(scope="module")
def tokenizer():
    words = "generate a video red kite flies .".split()
    word_level = Tokenizer(
        models.WordLevel({word: 20 + number for number, word in enumerate([*words, "[unk]"])}, "[unk]")
    )
    word_level.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=word_level)


def make_codes(t=3, h=4, w=8, seed=0):
    return torch.randint(VISUAL_VOCAB_SIZE, (t, h, w), generator=torch.Generator().manual_seed(seed))


def make_feature(**changes):
    return {"codes": make_codes(), "text_ids": TEXT_IDS, "fps": 4, **changes}


def make_collator(config, **changes):
    return DataCollatorForDiffusionForcing(config, **{"prompt_drop_probability": 0, "seed": 0, **changes})


def clean_row(config, prefix_ids, codes, duration=2, fps=4):
    return sequence_from_codes(prefix_ids, codes, duration, fps, config)


def content_of_frames(rows, config, t=3, h=4, w=8, prefix_length=len(TEXT_IDS) + 2):
    """The content tokens of the frames of equal rows, `(B, t, content)`."""
    content = content_positions(h, w)
    frame_length = len(content) + 4
    start = prefix_length + HEADER_LENGTH
    return rows[:, start : start + t * frame_length].unflatten(1, (t, frame_length))[:, :, content]


def masks_of_batch(config, strategy, batch_size=400, **changes):
    batch = make_collator(config, strategy=strategy, **changes)([make_feature()] * batch_size)
    return content_of_frames(batch["input_ids"], config) == config.mask_token_id


def test_rows_are_the_clips_with_masks(config):
    batch = make_collator(config)([make_feature()])
    expected = clean_row(config, prompt_ids(TEXT_IDS, config), make_codes())
    masked = batch["input_ids"][0] == config.mask_token_id

    assert {name: (value.dtype, value.shape) for name, value in batch.items()} == {
        name: (torch.int64, (1, len(expected))) for name in ("input_ids", "labels", "attention_mask")
    }
    assert torch.equal(batch["input_ids"][0, ~masked], expected[~masked])
    is_labelled = masked & (expected >= config.visual_token_offset)
    assert torch.equal(batch["labels"][0], torch.where(is_labelled, expected, -100))
    assert (batch["attention_mask"] == 1).all()


def test_only_content_is_masked(config):
    batch = make_collator(config, minimum_mask_ratio=1.0)([make_feature()])
    is_masked = batch["input_ids"] == config.mask_token_id
    assert content_of_frames(is_masked, config).all()
    assert is_masked.sum() == 3 * 4 * 9
    assert (batch["labels"] != -100).sum() == 3 * 4 * 8


def test_clips_of_different_sizes_are_padded_on_the_right(config):
    features = [make_feature(), make_feature(codes=make_codes(1, 8, 4), fps=1, text_ids=[5])]
    batch = make_collator(config, minimum_mask_ratio=1.0)(features)
    short = clean_row(config, prompt_ids([5], config), make_codes(1, 8, 4), duration=1, fps=1)
    length = len(short)
    is_masked = batch["input_ids"][1, :length] == config.mask_token_id

    assert batch["attention_mask"].sum(dim=1).tolist() == [batch["input_ids"].shape[1], length]
    assert is_masked.sum() == 8 * 5
    assert torch.equal(batch["input_ids"][1, :length][~is_masked], short[~is_masked])
    assert (batch["input_ids"][1, length:] == config.pad_token_id).all()
    assert (batch["labels"][1, length:] == -100).all()
    assert (batch["attention_mask"][1, length:] == 0).all()


@pytest.mark.slow
def test_tube_repeats_one_mask_in_every_frame(config):
    masks = masks_of_batch(config, "tube")
    assert (masks == masks[:, :1]).all()
    assert len(masks[:, 0].unique(dim=0)) > 300
    assert masks.sum(dim=-1).unique().min() == 25


@pytest.mark.slow
def test_decaying_tube_masks_less_of_every_later_frame(config):
    masks = masks_of_batch(config, "decaying_tube", minimum_mask_ratio=0.3, mask_rate_decay=0.5)
    later, earlier = masks[:, 1:], masks[:, :-1]
    assert (later <= earlier).all()

    counts = masks.sum(dim=-1)
    first_rate = counts[:, :1] / 36
    expected = (first_rate * 0.5 ** torch.arange(3)).clamp(min=0.3) * 36
    # Counts are whole numbers, of the first frame too.
    assert (counts - expected).abs().max() <= 1
    # Only where the first rate is at the limit, which cos(pi/2 u) < 0.3 does in 19% of the draws, there is no decay.
    assert (counts[:, 1] < counts[:, 0]).double().mean().item() == pytest.approx(0.81, abs=0.06)
    assert counts.min() == 11


def test_decaying_tube_of_an_image_is_a_tube(config):
    feature = make_feature(codes=make_codes(t=1), seed=3)
    batches = [make_collator(config, strategy=strategy)([feature]) for strategy in ("tube", "decaying_tube")]
    assert torch.equal(*(batch["input_ids"] for batch in batches))


@pytest.mark.slow
def test_random_masks_every_frame_at_the_rate_of_its_clip(config):
    masks = masks_of_batch(config, "random")
    counts = masks.sum(dim=-1)
    assert (counts == counts[:, :1]).all()
    assert len(counts.unique()) > 5
    assert (masks[:, 0] != masks[:, 1]).any(dim=-1).double().mean() > 0.8


@pytest.mark.slow
def test_diffusion_forcing_has_a_rate_for_every_frame(config):
    counts = masks_of_batch(config, "diffusion_forcing").sum(dim=-1)
    assert (counts != counts[:, :1]).any(dim=1).double().mean() > 0.7
    assert counts.min() == 25


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ("tube", "random", "diffusion_forcing"))
def test_rates_follow_schedule_and_minimum(config, strategy):
    shares = masks_of_batch(config, strategy, mask_schedule="linear", minimum_mask_ratio=0.0).double().mean()
    assert shares.item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("strategy", ("tube", "decaying_tube", "random", "diffusion_forcing"))
def test_strategies_handle_mixed_sizes(config, strategy):
    features = [make_feature(), make_feature(codes=make_codes(2, 4, 4)), make_feature(codes=make_codes(1, 8, 12))]
    batch = make_collator(config, strategy=strategy, minimum_mask_ratio=1.0)(features)
    assert (batch["input_ids"] == config.mask_token_id).sum(dim=1).tolist() == [3 * 4 * 9, 2 * 4 * 5, 8 * 13]


def test_dropped_prompts_leave_the_unconditional_sequence(config):
    batch = make_collator(config, prompt_drop_probability=1.0)([make_feature()])
    expected = clean_row(config, [], make_codes())
    is_masked = batch["input_ids"][0] == config.mask_token_id
    assert torch.equal(batch["input_ids"][0, ~is_masked], expected[~is_masked])


@pytest.mark.slow
def test_share_of_dropped_prompts(config):
    batch = make_collator(config, prompt_drop_probability=0.1)([make_feature()] * 2000)
    dropped = batch["input_ids"][:, 0] == config.video_start_token_id
    assert dropped.double().mean().item() == pytest.approx(0.1, abs=0.03)


def test_captions_use_the_official_prompt(config, tokenizer):
    feature = {"codes": make_codes(), "caption": "a red kite flies .", "fps": 4}
    batch = make_collator(config, tokenizer=tokenizer)([feature])
    text = prompt_text("a red kite flies .", height=32, width=64, duration=2, fps=4)
    prefix = prompt_ids(tokenizer(text)["input_ids"], config)
    assert batch["input_ids"][0, : len(prefix)].tolist() == prefix


def test_captions_and_text_ids_mix(config, tokenizer):
    captions = ["a red kite", None, "a video", "a kite flies"]
    features = [
        {"codes": make_codes(), "caption": caption, "fps": 4} if caption else make_feature() for caption in captions
    ]
    batch = make_collator(config, tokenizer=tokenizer)(features)
    for row, feature in enumerate(features):
        alone = make_collator(config, tokenizer=tokenizer)([feature])["input_ids"][0]
        prefix_length = (alone == config.video_start_token_id).nonzero().item()
        assert torch.equal(batch["input_ids"][row, :prefix_length], alone[:prefix_length])


def test_captions_never_turn_into_layout(config):
    words = {"kite": 0, "[unk]": 1, "<video_end>": config.video_end_token_id}
    word_level = Tokenizer(models.WordLevel(words, "[unk]"))
    word_level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    collator = make_collator(config, tokenizer=PreTrainedTokenizerFast(tokenizer_object=word_level))
    feature = {"codes": make_codes(), "caption": "a <video_end> b", "fps": 4, "source": "kite.mp4"}
    with pytest.raises(
        ValueError,
        match=r"'kite.mp4'\): `caption` must be text to the tokenizer, .* token \d+ of the text must be text",
    ):
        collator([feature])


def test_a_layout_token_that_a_caption_spells_out_is_text(config):
    words = {"a": 0, "kite": 1, "[unk]": 2, "<video_end>": config.video_end_token_id}
    word_level = Tokenizer(models.WordLevel(words, "[unk]"))
    word_level.pre_tokenizer = pre_tokenizers.Punctuation()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=word_level)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<video_end>"]})
    assert tokenizer("a <video_end> kite").input_ids.count(config.video_end_token_id) == 1
    feature = {"codes": make_codes(), "caption": "a <video_end> kite", "fps": 4}
    input_ids = make_collator(config, tokenizer=tokenizer)([feature])["input_ids"][0].tolist()
    assert input_ids.count(config.video_end_token_id) == 1 and input_ids[-2] == config.video_end_token_id
    assert input_ids[0] == config.bos_token_id and input_ids.index(config.separator_token_id) > 5


@pytest.mark.parametrize("num_frames, duration", ((None, 3), (9, 3), (np.int64(9), 3)))
def test_header_numbers(config, num_frames, duration):
    batch = make_collator(config)([make_feature(fps=np.int64(3), num_frames=num_frames)])
    header = batch["input_ids"][0, len(TEXT_IDS) + 2 :][:HEADER_LENGTH] - config.size_token_offset
    assert header[1:].tolist() == [duration, 3]


@pytest.mark.parametrize(
    "convert",
    (
        lambda codes: codes.tolist(),
        lambda codes: codes.to(torch.int32),
        lambda codes: codes.numpy().astype(np.uint16),
    ),
)
def test_codes_of_any_integer_type(config, convert):
    expected = make_collator(config)([make_feature()])
    batch = make_collator(config)([make_feature(codes=convert(make_codes()))])
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_features_are_not_changed(config):
    feature = make_feature()
    make_collator(config)([feature])
    assert torch.equal(feature["codes"], make_codes())


def test_seed_makes_batches_reproducible(config):
    features = [make_feature()] * 4
    first, second = make_collator(config, seed=7), make_collator(config, seed=7)
    batches = [collator(features)["input_ids"] for collator in (first, first, second, second)]
    assert torch.equal(batches[0], batches[2]) and torch.equal(batches[1], batches[3])
    assert not torch.equal(batches[0], batches[1])


def test_without_seed_the_default_generator_is_used(config):
    collator, batches = make_collator(config, seed=None, prompt_drop_probability=0.1), []
    for _ in range(2):
        torch.manual_seed(1)
        batches.append(collator([make_feature()] * 4)["input_ids"])
    assert torch.equal(*batches)


def test_seed_leaves_the_default_generator_alone(config):
    state = torch.get_rng_state()
    make_collator(config, seed=7)([make_feature()])
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_of_features_make_rows_independent_of_the_batch(config):
    features = [make_feature(codes=make_codes(seed=number), seed=2**64 - 1 - number) for number in range(8)]
    collator = make_collator(config, seed=None, prompt_drop_probability=0.5)
    whole = [row[row != config.pad_token_id] for row in collator(features)["input_ids"]]
    alone = [row[row != config.pad_token_id] for feature in features for row in collator([feature])["input_ids"]]
    assert all(torch.equal(*pair) for pair in zip(whole, alone, strict=True))
    assert len({len(row) for row in whole}) == 2
    assert not torch.equal(*(make_collator(config)([make_feature(seed=seed)])["input_ids"] for seed in (1, 2)))


@pytest.mark.slow
def test_every_row_has_a_label(config):
    # One draw in 20 masks a single token, which is a new line in one case out of five.
    collator = make_collator(config, minimum_mask_ratio=0.0)
    labels = collator([make_feature(codes=make_codes(1, 4, 4))] * 500)["labels"]
    num_labels = (labels != -100).sum(dim=1)
    assert num_labels.min() == 1


@pytest.mark.slow
@pytest.mark.parametrize("attention", ("sdpa", "eager"))
def test_images_and_videos_in_one_batch_have_the_loss_of_each_alone(config, attention):
    model = LumosForCausalLM._from_config(config, attn_implementation=attention).double().eval()
    images = [make_feature(codes=make_codes(1, 8, 4, seed), fps=1, text_ids=[5] * seed, seed=seed) for seed in (1, 2)]
    videos = [make_feature(codes=make_codes(3, 4, 8, seed), seed=seed) for seed in (3, 4)]
    collator = make_collator(config)
    losses, gradients, num_labels = [], [], []
    for features in (images, videos, [*images, *videos]):
        batch = collator(features)
        loss = model(**batch).loss
        model.zero_grad()
        loss.backward()
        losses.append(loss.item())
        gradients.append(model.lm_head.weight.grad.clone())
        num_labels.append((batch["labels"] != -100).sum().item())

    # A mean over tokens: each kind counts by its number of masked visual tokens.
    shares = [count / num_labels[2] for count in num_labels[:2]]
    assert sum(shares) == 1
    assert losses[0] != pytest.approx(losses[1], abs=1e-3)
    assert losses[2] == pytest.approx(shares[0] * losses[0] + shares[1] * losses[1], abs=1e-7)
    torch.testing.assert_close(gradients[2], shares[0] * gradients[0] + shares[1] * gradients[1], atol=1e-8, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", (None, 7))
def test_workers_draw_different_masks(config, seed):
    loader = torch.utils.data.DataLoader(
        [make_feature()] * 8, batch_size=4, num_workers=2, collate_fn=make_collator(config, seed=seed)
    )
    first, second = (batch["input_ids"] for batch in loader)
    assert not torch.equal(first, second)


def test_can_be_pickled(config):
    collator = make_collator(config, seed=7)
    unpickled = pickle.loads(pickle.dumps(collator))
    assert torch.equal(unpickled([make_feature()])["input_ids"], collator([make_feature()])["input_ids"])


@pytest.mark.slow
def test_trains_with_a_stock_trainer(config, tmp_path):
    torch.manual_seed(0)
    dataset = [make_feature(codes=torch.full((2, 4, 4), code % 2), num_frames=5) for code in range(8)]
    arguments = TrainingArguments(
        output_dir=tmp_path,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=4,
        learning_rate=1e-2,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=LumosForCausalLM(config),
        args=arguments,
        train_dataset=dataset,
        eval_dataset=dataset,
        data_collator=make_collator(config, seed=None, prompt_drop_probability=0.1),
    )
    trainer.train()

    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    # Labels are counted right: before any learning the mean is that of a guess among all visual codes.
    assert losses[0] == pytest.approx(np.log(VISUAL_VOCAB_SIZE), abs=0.2)
    assert losses[-1] < losses[0] - 0.3
    assert trainer.evaluate()["eval_loss"] < losses[0]

    # An evaluation that is not for the loss alone collects logits of every clip, or none if batches say so.
    trainer.compute_metrics = lambda prediction: {"predictions": len(prediction.predictions)}
    assert trainer.evaluate()["eval_predictions"] == len(dataset)
    trainer.data_collator.skip_logits = True
    metrics = trainer.evaluate()
    assert metrics["eval_predictions"] == 0 and metrics["eval_loss"] < losses[0]


@pytest.mark.parametrize(
    "changes, message",
    (
        ({"codes": None}, "`codes` is missing"),
        ({"fps": None}, "`fps` is missing"),
        ({"codes": make_codes()[0]}, r"`codes` must be integers of the shape \(t, h, w\), got the shape \(4, 8\)"),
        ({"codes": make_codes().float()}, "`codes` must be integers .* the type float32"),
        ({"codes": make_codes()[:0]}, r"`codes` must be integers .* got the shape \(0, 4, 8\)"),
        ({"codes": make_codes() - 64}, r"`codes` must lie in 0\.\.63, got values from -64"),
        ({"codes": make_codes() + 1}, r"`codes` must lie in 0\.\.63, got values from 1 to 64"),
        ({"codes": make_codes(1, 3, 4)}, "`h` must be"),
        ({"fps": 0}, "`fps` must be at least 1, got 0"),
        ({"fps": 2.5}, "`fps` must be an integer, got 2.5"),
        ({"fps": 1000}, "`fps` needs a number token"),
        ({"num_frames": 5}, "`num_frames` must agree with `codes`, got 5 frames and codes of 3 latent frames"),
        ({"num_frames": 8}, "`num_frames` must be 1 plus a multiple of 4, got 8"),
        ({"text_ids": []}, "`text_ids` must be a list of token ids that is not empty"),
        ({"text_ids": [9216]}, r"`text_ids` must lie in 0\.\.9215"),
        ({"text_ids": None}, "`caption` must be a text that is not empty, .* got None"),
        ({"text_ids": None, "caption": "  "}, "`caption` must be a text that is not empty, .* got '  '"),
        ({"text_ids": None, "caption": "a kite"}, "`tokenizer` must be given"),
        ({"codes": [[[1, 2], [3]]]}, "`codes` must be integers .* got rows of mixed sizes"),
        ({"height": 64}, "`height` must agree with `codes`, got 64 pixels and codes of 32 pixels"),
        ({"width": 32}, "`width` must agree with `codes`, got 32 pixels and codes of 64 pixels"),
        ({"seed": 0.5}, "`seed` must be an integer, got 0.5"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
    ),
)
def test_bad_features(config, changes, message):
    with pytest.raises(ValueError, match=rf"features\[1\]: {message}"):
        make_collator(config)([make_feature(), make_feature(**changes)])


@pytest.mark.parametrize(
    "origin, name",
    (
        ({"source": "kites/red.mp4", "clip": 7}, r"features\[1\] \(source 'kites/red.mp4', clip 7\)"),
        ({"source": "kites/red.mp4"}, r"features\[1\] \(source 'kites/red.mp4'\)"),
    ),
)
def test_bad_features_are_named_by_their_origin(config, origin, name):
    with pytest.raises(ValueError, match=rf"^{name}: `codes` must lie in"):
        make_collator(config)([make_feature(), make_feature(codes=make_codes() + 1, **origin)])


@pytest.mark.parametrize("prompt_drop_probability", (0.0, 1.0))
def test_sequences_longer_than_the_context(config, prompt_drop_probability):
    num_visual = len(clean_row(config, [], make_codes()))
    long_config = copy.deepcopy(config)
    long_config.max_position_embeddings = num_visual + 5
    collator = make_collator(long_config, prompt_drop_probability=prompt_drop_probability)
    assert collator([make_feature(text_ids=[1, 2, 3])])["input_ids"].shape == (
        1,
        num_visual + 5 * (1 - int(prompt_drop_probability)),
    )
    message = f"context of {num_visual + 5} tokens, got {num_visual + 6} tokens, of which {num_visual} are visual"
    with pytest.raises(ValueError, match=rf"features\[1\] \(source 'b.mp4'\): .* {message}"):
        collator([make_feature(), make_feature(text_ids=[1, 2, 3, 4], source="b.mp4")])


def test_empty_batches(config):
    with pytest.raises(ValueError, match="`features` must hold at least one clip"):
        make_collator(config)([])


@pytest.mark.parametrize(
    "changes, message",
    (
        ({"strategy": "tubes"}, "`strategy` must be one of .* got 'tubes'"),
        ({"mask_schedule": "cos"}, "`mask_schedule` must be one of .* got 'cos'"),
        ({"minimum_mask_ratio": 1.1}, r"`minimum_mask_ratio` must lie in \[0, 1\], got 1.1"),
        ({"prompt_drop_probability": -0.1}, r"`prompt_drop_probability` must lie in \[0, 1\], got -0.1"),
        ({"mask_rate_decay": 1.5}, r"`mask_rate_decay` must lie in \[0, 1\], got 1.5"),
    ),
)
def test_bad_settings(config, changes, message):
    with pytest.raises(ValueError, match=message):
        make_collator(config, **changes)


def test_ends_of_lines_are_no_labels_wherever_their_id_is():
    config = tiny_config(
        new_line_token_id=VISUAL_TOKEN_OFFSET + NUM_CODES, vocab_size=VISUAL_TOKEN_OFFSET + NUM_CODES + 1
    )
    codes = torch.full((2, 4, 4), NUM_CODES - 1)
    collator = DataCollatorForDiffusionForcing(config, minimum_mask_ratio=1.0, seed=0)
    batch = collator([{"codes": codes, "text_ids": [5], "fps": 4}])
    labels = batch["labels"][batch["labels"] != -100]
    assert labels.tolist() == [VISUAL_TOKEN_OFFSET + NUM_CODES - 1] * codes.numel()


def test_batches_hold_skip_logits_if_told(config):
    assert make_collator(config, skip_logits=False)([make_feature()])["skip_logits"] is False
    assert "skip_logits" not in make_collator(config)([make_feature()])
