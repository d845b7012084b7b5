# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""Products by oneDNN equal those of PyTorch, and are left alone wherever a call is more than a product."""

import pytest
import torch
import torch.nn.functional as F
from tiny_models import NUM_CODES, tiny_config
from torch import nn

from lumos_hf import LumosForCausalLM, LumosVideoPipeline, MaskDecodingScheduler, onednn_linear
from lumos_hf.onednn_linear import apply_linear, is_plain_linear, linear, takes_onednn
from lumos_hf.token_layout import prompt_ids, sequence_from_codes


pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this build of PyTorch has no oneDNN",
)
IN_FEATURES, OUT_FEATURES = 7, 6


@pytest.fixture(autouse=True)
def onednn_is_faster(monkeypatch):
    """On every machine, for products of any size but none."""
    monkeypatch.setattr(onednn_linear, "_IS_ONEDNN_FASTER", True)
    monkeypatch.setattr(onednn_linear, "_MIN_MULTIPLICATIONS", 1)


@pytest.fixture
def layer():
    return nn.Linear(IN_FEATURES, OUT_FEATURES)


def scalar_of(gradients):
    return sum(gradient.square().sum() for gradient in gradients)


@pytest.mark.parametrize("with_bias", (True, False))
@pytest.mark.parametrize("shape", ((4,), (1,), (3, 5), (2, 3, 4)), ids=str)
def test_values_and_gradients_of_two_orders(shape, with_bias):
    arguments = [torch.randn(*shape, IN_FEATURES), torch.randn(OUT_FEATURES, IN_FEATURES)]
    arguments += [torch.randn(OUT_FEATURES)] * with_bias
    for argument in arguments:
        argument.requires_grad_()
    assert takes_onednn(*arguments[:2])
    results = []
    for function in (linear, F.linear):
        output = function(*arguments)
        first = torch.autograd.grad(output.square().sum(), arguments, create_graph=True)
        second = torch.autograd.grad(scalar_of(first), arguments)
        with torch.no_grad():
            results.append((output, function(*arguments), *first, *second))
    assert "_Linear" in type(linear(*arguments).grad_fn).__name__
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-3)


def test_only_wanted_gradients(layer):
    inputs = torch.randn(3, IN_FEATURES)
    layer.weight.requires_grad_(False)
    apply_linear(layer, inputs).sum().backward()
    assert layer.weight.grad is None and inputs.grad is None and layer.bias.grad.tolist() == [3.0] * OUT_FEATURES


@torch.no_grad()
def test_tensors_that_lie_scattered_in_memory():
    inputs, weight = torch.randn(5, 9, 2 * IN_FEATURES), torch.randn(2 * OUT_FEATURES, IN_FEATURES)
    for each, rows in ((inputs.transpose(0, 1)[:, ::2, ::2], weight[::2]), (inputs[..., ::2], weight[3:9])):
        torch.testing.assert_close(linear(each, rows), F.linear(each, rows))
    columns = torch.randn(IN_FEATURES, OUT_FEATURES).T
    torch.testing.assert_close(linear(inputs[..., 1::2], columns), F.linear(inputs[..., 1::2], columns))


@torch.no_grad()
def test_what_is_left_to_pytorch(layer, monkeypatch):
    inputs, weight = torch.randn(3, IN_FEATURES), layer.weight
    assert takes_onednn(inputs, weight)
    assert not takes_onednn(inputs.bfloat16(), weight) and not takes_onednn(inputs.double(), weight)
    assert not takes_onednn(inputs[0], weight) and not takes_onednn(inputs[:0], weight)
    assert not takes_onednn(inputs.to("meta"), weight.to("meta"))
    assert linear(inputs[0], weight).shape == (OUT_FEATURES,)
    assert linear(inputs[:0], weight).shape == (0, OUT_FEATURES)
    with torch.autocast("cpu", torch.bfloat16):
        assert apply_linear(layer, inputs).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        assert not takes_onednn(inputs, weight)
    torch.testing.assert_close(torch.vmap(lambda row: linear(row[None], weight))(inputs)[:, 0], linear(inputs, weight))
    with monkeypatch.context() as context:
        context.setattr(onednn_linear, "_MIN_MULTIPLICATIONS", 3 * IN_FEATURES * OUT_FEATURES)
        assert takes_onednn(inputs, weight) and not takes_onednn(inputs[:2], weight)
    monkeypatch.setattr(onednn_linear, "_IS_ONEDNN_FASTER", False)
    assert not takes_onednn(inputs, weight)


