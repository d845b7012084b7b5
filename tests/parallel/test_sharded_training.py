# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
Two steps with the settings of examples/accelerate/ in two processes, sharded by accelerate's own FSDP2 and by DeepSpeed.

accelerate takes two processes on CPUs for DDP, whatever the configuration says, so its sharding is asked for by hand. The
test of DeepSpeed is skipped where that is not installed: it needs no compiler on CPUs, `DS_BUILD_OPS=0 pip install
deepspeed`.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import Accelerator, DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
from parallel.two_processes import run_in_two_processes
from training import trainer_runs as runs


CONFIGURATIONS = Path(__file__).parents[2] / "examples" / "accelerate"
STEPS = 2


def read_configuration(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGURATIONS / f"{name}.yaml").read_text())


def fsdp2() -> tuple[Accelerator, torch.nn.Module, torch.optim.Optimizer]:
    settings = read_configuration("fsdp2")["fsdp_config"]
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=settings["fsdp_version"],
        reshard_after_forward=settings["fsdp_reshard_after_forward"],
        auto_wrap_policy=settings["fsdp_auto_wrap_policy"],
        transformer_cls_names_to_wrap=[settings["fsdp_transformer_layer_cls_to_wrap"]],
        cpu_ram_efficient_loading=settings["fsdp_cpu_ram_efficient_loading"],
        state_dict_type=settings["fsdp_state_dict_type"],
        activation_checkpointing=settings["fsdp_activation_checkpointing"],
        cpu_offload=settings["fsdp_offload_params"],
    )
    accelerator = Accelerator(fsdp_plugin=plugin)
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    return accelerator, *prepare(accelerator)


def zero3() -> tuple[Accelerator, torch.nn.Module, torch.optim.Optimizer]:
    os.environ["DS_ACCELERATOR"] = "cpu"
    settings = read_configuration("deepspeed_zero3")["deepspeed_config"]
    plugin = DeepSpeedPlugin(
        zero_stage=settings["zero_stage"],
        gradient_clipping=settings["gradient_clipping"],
        gradient_accumulation_steps=1,
        zero3_init_flag=settings["zero3_init_flag"],
        zero3_save_16bit_model=settings["zero3_save_16bit_model"],
        offload_optimizer_device=settings["offload_optimizer_device"],
        offload_param_device=settings["offload_param_device"],
    )
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": runs.GLOBAL_BATCH_SIZE // 2,
        "train_batch_size": runs.GLOBAL_BATCH_SIZE,
        "zero_allow_untested_optimizer": True,
    }
    accelerator = Accelerator(deepspeed_plugin=plugin)
    return accelerator, *prepare(accelerator)


def prepare(accelerator: Accelerator) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = runs.tiny_model().train()
    return accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-2))


def share_of_weights(model: torch.nn.Module) -> float:
    """How much of the weights this process holds."""
    local = total = 0
    for parameter in model.parameters():
        if hasattr(parameter, "ds_tensor"):
            local, total = local + parameter.ds_tensor.numel(), total + parameter.ds_numel
        else:
            local, total = local + parameter.to_local().numel(), total + parameter.numel()
    return local / total


def train(way: str) -> tuple[float, list[float]]:
    torch.set_num_threads(1)
    accelerator, model, optimizer = {"fsdp2": fsdp2, "zero3": zero3}[way]()
    share = share_of_weights(model)
    clips, collator = runs.seeded_clips(), runs.DataCollatorForDiffusionForcing(runs.tiny_model().config)
    return share, [
        step(accelerator, model, optimizer, collator([clips[index] for index in runs._indices(number)]))
        for number in range(STEPS)
    ]


def step(
    accelerator: Accelerator, model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]
) -> float:
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    num_items = (batch["labels"] != -100).sum()
    rows = {name: tensor[rank::world_size] for name, tensor in batch.items()}
    # Sharded gradients are averaged over the processes.
    loss = model(**rows, num_items_in_batch=num_items).loss * world_size
    accelerator.backward(loss)
    if accelerator.distributed_type == DistributedType.FSDP:
        accelerator.clip_grad_norm_(model.parameters(), 4.0)
    optimizer.step()
    optimizer.zero_grad()
    mean = loss.detach() / world_size
    torch.distributed.all_reduce(mean)
    return mean.item()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fsdp2", "zero3"])
def test_two_sharded_processes_take_the_steps_of_one(way: str, tmp_path: Path) -> None:
    if way == "zero3" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    expected = runs.plain_losses()[:STEPS]
    for share, losses in run_in_two_processes(train, tmp_path, way):
        assert share == pytest.approx(0.5, abs=0.01)
        assert losses == pytest.approx(expected, abs=1e-4)
