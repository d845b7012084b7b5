# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from lumos_hf.linear_cross_entropy import checkpointed_cross_entropy, linear_cross_entropy


NUM_ROWS, HIDDEN_SIZE, VOCAB_SIZE = 11, 8, 30
CLASSES = slice(6, 26)
NUM_CLASSES = CLASSES.stop - CLASSES.start


def build_inputs(dtype=torch.float32, num_rows=NUM_ROWS):
    hidden_states = torch.randn(num_rows, HIDDEN_SIZE).to(dtype).requires_grad_()
    weight = torch.randn(VOCAB_SIZE, HIDDEN_SIZE).to(dtype).requires_grad_()
    return hidden_states, weight, torch.randint(NUM_CLASSES, (num_rows,))


def plain(hidden_states, weight, targets, classes, rows_per_chunk):
    losses = F.cross_entropy(F.linear(hidden_states, weight[classes]).float(), targets, reduction="none")
    return losses.sum(), (losses != 0).sum()


def checkpointed(hidden_states, weight, targets, classes, rows_per_chunk):
    return checkpointed_cross_entropy(
        lambda states: F.linear(states, weight)[..., classes], hidden_states, targets, rows_per_chunk
    )


def results(function, inputs, rows_per_chunk, factor=0.3):
    """Loss, number of losses that are not 0, and the gradients of a multiple of the loss."""
    hidden_states, weight, targets = inputs
    loss, num_nonzero = function(hidden_states, weight, targets, CLASSES, rows_per_chunk)
    wanted = [tensor for tensor in (hidden_states, weight) if tensor.requires_grad]
    return loss.detach(), num_nonzero, *torch.autograd.grad(factor * loss, wanted)


def assert_all_close(actual, expected, **tolerances):
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, **tolerances)


@pytest.mark.parametrize("function", (linear_cross_entropy, checkpointed))
@pytest.mark.parametrize("rows_per_chunk", (1, 4, NUM_ROWS, 100))
def test_equals_plain_computation(function, rows_per_chunk):
    inputs = build_inputs()
    assert_all_close(results(function, inputs, rows_per_chunk), results(plain, inputs, None))


@pytest.mark.parametrize("function", (linear_cross_entropy, checkpointed))
def test_no_rows(function):
    loss, num_nonzero, hidden_grad, weight_grad = results(function, build_inputs(num_rows=0), 4)
    assert loss == 0 and num_nonzero == 0
    assert hidden_grad.shape == (0, HIDDEN_SIZE)
    assert weight_grad.shape == (VOCAB_SIZE, HIDDEN_SIZE) and not weight_grad.any()


@pytest.mark.parametrize("frozen", (0, 1))
def test_inputs_without_gradients(frozen):
    inputs = build_inputs()
    inputs[frozen].requires_grad_(False)
    assert_all_close(results(linear_cross_entropy, inputs, 4), results(plain, inputs, None))


@pytest.mark.slow
def test_gradients_in_double_precision():
    hidden_states, weight, targets = build_inputs(torch.float64)
    assert torch.autograd.gradcheck(
        lambda states, weight: linear_cross_entropy(states, weight, targets, CLASSES, 4)[0], (hidden_states, weight)
    )


