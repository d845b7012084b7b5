# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""
The two branches of guidance on two devices at once: each process computes one, and both go on from the outputs of both.

Notable: after the exchange both processes sample the same codes from the same random numbers, so nothing else is sent.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed


if TYPE_CHECKING:
    from .guidance_branch import GuidanceBranch


class GuidanceParallel:
    """
    The two processes that share the branches: the first one has the branch with the prompt, the second one the other.

    Args:
        group (`torch.distributed.ProcessGroup`, *optional*): the two processes; None stands for all that there are.
        device (`torch.device`): of what is exchanged.

    Raises:
        ValueError: if there is no process group, or it has not two processes, or this process is none of them.
    """

    def __init__(self, group: "torch.distributed.ProcessGroup | None", device: torch.device):
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise ValueError(
                "`group` must be of two processes, got none: start the program by `torchrun --nproc-per-node 2` and call "
                "`torch.distributed.init_process_group()` first."
            )
        size = torch.distributed.get_world_size(group)
        # Of a group that this process is not in, the size is -1.
        if size != 2:
            received = "one without this process" if size < 0 else f"one of {size}"
            raise ValueError(f"`group` must be of two processes, this one among them, got {received}.")
        self._group = group
        self._device = device
        self._rank = torch.distributed.get_rank(group)

    def is_elsewhere(self, branch: int) -> bool:
        """Whether the other process has a branch, by its number: 0 with the prompt, 1 without it."""
        return branch != self._rank

    def shared_generator(self) -> torch.Generator:
        """A generator of random numbers that both processes have; it depends on the default generator of the first one."""
        seed = torch.randint(2**62, (1,)).to(self._device)
        self._broadcast_from_first(seed)
        return torch.Generator().manual_seed(int(seed))

    def check_same_call(self, call: Any) -> None:
        """
        To be called by both processes before they decode.

        Args:
            call: what decides on the result, of types whose `repr` tells all.

        Raises:
            ValueError: if the two are not equal.
        """
        checksum = torch.tensor([zlib.crc32(repr(call).encode())], device=self._device)
        first, second = self._gather(checksum)
        if not torch.equal(first, second):
            raise ValueError(
                "`enable_guidance_parallel` wants the same call in both processes, with generators of the same seed, got "
                "two different ones."
            )

    def outputs(
        self,
        branches: Sequence["GuidanceBranch | BranchElsewhere"],
        forward: Callable[["GuidanceBranch"], torch.Tensor],
        shape: tuple[int, int],
    ) -> list[torch.Tensor]:
        """
        What `forward` gives for each branch, computed where the branch is.

        Args:
            branches: both, or the one with the prompt alone, for which the second process waits.
            forward: of this process's branch.
            shape: of what it gives, in the dtype of the transformer.
        """
        if self._rank < len(branches):
            own = forward(cast("GuidanceBranch", branches[self._rank])).contiguous()
        else:
            own = torch.empty(shape, dtype=branches[0].transformer.dtype, device=self._device)
        if len(branches) > 1:
            return self._gather(own)
        self._broadcast_from_first(own)
        return [own]

    def _gather(self, own: torch.Tensor) -> list[torch.Tensor]:
        both = [torch.empty_like(own) for _ in range(2)]
        torch.distributed.all_gather(both, own, group=self._group)
        return both

    def _broadcast_from_first(self, tensor: torch.Tensor) -> None:
        torch.distributed.broadcast(tensor, group=self._group, group_src=0)


class BranchElsewhere:
    """Stands for the branch of the other process, which keeps it up to date by itself."""

    def __init__(self, transformer: Any):
        self.transformer = transformer

    def read(self, frames: Sequence[torch.Tensor], visual_positions: torch.Tensor) -> None:
        """Nothing is to be read here."""

    def rewind(self, num_frames: int) -> bool:
        """Nothing is to be forgotten here."""
        return True

    def fork(self) -> "BranchElsewhere":
        return self
