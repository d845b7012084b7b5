# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import math

import pytest
import torch

from lumos_hf.scheduling_mask_decoding import (
    MASK_SCHEDULES,
    MaskDecodingScheduler,
    gumbel_noise,
    halton_order,
    mask_lowest,
    mask_ratio,
    sample_from_probabilities,
    softmax_in_place,
    within_entropy_bound,
)


NUM_CODES = 11
NUM_POSITIONS = 16
NUM_STEPS = 4


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def make_scheduler(num_steps=NUM_STEPS, **config):
    scheduler = MaskDecodingScheduler(**config)
    scheduler.set_timesteps(num_steps)
    return scheduler


def make_logits(batch_size=1, num_positions=NUM_POSITIONS, seed=0):
    return 2 * torch.randn(batch_size, num_positions, NUM_CODES, generator=seeded(seed))


def decode(scheduler, logits, generator, num_frames=1):
    """Frames decoded from fixed logits, and the number of masked positions of every step."""
    frames, num_masked = [], []
    for _ in range(num_frames):
        sample = torch.full(logits.shape[:2], -1)
        for timestep in scheduler.timesteps:
            sample = scheduler.step(logits, timestep, sample, generator=generator).prev_sample
            num_masked.append((sample == -1).sum(dim=1))
        frames.append(sample)
    return torch.stack(frames, dim=1), torch.stack(num_masked, dim=1)


def test_decodes_every_position():
    frames, num_masked = decode(make_scheduler(), make_logits(2), seeded(0), num_frames=2)

    assert frames.shape == (2, 2, NUM_POSITIONS)
    assert frames.min() >= 0 and frames.max() < NUM_CODES
    cosine = [math.floor(NUM_POSITIONS * math.cos(math.pi / 2 * step / NUM_STEPS)) for step in (1, 2, 3)]
    assert num_masked.tolist() == [[*cosine, 0] * 2] * 2


def test_fixed_result():
    frames, _ = decode(make_scheduler(), make_logits(), seeded(0))
    assert frames[0, 0].tolist() == [8, 3, 6, 3, 1, 4, 3, 2, 1, 6, 0, 6, 2, 4, 6, 1]


def test_step_outputs():
    logits, sample = make_logits(), torch.full((1, NUM_POSITIONS), -1)
    sample[0, 3] = 7
    output = make_scheduler().step(logits, 0, sample, generator=seeded(0))
    prev_sample, pred_original_sample = make_scheduler().step(
        logits, 0, sample, generator=seeded(0), return_dict=False
    )

    assert torch.equal(output.prev_sample, prev_sample)
    assert torch.equal(output.pred_original_sample, pred_original_sample)
    assert prev_sample[0, 3] == pred_original_sample[0, 3] == 7
    decided = prev_sample != -1
    assert torch.equal(prev_sample[decided], pred_original_sample[decided])
    assert (pred_original_sample != -1).all()


def test_step_does_not_change_its_inputs():
    logits, sample = make_logits(), torch.full((1, NUM_POSITIONS), -1)
    logits_before, sample_before = logits.clone(), sample.clone()
    make_scheduler().step(logits, 0, sample, generator=seeded(0))
    assert torch.equal(logits, logits_before) and torch.equal(sample, sample_before)


@pytest.mark.parametrize("num_positions, num_steps", ((NUM_POSITIONS, 1), (3, 8), (1, 1), (1, 5)))
def test_unusual_numbers_of_steps(num_positions, num_steps):
    frames, num_masked = decode(make_scheduler(num_steps), make_logits(1, num_positions), seeded(0))
    assert (frames >= 0).all()
    assert num_masked[0, -1] == 0


def test_more_steps_than_positions_leave_one_mask_for_the_last_step():
    _, num_masked = decode(make_scheduler(8), make_logits(1, 3), seeded(0))
    assert num_masked[0].tolist() == [2, 1, 1, 1, 1, 1, 1, 0]


def test_greedy_takes_the_most_probable_codes():
    logits = make_logits(2)
    frames, _ = decode(make_scheduler(token_temperature=0, confidence_temperature=0), logits, None)
    assert torch.equal(frames[:, 0], logits.argmax(dim=-1))