@torch.no_grad()
def test_wide_products_alone_on_processors_without_avx512(layer, monkeypatch):
    inputs = torch.randn(3, IN_FEATURES)
    monkeypatch.setattr(onednn_linear, "_IS_ONEDNN_FASTER", False)
    monkeypatch.setattr(onednn_linear, "_IS_ONEDNN_FASTER_IF_WIDE", True)
    monkeypatch.setattr(onednn_linear, "_MIN_WIDE_COLUMNS", OUT_FEATURES)
    assert takes_onednn(inputs, layer.weight) and not takes_onednn(inputs, layer.weight[1:])
    torch.testing.assert_close(linear(inputs, layer.weight), F.linear(inputs, layer.weight))
    monkeypatch.setattr(onednn_linear, "_IS_ONEDNN_FASTER_IF_WIDE", False)
    assert not takes_onednn(inputs, layer.weight)


class DoubledLinear(nn.Linear):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


@torch.no_grad()
def test_modules_that_do_more_are_called(layer):
    inputs = torch.randn(3, IN_FEATURES)
    expected = 2 * layer(inputs)
    doubled = DoubledLinear(IN_FEATURES, OUT_FEATURES)
    doubled.load_state_dict(layer.state_dict())
    assert is_plain_linear(layer) and not is_plain_linear(doubled)
    torch.testing.assert_close(apply_linear(doubled, inputs), expected)

    handle = layer.register_forward_hook(lambda module, arguments, output: 2 * output)
    assert not is_plain_linear(layer)
    torch.testing.assert_close(apply_linear(layer, inputs), expected)
    handle.remove()
    handle = layer.register_forward_pre_hook(lambda module, arguments: (2 * arguments[0],))
    torch.testing.assert_close(apply_linear(layer, inputs), layer(inputs))
    handle.remove()
    forward = layer.forward
    layer.forward = lambda inputs: 2 * forward(inputs)
    torch.testing.assert_close(apply_linear(layer, inputs), expected)


@pytest.mark.parametrize(
    ("capabilities", "is_faster", "is_faster_if_wide"),
    (
        ({"avx512_f": True, "avx2": True, "cpu_name": "AMD EPYC 9B45"}, True, True),
        ({"avx512_f": False, "avx2": True, "cpu_name": "AMD EPYC 7763"}, False, True),
        ({"avx512_f": True, "avx2": True, "cpu_name": "Intel(R) Xeon(R) Platinum 8481C"}, False, False),
        ({"architecture": "aarch64"}, False, False),
    ),
)
def test_the_machines_on_which_onednn_is_faster(capabilities, is_faster, is_faster_if_wide, monkeypatch):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert onednn_linear._is_amd_with("avx512_f") == is_faster
    assert onednn_linear._is_amd_with("avx2") == is_faster_if_wide
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not onednn_linear._is_amd_with("avx512_f")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not onednn_linear._is_amd_with("avx512_f")


def with_and_without_onednn(function):
    results = []
    for enabled in (True, False):
        with torch.backends.mkldnn.flags(enabled=enabled), torch.profiler.profile() as profiler:
            results.append(function())
        assert any("linear_pointwise" in event.key for event in profiler.key_averages()) == enabled
    return results


@pytest.mark.slow
def test_a_pipeline_decodes_the_same_codes():
    torch.manual_seed(0)
    scheduler = MaskDecodingScheduler(token_temperature=0.0, confidence_temperature=0.0)
    pipe = LumosVideoPipeline(None, LumosForCausalLM(tiny_config()).eval(), None, scheduler)
    pipe.set_progress_bar_config(disable=True)
    options = {"height": 32, "width": 64, "num_frames": 9, "fps": 4, "num_inference_steps": 3}
    codes, expected = with_and_without_onednn(
        lambda: pipe(input_ids=[0, 5, 6, 7, 102], output_type="latent", **options).frames
    )
    assert torch.equal(codes, expected)


@pytest.mark.slow
def test_training_gives_the_same_gradients():
    torch.manual_seed(0)
    model = LumosForCausalLM(tiny_config())
    codes = torch.randint(NUM_CODES, (2, 4, 8))
    ids = sequence_from_codes(prompt_ids([5, 6], model.config), codes, 1, 4, model.config)[None]

    def loss_and_gradients():
        loss = model(input_ids=ids, labels=ids).loss
        return loss, *torch.autograd.grad(loss, list(model.parameters()))

    torch.testing.assert_close(*with_and_without_onednn(loss_and_gradients), rtol=1e-4, atol=1e-6)
