"""What a module costs: parameters, bytes, and multiplications with an addition for each row that it takes."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from ..layers.han import HanLayer, HanStack, Householder
from ..layers.linear import HanLinear
from ..models.han_block import HanBlock


class Cost(NamedTuple):
    """parameters: numbers that a module holds; bytes: of them; multiply_adds: for a row of features (a token, a position)."""

    parameters: int
    bytes: int
    multiply_adds: int

    def __add__(self, other: object) -> "Cost":
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(one + more for one, more in zip(self, other, strict=True)))


def cost_of(*modules: nn.Module) -> Cost:
    """The cost of modules together; a parameter that several of them hold counts once.

    >>> cost_of(nn.Linear(100, 10)), cost_of(HanLinear(100, 10, reflections=2)).multiply_adds
    (Cost(parameters=1010, bytes=4040, multiply_adds=1000), 450)
    """
    held = {id(p): p for module in modules for p in module.parameters()}.values()
    return Cost(sum(p.numel() for p in held), sum(p.numel() * p.element_size() for p in held), _multiply_adds(modules))


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is the Conv1D of GPT-2 in `transformers`: a Linear whose weight is (in, out)."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")


def _multiply_adds(modules: Iterable[nn.Module]) -> int:
    return sum(_own_multiply_adds(part) for module in modules for part in module.modules())


def _own_multiply_adds(module: nn.Module) -> int:
    """Of the module without its children: two for each number of a reflection, one for each of a matrix or a diagonal."""
    if isinstance(module, HanLayer | HanStack | Householder):
        return 2 * module.u.numel()
    if isinstance(module, HanLinear):
        return 2 * (module.u.numel() + module.v.numel()) + module.s.numel()
    if isinstance(module, HanBlock):
        return 0 if module.scale is None else module.scale.numel()
    if isinstance(module, nn.Linear) or is_conv1d(module):
        return module.weight.numel()  # type: ignore[operator]
    return 0
