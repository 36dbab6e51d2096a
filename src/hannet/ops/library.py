"""The custom operators hannet::stack and hannet::stack_backward: what PyTorch must know to compile, map, convert and differentiate them."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import dispatch, reference
from .dispatch import HALF, REFERENCE, backward, choose, forward, kernels
from .torch_internals import changed_in_place


def _check(x: Tensor, u: Tensor, b: Tensor | None, reflections: int, dim: int) -> None:
    """The operators can be called by anyone, and the kernels write where they are told."""
    members = u.shape[:-2]
    layers = 1 if u.dim() == 1 else u.shape[-2]
    fits = dim in ((-1,) if dispatch.on_gpu(x) else (-1, -2)) and u.dim() in (1, 2, 3) and x.dim() >= len(members) - dim
    fits = fits and x.shape[dim] == u.shape[-1] and x.shape[: len(members)] == members
    fits = fits and reflections > 0 and layers % reflections == 0
    fits = fits and (b is None or (b.shape[:-2] == members and b.numel() * reflections == u.numel()))
    served = (torch.float32, torch.float64, *(HALF if dispatch.on_gpu(x) else ()))
    beside = (*HALF, torch.float32) if x.dtype in HALF else (x.dtype,)
    if not fits or x.dtype not in served or any(t.dtype not in beside for t in (u, b) if t is not None):
        given = [None if t is None else (tuple(t.shape), t.dtype) for t in (x, u, b)]
        raise ValueError(
            f"hannet::stack: x, u and b do not fit together, or have no kernel for their dtypes or along {dim}: {given}"
        )


def _signs_shape(x: Tensor, u: Tensor, reflections: int, apply_abs: bool, dim: int) -> tuple[int, int]:
    """(members, bytes) of the sign bits beside the output; what `_check` refuses has none."""
    if dispatch.on_gpu(x):
        return kernels("cuda").signs_shape(x.shape, u.shape, x.dtype, reflections, apply_abs)
    return kernels("cpu").signs_shape(x.shape, u.shape, x.dtype, dim)


@torch.library.custom_op("hannet::stack", mutates_args=(), device_types=("cpu", "cuda"))
def stack(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int = -1
) -> tuple[Tensor, Tensor]:
    """Output and sign bits."""
    _check(x, u, b, reflections, dim)
    return forward(x, u, b, reflections, apply_abs, True, dim)


@stack.register_fake
def _(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int = -1
) -> tuple[Tensor, Tensor]:
    signs = x.new_empty(_signs_shape(x, u, reflections, apply_abs, dim), dtype=torch.uint8)
    return torch.empty_like(x, memory_format=torch.contiguous_format), signs


@torch.library.custom_op("hannet::stack_backward", mutates_args=(), device_types=("cpu", "cuda"))
def stack_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None,
    reflections: int, apply_abs: bool, dim: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, u and b (empty without b). x itself is only there to be differentiated again."""
    _check(y, u, b, reflections, dim)
    shape = _signs_shape(y, u, reflections, apply_abs, dim)
    if grad_y.shape != y.shape or grad_y.dtype != y.dtype or signs.shape != shape:
        raise ValueError("hannet::stack_backward: grad_y and signs do not belong to y")
    grad_x, grad_u, grad_b = backward(grad_y, y, signs, u, b, reflections, apply_abs, dim)
    return grad_x, grad_u, grad_y.new_empty(0) if grad_b is None else grad_b


