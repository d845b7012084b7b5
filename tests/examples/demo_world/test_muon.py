# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
import copy

import pytest
import torch
from muon import MuonWithAdamW
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.hidden = nn.Linear(8, 16)
        self.conv = nn.Conv1d(16, 8, 3, padding=1)
        self.lm_head = nn.Linear(8, 10, bias=False)

    def forward(self, ids):
        hidden = torch.relu(self.hidden(self.embedding(ids)))
        return self.lm_head(self.conv(hidden.transpose(1, 2)).transpose(1, 2))


def loss_of(net):
    ids = torch.arange(10)[None]
    return nn.functional.cross_entropy(net(ids)[0], ids[0].roll(1))


def train(net, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(net).backward()
        optimizer.step()


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (8, 4, 2, 5)])
def test_the_first_update_is_a_matrix_with_singular_values_near_one(shape):
    module = nn.Module()
    module.weight = nn.Parameter(torch.zeros(shape))
    module.weight.grad = torch.randn(shape)
    MuonWithAdamW(module, lr=1.0).step()
    assert module.weight.shape == module.weight.grad.shape == shape
    matrix = module.weight.detach().flatten(1)
    values = torch.linalg.svdvals(matrix) / (0.2 * max(matrix.shape) ** 0.5)
    assert values.min() > 0.5 and values.max() < 1.4


def test_a_scheduler_moves_both_learning_rates():
    net = Net()
    optimizer = MuonWithAdamW(net, lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    train(net, optimizer, 1)
    scheduler.step()
    before = copy.deepcopy(net)
    train(net, optimizer, 1)
    for one, other in zip(net.parameters(), before.parameters()):
        assert torch.equal(one, other)


def test_matrices_go_to_muon_and_the_rest_to_adamw():
    net = Net()
    groups = {group["muon"]: {id(p) for p in group["params"]} for group in MuonWithAdamW(net).param_groups}
    assert groups[True] == {id(net.hidden.weight), id(net.conv.weight)}
    assert groups[False] == {id(p) for p in net.parameters()} - groups[True]


def test_frozen_parameters_are_left_out():
    net = Net().requires_grad_(False)
    net.hidden.requires_grad_(True)
    optimizer = MuonWithAdamW(net)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


@pytest.mark.slow
def test_it_learns():
    net = Net()
    before = loss_of(net).item()
    train(net, MuonWithAdamW(net, lr=0.02), 60)
    assert loss_of(net).item() < 0.1 * before


def test_a_saved_state_continues_the_same_run():
    net, twin = Net(), Net()
    optimizer = MuonWithAdamW(net, weight_decay=0.1)
    train(net, optimizer, 3)
    twin.load_state_dict(net.state_dict())
    resumed = MuonWithAdamW(twin, lr=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(net, optimizer, 3)
    train(twin, resumed, 3)
    for one, other in zip(net.parameters(), twin.parameters()):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
