"""The equations in plain PyTorch: the ground truth of every test, and the path wherever a kernel cannot serve."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(u: Tensor) -> Tensor:
    """u / ||u|| along the last dimension, for every finite norm; 0 where u = 0.  u: (..., d) -> (..., d)."""
    largest = u.detach().abs().amax(-1, keepdim=True)
    scaled = u / torch.where(largest == 0, 1, largest)
    square = (scaled * scaled).sum(-1, keepdim=True)
    return scaled / torch.where(square == 0, 1, square).sqrt()


def householder(x: Tensor, u: Tensor, b: Tensor | None = None) -> Tensor:
    """H(u) x + b with H(u) = I - 2 u u^T / ||u||^2 (Eq. 5); H(0) = I.  x: (..., d); u, b: (d,) -> (..., d)."""
    v = unit(u)
    z = x - 2 * (x * v).sum(-1, keepdim=True) * v
    return z if b is None else z + b


def absolute(z: Tensor) -> Tensor:
    """|z| with sign(0) = +1, so that its derivative is +1 or -1 everywhere."""
    return F.leaky_relu(-z, -1.0)


def stack(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int = 1, apply_abs: bool = True, dim: int = -1
) -> Tensor:
    """y <- |H(u_k) ... H(u_1) y + b| (Eq. 6), layer after layer; without the absolute value if not `apply_abs`.

    x: (..., d); u: (d,) or (depth * k, d); b: (d,) or (depth, d) or None -> (..., d), with k = `reflections`.
    With members: x: (members, ..., d); u: (members, depth * k, d); b: (members, depth, d).
    With `dim` -2 the features come last but one: x: (..., d, n) -> (..., d, n).
    """
    if dim == -2:
        return stack(x.mT, u, b, reflections, apply_abs).mT
    features = u.shape[-1]
    lead = (u.shape[0], *[1] * (x.dim() - 2)) if u.dim() == 3 else ()
    layers = u.reshape(-1, features) if u.dim() < 3 else u.movedim(1, 0).reshape(u.shape[1], *lead, features)
    biases = None
    if b is not None:
        biases = b.reshape(-1, features) if b.dim() < 3 else b.movedim(1, 0).reshape(b.shape[1], *lead, features)
    for index in range(layers.shape[0]):
        layer, inner = divmod(index, reflections)
        last = inner == reflections - 1
        x = householder(x, layers[index], biases[layer] if biases is not None and last else None)
        if apply_abs and last:
            x = absolute(x)
    return x


def stack_in_single(
    x: Tensor, u: Tensor, b: Tensor | None = None, *, reflections: int, apply_abs: bool, dim: int
) -> Tensor:
    """`stack`, with arithmetic in float32 for x in half precision."""
    if x.dtype.itemsize > 2:
        return stack(x, u, b, reflections, apply_abs, dim)
    return stack(x.float(), u.float(), b if b is None else b.float(), reflections, apply_abs, dim).to(x.dtype)


def gradients(run: Callable[..., Tensor], grad_y: Tensor, *inputs: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of run(*inputs) from that of its output, by PyTorch's own rules: they can be differentiated in every mode."""
    given = [t for t in inputs if t is not None]

    def filled(*given: Tensor) -> Tensor:
        rest = iter(given)
        return run(*(None if t is None else next(rest) for t in inputs))

    grads = iter(torch.func.vjp(filled, *given)[1](grad_y))
    return tuple(None if t is None else next(grads) for t in inputs)
