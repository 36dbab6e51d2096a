"""The kernels as autograd functions, past PyTorch's dispatcher: for calls that nothing watches."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import library, reference
from .dispatch import REFERENCE, backward, choose, dense, forward, is_plain, kernels
from .torch_internals import is_batched


class Stack(torch.autograd.Function):
    """One stack."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int
    ) -> Tensor:
        """The output; y and the sign bits are saved."""
        y, signs = forward(x, u, b, reflections, apply_abs, True, dim)
        ctx.save_for_backward(x, u, b, y, signs)
        ctx.options = reflections, apply_abs, dim
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by the kernel, or by the operator where they are differentiated or mapped in turn."""
        x, u, b, y, signs = library.saved_tensors(ctx)
        if torch.is_grad_enabled() or is_batched(grad_y) or not is_plain(grad_y, u, b):
            return *library.gradients(grad_y, x, y, signs, u, b, *ctx.options), None, None, None
        return *backward(grad_y, y, signs, u, b, *ctx.options), None, None, None


def in_one_tensor(
    x: Tensor, flat: Sequence[Tensor | None], dims: Sequence[int], keep_signs: bool
) -> tuple[Tensor, list[Tensor]]:
    """Output and every stack's sign bits (none unless `keep_signs`)."""
    x, signs = dense(x), []
    y = torch.empty_like(x)
    for u, b, dim in zip(flat[::2], flat[1::2], dims, strict=True):
        assert u is not None
        signs.append(kernels("cpu").forward(x, dense(u), b if b is None else dense(b), 1, True, keep_signs, dim, y)[1])
        x = y
    return y, signs


class Stacks(torch.autograd.Function):
    """Several stacks one after another, along dimensions of their own, in one tensor on the CPU.  flat: u, b, u, b, ..."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: Sequence[int], *flat: Tensor | None) -> Tensor:
        """The last output, which alone is saved, beside all sign bits."""
        y, signs = in_one_tensor(x, flat, dims, True)
        ctx.save_for_backward(x, y, *flat, *signs)
        ctx.dims = dims
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients as in Stack."""
        count = len(ctx.dims)
        x, y, *flat = library.saved_tensors(ctx)
        flat, signs = flat[: 2 * count], flat[2 * count :]
        plain = all(is_plain(grad_y, t, None) for t in flat if t is not None)
        if torch.is_grad_enabled() or is_batched(grad_y) or not plain:
            return _one_by_one(grad_y, x, ctx.dims, flat)
        grads: list[Tensor | None] = [None] * (2 * count)
        grad, y = dense(grad_y), dense(y)
        y_below, grad_below = torch.empty_like(y), torch.empty_like(y)
        for index in reversed(range(count)):
            u, b = flat[2 * index : 2 * index + 2]
            _, *grads[2 * index : 2 * index + 2] = kernels("cpu").backward(
                grad, y, signs[index].contiguous(), dense(u), b if b is None else dense(b), 1, True,
                ctx.dims[index], y_below, grad_below,
            )  # fmt: skip
            grad, y = grad_below, y_below
        return grad, None, *grads


def _one_by_one(grad_y: Tensor, x: Tensor, dims: Sequence[int], flat: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Gradients of x and of the parameters that can be differentiated again or are batched."""

    def run(x: Tensor, *flat: Any, by: Callable[..., Tensor]) -> Tensor:
        for u, b, dim in zip(flat[::2], flat[1::2], dims, strict=True):
            x = by(x, u, b, 1, True, dim)
        return x

    if choose(grad_y, grad_y, None) == REFERENCE:
        grad_x, *rest = reference.gradients(partial(run, by=reference.stack), grad_y, x, *flat)
        return grad_x, None, *rest
    with torch.enable_grad():
        inputs: list[Any] = [None if t is None else _for_one_use(t) for t in (x, *flat)]
        y = run(*inputs, by=lambda *call: library.stack(*call)[0])
    wanted = [t for t in inputs if t is not None]
    grads = iter(torch.autograd.grad(y, wanted, grad_y, create_graph=torch.is_grad_enabled()))
    grad_x, *rest = (None if t is None else next(grads) for t in inputs)
    return grad_x, None, *rest


def _for_one_use(tensor: Tensor) -> Tensor:
    """A view: the tensor may come twice, or be made from another, and the gradient of one use is not that of all."""
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()
