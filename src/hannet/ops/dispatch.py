"""Which code runs for a call of the stack, and why: one table, read from the top.

Shapes everywhere in this package: x (..., d), or (..., d, n) where dim is -2; u (d,) or (depth * reflections, d), b (d,) or
(depth, d) or None; with members x (members, ..., d) or (members, ..., d, n), u (members, depth * reflections, d), b (members, depth, d).
"""

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from . import sharding
from . import torch_internals as internals

HALF = torch.bfloat16, torch.float16  # on the CPU converted to float32 and back; on a GPU kernels take them as they are
TRITON = find_spec("triton") is not None
NUMBA = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("0", "")  # whether it compiles
WIDEST = 8192  # features: the registers of a GPU hold no longer rows and their gradients
REFERENCE, OPERATOR, KERNEL = "reference", "operator", "kernel"


class Call(NamedTuple):
    """What the rules ask of a call; they also ask for PyTorch's state at that time."""

    device: str
    too_wide: bool = False
    compiling: bool = False
    subclass: bool = False


class Rule(NamedTuple):
    """Which code runs, and why, where `applies` is true and was false in all rules above."""

    code: str
    reason: str
    applies: Callable[[Call], bool]


RULES = (
    # plain PyTorch operators
    Rule(REFERENCE, "no kernel for {device}", lambda call: call.device not in ("cpu", "cuda")),
    Rule(REFERENCE, "Triton is not installed", lambda call: call.device == "cuda" and not TRITON),
    Rule(REFERENCE, "NUMBA_DISABLE_JIT turns Numba's compiler off", lambda call: call.device == "cpu" and not NUMBA),
    Rule(REFERENCE, f"rows of more than {WIDEST} features do not fit in registers", lambda call: call.too_wide),
    Rule(REFERENCE, "an exported program holds plain PyTorch operators", lambda _: torch.compiler.is_exporting()),
    Rule(REFERENCE, "a traced program holds plain PyTorch operators", lambda _: internals.is_tracing()),
    Rule(REFERENCE, "forward-mode differentiation goes through PyTorch's own rules", lambda _: internals.in_forward_mode()),
    Rule(REFERENCE, "torch.func.grad cannot differentiate custom operators", lambda _: internals.in_transform(internals.GRAD)),
    # hannet::stack, by way of PyTorch's dispatcher, whose Python side costs more than a small kernel
    Rule(OPERATOR, "torch.compile puts the kernel into its graph as one operator", lambda call: call.compiling),
    Rule(OPERATOR, "torch.func.vmap runs the kernel once for the whole batch", lambda _: internals.in_transform()),
    Rule(OPERATOR, "dispatch modes see one operator", lambda _: internals.in_dispatch_mode()),
    Rule(OPERATOR, "subclasses of Tensor see one operator", lambda call: call.subclass),
    # the kernel at once, within a torch.autograd.Function where a gradient is wanted
    Rule(KERNEL, "nothing watches the call", lambda _: True),
)  # fmt: skip


def find_rule(call: Call) -> Rule:
    """The first rule that applies."""
    return next(rule for rule in RULES if rule.applies(call))


@internals.constant_when_compiled
def _code(device: str, too_wide: bool, compiling: bool, subclass: bool) -> str:
    sharding.register_if_used()
    return find_rule(Call(device, too_wide, compiling, subclass)).code


def choose(x: Tensor, u: Tensor, b: Tensor | None) -> str:
    """Which code runs for a call: REFERENCE, OPERATOR or KERNEL."""
    if is_plain(x, u, b) and ((x.is_cpu and NUMBA) or (x.is_cuda and TRITON and x.shape[-1] <= WIDEST)):
        return KERNEL  # the last rule, without asking the others, which takes as long as a small kernel
    too_wide = False
    if x.is_cuda and x.shape[-1] > WIDEST:  # a branch, for torch.compile to guard
        too_wide = True
    compiling = torch.compiler.is_compiling()
    return _code(x.device.type, too_wide, compiling, not compiling and not _are_plain(x, u, b))


_PLAIN = (Tensor, torch.nn.Parameter)


def is_plain(x: Tensor, u: Tensor, b: Tensor | None) -> bool:
    """True where nothing watches the call, so that of the rules only those that ask for the device can apply."""
    return not torch.compiler.is_compiling() and internals.nothing_watches() and _are_plain(x, u, b)


def _are_plain(x: Tensor, u: Tensor, b: Tensor | None) -> bool:
    return type(x) in _PLAIN and type(u) in _PLAIN and (b is None or type(b) in _PLAIN)


class KernelChoice(NamedTuple):
    """Which code runs for tensors of one device and dtype, and why."""

    device: str
    dtype: str
    path: str
    reason: str


def kernel_choices() -> list[KernelChoice]:
    """Which code runs for every device and dtype of this machine, and why."""
    choices = []
    for device in ["cpu"] + [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]:
        rule = find_rule(Call(device))
        for dtype in ("float32", "float64", "bfloat16", "float16"):
            if rule.code == REFERENCE:
                choices.append(KernelChoice(device, dtype, REFERENCE, rule.reason.format(device=device)))
                continue
            half = "converted, " * (device == "cpu") + "arithmetic in float32" if dtype.endswith("float16") else ""
            reason = "; ".join(filter(None, (kernels(device).describe(), half)))
            choices.append(KernelChoice(device, dtype, KERNEL, reason))
    return [choice for choice in choices if choice[:2] != ("mps", "float64")]  # which has none


@cache
def kernels(device: str) -> ModuleType:
    """The kernels of a kind of device, imported when first asked for: Numba takes half a second, Triton is not everywhere.

    Raises RuntimeError where Numba does not compile, for calls that `choose` was not asked about.
    """
    if device == "cuda":
        from .cuda import launch as cuda

        return cuda
    if not NUMBA:
        raise RuntimeError("the kernels for the CPU need Numba's compiler, which NUMBA_DISABLE_JIT turns off")
    from .cpu import launch as cpu

    return cpu


def on_gpu(x: Tensor) -> bool:
    """True where the GPU's kernels serve. They have the features last only: `stack` transposes around them."""
    return x.is_cuda


def dense(tensor: Tensor) -> Tensor:
    """The tensor in memory as kernels read it."""
    if internals.is_zero_tensor(tensor):
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    return tensor.contiguous().resolve_neg()


def forward(
    x: Tensor, u: Tensor, b: Tensor | None, reflections: int, apply_abs: bool, keep_signs: bool, dim: int = -1
) -> tuple[Tensor, Tensor]:
    """The kernel itself: output and sign bits (none unless `keep_signs`). On a GPU the features are last: dim is -1."""
    inputs = dense(x), dense(u), b if b is None else dense(b), reflections, apply_abs, keep_signs
    return kernels("cuda").forward(*inputs) if on_gpu(x) else kernels("cpu").forward(*inputs, dim)


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
    b = b if b is None else dense(b)
    inputs = dense(grad_y), dense(y), signs.contiguous(), dense(u), b, reflections, apply_abs
    return kernels("cuda").backward(*inputs) if on_gpu(y) else kernels("cpu").backward(*inputs, dim)
