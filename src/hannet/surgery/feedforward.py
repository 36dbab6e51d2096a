"""Where the feed-forwards of a model are: two linear layers with an activation between, under the names that libraries give them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..models.han_block import HanBlock
from ..ops.torch_internals import has_hooks
from .find import Inspector, as_linear, looks_linear

_FORMS = (  # first linear layer, what is between, last linear layer
    ("linear1", ("activation", "dropout"), "linear2"),  # nn.TransformerEncoderLayer, nn.TransformerDecoderLayer
    ("intermediate.dense", ("intermediate.intermediate_act_fn",), "output.dense"),  # BERT
    ("c_fc", ("act",), "c_proj"),  # GPT-2
    ("fc1", ("activation_fn",), "fc2"),  # ViT
)
_GATED = ("gate_proj", "up_proj", "down_proj")  # Llama: down(act(gate(x)) * up(x))
_PLAIN = (
    nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.LeakyReLU, nn.ReLU6, nn.Hardswish, nn.Mish, nn.SELU, nn.Softplus,
)  # fmt: skip


@dataclass(frozen=True)
class Slots:
    """A feed-forward by the names of its parts. whole: the module at `name` is nothing else, and is replaced as one."""

    name: str
    first: str
    between: tuple[str, ...]
    last: str
    whole: bool = False

    @property
    def at(self) -> str:
        """Where what replaces it goes."""
        return self.name if self.whole else self.first

    @property
    def empty(self) -> tuple[str, ...]:
        """The names that become nn.Identity."""
        return () if self.whole else (*self.between, self.last)

    @property
    def all(self) -> tuple[str, ...]:
        """The names of all that is replaced."""
        return (self.name,) if self.whole else (self.first, *self.between, self.last)

    def fault(self, model: nn.Module, inspector: Inspector, *, keeps_width: bool) -> str:
        """Why it cannot be replaced; "" if it can."""
        if self.whole and not self.name:
            return "it is the model itself"
        names = [f"{self.name}.{key}" for key in _GATED] if self.whole else [self.first, self.last]
        for name in names:
            if fault := inspector.fault_of(name):
                return f"{name}: {fault}"
        hooked = [self.name] if self.whole else self.between
        for name in hooked:
            if name in inspector.names and has_hooks(model.get_submodule(name)):
                return f"{name}: it has hooks or a replaced forward, which would be lost"
        into, out = (as_linear(model.get_submodule(name)) for name in (names[0], names[-1]))
        if keeps_width and into.in_features != out.out_features:
            return f"it makes {into.in_features} features into {out.out_features}, and a HanBlock keeps their number"
        return ""

    def make(self, model: nn.Module, by: Callable[..., nn.Module] | None, options: dict[str, Any]) -> nn.Module:
        """What replaces it, on its device, in its dtype and mode."""
        last = as_linear(model.get_submodule(self.last))
        first = as_linear(model.get_submodule(self.first))
        if by is not None:
            return by(first, last)
        factory = {"device": first.weight.device, "dtype": first.weight.dtype}
        return HanBlock(first.in_features, **{"scale": 1.0} | options | factory).train(first.training)


def find_feedforwards(model: nn.Module) -> Iterator[Slots]:
    """All feed-forwards, first to last."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential):
            yield from _in_sequence(name, module)
            continue
        if all(looks_linear(_part(module, key)) for key in _GATED):
            gate, _, down = (_join(name, key) for key in _GATED)
            yield Slots(name, gate, (), down, whole=True)
        for first, between, last in _FORMS:
            if all(looks_linear(_part(module, key)) for key in (first, last)) and _part(module, between[0]) is not None:
                found = tuple(_join(name, key) for key in between if _part(module, key) is not None)
                yield Slots(name, _join(name, first), found, _join(name, last))


def _in_sequence(name: str, module: nn.Sequential) -> Iterator[Slots]:
    """Linear, activation and Dropout in any order, Linear."""
    parts = list(module.named_children())
    index = 0
    while index < len(parts):
        end = index + 1
        while end < len(parts) and isinstance(parts[end][1], (*_PLAIN, nn.Dropout)):
            end += 1
        between = parts[index + 1 : end]
        acts = any(isinstance(part, _PLAIN) for _, part in between)
        if end < len(parts) and acts and looks_linear(parts[index][1]) and looks_linear(parts[end][1]):
            keys = [_join(name, key) for key, _ in parts[index : end + 1]]
            yield Slots(keys[0], keys[0], tuple(keys[1:-1]), keys[-1])
            index = end
        index += 1


def _join(name: str, key: str) -> str:
    return f"{name}.{key}".lstrip(".")


def _part(module: Any, path: str) -> Any:
    """What is at a path below a module, or None."""
    for key in path.split("."):
        module = getattr(module, key, None)
    return module
