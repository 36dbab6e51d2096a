"""Work that is the same each time, replayed on a GPU as one CUDA graph: small kernels then no longer wait for Python."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
_WARMUP_CALLS = 3  # calls before the capture: in them kernels are compiled, libraries started, buffers made


class CUDAGraphRunner(Generic[T]):
    """A function as a graph: the first calls are its own, and count; the next is captured; from there on all are replays.

    work: works in place on tensors of `device`, asks none of them for a value, and gives tensors. From the capture on these
    are the same ones at each call, so they must be read before the next.
    """

    def __init__(self, work: Callable[[], T], device: torch.device):
        self.work, self.calls = work, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream(device)  # PyTorch asks for one: the default stream cannot be captured

    def __call__(self) -> T:
        """One call."""
        self.calls += 1
        if self.calls <= _WARMUP_CALLS:
            return self._run_eagerly()
        if self.graph is None:
            self._capture()
            assert self.graph
        self.graph.replay()
        return self.result

    def _run_eagerly(self) -> T:
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = self.work()
        current.wait_stream(self.stream)
        return result

    def _capture(self) -> None:
        with torch.cuda.device(self.stream.device):
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.result = self.work()
