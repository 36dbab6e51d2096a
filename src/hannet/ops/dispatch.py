"""The stack as a PyTorch operator: one question decides between kernel and reference, one formula gives the gradients.

Shapes everywhere here: x (..., d), or (..., d, n) where dim is -2; u (d,) or (depth * reflections, d), b (d,) or (depth, d) or
None; with members x (members, ..., d) or (members, ..., d, n), u (members, depth * reflections, d), b (members, depth, d).
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import DispatchKey, _dispatch_keys, _functorch, _len_torch_dispatch_stack
from torch.autograd import forward_ad

from . import reference


class KernelChoice(NamedTuple):
    """Which code runs for tensors of one device and dtype, and why."""

    device: str
    dtype: str
    path: str
    reason: str


@cache
def _cpu() -> ModuleType:
    from .cpu import launch  # here, because Numba takes half a second to import

    return launch


@cache
def _cuda() -> ModuleType:
    from .cuda import launch  # here, because Triton is not everywhere

    return launch


def _on_gpu(x: Tensor) -> bool:
    """True where the GPU's kernel serves, which has the features last only: `stack` transposes around it."""
    return x.is_cuda


HALF = (torch.bfloat16, torch.float16)
_TRITON = find_spec("triton") is not None
_WIDEST = 8192  # features: the registers of a GPU hold no longer rows and their gradients


def _missing_kernel(x: Tensor) -> str | None:
    """Why no kernel can serve this call, or None: the one question that parts kernel from reference."""
    if (device := x.device.type) != "cpu":
        if device != "cuda":
            return f"no kernel for {device}"
        if not _TRITON:
            return "Triton is not installed"
        if x.shape[-1] > _WIDEST:
            return f"rows of more than {_WIDEST} features do not fit in registers"
    if torch.compiler.is_exporting():
        return "an exported program holds plain PyTorch operators"
    if not torch.compiler.is_compiling() and torch._C._is_tracing():
        return "a traced program holds plain PyTorch operators"
    return _missing_rule()


_JVP = _functorch.TransformType.Jvp


def _missing_rule() -> str | None:
    """Why a transform around the call cannot go through a custom operator, or None."""
    if forward_ad._current_level >= 0 or (_functorch.peek_interpreter_stack() and _transformed(_JVP)):
        return "forward-mode differentiation goes through PyTorch's own rules"
    if _transformed(_functorch.TransformType.Grad):
        return "torch.func.grad cannot differentiate custom operators"
    return None


# torch.compile asks as it traces; torch.compiler.assume_constant_result does the same, and imports the whole compiler.
_missing_rule._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _transformed(kind: Any) -> bool:
    return any(level.key() == kind for level in _functorch.get_interpreter_stack() or ())


def kernel_choices() -> list[KernelChoice]:
    """Which path runs for every device and dtype of this machine, and why."""
    paths = []
    for device in ["cpu"] + [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]:
        missing = _missing_kernel(torch.empty(0, device=device))
        kernel = _cuda if device == "cuda" else _cpu
        for dtype in ("float32", "float64", "bfloat16", "float16"):
            if device == "mps" and dtype == "float64":
                continue
            half = "converted, " * (device == "cpu") + "arithmetic in float32" if dtype.endswith("float16") else ""
            reason = missing or "; ".join(filter(None, (kernel().describe(), half)))
            paths.append(KernelChoice(device, dtype, "reference" if missing else "kernel", reason))
    return paths


_PLAIN = (Tensor, torch.nn.Parameter)


def _plain(x: Tensor, u: Tensor, b: Tensor | None) -> bool:
    """True where nothing watches the call: no tracing, no transform, no dispatch mode, no subclass of Tensor.

    Such a call can skip the dispatcher, whose Python side costs more than a small kernel.
    """
    return (
        not torch.compiler.is_compiling()
        and type(x) in _PLAIN
        and type(u) in _PLAIN
        and (b is None or type(b) in _PLAIN)
        and _functorch.peek_interpreter_stack() is None
        and _len_torch_dispatch_stack() == 0
    )


