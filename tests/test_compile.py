# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""`torch.compile` of a pipeline's transformer: the same codes, and few graphs of fixed shapes."""

import operator
import shutil

import pytest
import torch
from tiny_models import tiny_config

from lumos_hf.compiled_modules import without_graphs
from lumos_hf.modeling_lumos import LumosForCausalLM
from lumos_hf.pipeline_lumos_video import LumosVideoPipeline
from lumos_hf.scheduling_mask_decoding import MaskDecodingScheduler
from lumos_hf.token_layout import sequence_from_codes


pytestmark = pytest.mark.slow


ROWS = [[0, 5, 6, 7, 102], [0, 3, 4, 5, 6, 7, 8, 102], [0, 9, 102]]


@pytest.fixture
def pipe():
    torch.compiler.reset()
    pipe = LumosVideoPipeline(None, LumosForCausalLM(tiny_config()).eval(), None, MaskDecodingScheduler())
    pipe.set_progress_bar_config(disable=True)
    yield pipe
    torch.compiler.reset()


class GraphRecorder:
    """A backend that runs the graphs as they are, and keeps them."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, example_inputs):
        self.graphs.append(graph)
        return graph


def codes_of(pipe, input_ids, num_frames, **options):
    rows = input_ids if isinstance(input_ids[0], list) else [input_ids]
    return pipe(
        input_ids=rows,
        height=32,
        width=64,
        num_frames=num_frames,
        fps=4,
        num_inference_steps=3,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(rows))],
        output_type="latent",
        **options,
    ).frames


def test_one_graph_serves_all_steps_frames_branches_and_calls(pipe):
    calls = [(ROWS[0], 21), (ROWS[1], 13), (ROWS[0], 1), (ROWS[2], 33)]
    expected = [codes_of(pipe, *call) for call in calls]
    recorder = GraphRecorder()
    pipe.transformer.compile(fullgraph=True, backend=recorder)
    assert torch.equal(codes_of(pipe, *calls[0]), expected[0])
    with torch.compiler.set_stance("fail_on_recompile"):
        for call, codes in zip(calls[1:], expected[1:], strict=True):
            assert torch.equal(codes_of(pipe, *call), codes)
    assert len(recorder.graphs) == 1


def test_calls_that_overlap_leave_compiling_as_it_was(pipe):
    pipe.transformer.compile(backend="eager")
    first, second = without_graphs(pipe.transformer), without_graphs(pipe.transformer)
    # As in two threads that take turns.
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    recorder = GraphRecorder()
    torch.compile(lambda x: x + 1, backend=recorder)(torch.ones(1))
    assert len(recorder.graphs) == 1


def test_the_other_form_of_compiling(pipe):
    expected = codes_of(pipe, ROWS[0], 9)
    recorder = GraphRecorder()
    pipe.transformer = torch.compile(pipe.transformer, fullgraph=True, backend=recorder)
    assert torch.equal(codes_of(pipe, ROWS[0], 9), expected)
    assert len(recorder.graphs) == 1


def test_padded_batches(pipe):
    batches = [[ROWS[0], ROWS[1]], [ROWS[1], ROWS[2]], [ROWS[2], ROWS[1]]]
    expected = [codes_of(pipe, batch, 9) for batch in batches]
    recorder = GraphRecorder()
    pipe.transformer.compile(fullgraph=True, backend=recorder)
    for batch, codes in zip(batches, expected, strict=True):
        assert torch.equal(codes_of(pipe, batch, 9), codes)
    # One without padding, one with padding, and one with padding of any length.
    assert len(recorder.graphs) == 3


def test_the_graph_may_run_as_a_cuda_graph(pipe):
    """Those need shapes that do not change in a frame, and to write to no input but one of fixed address."""
    recorder = GraphRecorder()
    pipe.transformer.compile(fullgraph=True, backend=recorder)
    codes_of(pipe, ROWS[0], 9)
    (graph,) = recorder.graphs
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    static = {node for node in inputs if node.meta.get("tensor_dict", {}).get("_dynamo_static_input_type")}
    written = {node.args[0] for node in graph.graph.nodes if node.target is operator.setitem}
    assert len(written) == 2 * pipe.transformer.config.num_hidden_layers and written <= static


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on CPUs")
def test_inductor(pipe):
    greedy = MaskDecodingScheduler(token_temperature=0.0, confidence_temperature=0.0)
    pipe.register_modules(scheduler=greedy)
    expected = codes_of(pipe, ROWS[0], 9)
    pipe.transformer.compile(fullgraph=True)
    assert torch.equal(codes_of(pipe, ROWS[0], 9), expected)


@pytest.fixture
def training_batch():
    """Two videos, the second one with padding at its end; every third visual token has no label."""
    config = tiny_config()
    codes = torch.randint(0, config.visual_vocab_size, (2, 4, 8), generator=torch.Generator().manual_seed(0))
    ids = sequence_from_codes(ROWS[0], codes, duration=1, fps=2, config=config).repeat(2, 1)
    labels = ids.masked_fill(ids < config.visual_token_offset, -100)
    labels[:, ::3] = -100
    attention_mask = torch.ones_like(ids)
    attention_mask[1, -2:] = 0
    return {"input_ids": ids, "labels": labels, "attention_mask": attention_mask}


@pytest.mark.parametrize("counts_items", [False, True])
def test_a_training_step_is_one_graph(pipe, training_batch, counts_items):
    model = pipe.transformer.train()
    if counts_items:
        training_batch["num_items_in_batch"] = (training_batch["labels"] != -100).sum()
    recorder = GraphRecorder()
    losses, gradients = [], []
    for call in (model, torch.compile(model, fullgraph=True, backend=recorder)):
        model.zero_grad()
        loss = call(**training_batch).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert len(recorder.graphs) == 1
    torch.testing.assert_close(losses[1], losses[0])
    # A graph attends with a mask, the model by blocks.
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_training", [True, False])
def test_export_with_labels(pipe, training_batch, is_training):
    model = pipe.transformer.train(is_training)
    # Logits of the labelled positions have a shape that depends on the labels.
    with torch.set_grad_enabled(is_training):
        program = torch.export.export(model, (), {**training_batch, "skip_logits": True})
        loss = program.module()(**training_batch, skip_logits=True).loss
    torch.testing.assert_close(loss, model(**training_batch, skip_logits=True).loss)
