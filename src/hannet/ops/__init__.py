"""The stack of Han-layers as a PyTorch operator; see `dispatch` for which code runs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import autograd, dispatch, library, reference


def stack(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int = 1, apply_abs: bool = True, dim: int = -1
) -> Tensor:
    """reference.stack by the fastest code that can serve the call; half x with half or float32 u and b, else one dtype for all.

    On a GPU, features last but one are transposed here, around the kernel; the operators refuse them.
    """
    if dim == -2 and dispatch.on_gpu(x):
        return stack(x.mT, u, b, reflections, apply_abs).mT
    code = dispatch.choose(x, u, b)
    if x.dtype in dispatch.HALF and (not dispatch.on_gpu(x) or code == dispatch.REFERENCE):
        return stack(x.float(), u.float(), b if b is None else b.float(), reflections, apply_abs, dim).to(x.dtype)
    if code == dispatch.REFERENCE:
        return reference.stack(x, u, b, reflections, apply_abs, dim)
    if code == dispatch.OPERATOR:
        return library.stack(x, u, b, reflections, apply_abs, dim)[0]
    if torch.is_grad_enabled() and (x.requires_grad or u.requires_grad or (b is not None and b.requires_grad)):
        return autograd.Stack.apply(x, u, b, reflections, apply_abs, dim)
    return dispatch.forward(x, u, b, reflections, apply_abs, False, dim)[0]


def stacks(x: Tensor, parameters: Sequence[tuple[Tensor, Tensor | None]], dims: Sequence[int]) -> Tensor:
    """The stacks (u, b) one after another, each along its own dimension -1 or -2; float32 or float64, one dtype for all.

    Where the CPU's kernel runs at once, all work in one tensor: only the last output is kept, and the backward pass rebuilds
    the others.
    """
    if dispatch.on_gpu(x) or not all(dispatch.choose(x, u, b) == dispatch.KERNEL for u, b in parameters):
        for (u, b), dim in zip(parameters, dims, strict=True):
            x = stack(x, u, b, dim=dim)
        return x
    flat = [t for pair in parameters for t in pair]
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *flat)):
        return autograd.Stacks.apply(x, dims, *flat)
    return autograd.in_one_tensor(x, flat, dims, False)[0]