def stack(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int = 1, apply_abs: bool = True, dim: int = -1
) -> Tensor:
    """reference.stack by the fastest path that can serve the call; half x with half or float32 u and b, else one dtype for all.

    On a GPU, features last but one are transposed here, around the kernel; the operators refuse them.
    """
    if dim == -2 and _on_gpu(x):
        return stack(x.mT, u, b, reflections, apply_abs).mT
    if x.dtype in HALF and (not _on_gpu(x) or _missing_kernel(x)):
        return stack(x.float(), u.float(), b if b is None else b.float(), reflections, apply_abs, dim).to(x.dtype)
    if _missing_kernel(x):
        return reference.stack(x, u, b, reflections, apply_abs, dim)
    if not _plain(x, u, b):
        return _stack(x, u, b, reflections, apply_abs, dim)[0]
    if torch.is_grad_enabled() and (x.requires_grad or u.requires_grad or (b is not None and b.requires_grad)):
        return _Stack.apply(x, u, b, reflections, apply_abs, dim)
    return forward(x, u, b, reflections, apply_abs, False, dim)[0]


def _plain_memory(tensor: Tensor) -> Tensor:
    if tensor._is_zerotensor():  # without memory, as the gradient of torch.sgn, and so the second one of abs
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    return tensor.contiguous().resolve_neg()


def forward(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, keep: bool, dim: int = -1
) -> tuple[Tensor, Tensor]:
    """The kernel itself: output and sign bits (none unless `keep`)."""
    b = b if b is None else _plain_memory(b)
    if _on_gpu(x):
        return _cuda().forward(_plain_memory(x), _plain_memory(u), b, reflections, apply_abs, keep)
    return _cpu().forward(_plain_memory(x), _plain_memory(u), b, reflections, apply_abs, keep, dim)


def backward(
    grad_y: Tensor,
    y: Tensor,
    signs: Tensor,
    u: Tensor,
    b: Tensor | None,
    reflections: int,
    apply_abs: bool,
    dim: int = -1,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The kernel itself: gradients of x, u and b from that of the output y."""
    b = b if b is None else _plain_memory(b)
    given = _plain_memory(grad_y), _plain_memory(y), signs.contiguous(), _plain_memory(u), b, reflections, apply_abs
    return _cuda().backward(*given) if _on_gpu(y) else _cpu().backward(*given, dim)


class _Stack(torch.autograd.Function):
    """The operator without the dispatcher."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int
    ) -> Tensor:
        y, signs = forward(x, u, b, reflections, apply_abs, True, dim)
        ctx.save_for_backward(x, u, b, y, signs)
        ctx.options = reflections, apply_abs, dim
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, u, b, y, signs = ctx.saved_tensors
        keys = _dispatch_keys(grad_y)  # neither of the two with torch.autograd.grad(..., is_grads_batched=True)
        batched = not (keys.has(DispatchKey.CPU) or keys.has(DispatchKey.CUDA))
        if torch.is_grad_enabled() or batched or forward_ad._current_level >= 0 or not _plain(grad_y, u, b):
            return *_gradients(grad_y, x, y, signs, u, b, *ctx.options), None, None, None
        return *backward(grad_y, y, signs, u, b, *ctx.options), None, None, None