@stack_backward.register_fake
def _(
    grad_y: Tensor, x: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None,
    reflections: int, apply_abs: bool, dim: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    def like(t: Tensor) -> Tensor:
        return torch.empty_like(t, memory_format=torch.contiguous_format)

    return like(y), like(u), grad_y.new_empty(0) if b is None else like(b)


def gradients(
    grad_y: Tensor, x: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None,
    reflections: int, apply_abs: bool, dim: int,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Gradients of x, u and b by what can serve grad_y: the operator, or the reference under forward-mode differentiation."""
    if choose(grad_y, u, b) == REFERENCE:
        run = partial(reference.stack_in_single, reflections=reflections, apply_abs=apply_abs, dim=dim)
        return reference.gradients(run, grad_y, x, u, b)
    grad_x, grad_u, grad_b = stack_backward(grad_y, x, y, signs, u, b, reflections, apply_abs, dim)
    return grad_x, grad_u, None if b is None else grad_b


def saved_tensors(ctx: Any) -> tuple[Any, ...]:
    """What the forward pass saved. Raises RuntimeError, in words of the layer, if it has been changed since."""
    try:
        saved: tuple[Any, ...] = ctx.saved_tensors
    except RuntimeError as error:
        if not changed_in_place(error):
            raise
        raise RuntimeError(
            "a Han-layer's output, input or parameter has been modified by an inplace operation (y += x, "
            "ReLU(inplace=True)) since its forward pass; the backward pass needs them: write y = y + x, or ReLU()"
        ) from error
    return saved


def _stack_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, u, b, *ctx.options = inputs
    ctx.save_for_backward(x, u, b, *output)
    ctx.set_materialize_grads(False)


def _stack_gradients(ctx: Any, grad_y: Tensor | None, grad_signs: Tensor | None) -> tuple[Tensor | None, ...]:
    x, u, b, y, signs = saved_tensors(ctx)
    if grad_y is None:
        return None, None, None, None, None, None
    return *gradients(grad_y, x, y, signs, u, b, *ctx.options), None, None, None


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad_y, x, _, _, u, b, *ctx.options = inputs
    ctx.save_for_backward(grad_y, x, u, b)


def _backward_gradients(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """Second derivatives, by differentiating the reference twice."""
    grad_y, x, u, b = ctx.saved_tensors
    leaves = (x, u) if b is None else (x, u, b)
    reflections, apply_abs, dim = ctx.options
    run = partial(reference.stack_in_single, reflections=reflections, apply_abs=apply_abs, dim=dim)
    first = partial(reference.gradients, run)
    second = torch.func.vjp(first, grad_y, *leaves)[1](grads[: len(leaves)])
    return second[0], second[1], None, None, second[2], second[3] if b is not None else None, None, None, None


stack.register_autograd(_stack_gradients, setup_context=_stack_setup)
stack_backward.register_autograd(_backward_gradients, setup_context=_backward_setup)
stack.register_autocast("cpu", torch.float32)  # on a GPU the kernel takes half x beside float32 parameters as it is


def _front(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """The mapped dimension first, made by repetition where the argument is not mapped."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _layers(tensor: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """Mapped u or b as (batch * members, depth, d)."""
    if tensor is None:
        return None
    tensor = _front(tensor, dim, size)
    return tensor.reshape(-1, 1 if tensor.dim() == 2 else tensor.shape[-2], tensor.shape[-1])


def _has_members(u: Tensor, dim: int | None) -> bool:
    return u.dim() - (dim is not None) == 3


@stack.register_vmap
def _(
    info: Any, dims: Any, x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int = -1
) -> Any:
    size = info.batch_size
    x = _front(x, dims[0], size)
    rows = x.flatten(0, 1) if _has_members(u, dims[1]) else x
    y, signs = stack(rows, _layers(u, dims[1], size), _layers(b, dims[2], size), reflections, apply_abs, dim)
    return (y.reshape(x.shape), signs.reshape(size, signs.shape[0] // max(1, size), signs.shape[-1])), (0, 0)


@stack_backward.register_vmap
def _(
    info: Any, dims: Any, grad_y: Tensor, x: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None,
    reflections: int, apply_abs: bool, dim: int = -1,
) -> Any:  # fmt: skip
    size = info.batch_size
    fronts = [_front(t, mapped, size) for t, mapped in zip((grad_y, x, y, signs, u), dims, strict=False)]
    rows = [t.flatten(0, 1) for t in fronts[:3]] if _has_members(u, dims[4]) else fronts[:3]
    layers, bias = _layers(u, dims[4], size), _layers(b, dims[5], size)
    grad_x, grad_u, grad_b = stack_backward(*rows, fronts[3].flatten(0, 1), layers, bias, reflections, apply_abs, dim)
    grad_b = grad_b.reshape(size, 0) if b is None else grad_b.reshape(_front(b, dims[5], size).shape)
    return (grad_x.reshape(fronts[2].shape), grad_u.reshape(fronts[4].shape), grad_b), (0, 0, 0)
