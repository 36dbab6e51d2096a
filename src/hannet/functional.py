"""The layer as functions of tensors."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import ops
from .ops import dispatch

_FEWEST_COLUMNS = 16  # side by side; with fewer, a transposed copy is cheaper than mostly empty blocks
_DTYPES = (torch.float32, torch.float64, *dispatch.HALF)


def han_layer(x: Tensor, u: Tensor, b: Tensor | None = None, *, dim: int = -1) -> Tensor:
    """|H(u) x + b| (Eq. 6).

    Args:
        x: (..., d), float64, float32, or bfloat16 and float16 with arithmetic in float32.
        u: (d,), or (k, d) for k reflections, |H(u_k) ... H(u_1) x + b|; u = 0 is the identity reflection.
        b: (d,), or None for no bias.
        dim: the dimension of x that holds the features; on the CPU no transposed copy is made where 16 numbers or more follow each.

    Returns:
        Shape and dtype of x.

    Raises:
        ValueError: for shapes, devices or dtypes that do not fit together.
        TypeError: for an x that is not floating point.

    >>> han_layer(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 0.0]), torch.zeros(2))
    tensor([3., 1.])
    """
    _check_reflections(u, b)
    return _stack(x, u, b, u.shape[0] if u.dim() == 2 else 1, True, dim)


def han_stack(x: Tensor, u: Tensor, b: Tensor | None = None, *, reflections: int = 1, dim: int = -1) -> Tensor:
    """One Han-layer per row of u, in one kernel.

    The backward pass rebuilds each layer's input as H(u)(s*y - b): where b is many times larger than x, that costs digits, and
    float64 restores them.

    Args:
        x: (..., d), as in han_layer; or (members, ..., d) for members, independent stacks side by side.
        u: (depth * reflections, d), or (members, depth * reflections, d).
        b: (depth, d), or (members, depth, d), or None for no bias.
        reflections: in each layer.
        dim: as in han_layer.

    Returns:
        Shape and dtype of x.

    Raises:
        ValueError, TypeError: as han_layer does.

    >>> u, b = torch.randn(20, 8), torch.zeros(20, 8)
    >>> x = torch.randn(5, 8)
    >>> y = han_stack(x, u, b)
    >>> torch.allclose(y.norm(dim=-1), x.norm(dim=-1))  # reflections and ABS keep the norm
    True
    >>> torch.allclose(han_stack(x.T, u, b, dim=0), y.T, atol=1e-5)
    True
    """
    if u.dim() not in (2, 3):
        raise ValueError(f"u must be (depth, d) or (members, depth, d), got {tuple(u.shape)}")
    if u.shape[-2] == 0:
        raise ValueError("u must have at least one layer, got depth 0")
    if reflections < 1 or u.shape[-2] % reflections:
        raise ValueError(f"{u.shape[-2]} rows of u are no layers of {reflections} reflections")
    if b is not None and b.shape != (expected := (*u.shape[:-2], u.shape[-2] // reflections, u.shape[-1])):
        raise ValueError(f"b must be {expected}, got {tuple(b.shape)}")
    if u.dim() == 3:
        _check_members(x, u)
    return _stack(x, u, b, reflections, True, dim)


def han_stacks(x: Tensor, stacks: Sequence[tuple[Tensor, Tensor | None, int]]) -> Tensor:
    """Stacks one after another, as han_stack of each.

    On the CPU, training keeps only the last output: the backward pass rebuilds the others, as between the layers of a stack.

    Args:
        x: at least two dimensions; bfloat16 and float16 are float32 from the first stack to the last.
        stacks: (u, b, dim) of each, with dim -1 or -2; u and b: (depth, d), b None for no bias.

    Returns:
        Shape and dtype of x.

    Raises:
        ValueError, TypeError: as han_layer does.

    >>> x, tokens, channels = torch.randn(4, 16, 32), torch.randn(2, 16), torch.randn(2, 32)
    >>> y = han_stacks(x, [(tokens, None, -2), (channels, None, -1)])
    >>> torch.equal(y, han_stack(han_stack(x, tokens, dim=-2), channels))
    True
    """
    for u, b, dim in stacks:
        if dim not in (-1, -2) or x.dim() < 2:
            raise ValueError(f"stacks are along the last two dimensions of x, got {dim} of {tuple(x.shape)}")
        if u.dim() != 2 or u.shape[0] == 0 or (b is not None and b.shape != u.shape):
            given = None if b is None else tuple(b.shape)
            raise ValueError(
                f"u and b of a stack must be (depth, d) with at least one layer, got {tuple(u.shape)}, {given}"
            )
        _check(x, u, b, dim)
    if x.dtype in dispatch.HALF:
        return han_stacks(x.float(), [(u.float(), b if b is None else b.float(), dim) for u, b, dim in stacks]).to(
            x.dtype
        )
    if not stacks or x.shape[-1] < _FEWEST_COLUMNS:
        for u, b, dim in stacks:
            x = han_stack(x, u, b, dim=dim)
        return x
    return ops.stacks(x, [(u, b) for u, b, _ in stacks], [dim for _, _, dim in stacks])


def householder(x: Tensor, u: Tensor, b: Tensor | None = None, *, dim: int = -1) -> Tensor:
    """H(u) x + b, the reflection without the absolute value (Eq. 5): without b its own inverse.

    Args:
        x: (..., d), as in han_layer.
        u: (d,), or (k, d) for k reflections, H(u_k) ... H(u_1) x + b, whose inverse has the rows of u in reverse order.
        b: (d,), or None for no bias.
        dim: as in han_layer.

    Returns:
        Shape and dtype of x.

    Raises:
        ValueError, TypeError: as han_layer does.

    >>> x, u = torch.randn(4, 8), torch.randn(8)
    >>> torch.allclose(householder(householder(x, u), u), x, atol=1e-6)
    True
    """
    _check_reflections(u, b)
    return _stack(x, u, b, u.shape[0] if u.dim() == 2 else 1, False, dim)


def han_linear(x: Tensor, u: Tensor, s: Tensor, v: Tensor, b: Tensor | None = None) -> Tensor:
    """H(v_k) ... H(v_1) diag(s) H(u_k) ... H(u_1) x + b, where diag(s) cuts or pads with zeros: a linear map in O(k (n + m)).

    Args:
        x: (..., n), as in han_layer; bfloat16 and float16 are float32 from the first reflection to the last.
        u: (k, n), the reflections of the input, in the order in which they are applied.
        s: (min(n, m),).
        v: (k, m), the reflections of the output, in the order in which they are applied.
        b: (m,), or None for no bias.

    Returns:
        (..., m), in the dtype of x.

    Raises:
        ValueError, TypeError: as han_layer does.

    >>> u, v = torch.randn(2, 6), torch.randn(2, 4)
    >>> y = han_linear(torch.randn(5, 6), u, torch.ones(4), v)
    >>> y.shape
    torch.Size([5, 4])
    """
    for name, reflections in (("u", u), ("v", v)):
        if reflections.dim() != 2 or not reflections.shape[0]:
            raise ValueError(f"{name} must be (reflections, d) with at least one, got {tuple(reflections.shape)}")
    inner, out = min(u.shape[-1], v.shape[-1]), v.shape[-1]
    for name, vector, size in (("s", s, inner), ("b", b, out)):
        if vector is not None and vector.shape != (size,):
            raise ValueError(f"{name} must be ({size},), got {tuple(vector.shape)}")
    if x.dtype in dispatch.HALF:
        _check(x, u, s, -1)
        single = [None if t is None else t.float() for t in (u, s, v, b)]
        return han_linear(x.float(), *single).to(x.dtype)  # type: ignore[arg-type]
    z = householder(x, u)[..., :inner] * s
    return householder(F.pad(z, (0, out - inner)) if out > inner else z, v, b)


def _check_reflections(u: Tensor, b: Tensor | None) -> None:
    if u.dim() not in (1, 2) or u.shape[0] == 0 < u.dim() - 1:
        raise ValueError(f"u must be (d,) or (reflections, d) with at least one reflection, got {tuple(u.shape)}")
    if b is not None and b.shape != u.shape[-1:]:
        raise ValueError(f"b must be ({u.shape[-1]},) like u, got {tuple(b.shape)}")


def _check_members(x: Tensor, u: Tensor) -> None:
    members = u.shape[0]
    if members == 0:
        raise ValueError("u must have at least one member, got 0")
    if x.dim() < 2 or x.shape[0] != members:
        raise ValueError(f"x must be (members, ..., d) with the {members} members of u first, got {tuple(x.shape)}")


def _stack(x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int) -> Tensor:
    if dim not in (-1, x.dim() - 1):
        return _across(x, u, b, reflections, apply_abs, dim)
    _check(x, u, b, -1)
    return ops.stack(x, u, b, reflections, apply_abs, -1)


def _across(x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, dim: int) -> Tensor:
    """The features before other dimensions, which the operator wants as one. The memory stays as it is where it can."""
    before = x.dim() + dim if dim < 0 else dim
    if not (u.dim() == 3) <= before < x.dim():
        raise ValueError(f"dim must be a dimension of x{' behind that of the members' * (u.dim() == 3)}, got {dim}")
    _check(x, u, b, before)
    last = x.movedim(before, -1)
    if last.is_contiguous() or x.shape[before + 1 :].numel() < _FEWEST_COLUMNS:
        return ops.stack(last, u, b, reflections, apply_abs, -1).movedim(-1, before)
    return ops.stack(x.flatten(before + 1), u, b, reflections, apply_abs, -2).reshape(x.shape)


def _check(x: Tensor, u: Tensor, b: Tensor | None, dim: int) -> None:
    width = u.shape[-1]
    if width == 0:
        raise ValueError("u must have at least one feature, got 0")
    if x.dim() == 0 or x.shape[dim] != width:
        where = "last" if dim == -1 else f"in dimension {dim}"
        raise ValueError(f"x must have {width} features {where}, got {tuple(x.shape)}")
    if x.dtype not in _DTYPES:
        raise TypeError(f"x must be floating point, got {x.dtype}; float64, float32, bfloat16 and float16 are served")
    if x.layout != torch.strided:
        raise TypeError(f"x must be a dense tensor, got {x.layout}")
    for name, other in (("u", u), ("b", b)):
        if other is None:
            continue
        if other.device != x.device:
            raise ValueError(f"x is on {x.device} but {name} is on {other.device}; move one of them")
        if other.dtype != x.dtype and not (x.dtype in dispatch.HALF and other.dtype in (*dispatch.HALF, torch.float32)):
            if not other.is_floating_point():
                raise TypeError(f"{name} must be floating point, got {other.dtype}")
            raise ValueError(f"x is {x.dtype} but {name} is {other.dtype}; convert one of them")
