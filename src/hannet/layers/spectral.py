"""Reflections and a diagonal for a weight that is given: from its singular vectors, then by gradient."""

import torch
from torch import Tensor

from .. import functional

_EXACT = 1e-6  # relative error from which on the gradient has nothing to gain
_HISTORY = 20  # steps that L-BFGS remembers


def fit(weight: Tensor, reflections: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """u: (k, n), s: (min(n, m),), v: (k, m) with H(v_k) ... H(v_1) diag(s) H(u_k) ... H(u_1) near the weight, in float64 on the CPU.

    weight: (m, n), finite; steps: of L-BFGS, 0 for the singular vectors alone.
    """
    weight = weight.detach().double().cpu()
    u, v = _from_singular_vectors(weight, reflections)
    s = _diagonal(weight, u, v)
    if steps and _relative_error(weight, s) > _EXACT:
        u, v = (t.double() for t in _by_gradient(weight.float(), u.float(), v.float(), steps))
        s = _diagonal(weight, u, v)
    return u, s, v


def reflections_of(columns: Tensor, count: int) -> Tensor:
    """u: (count, d) with H(u_1) ... H(u_count) e_i = +-column i, for orthonormal columns: their Householder QR.

    columns: (d, n), n at most count; reflections beyond n come in pairs that cancel, and a single one left over flips the last unit
    vector that no column uses, or else the first of all.
    """
    width, used = columns.shape
    packed, tau = torch.geqrf(columns)
    rows = packed.tril(-1).mT.clone()
    rows.diagonal().fill_(
        1
    )  # where LAPACK says H = I (tau = 0), this flips a sign instead, and no row is stuck at zero
    rows[tau == 0] = torch.eye(width, dtype=columns.dtype)[:used][tau == 0]
    spare = torch.zeros(count - used, width, dtype=columns.dtype)
    spare[:, -1] = 1
    return torch.cat([rows, spare])


def _from_singular_vectors(weight: Tensor, reflections: int) -> tuple[Tensor, Tensor]:
    """u, v with the largest singular values on the diagonal, exactly, and nothing else in their rows and columns."""
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    u = reflections_of(right[:reflections].mT, reflections)
    return u, reflections_of(left[:, :reflections], reflections).flip(0)


def _diagonal(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The best s for these u and v: the diagonal of the weight seen through them."""
    turned = functional.householder(weight, u)
    return functional.householder(turned.mT.contiguous(), v.flip(0)).diagonal()


def _relative_error(weight: Tensor, s: Tensor) -> float:
    """Of the fit with the best s, by Pythagoras."""
    total = weight.square().sum()
    return float((1 - s.square().sum() / total).clamp(min=0).sqrt()) if total > 0 else 0.0


def _by_gradient(weight: Tensor, u: Tensor, v: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """What is left of the weight beside the diagonal, made small by L-BFGS; u and v of unit rows."""
    scaled = weight / weight.norm()
    leaves = [t.clone().requires_grad_() for t in (u, v)]
    optimizer = torch.optim.LBFGS(leaves, max_iter=steps, history_size=_HISTORY, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 1 - _diagonal(scaled, *leaves).square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    before, after = (_diagonal(scaled, *pair).square().sum() for pair in ((u, v), leaves))
    return (u, v) if not after > before else (leaves[0].detach(), leaves[1].detach())