def _gradients(
    grad_y: Tensor, x: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None,
    reflections: int, apply_abs: bool, dim: int,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Gradients of x, u and b by what can serve grad_y: the operator, or the reference under forward-mode differentiation."""
    if _missing_kernel(grad_y):
        run = partial(reference.stack_in_single, reflections=reflections, apply_abs=apply_abs, dim=dim)
        return reference.gradients(run, grad_y, x, u, b)
    grad_x, grad_u, grad_b = _stack_backward(grad_y, x, y, signs, u, b, reflections, apply_abs, dim)
    return grad_x, grad_u, None if b is None else grad_b


def stacks(x: Tensor, parameters: Sequence[tuple[Tensor, Tensor | None]], dims: Sequence[int]) -> Tensor:
    """The stacks (u, b) one after another, each along its own dimension -1 or -2; float32 or float64, one dtype for all.

    Where nothing watches the call on the CPU, all work in one tensor: only the last output is kept, and the backward pass rebuilds
    the others.
    """
    if _on_gpu(x) or _missing_kernel(x) or not all(_plain(x, u, b) for u, b in parameters):
        for (u, b), dim in zip(parameters, dims, strict=True):
            x = stack(x, u, b, dim=dim)
        return x
    flat = [t for pair in parameters for t in pair]
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *flat)):
        return _Stacks.apply(x, dims, *flat)
    return _in_one_tensor(x, flat, dims, False)[0]


def _in_one_tensor(
    x: Tensor, flat: Sequence[Tensor | None], dims: Sequence[int], keep: bool
) -> tuple[Tensor, list[Tensor]]:
    """Output and every stack's sign bits (none unless `keep`)."""
    x, kept = _plain_memory(x), []
    y = torch.empty_like(x)
    for u, b, dim in zip(flat[::2], flat[1::2], dims, strict=True):
        assert u is not None
        given = _plain_memory(u), b if b is None else _plain_memory(b)
        _, signs = _cpu().forward(x, *given, 1, True, keep, dim, y)
        x = y
        kept.append(signs)
    return y, kept


class _Stacks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: Sequence[int], *flat: Tensor | None) -> Tensor:
        y, signs = _in_one_tensor(x, flat, dims, True)
        ctx.save_for_backward(x, y, *flat, *signs)
        ctx.dims = dims
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.dims)
        x, y, *flat = ctx.saved_tensors
        flat, signs = flat[: 2 * count], flat[2 * count :]
        batched = not _dispatch_keys(grad_y).has(DispatchKey.CPU)
        watched = batched or forward_ad._current_level >= 0
        if torch.is_grad_enabled() or watched or not all(_plain(grad_y, t, None) for t in flat if t is not None):
            return _one_by_one(grad_y, x, ctx.dims, flat)
        grads: list[Tensor | None] = [None] * (2 * count)
        grad, y = _plain_memory(grad_y), _plain_memory(y)
        y_below, grad_below = torch.empty_like(y), torch.empty_like(y)
        for index in reversed(range(count)):
            u, b = flat[2 * index : 2 * index + 2]
            given = _plain_memory(u), b if b is None else _plain_memory(b)
            _, *grads[2 * index : 2 * index + 2] = _cpu().backward(
                grad, y, signs[index].contiguous(), *given, 1, True, ctx.dims[index], y_below, grad_below
            )
            grad, y = grad_below, y_below
        return grad, None, *grads


def _apart(tensor: Tensor) -> Tensor:
    """The tensor for one use alone: it may come twice, or be made from another, and the gradient of a use is not that of all."""
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


