# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""States that decoding with few steps meets, and the loss of a student on them."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import NUM_CODES
from tiny_pipelines import PROMPT_IDS, SMALL, ForwardCalls, H, W, build_pipeline, codes_of, generators, random_codes

from lumos_hf.decoding.frame_decoder import guide
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler
from lumos_hf.token_layout import UNKNOWN_CODE, codes_from_frame_ids, frame_ids_from_codes, frame_length
from lumos_hf.training.data_collator import IGNORED_LABEL
from lumos_hf.training.few_steps import FewStepCollator, FewStepObjective, sample_with_order, undecided_counts


RATIO = 0.4
TARGET_MODULES = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture
def pipe():
    torch.manual_seed(0)
    return build_pipeline(vqvae=None)


def make_collator(pipe, **changes):
    options = {"num_inference_steps": [4, 1], "history_mask_ratio": RATIO, **changes}
    return FewStepCollator(pipe.transformer.config, pipe.tokenizer, MaskDecodingScheduler(), **options)


def make_feature(seed=0, **more):
    return {"codes": random_codes(3, H, W).numpy(), "text_ids": PROMPT_IDS[1:-1], "fps": 4, "seed": seed, **more}


def shown_frames(batch, row, name="input_ids"):
    """Codes of the frames of a row, as they are fed."""
    ids = batch[name][row][batch[name.replace("input_ids", "attention_mask")][row].bool()]
    start = int((ids == 131).nonzero()[0]) + 3
    return codes_from_frame_ids(ids[start:].view(-1, frame_length(H, W)), H, W, build_pipeline().transformer.config)


@pytest.mark.slow
def test_counts_are_those_of_decoding(pipe):
    seen = []

    def callback(_, step, timestep, tensors):
        seen.append(int((tensors["latents"] == UNKNOWN_CODE).sum()))
        return {}

    for num_steps in (1, 3, 4):
        seen.clear()
        options = {"input_ids": PROMPT_IDS, "num_frames": 1, "num_inference_steps": num_steps}
        codes_of(pipe, callback_on_step_end=callback, **options)
        assert undecided_counts(MaskDecodingScheduler(), num_steps, H * W) == [H * W, *seen[:-1]]


@pytest.mark.slow
def test_samples_are_those_of_a_call_and_their_order_that_of_its_steps(pipe):
    prompts = ["waves", "a red kite"]
    options = {name: value for name, value in SMALL.items() if name != "num_inference_steps"}
    codes, steps = sample_with_order(pipe, prompts, [5, 6], num_inference_steps=4, **options)
    expected = codes_of(pipe, prompts, generator=generators(5, 6), num_inference_steps=4)
    assert torch.equal(codes, expected)
    assert steps.shape == codes.shape
    counts = undecided_counts(MaskDecodingScheduler(), 4, H * W)
    for frame_steps in steps.flatten(0, 1):
        assert [int((frame_steps >= step).sum()) for step in range(4)] == counts


@pytest.mark.slow
def test_every_step_of_the_video_is_met_and_history_is_masked_as_in_decoding(pipe):
    collator = make_collator(pipe)
    features = [make_feature(seed) for seed in range(60)]
    batch = collator(features)
    codes = torch.from_numpy(features[0]["codes"]).long()
    content = frame_ids_from_codes(codes[:1], pipe.transformer.config)[0]
    masked = 3 + MaskDecodingScheduler.history_mask_indices(H * (W + 1), RATIO)
    content[masked] = pipe.transformer.config.mask_token_id
    history = codes_from_frame_ids(content, H, W, pipe.transformer.config)
    met = set()
    for row in range(60):
        frames = shown_frames(batch, row)
        assert torch.equal(frames, shown_frames(batch, row, "unconditional_input_ids"))
        *past, current = frames
        undecided = current == UNKNOWN_CODE
        assert torch.equal(current[~undecided], codes[len(past)][~undecided])
        assert all(torch.equal(frame == UNKNOWN_CODE, history == UNKNOWN_CODE) for frame in past)
        met.add((len(past), int(undecided.sum())))
    assert met == {*((0, count) for count in undecided_counts(MaskDecodingScheduler(), 4, H * W)), (1, 32), (2, 32)}


@pytest.mark.slow
def test_labels_are_the_undecided_codes_of_both_branches(pipe):
    features = [make_feature(seed) for seed in range(8)]
    batch = make_collator(pipe)(features)
    offset = pipe.transformer.config.visual_token_offset
    for row in range(8):
        current = shown_frames(batch, row)[-1].flatten()
        truth = torch.from_numpy(features[row]["codes"])[len(shown_frames(batch, row)) - 1].flatten()
        expected = (truth[current == UNKNOWN_CODE] + offset).tolist()
        for name in ("labels", "unconditional_labels"):
            labels = batch[name][row]
            assert labels[labels != IGNORED_LABEL].tolist() == expected
    few = make_collator(pipe, max_targets=3)(features)
    assert ((few["labels"] != IGNORED_LABEL).sum(dim=1) == 3).all()
    assert torch.equal(few["input_ids"], batch["input_ids"])


