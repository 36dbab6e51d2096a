"""Are the kernels right on this device?  Judged by float64, the most telling first; `pytest -m gpu` asks more, and takes longer."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from gpu import device, synchronize
from hannet.ops import reference
from hannet.ops.cuda import launch

from .keeping import Keeper
from .workers import in_parallel

HALF = (torch.bfloat16, torch.float16)


class Case(NamedTuple):
    """A call of a stack. parameters: the type of u and b, if not that of x."""

    rows: int
    width: int
    depth: int
    dtype: torch.dtype = torch.float32
    members: int = 0
    reflections: int = 1
    bias: bool = True
    apply_abs: bool = True
    parameters: torch.dtype | None = None

    def __str__(self) -> str:
        parts = [f"{self.rows}x{self.width}x{self.depth}", str(self.dtype).removeprefix("torch.")]
        parts += [f"{self.members} members"] * bool(self.members) + [f"{self.reflections} reflections"] * (
            self.reflections > 1
        )
        parts += ["no bias"] * (not self.bias) + ["no ABS"] * (not self.apply_abs)
        return ", ".join(parts + ["parameters in float32"] * bool(self.parameters))


BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
CASES = (
    Case(4096, 512, 20, BF16), Case(4096, 512, 20), Case(8192, 100, 20, BF16), Case(8192, 100, 20), Case(100, 100, 20),
    Case(16384, 64, 16, BF16), Case(4096, 1024, 16, BF16), Case(4099, 784, 20), Case(2053, 4096, 4, BF16), Case(1031, 8192, 3, BF16),
    Case(100, 100, 20, members=50), Case(4096, 512, 6, BF16, parameters=FP32), Case(4096, 100, 6, FP16), Case(2048, 300, 5, FP64),
    Case(8191, 33, 13), Case(513, 130, 3), Case(97, 1000, 2), Case(64, 31, 5, FP16), Case(4097, 3, 5), Case(7, 1, 9), Case(33, 2, 7),
    Case(8193, 5, 7, BF16), Case(8193, 17, 9, members=3), Case(4096, 64, 6, reflections=2), Case(4096, 100, 6, reflections=3, bias=False),
    Case(4096, 100, 6, apply_abs=False), Case(4096, 20, 6, BF16, 2, 2, False), Case(1, 1, 1), Case(3, 2000, 2), Case(1, 8192, 1),
    Case(8192, 8, 32), Case(8192, 16, 33, BF16), Case(100, 100, 200), Case(1500, 5, 8, FP64, 2, 2), Case(200, 100, 20),
    Case(128, 100, 20, BF16, 50), Case(64, 100, 6, FP64), Case(32, 256, 6, FP16, 3, 2), Case(1, 100, 20),
)  # fmt: skip
TINY = (
    Case(9, 20, 3, BF16),
    Case(70, 5, 3),
    Case(3, 33, 2, FP16, 2, 2, False),
    Case(5, 7, 2, FP64, apply_abs=False),
    Case(4, 6, 2, BF16, parameters=FP32),
)


def check(keeper: Keeper, _folder: Path) -> None:
    """Every case, and then what has no case."""
    cases = TINY if keeper.rehearsal else CASES
    shape = (5, 20, 3) if keeper.rehearsal else (8197, 100, 20)
    checks: list[tuple[str, Callable[[], dict[str, float]]]] = [
        *((str(case), partial(compare, case)) for case in cases[:5]),
        ("poisoned outputs", lambda: poisoned(*shape)),
        ("equal bits", lambda: equal_bits(*shape)),
        ("graph", lambda: captured(*shape)),
        ("views", lambda: views(*shape)),
        *((str(case), partial(compare, case)) for case in cases[5:]),
        ("beyond 2^31 elements", lambda: beyond(keeper.rehearsal)),
    ]

    def some(mine: Sequence[tuple[str, Callable[[], dict[str, float]]]]) -> None:
        for name, work in mine:
            keeper.tell(name, work)

    in_parallel(some, checks, keeper.rehearsal)


def inputs(case: Case, seed: int = 0) -> list[Tensor | None]:
    """The gradient of the output, x, u and b, in values of the case's types, no activation near the kink of ABS."""
    generator = torch.Generator(device()).manual_seed(seed)
    lead = (case.members,) if case.members else ()
    kind = case.parameters or case.dtype

    def draw(*size: int, dtype: torch.dtype = case.dtype) -> Tensor:
        return torch.randn(*lead, *size, generator=generator, device=device(), dtype=torch.float64).to(dtype)

    u = draw(case.depth * case.reflections, case.width, dtype=kind)
    b = draw(case.depth, case.width, dtype=kind) if case.bias else None
    x = draw(case.rows, case.width)
    for _ in range(200):
        close = nearest_kink(x, u, b, case.reflections) < 1e-5 * (case.apply_abs and case.dtype != FP64)
        if not close.any():
            break
        x = torch.where(close[..., None], draw(case.rows, case.width), x)
    else:
        raise RuntimeError(f"no draw keeps all {close.sum()} rows away from the kink of ABS")
    return [draw(case.rows, case.width), x, u, b]