def test_confidence_temperature_zero_keeps_the_most_probable():
    probabilities = torch.tensor([[0.9, 0.1, 0.5, 0.7]])
    scheduler = make_scheduler(2, confidence_temperature=0)
    sample = scheduler.mask_least_confident(
        torch.tensor([[1, 2, 3, 4]]), probabilities, torch.full((1, 4), -1), timestep=0
    )
    assert sample.tolist() == [[1, -1, -1, 4]]


def test_ties_are_kept():
    confidence = torch.tensor([[0.5, 1.0, 1.0, 1.0, 2.0]])
    assert mask_lowest(confidence, torch.tensor([3])).tolist() == [[True, False, False, False, False]]
    assert mask_lowest(torch.ones(1, 5), torch.tensor([3])).sum() == 0


def test_mask_lengths_differ_by_row():
    confidence = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert mask_lowest(confidence, torch.tensor([1, 2])).tolist() == [[True, False, False], [False, True, True]]


def test_rows_keep_their_share_of_what_they_have_to_decide():
    """Row by row what a frame with so many positions alone would keep; of all positions where nothing is said."""
    scheduler = make_scheduler()
    scheduler.set_timesteps(NUM_STEPS)
    sample = torch.full((3, 40), -1)
    sample[1, 10:], sample[2, 1:] = 5, 5
    num_to_decide = (sample == -1).sum(dim=1)
    assert num_to_decide.tolist() == [40, 10, 1]
    for step in range(NUM_STEPS):
        alone = [scheduler.mask_lengths(row[row == -1][None], step).item() for row in sample]
        assert scheduler.mask_lengths(sample, step, num_to_decide).tolist() == alone
    assert torch.equal(scheduler.mask_lengths(sample[:1], 0), scheduler.mask_lengths(sample[:1], 0, num_to_decide[:1]))


def test_decided_positions_stay_decided_under_any_noise():
    sample = torch.tensor([[5, -1, 6, -1, -1, -1]])
    scheduler = make_scheduler(confidence_temperature=1e4)
    for seed in range(50):
        scheduler.set_timesteps(NUM_STEPS)
        uniforms = torch.rand(sample.shape, generator=seeded(seed))
        prev_sample = scheduler.mask_least_confident(
            torch.zeros_like(sample), torch.full(sample.shape, 0.5), sample, timestep=0, uniforms=uniforms
        )
        assert prev_sample[0, 0] == 5 and prev_sample[0, 2] == 6


def test_complete_sample_stays_as_it_is():
    sample = torch.arange(NUM_POSITIONS)[None] % NUM_CODES
    output = make_scheduler().step(make_logits(), 0, sample, generator=seeded(0))
    assert torch.equal(output.prev_sample, sample)


def test_rows_with_different_numbers_of_known_positions_do_not_interact():
    logits = make_logits(3)
    sample = torch.full((3, NUM_POSITIONS), -1)
    sample[1, :10] = 4
    sample[2, 1:] = 4
    batch = make_scheduler().step(logits, 0, sample, generator=[seeded(i) for i in range(3)]).prev_sample
    for row in range(3):
        single = make_scheduler().step(logits[row][None], 0, sample[row][None], generator=seeded(row)).prev_sample
        assert torch.equal(batch[row], single[0])


@pytest.mark.slow
def test_generators_per_row_equal_single_calls():
    logits = make_logits(3)
    batch, _ = decode(make_scheduler(), logits, [seeded(i) for i in range(3)], num_frames=2)
    for row in range(3):
        single, _ = decode(make_scheduler(), logits[row][None], seeded(row), num_frames=2)
        assert torch.equal(batch[row], single[0])
        in_list, _ = decode(make_scheduler(), logits[row][None], [seeded(row)], num_frames=2)
        assert torch.equal(single, in_list)


def test_without_generator_the_default_one_is_used():
    torch.manual_seed(3)
    first, _ = decode(make_scheduler(), make_logits(), None)
    second, _ = decode(make_scheduler(), make_logits(), seeded(3))
    assert torch.equal(first, second)


def test_draws_do_not_depend_on_what_is_known():
    generators = seeded(0), seeded(0)
    empty, full = torch.full((1, NUM_POSITIONS), -1), torch.zeros(1, NUM_POSITIONS, dtype=torch.int64)
    for generator, sample in zip(generators, (empty, full), strict=True):
        make_scheduler().step(make_logits(), 0, sample, generator=generator)
    assert torch.rand(1, generator=generators[0]) == torch.rand(1, generator=generators[1])