@pytest.mark.slow
def test_what_was_decided_first_is_seen(pipe):
    steps = torch.arange(H * W).view(1, H, W).expand(3, -1, -1)
    batch = make_collator(pipe, num_inference_steps=4)(
        [make_feature(seed, deciding_steps=steps) for seed in range(20)]
    )
    for row in range(20):
        decided = (shown_frames(batch, row)[-1] != UNKNOWN_CODE).flatten()
        assert decided[: int(decided.sum())].all()


def with_adapter(pipe, scale=1.0):
    """The transformer with LoRA weights that are not zero."""
    torch.manual_seed(1)
    model = get_peft_model(copy.deepcopy(pipe.transformer), LoraConfig(r=2, target_modules=TARGET_MODULES))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=scale)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_loss_by_hand(pipe, guidance_scale, weight):
    batch = make_collator(pipe)([make_feature(seed) for seed in range(3)])
    student = with_adapter(pipe)
    options = {"guidance_scale": guidance_scale, "token_temperature": 0.5, "teacher_weight": weight}
    loss = FewStepObjective(student, **options)(**batch)["loss"]

    def logits(model, prefix=""):
        chosen = batch[f"{prefix}labels"] != IGNORED_LABEL
        output = model(input_ids=batch[f"{prefix}input_ids"], attention_mask=batch[f"{prefix}attention_mask"])
        offset = pipe.transformer.config.visual_token_offset
        return output.logits[chosen][:, offset : offset + NUM_CODES]

    teacher = guide([logits(pipe.transformer), logits(pipe.transformer, "unconditional_")], guidance_scale)
    if guidance_scale == 1:
        teacher = logits(pipe.transformer)
    p, q = ((2 * each).log_softmax(-1) for each in (logits(student), teacher))
    codes = batch["labels"][batch["labels"] != IGNORED_LABEL] - pipe.transformer.config.visual_token_offset
    expected = -p.gather(1, codes[:, None]).mean() + weight * (q.exp() * (q - p)).sum(-1).mean()
    torch.testing.assert_close(loss, expected)
    # A copy teaches the same.
    copied = FewStepObjective(student, pipe.transformer, **options)(**batch)["loss"]
    torch.testing.assert_close(copied, loss)


@pytest.mark.slow
def test_what_is_trained_and_saved_is_the_adapter(pipe):
    objective = FewStepObjective(with_adapter(pipe), guidance_scale=2.0)
    objective(**make_collator(pipe)([make_feature()]))["loss"].backward()
    trained = {name for name, parameter in objective.named_parameters() if parameter.grad is not None}
    assert trained == set(objective.state_dict()) and all("lora_" in name for name in trained)
    saved = {name: value + 1 for name, value in objective.state_dict().items()}
    assert objective.load_state_dict(saved).missing_keys == []
    assert all(torch.equal(value, saved[name]) for name, value in objective.state_dict().items())
    name = min(saved)
    del saved[name]
    assert objective.load_state_dict(saved, strict=False).missing_keys == [name]
    with pytest.raises(RuntimeError, match="Missing weights: .*lora_A"):
        objective.load_state_dict(saved)


@pytest.mark.slow
def test_a_teacher_of_its_own_is_neither_trained_nor_saved(pipe):
    objective = FewStepObjective(copy.deepcopy(pipe.transformer), pipe.transformer, guidance_scale=2.0)
    before = copy.deepcopy(pipe.transformer.state_dict())
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    objective(**make_collator(pipe)([make_feature()]))["loss"].backward()
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in pipe.transformer.state_dict().items())
    assert len(objective.state_dict()) == len(before)


@pytest.mark.slow
def test_training_lowers_the_loss_and_forgets_the_teacher_not(pipe):
    collator = make_collator(pipe, num_inference_steps=1)
    objective = FewStepObjective(with_adapter(pipe, scale=0.0), guidance_scale=2.0)
    batch = collator([make_feature(seed) for seed in range(4)])
    optimizer = torch.optim.Adam([weight for weight in objective.parameters() if weight.requires_grad], lr=0.02)
    losses = []
    for _ in range(8):
        loss = objective(**batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    with ForwardCalls(objective.student) as calls:
        objective(**batch)
    assert len(calls) == 3