def _one_by_one(grad_y: Tensor, x: Tensor, dims: Sequence[int], flat: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Gradients of x and of the parameters that can be differentiated again or are batched."""

    def run(x: Tensor, *flat: Any, by: Callable[..., Tensor]) -> Tensor:
        for u, b, dim in zip(flat[::2], flat[1::2], dims, strict=True):
            x = by(x, u, b, 1, True, dim)
        return x

    if _missing_kernel(grad_y):
        grad_x, *rest = reference.gradients(partial(run, by=reference.stack), grad_y, x, *flat)
        return grad_x, None, *rest
    with torch.enable_grad():
        inputs: list[Any] = [None if t is None else _apart(t) for t in (x, *flat)]
        y = run(*inputs, by=lambda *given: _stack(*given)[0])
    wanted = [t for t in inputs if t is not None]
    grads = iter(torch.autograd.grad(y, wanted, grad_y, create_graph=torch.is_grad_enabled()))
    grad_x, *rest = (None if t is None else next(grads) for t in inputs)
    return grad_x, None, *rest


def _verify(x: Tensor, u: Tensor, b: Tensor | None, reflections: int, dim: int) -> None:
    """The operators can be called by anyone, and the kernels write where they are told."""
    members = u.shape[:-2]
    layers = 1 if u.dim() == 1 else u.shape[-2]
    fits = dim in ((-1,) if _on_gpu(x) else (-1, -2)) and u.dim() in (1, 2, 3) and x.dim() >= len(members) - dim
    fits = fits and x.shape[dim] == u.shape[-1] and x.shape[: len(members)] == members
    fits = fits and reflections > 0 and layers % reflections == 0
    fits = fits and (b is None or (b.shape[:-2] == members and b.numel() * reflections == u.numel()))
    served = (torch.float32, torch.float64, *(HALF if _on_gpu(x) else ()))
    beside = (*HALF, torch.float32) if x.dtype in HALF else (x.dtype,)
    if not fits or x.dtype not in served or any(t.dtype not in beside for t in (u, b) if t is not None):
        given = [None if t is None else (tuple(t.shape), t.dtype) for t in (x, u, b)]
        raise ValueError(
            f"hannet::stack: x, u and b do not fit together, or have no kernel for their dtypes or along {dim}: {given}"
        )


def _signs_shape(x: Tensor, u: Tensor, reflections: int, apply_abs: bool, dim: int) -> tuple[int, int]:
    """(members, bytes) of the sign bits beside the output; what `_verify` refuses has none."""
    if _on_gpu(x):
        return _cuda().signs_shape(x.shape, u.shape, x.dtype, reflections, apply_abs)
    return _cpu().signs_shape(x.shape, u.shape, x.dtype, dim)


@torch.library.custom_op("hannet::stack", mutates_args=(), device_types=("cpu", "cuda"))
def _stack(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int = -1
) -> tuple[Tensor, Tensor]:
    """Output and sign bits."""
    _verify(x, u, b, reflections, dim)
    return forward(x, u, b, reflections, apply_abs, True, dim)


@_stack.register_fake
def _(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int = -1
) -> tuple[Tensor, Tensor]:
    signs = x.new_empty(_signs_shape(x, u, reflections, apply_abs, dim), dtype=torch.uint8)
    return torch.empty_like(x, memory_format=torch.contiguous_format), signs


@torch.library.custom_op("hannet::stack_backward", mutates_args=(), device_types=("cpu", "cuda"))
def _stack_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None,
    reflections: int, apply_abs: bool, dim: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, u and b (empty without b). x itself is only there to be differentiated again."""
    _verify(y, u, b, reflections, dim)
    shape = _signs_shape(y, u, reflections, apply_abs, dim)
    if grad_y.shape != y.shape or grad_y.dtype != y.dtype or signs.shape != shape:
        raise ValueError("hannet::stack_backward: grad_y and signs do not belong to y")
    grad_x, grad_u, grad_b = backward(grad_y, y, signs, u, b, reflections, apply_abs, dim)
    return grad_x, grad_u, grad_y.new_empty(0) if grad_b is None else grad_b


@_stack_backward.register_fake
def _(
    grad_y: Tensor, x: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None,
    reflections: int, apply_abs: bool, dim: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    def like(t: Tensor) -> Tensor:
        return torch.empty_like(t, memory_format=torch.contiguous_format)

    return like(y), like(u), grad_y.new_empty(0) if b is None else like(b)


def _stack_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, u, b, *ctx.options = inputs
    ctx.save_for_backward(x, u, b, *output)
    ctx.set_materialize_grads(False)


def _stack_gradients(ctx: Any, grad_y: Tensor | None, grad_signs: Tensor | None) -> tuple[Tensor | None, ...]:
    x, u, b, y, signs = ctx.saved_tensors
    if grad_y is None:
        return None, None, None, None, None, None
    return *_gradients(grad_y, x, y, signs, u, b, *ctx.options), None, None, None


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


_stack.register_autograd(_stack_gradients, setup_context=_stack_setup)
_stack_backward.register_autograd(_backward_gradients, setup_context=_backward_setup)
_stack.register_autocast("cpu", torch.float32)  # on a GPU the kernel takes half x beside float32 parameters as it is


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


@_stack.register_vmap
def _(
    info: Any, dims: Any, x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int = -1
) -> Any:
    size = info.batch_size
    x = _front(x, dims[0], size)
    rows = x.flatten(0, 1) if _has_members(u, dims[1]) else x
    y, signs = _stack(rows, _layers(u, dims[1], size), _layers(b, dims[2], size), reflections, apply_abs, dim)
    return (y.reshape(x.shape), signs.reshape(size, signs.shape[0] // max(1, size), signs.shape[-1])), (0, 0)


@_stack_backward.register_vmap
def _(
    info: Any, dims: Any, grad_y: Tensor, x: Tensor, y: Tensor, signs: Tensor, u: Tensor, b: Tensor | None,
    reflections: int, apply_abs: bool, dim: int = -1,
) -> Any:  # fmt: skip
    size = info.batch_size
    fronts = [_front(t, mapped, size) for t, mapped in zip((grad_y, x, y, signs, u), dims, strict=False)]
    rows = [t.flatten(0, 1) for t in fronts[:3]] if _has_members(u, dims[4]) else fronts[:3]
    layers, bias = _layers(u, dims[4], size), _layers(b, dims[5], size)
    grad_x, grad_u, grad_b = _stack_backward(*rows, fronts[3].flatten(0, 1), layers, bias, reflections, apply_abs, dim)
    grad_b = grad_b.reshape(size, 0) if b is None else grad_b.reshape(_front(b, dims[5], size).shape)
    return (grad_x.reshape(fronts[2].shape), grad_u.reshape(fronts[4].shape), grad_b), (0, 0, 0)