def test_given_uniforms_replace_the_draws():
    uniforms = MaskDecodingScheduler().draw_uniforms((2, NUM_POSITIONS), seeded(5))
    sample = torch.full((2, NUM_POSITIONS), -1)
    drawn = make_scheduler().step(make_logits(2), 0, sample, generator=seeded(5)).prev_sample
    given = make_scheduler().step(make_logits(2), 0, sample, uniforms=uniforms).prev_sample
    assert torch.equal(drawn, given)


def test_rows_can_be_sampled_in_chunks():
    scheduler, logits = make_scheduler(), make_logits(2).flatten(0, 1)
    uniforms = torch.rand(len(logits), generator=seeded(0))
    codes, probabilities = scheduler.sample_tokens(logits, uniforms)
    for chunk in (slice(0, 5), slice(5, 32)):
        chunk_codes, chunk_probabilities = scheduler.sample_tokens(logits[chunk], uniforms[chunk])
        assert torch.equal(chunk_codes, codes[chunk])
        torch.testing.assert_close(chunk_probabilities, probabilities[chunk])


@pytest.mark.parametrize("token_temperature", (0.0, 0.5, 1.0))
def test_logits_are_overwritten_on_request_alone(token_temperature):
    scheduler = make_scheduler(token_temperature=token_temperature)
    logits = make_logits(2).flatten(0, 1)
    kept = logits.clone()
    uniforms = torch.rand(len(logits), generator=seeded(0))
    expected = scheduler.sample_tokens(logits, uniforms)
    assert torch.equal(logits, kept)
    for result, value in zip(scheduler.sample_tokens(logits, uniforms, overwrite_logits=True), expected, strict=True):
        assert torch.equal(result, value)
    assert torch.equal(logits, kept.softmax(dim=-1))


def test_gradients_flow_through_sampled_probabilities():
    logits = make_logits(1)[0].requires_grad_()
    uniforms = torch.rand(len(logits), generator=seeded(0))
    _, probabilities = make_scheduler().sample_tokens(logits, uniforms, overwrite_logits=True)
    probabilities.sum().backward()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(3, 7), (2, 65536), (5, 1000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_in_place_is_softmax(shape, dtype):
    """To the bit: the kernel must not read what it has written."""
    logits = 100 * torch.randn(shape, dtype=dtype, generator=seeded(0))
    expected = logits.softmax(dim=-1)
    assert torch.equal(softmax_in_place(logits), expected)
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("token_temperature", (0.5, 1.0, 2.0))
def test_sampled_codes_follow_the_distribution(token_temperature):
    num_draws = 20_000
    logits = make_logits(1, 1)[0]
    uniforms = torch.rand(num_draws, generator=seeded(0))
    scheduler = MaskDecodingScheduler(token_temperature=token_temperature)
    codes, probabilities = scheduler.sample_tokens(logits.expand(num_draws, -1), uniforms)

    expected = (logits[0].double() / token_temperature).softmax(dim=-1)
    counts = torch.bincount(codes, minlength=NUM_CODES).double()
    chi_squared = ((counts - num_draws * expected) ** 2 / (num_draws * expected)).sum()
    # The 99.9th percentile of the chi-squared distribution with 10 degrees of freedom.
    assert chi_squared < 29.6
    torch.testing.assert_close(probabilities, logits[0].softmax(dim=-1)[codes])


def test_sampling_takes_the_first_code_whose_cumulative_probability_reaches_the_draw():
    logits = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64).log()
    uniforms = torch.tensor([0.0, 0.2, 0.3, 0.74, 0.76, 1 - 2**-24])
    assert sample_from_probabilities(logits.expand(6, -1).softmax(dim=-1), uniforms).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("num_codes", [1, 255, 256, 257, 768, 1000])