def nearest_kink(x: Tensor, u: Tensor, b: Tensor | None, reflections: int) -> Tensor:
    """The smallest |z| on each row's way through a stack, in float64.  (..., rows)."""
    x, nearest = x.double(), torch.full(x.shape[:-1], torch.inf, dtype=FP64, device=x.device)
    for layer in range(u.shape[-2] // reflections):
        group = u[..., layer * reflections : (layer + 1) * reflections, :].double()
        z = reference.stack(x, group, None if b is None else b[..., layer : layer + 1, :].double(), reflections, False)
        nearest = nearest.minimum(z.abs().amin(-1))
        x = z.abs()
    return nearest


def by_reference(grad_y: Tensor, x: Tensor, u: Tensor, b: Tensor | None, case: Case) -> list[Tensor]:
    """y and the gradients of x, u and b."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, u, b) if t is not None]
    y = reference.stack(*leaves, *[None] * (b is None), case.reflections, case.apply_abs)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad_y.to(y.dtype))]


def by_kernel(grad_y: Tensor, x: Tensor, u: Tensor, b: Tensor | None, case: Case) -> list[Tensor]:
    """The same."""
    y, signs = launch.forward(x, u, b, case.reflections, case.apply_abs, True)
    grads = launch.backward(grad_y, y, signs, u, b, case.reflections, case.apply_abs)
    return [y, *grads[: 2 if b is None else 3]]


def compare(case: Case) -> dict[str, float]:
    """Errors over what is allowed: twice those of the reference in the same type; in halves, what they round to.

    Of y and the gradient of x, whose rows are apart, also the largest error of a row: in a norm of thousands of rows a few count little.
    """
    given = inputs(case)
    half = case.dtype in HALF
    exact = by_reference(*(t if t is None else t.double() for t in given), case)
    eager = exact if half else by_reference(*given, case)
    found = {}
    for name, ours, theirs, truth in zip(("y", "x", "u", "b"), by_kernel(*given, case), eager, exact, strict=False):
        # that of u is summed over inputs rebuilt from y, which was rounded
        units = 4 if not half else 2 if name == "u" else 1
        eps = units * torch.finfo(case.dtype if half else ours.dtype).eps
        norms = (Tensor.norm, _largest_row) if name in ("y", "x") else (Tensor.norm,)
        found[name] = float(torch.stack([_excess(norm, ours, theirs, truth, eps) for norm in norms]).max())
    require(all(ratio <= 1 for ratio in found.values()), f"errors over what is allowed: {found}")
    return found


def _excess(norm: Callable[[Tensor], Tensor], ours: Tensor, theirs: Tensor, truth: Tensor, eps: float) -> Tensor:
    """The error over what is allowed; 0 where there is none, as of width 1, whose gradient of u is 0."""
    error = norm(ours.double() - truth)
    return torch.where(error == 0, 0.0, error / (2 * norm(theirs.double() - truth) + eps * norm(truth)))


def _largest_row(t: Tensor) -> Tensor:
    return t.norm(dim=-1).max()


def require(holds: bool, fault: str) -> None:
    """Raises AssertionError."""
    if not holds:
        raise AssertionError(fault)


def poisoned(rows: int, width: int, depth: int) -> dict[str, float]:
    """Every element of an output is written, whatever the memory held: NaN (0xFF) or 0."""
    case = Case(rows, width, depth, members=2)
    given, empty, outcomes = inputs(case), torch.empty, []
    for byte in (0xFF, 0):

        def fill(*size: int, byte: int = byte, **options: object) -> Tensor:
            tensor = empty(*size, **options)
            tensor.view(torch.uint8).fill_(byte) if tensor.numel() else None
            return tensor

        def fill_like(tensor: Tensor, fill: Callable[..., Tensor] = fill) -> Tensor:
            return fill(tuple(tensor.shape), dtype=tensor.dtype, device=tensor.device)

        with patch.object(torch, "empty", fill), patch.object(torch, "empty_like", fill_like):
            outcomes.append(by_kernel(*given, case))
    require(all(map(torch.equal, *outcomes)), "the outputs depend on what the memory held before")
    return {}


def equal_bits(rows: int, width: int, depth: int) -> dict[str, float]:
    """Equal calls give equal bits, also if other work goes on."""
    case = Case(rows, width, depth, BF16)
    given = inputs(case)
    first, calls = by_kernel(*given, case), 1 if device().type == "cpu" else 200
    for _ in range(calls):
        require(all(map(torch.equal, first, by_kernel(*given, case))), "equal calls give other bits")
    return {"calls": calls}


def captured(rows: int, width: int, depth: int) -> dict[str, float]:
    """A graph of both passes gives the bits of the calls, replayed with other inputs too."""
    case = Case(rows, width, depth)
    given, others = inputs(case), inputs(case, 1)
    expected = by_kernel(*given, case), by_kernel(*others, case)
    if device().type == "cpu":
        return {}
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = by_kernel(*given, case)
    for values, truth in zip((given, others), expected, strict=True):
        for target, value in zip(given, [value.clone() for value in values], strict=True):
            target.copy_(value)
        graph.replay()
        synchronize()
        require(all(map(torch.equal, found, truth)), "a replay gives other bits than the call")
    return {}


def views(rows: int, width: int, depth: int) -> dict[str, float]:
    """Tensors that begin anywhere in memory, not at a multiple of 16 bytes, give the bits of those that do."""
    case = Case(rows, width, depth, BF16)
    given = inputs(case)
    shifted = [torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape) for t in given]
    require(all(map(torch.equal, by_kernel(*given, case), by_kernel(*shifted, case))), "views give other bits")
    return {}


def beyond(rehearsal: bool) -> dict[str, float]:
    """The last rows of more than 2^31 elements give the bits that they give alone, in tiles of one form."""
    width, few, rows = (20, 32, 64) if rehearsal else (512, 1 << 16, (1 << 22) + (1 << 16))
    case = Case(rows, width, 2, BF16)
    _, _, u, b = inputs(Case(1, width, 2, BF16))
    x = torch.randn(rows, width, device=device(), dtype=BF16)
    y, grad_x, *_ = by_kernel(x, x, u, b, case)
    last = [t[-few:].clone() for t in (x, y, grad_x)]
    alone = by_kernel(last[0], last[0], u, b, case)
    require(torch.equal(last[1], alone[0]) and torch.equal(last[2], alone[1]), "the last rows give other bits")
    return {"elements": x.numel()}
