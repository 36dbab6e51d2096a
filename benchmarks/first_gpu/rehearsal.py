"""A CPU in the place of the GPU: Triton's interpreter runs the kernels, and a graph's work is done step by step."""

import os
from collections.abc import Callable
from typing import Any

import torch


def announce() -> None:
    """Before Triton is imported, and for processes that this one starts."""
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


class _StepByStep:
    """In the place of a CUDA graph: its work, again and again."""

    def __init__(self, work: Callable[[], Any], device: torch.device):
        self.work, self.device = work, device

    def __call__(self) -> Any:
        return self.work()


def begin() -> None:
    """Tensors of the CPU go to the GPU's kernels from here on, and trainings take the steps that a graph would hold."""
    from hannet.ops import dispatch
    from hannet.train import ensemble_backend

    dispatch.on_gpu = lambda _: True
    ensemble_backend.EnsembleBackend._capturable = lambda _: True
    ensemble_backend.CUDAGraphRunner = _StepByStep