def test_sampling_by_blocks_equals_the_plain_cumulative_sum(num_codes):
    logits = 3 * torch.randn(500, num_codes, generator=seeded(0), dtype=torch.float64)
    uniforms = torch.rand(500, generator=seeded(1), dtype=torch.float64)
    uniforms[:2] = torch.tensor([0.0, 1 - 2**-24])
    reached = logits.softmax(dim=-1).cumsum(dim=-1) >= uniforms[:, None]
    assert torch.equal(sample_from_probabilities(logits.softmax(dim=-1), uniforms), reached.int().argmax(dim=-1))


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.5, 0.75, 1 - 2**-24])
def test_blocks_without_possible_codes_are_passed_over(uniform):
    logits = torch.full((1, 4 * 256), -torch.inf)
    possible = [256 + 3, 256 + 200, 768 + 7]
    logits[0, possible] = torch.randn(3, generator=seeded(0))
    assert sample_from_probabilities(logits.softmax(dim=-1), torch.tensor([uniform])).item() in possible


def test_impossible_codes_are_never_sampled():
    logits = torch.tensor([[-math.inf, 0.0, 0.0, -math.inf]]).expand(3, -1)
    codes = sample_from_probabilities(logits.softmax(dim=-1), torch.tensor([0.0, 0.5, 1 - 2**-24]))
    assert codes.tolist() == [1, 1, 2]


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float64))
def test_logits_of_any_floating_point_type(dtype):
    logits = make_logits().to(dtype)
    codes, probabilities = make_scheduler().sample_tokens(logits[0], torch.rand(NUM_POSITIONS, generator=seeded(0)))
    assert codes.dtype == torch.int64
    assert probabilities.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (make_scheduler().step(logits, 0, torch.full((1, NUM_POSITIONS), -1)).pred_original_sample >= 0).all()


def test_probabilities_of_large_logits_are_exact():
    logits = torch.tensor([[300.0, 290.0, 280.0], [400.0, 384.0, -400.0]])
    _, probabilities = MaskDecodingScheduler(token_temperature=0.0).sample_tokens(logits)
    expected = logits.double().softmax(dim=-1).amax(dim=-1)
    torch.testing.assert_close(probabilities.double(), expected, atol=1e-7, rtol=0)


def test_gumbel_noise_is_finite_and_has_the_right_mean():
    assert gumbel_noise(torch.tensor([0.0, 1 - 2**-24, 1.0])).isfinite().all()
    euler_gamma = 0.5772
    assert gumbel_noise(torch.rand(100_000, generator=seeded(0))).mean().item() == pytest.approx(euler_gamma, abs=0.01)


def test_compounding_temperature_is_carried_over_frames():
    scheduler = make_scheduler()
    temperatures = temperatures_of_two_frames(scheduler)
    assert temperatures == pytest.approx([0.75, 0.375, 0.09375, 0, 0, 0, 0, 0])
    scheduler.set_timesteps(NUM_STEPS)
    assert temperatures_of_two_frames(scheduler) == temperatures


def test_linear_temperature_starts_anew_in_every_frame():
    scheduler = make_scheduler(temperature_decay="linear", confidence_temperature=2.0)
    assert temperatures_of_two_frames(scheduler) == pytest.approx([1.5, 1.0, 0.5, 0] * 2)


def temperatures_of_two_frames(scheduler):
    temperatures = []
    for timestep in [*scheduler.timesteps, *scheduler.timesteps]:
        scheduler.step(make_logits(), timestep, torch.full((1, NUM_POSITIONS), -1), generator=seeded(0))
        temperatures.append(scheduler.temperature)
    return temperatures


@pytest.mark.parametrize("mask_schedule", MASK_SCHEDULES)
def test_schedules_fall_from_one_to_zero(mask_schedule):
    ratios = mask_ratio(torch.linspace(0, 1, 101), mask_schedule)
    assert ratios[0].item() == pytest.approx(1, abs=1e-6)
    assert ratios[-1].item() == pytest.approx(0, abs=1e-6)
    assert (ratios.diff() < 0).all()
    frames, num_masked = decode(make_scheduler(mask_schedule=mask_schedule), make_logits(), seeded(0))
    assert (frames >= 0).all() and (num_masked.diff() < 0).all()


@pytest.mark.parametrize(
    "mask_schedule, expected", (("cosine", 2**-0.5), ("linear", 0.5), ("pow", 0.75), ("sigmoid", 0.5))
)
def test_schedules_at_half_time(mask_schedule, expected):
    assert mask_ratio(torch.tensor(0.5), mask_schedule).item() == pytest.approx(expected, abs=1e-6)


