"""Several processes at one training: who they are, sums over them, and BatchNorm of the joint batch."""

import atexit
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..storage.files import StoreError, exclusive_lock, store_errors

# what tells a process that there are others: torchrun's and accelerate's, then those of kinds of MPI
_COUNTS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


def _leave() -> None:
    """Ends the group's threads: one that lives on while the interpreter ends aborts, now and then, a process that has done its work."""
    if dist.is_initialized():
        dist.destroy_process_group()


class SingleProcess:
    """The one process of a training that knows of no others."""

    count, place, first = 1, 0, True

    def __init__(self, device: torch.device):
        self.device = device

    def sum(self, value: Tensor) -> Tensor:
        """The sum of the value over all processes."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """The largest value of each number over all processes."""
        if self.count == 1:
            return list(numbers)
        values = torch.tensor(numbers, device=self.device)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return values.tolist()

    @contextmanager
    def exclusive_lock(self, lock: Path, busy: str) -> Iterator[None]:
        """Keep other trainings off what a lock file stands for; the first process holds it, for all of them.

        busy: what to say if another training holds it. Raises StoreError, in every process, if the first does not get it.
        """
        with ExitStack() as stack:
            fault = ""
            if self.first:
                try:
                    with store_errors(lock.parent):
                        lock.parent.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(exclusive_lock(lock, busy))
                except StoreError as error:
                    fault = str(error)
            if any(self.all_reduce_max(int(bool(fault)))):
                raise StoreError(fault or "the first process could not begin, and says why")
            yield


class DistributedContext(SingleProcess):
    """The processes that `torchrun` or `accelerate launch` started, or this one alone; and this one's place and device."""

    def __init__(self) -> None:
        on_cpu = not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
        if not any(name in os.environ for name in _COUNTS):  # alone, it needs no accelerate
            super().__init__(torch.device("cpu" if on_cpu else "cuda"))
            return
        from accelerate import PartialState
        from torch.distributed.nn import functional  # noqa: F401  # imported later, its defaults would hold the group

        had_group = dist.is_initialized()
        # unless told, it makes no group on CPUs; other accelerators than CUDA's lack float64, or kernels of ours
        state = PartialState(cpu=on_cpu)
        if dist.is_initialized() and not had_group:
            atexit.register(_leave)
        self.count, self.place = state.num_processes, state.process_index
        self.first = state.is_main_process
        on_cpu = state.device.type == "cpu"  # which may come with a number
        super().__init__(torch.device("cpu") if on_cpu else state.device)


class _Sum(torch.autograd.Function):
    """The sum over all processes; each input has a part in every process's output, so gradients are summed as well."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


class JointBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d of the joint batch of all processes, also where nn.SyncBatchNorm refuses: on CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, channels, h, w), as returned."""
        if not self.training:
            return super().forward(x)
        n = x.numel() // x.shape[1] * dist.get_world_size()
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _Sum.apply(wide.sum((0, 2, 3))) / n
        centred = wide - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / n
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * (n / (n - 1)), share)
        normal = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(x.dtype)


@contextmanager
def joint_statistics(model: nn.Module, processes: SingleProcess) -> Iterator[None]:
    """Within it the model's BatchNorms see the joint batch; names and values of its state stay what they are."""
    norms = [module for module in model.modules() if type(module) is nn.BatchNorm2d] if processes.count > 1 else []
    joint: Any = nn.SyncBatchNorm if processes.device.type == "cuda" else JointBatchNorm
    try:
        for norm in norms:
            norm.__class__ = joint
            norm.process_group = None  # type: ignore[assignment]  # all processes: what nn.SyncBatchNorm asks for
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d
            del norm.process_group