@pytest.mark.parametrize("function", (linear_cross_entropy, checkpointed))
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_half_precision(function, dtype):
    inputs = build_inputs(dtype)
    tolerance = 4 * torch.finfo(dtype).eps
    assert_all_close(results(function, inputs, 4), results(plain, inputs, None), rtol=tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("function", (linear_cross_entropy, checkpointed))
def test_autocast(function):
    inputs = build_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        actual, expected = (results(each, inputs, rows) for each, rows in ((function, 4), (plain, None)))
    assert_all_close(actual, expected, rtol=0.02, atol=0.03)
    assert torch.equal(actual[0], expected[0]) or (actual[0] - expected[0]).abs() < 1e-4
    assert (actual[0] - results(plain, inputs, None)[0]).abs() > 1e-4


@pytest.mark.slow
def test_the_weight_gradient_is_summed_in_float32():
    """Each of many chunks adds less than half a unit in the last place of a bfloat16 sum."""
    num_rows = 2000
    hidden_states, weight, targets = build_inputs(torch.bfloat16, num_rows)
    with torch.no_grad():
        hidden_states.fill_(1.0)
        weight.zero_()
        targets.zero_()
    *_, weight_grad = results(linear_cross_entropy, (hidden_states, weight, targets), 1, factor=1.0)
    expected = torch.full((NUM_CLASSES, HIDDEN_SIZE), num_rows / NUM_CLASSES)
    expected[0] -= num_rows
    torch.testing.assert_close(weight_grad[CLASSES].float(), expected, rtol=0.005, atol=0)


def test_float16_gradients_survive_a_mean_over_many_tokens():
    """Whose terms, before a gradient scaler's factor comes in, are too small for float16."""
    inputs = build_inputs(torch.float16)
    scaled = results(linear_cross_entropy, inputs, 4, factor=torch.tensor(65536.0) / 1e6)
    expected = results(linear_cross_entropy, inputs, 4, factor=torch.tensor(1.0))
    for gradient, unscaled in zip(scaled[2:], expected[2:], strict=True):
        torch.testing.assert_close(gradient.float(), unscaled.float() * 0.065536, rtol=2e-3, atol=1e-6)


def test_tokens_with_zero_loss_are_those_of_the_plain_computation():
    """Logits whose spread is near the one at which a loss is rounded to 0."""
    hidden_states, weight, targets = build_inputs(num_rows=500)
    with torch.no_grad():
        weight.mul_(5)
        targets = F.linear(hidden_states, weight[CLASSES]).argmax(-1)
    inputs = (hidden_states, weight, targets)
    _, expected, *_ = results(plain, inputs, None)
    assert 0 < expected < 500
    for function in (linear_cross_entropy, checkpointed):
        assert results(function, inputs, 64)[1] == expected


def test_gradients_may_be_asked_for_twice_but_not_differentiated():
    hidden_states, weight, targets = build_inputs()
    loss, _ = linear_cross_entropy(hidden_states, weight, targets, CLASSES, 4)
    first = torch.autograd.grad(loss, (hidden_states, weight), retain_graph=True)
    assert_all_close(torch.autograd.grad(2 * loss, (hidden_states, weight)), [2 * gradient for gradient in first])

    loss, _ = linear_cross_entropy(hidden_states, weight, targets, CLASSES, 4)
    (gradient,) = torch.autograd.grad(loss**2, hidden_states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_inside_a_checkpoint():
    inputs = build_inputs()

    def function(*arguments):
        return checkpoint(linear_cross_entropy, *arguments, use_reentrant=False)

    assert_all_close(results(function, inputs, 4), results(plain, inputs, None))


PRODUCTS = ("aten.mm.default", "aten.addmm_.default", "mkldnn._linear_pointwise.default")


class LargestTensors(TorchDispatchMode):
    """Records the number of elements of every tensor that operations return."""

    def __init__(self):
        super().__init__()
        self.numbers_of_elements = []
        self.num_products = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        output = operation(*args, **(kwargs or {}))
        self.num_products += str(operation) in PRODUCTS
        self.numbers_of_elements += [
            tensor.numel() for tensor in torch.utils._pytree.tree_leaves(output) if torch.is_tensor(tensor)
        ]
        return output


@pytest.mark.parametrize(
    ("function", "num_columns"), ((linear_cross_entropy, NUM_CLASSES), (checkpointed, VOCAB_SIZE))
)
def test_no_tensor_is_larger_than_the_logits_of_a_chunk(function, num_columns):
    num_rows, rows_per_chunk = 1000, 50
    inputs = build_inputs(num_rows=num_rows)
    with LargestTensors() as record:
        results(function, inputs, rows_per_chunk)
    largest_input = num_rows * HIDDEN_SIZE
    allowed = max(largest_input, rows_per_chunk * num_columns)
    assert max(record.numbers_of_elements) == allowed < num_rows * num_columns / 2


@pytest.mark.parametrize(
    ("frozen", "num_products"), (((), 3), ((0,), 2), ((1,), 2), ((0, 1), 1)), ids=("none", "states", "head", "both")
)
def test_what_needs_no_gradient_costs_none(frozen, num_products):
    inputs = build_inputs()
    for index in frozen:
        inputs[index].requires_grad_(False)
    with LargestTensors() as record:
        linear_cross_entropy(*inputs, CLASSES, NUM_ROWS)
    assert record.num_products == num_products


def test_evaluation_costs_no_gradients():
    with torch.no_grad(), LargestTensors() as record:
        linear_cross_entropy(*build_inputs(), CLASSES, NUM_ROWS)
    assert record.num_products == 1