def test_history_masks():
    history_mask_indices = MaskDecodingScheduler.history_mask_indices
    assert history_mask_indices(10, 0.3).tolist() == [0, 3, 7]
    assert history_mask_indices(10).tolist() == [0, 3, 7]
    assert history_mask_indices(10, 0).tolist() == [0]
    assert history_mask_indices(10, 1).tolist() == list(range(10))
    # 0.25 * 10 = 2.5 rounds to the even neighbour.
    assert history_mask_indices(10, 0.25).tolist() == [0, 5]


def test_noise_leaves_what_a_step_leaves():
    scheduler = MaskDecodingScheduler()
    scheduler.set_timesteps(4)
    sample = torch.arange(3 * 20).view(3, 20)
    for timestep, num_masked in zip(scheduler.timesteps, (18, 14, 7, 0), strict=True):
        noised = scheduler.add_noise(sample, timestep, torch.Generator().manual_seed(0))
        masked = noised == -1
        assert torch.equal(noised[~masked], sample[~masked])
        assert masked.sum(dim=-1).tolist() == [num_masked] * 3
        assert torch.equal(noised, scheduler.add_noise(sample, int(timestep), torch.Generator().manual_seed(0)))
    assert len(scheduler.add_noise(sample, 1).eq(-1).unique(dim=0)) == 3
    with pytest.raises(ValueError, match="`timestep"):
        scheduler.add_noise(sample, 4)


def test_it_is_compatible_with_itself():
    scheduler = MaskDecodingScheduler(token_temperature=0.5)
    (compatible,) = scheduler.compatibles
    assert compatible.from_config(scheduler.config).config.token_temperature == 0.5


def test_mask_ratios_for_training_have_a_minimum():
    uniforms = torch.tensor([0.0, 0.25, 0.9])
    ratios = MaskDecodingScheduler().sample_mask_ratio(uniforms, 0.7)
    assert ratios.tolist() == pytest.approx([1, math.cos(math.pi / 8), 0.7])
    linear = MaskDecodingScheduler(mask_schedule="linear").sample_mask_ratio(uniforms, 0)
    assert linear.tolist() == pytest.approx([1, 0.75, 0.1])


def test_training_masks_have_the_size_of_their_ratio():
    ratios = torch.tensor([[0.0, 0.5], [0.7, 1.0]])
    masks = MaskDecodingScheduler.training_mask(ratios, torch.rand(2, 2, 36, generator=seeded(0)))
    assert masks.dtype == torch.bool
    assert masks.sum(dim=-1).tolist() == [[1, 18], [25, 36]]


def test_training_masks_treat_all_positions_alike():
    num_draws, ratio = 4000, 0.75
    masks = MaskDecodingScheduler.training_mask(
        torch.full((num_draws,), ratio), torch.rand(num_draws, 20, generator=seeded(0))
    )
    four_standard_errors = 4 * (ratio * (1 - ratio) / num_draws) ** 0.5
    assert (masks.double().mean(dim=0) - ratio).abs().max() < four_standard_errors


def test_saving_and_loading(tmp_path):
    scheduler = MaskDecodingScheduler(token_temperature=0.5, temperature_decay="linear", mask_schedule="pow")
    scheduler.save_pretrained(tmp_path)
    loaded = MaskDecodingScheduler.from_pretrained(tmp_path)
    settings = ("token_temperature", "confidence_temperature", "temperature_decay", "mask_schedule", "mask_value")
    assert all(loaded.config[name] == scheduler.config[name] for name in settings)


def test_other_mask_values():
    scheduler = make_scheduler(mask_value=-100)
    sample = torch.full((1, NUM_POSITIONS), -100)
    for timestep in scheduler.timesteps:
        sample = scheduler.step(make_logits(), timestep, sample, generator=seeded(0)).prev_sample
        assert set(sample[sample < 0].tolist()) <= {-100}
    assert (sample >= 0).all()


@pytest.mark.parametrize(
    "config, message",
    (
        ({"token_temperature": -0.1}, "`token_temperature` must be a finite number of at least 0, got -0.1"),
        ({"token_temperature": 1e308}, r"`token_temperature` must be 0 or from 1e-06 to 1e\+06, got 1e\+308"),
        ({"token_temperature": 1e-300}, "`token_temperature` must be 0 or from 1e-06 .* got 1e-300"),
        ({"token_temperature": 10**400}, "`token_temperature` must be a finite number"),
        ({"confidence_temperature": 1e30}, "`confidence_temperature` must be 0 or from .* got 1e"),
        ({"confidence_temperature": math.nan}, "`confidence_temperature` must be a finite number .* got nan"),
        ({"temperature_decay": "cosine"}, "`temperature_decay` must be one of .* got 'cosine'"),
        ({"mask_schedule": "arccos"}, "`mask_schedule` must be one of .* got 'arccos'"),
        ({"mask_value": 9003}, "`mask_value` must be negative.* got 9003"),
    ),
)
def test_bad_configurations(config, message):
    with pytest.raises(ValueError, match=message):
        MaskDecodingScheduler(**config)


@pytest.mark.parametrize("num_inference_steps", (0, -3, 2.5))
def test_bad_numbers_of_steps(num_inference_steps):
    with pytest.raises(ValueError, match="`num_inference_steps` must be a positive integer"):
        MaskDecodingScheduler().set_timesteps(num_inference_steps)


def test_step_needs_timesteps():
    with pytest.raises(ValueError, match="call `set_timesteps`"):
        MaskDecodingScheduler().step(make_logits(), 0, torch.full((1, NUM_POSITIONS), -1))


GOOD_UNIFORMS = torch.zeros(1, NUM_POSITIONS)


@pytest.mark.parametrize(
    "arguments, message",
    (
        ({"timestep": 4}, r"`timestep` must lie in 0\.\.3, .* got 4"),
        ({"timestep": -1}, r"`timestep` must lie in 0\.\.3, .* got -1"),
        ({"model_output": torch.zeros(1, NUM_CODES)}, r"`model_output` must have the shape .* got \(1, 11\)"),
        ({"sample": torch.full((1, 3), -1)}, r"`sample` must have the shape \(1, 16\), got \(1, 3\)"),
        ({"generator": [seeded(0)] * 2}, "`generator` must be one generator or a list of 1, .* a list of 2"),
        ({"uniforms": (GOOD_UNIFORMS[:, :3], GOOD_UNIFORMS)}, r"`uniforms\[0\]` must have the shape \(1, 16\)"),
        ({"uniforms": (GOOD_UNIFORMS, GOOD_UNIFORMS[0])}, r"`uniforms\[1\]` must have the shape \(1, 16\)"),
    ),
)
def test_bad_steps(arguments, message):
    good = {"model_output": make_logits(), "timestep": 0, "sample": torch.full((1, NUM_POSITIONS), -1)}
    scheduler = make_scheduler()
    with pytest.raises(ValueError, match=message):
        scheduler.step(**{**good, **arguments})
    assert scheduler.temperature == 1


def test_missing_uniforms():
    sample = torch.full((1, NUM_POSITIONS), -1)
    with pytest.raises(ValueError, match="`uniforms` must be given for `token_temperature=1.0`"):
        make_scheduler().sample_tokens(make_logits()[0])
    with pytest.raises(ValueError, match="`uniforms` must be given for `confidence_temperature=1.0`"):
        make_scheduler().mask_least_confident(sample, torch.ones(sample.shape), sample, 0)


@pytest.mark.parametrize("history_length, ratio, name", ((0, 0.5, "history_length"), (10, 1.1, "ratio")))
def test_bad_history_masks(history_length, ratio, name):
    with pytest.raises(ValueError, match=f"`{name}` must"):
        MaskDecodingScheduler.history_mask_indices(history_length, ratio)


def test_bad_training_masks():
    with pytest.raises(ValueError, match="`minimum_ratio` must lie in"):
        MaskDecodingScheduler().sample_mask_ratio(torch.rand(3), 1.5)
    with pytest.raises(ValueError, match="`ratios` must have the shape"):
        MaskDecodingScheduler.training_mask(torch.rand(3), torch.rand(2, 36))
    with pytest.raises(ValueError, match="`mask_schedule` must be one of"):
        mask_ratio(torch.rand(3), "square")


@pytest.mark.parametrize("h, w", [(1, 1), (4, 8), (5, 7), (48, 84)])
def test_the_halton_order_is_a_permutation(h, w):
    order = halton_order(h, w)
    assert order.dtype == torch.long and order.sort().values.tolist() == list(range(h * w))
    assert torch.equal(order, halton_order(h, w))


def test_the_beginning_of_the_sequence():
    # (0, 0), (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9), (5/8, 7/9) on a grid of 8 rows and 9 columns
    assert halton_order(8, 9)[:6].tolist() == [0 * 9 + 0, 4 * 9 + 3, 2 * 9 + 6, 6 * 9 + 1, 1 * 9 + 4, 5 * 9 + 7]


def test_the_halton_order_is_spread_over_the_frame():
    h, w = 16, 18
    for count in (36, 72, 144):
        positions = halton_order(h, w)[:count]
        quadrants = (positions // w >= h // 2) * 2 + (positions % w >= w // 2)
        assert (quadrants.bincount(minlength=4) - count / 4).abs().max() <= 2


def test_a_given_order_decides_what_is_masked_again():
    order = torch.randperm(NUM_POSITIONS, generator=seeded(1))
    scheduler, sample = make_scheduler(), torch.full((2, NUM_POSITIONS), -1)
    generator = seeded(0)
    for timestep in scheduler.timesteps:
        sample = scheduler.step(make_logits(2), timestep, sample, generator, order=order).prev_sample
        num_decided = int((sample[0] != -1).sum())
        assert torch.equal(sample[0] != -1, sample[1] != -1)
        assert (sample[:, order[:num_decided]] != -1).all()
    assert num_decided == NUM_POSITIONS


def test_sure_codes_are_kept_whatever_the_schedule_says():
    sample = torch.full((2, NUM_POSITIONS), -1)
    probabilities = torch.full(sample.shape, 0.2)
    probabilities[0] = 0.5
    probabilities[1, 2:] = 0.9
    arguments = torch.zeros_like(sample), probabilities, sample, 0
    scheduler = make_scheduler(confidence_temperature=0.0)
    kept = scheduler.mask_least_confident(*arguments, confidence_threshold=0.5)
    # The schedule alone would mask 14 of them again.
    assert (kept == -1).sum(dim=1).tolist() == [0, 2]
    assert (kept[1, :2] == -1).all()


def test_a_threshold_lets_no_unsure_code_hold_up_a_frame():
    scheduler = make_scheduler(num_steps=8, confidence_temperature=0.0)
    sample = torch.zeros(2, NUM_POSITIONS, dtype=torch.long)
    sample[0, :3] = -1
    num_masked = []
    for timestep in range(4):
        probabilities = torch.linspace(0.1, 0.2, NUM_POSITIONS).expand_as(sample)
        arguments = torch.ones_like(sample), probabilities, sample, timestep
        sample = scheduler.mask_least_confident(*arguments, confidence_threshold=0.9)
        num_masked.append((sample == -1).sum(dim=1).tolist())
    assert num_masked == [[2, 0], [1, 0], [0, 0], [0, 0]]


def test_entropy_bound_by_hand():
    entropies = torch.tensor([[0.5, 0.1, 0.2, torch.inf], [3.0, 2.0, 4.0, 5.0], [torch.inf] * 4])
    # Ascending .1 .2 .5: sums without the highest are 0, .1 and .3.
    for bound, first in ((0.0, [1]), (0.1, [1, 2]), (0.29, [1, 2]), (0.31, [0, 1, 2])):
        chosen = within_entropy_bound(entropies, bound)
        assert chosen[0].nonzero()[:, 0].tolist() == first
        assert chosen[1].tolist() == [False, True, False, False]
        assert not chosen[2].any()


def test_entropies_are_those_of_what_is_drawn():
    logits = make_logits()[0]
    for temperature in (0.0, 0.5, 1.0):
        entropies = make_scheduler(token_temperature=temperature).entropies(logits)
        expected = torch.distributions.Categorical(logits=logits / (temperature or 1)).entropy()
        torch.testing.assert_close(entropies, expected)


def test_codes_within_the_entropy_bound_are_kept_whatever_the_schedule_says():
    sample = torch.full((2, NUM_POSITIONS), -1)
    entropies = torch.full(sample.shape, 1.0)
    entropies[1, :3] = 0.1
    arguments = torch.zeros_like(sample), torch.full(sample.shape, 0.5), sample, 0
    scheduler = make_scheduler(confidence_temperature=0.0, num_steps=8)
    kept = scheduler.mask_least_confident(*arguments, entropy_bound=4.0, entropies=entropies)
    # Codes that are equally probable are tied, so the schedule keeps all of them: see `mask_lowest`.
    assert (kept == -1).sum() == 0
    probabilities = torch.linspace(0.5, 0.1, NUM_POSITIONS).expand_as(sample)
    arguments = torch.zeros_like(sample), probabilities, sample, 0
    kept = scheduler.mask_least_confident(*arguments, entropy_bound=4.0, entropies=entropies)
    assert (kept == -1).sum(dim=1).tolist() == [NUM_POSITIONS - 5, NUM_POSITIONS - 7]
    with pytest.raises(ValueError, match="`entropies` must be given with `entropy_bound`, got None"):
        scheduler.mask_least_confident(*arguments, entropy_bound=4.0)
    with pytest.raises(ValueError, match=r"`entropies` must have the shape \(2, 16\), got \(1, 16\)"):
        scheduler.mask_least_confident(*arguments, entropy_bound=4.0, entropies=entropies[:1])


def test_a_step_with_an_entropy_bound_is_made_of_its_parts():
    scheduler, sample = make_scheduler(num_steps=8), torch.full((2, NUM_POSITIONS), -1)
    logits, uniforms = 3 * make_logits(2), torch.rand(2, 2, NUM_POSITIONS, generator=seeded(0)).unbind()
    whole = scheduler.step(logits, 0, sample, uniforms=uniforms, entropy_bound=2.0).prev_sample
    scheduler.set_timesteps(8)
    codes, probabilities = (
        each.view(sample.shape) for each in scheduler.sample_tokens(logits.flatten(0, 1), uniforms[0].flatten())
    )
    entropies = scheduler.entropies(logits.flatten(0, 1)).view(sample.shape)
    parts = scheduler.mask_least_confident(
        codes, probabilities, sample, 0, uniforms[1], entropy_bound=2.0, entropies=entropies
    )
    assert torch.equal(whole, parts)
    scheduler.set_timesteps(8)
    assert not torch.equal(whole, scheduler.step(logits, 0, sample, uniforms=uniforms).prev_sample)


def test_an_order_of_another_length():
    sample = torch.full((1, NUM_POSITIONS), -1)
    with pytest.raises(ValueError, match=r"`order` must have the shape \(16,\), got \(4,\)"):
        make_scheduler().step(make_logits(), 0, sample, order=torch.arange(4))


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_extreme_temperatures_and_logits_give_codes(temperature, scale):
    scheduler = MaskDecodingScheduler(token_temperature=temperature, confidence_temperature=temperature)
    scheduler.set_timesteps(3)
    sample = torch.full((2, 8), -1)
    for timestep in scheduler.timesteps:
        sample, predicted = scheduler.step(scale * torch.randn(2, 8, 20), timestep, sample, return_dict=False)
        assert predicted.min() >= 0 and predicted.max() < 20
    assert torch.equal(sample, predicted)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error(value):
    scheduler = MaskDecodingScheduler()
    scheduler.set_timesteps(2)
    logits = torch.randn(1, 8, 20)
    logits[0, 3, 7] = value
    with pytest.raises(ValueError, match="`probabilities` must be numbers, got NaN"):
        scheduler.step(logits, 0, torch.full((1, 8), -1))
    # Those of decided positions are not looked at.
    sample = torch.full((1, 8), -1).index_fill(1, torch.tensor([3]), 5)
    assert scheduler.step(logits, 0, sample).prev_sample[0, 3] == 5


def test_a_step_is_the_standard_one_unless_it_is_overridden():
    class Recorder(MaskDecodingScheduler):
        def draw_uniforms(self, *arguments, **options):
            return super().draw_uniforms(*arguments, **options)

    class Other(MaskDecodingScheduler):
        def step(self, *arguments, **options):
            return super().step(*arguments, **options)

    assert MaskDecodingScheduler().has_standard_step and Recorder().has_standard_step
    assert not Other().has_standard_step
    patched = MaskDecodingScheduler()
    patched.step = lambda *arguments, **options: None
    assert not patched.has_standard_step
