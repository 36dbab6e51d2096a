"""The only table from the name of a network to what builds it; networks from a seed, and from the folders that `save_pretrained` writes.

Configs of experiments and saved folders use these names. What `hannet train images --model` accepts are the presets of
vision/presets.py, each of which builds one of these networks and says how it is trained.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..ops.torch_internals import TorchDispatchMode
from .baselines import FourierNet, OrthogonalNet, Siren, frozen_hannet
from .han_mixer import HanMixer
from .hannet import FCNet, HanNet
from .hub import CONFIG, WEIGHTS, ModelFolderError, PretrainedMixin, read_config, require_bounded, restore
from .mobilevit import MobileViT

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])
MODELS: dict[str, Callable[..., nn.Module]] = {
    "HanNet": HanNet,
    "FCNet": FCNet,
    "HanMixer": HanMixer,
    "MobileViT": MobileViT,
    "frozen HanNet": frozen_hannet,
    "orthogonal": OrthogonalNet,
    "SIREN": Siren,
    "Fourier features": FourierNet,
}


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator: adds a class or function to the table, under the name that configs of experiments call it by."""

    def add(builder: Builder) -> Builder:
        if MODELS.setdefault(name, builder) is not builder:
            raise ValueError(f"a network named {name!r} is registered already")
        return builder

    return add


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, tensors are made on the CPU and drawn from the seed; afterwards the global generator is as it was."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class _Seeded(TorchDispatchMode):
    """Inside, this thread's draws on the CPU come from a generator of their own: the numbers that a global seed would give.

    Two threads that build networks at once would share the global generator, and neither would get the seed's weights.
    """

    _with_generator: Mapping[str, str] = {
        "default": "generator",
        "low": "low_generator",
    }  # overloads of randn, randint, ...

    def __init__(self, seed: int):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, function: Any, _types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in function.tags:
            if not any(argument.name == "generator" for argument in function._schema.arguments):
                overload = self._with_generator.get(function._overloadname, "")
                if not hasattr(function.overloadpacket, overload):
                    raise RuntimeError(
                        f"{function} takes no generator, so its draws cannot come from the seed of the network"
                    )
                function = getattr(function.overloadpacket, overload)
            if kwargs.get("generator") is None:
                kwargs["generator"] = self.generator
        return function(*args, **kwargs)


def build_model(kind: str | Callable[..., nn.Module], seed: int, **options: object) -> nn.Module:
    """A network on the CPU with initial weights fixed by the seed.

    Args:
        kind: a name in MODELS, or a class or function that makes a network.
        seed: of the initial weights; the global random state is neither used nor changed, so threads may build at once.
        options: the arguments of the class or function.

    Raises:
        ValueError: for a name that is not registered.

    >>> first, second = (build_model("HanNet", 7, in_features=5, out_features=1, depth=3) for _ in range(2))
    >>> torch.equal(first.layers[0].weight, second.layers[0].weight)
    True
    """
    if isinstance(kind, str):
        if kind not in MODELS:
            raise ValueError(f"kind must be one of {', '.join(MODELS)}, got {kind!r}")
        kind = MODELS[kind]
    with torch.device("cpu"), _Seeded(seed):
        return kind(**options)


def load(folder: str | Path) -> nn.Module:
    """The network in a folder that `save_pretrained` wrote, in eval mode and in the dtype of its weights.

    Args:
        folder: with `config.json`, which names the class and its arguments, and `model.safetensors`, the weights.

    Raises:
        ModelFolderError: if either is missing or damaged or does not fit the other.

    >>> from tempfile import mkdtemp
    >>> HanNet(5, 1, width=8, depth=3).save_pretrained(folder := mkdtemp())
    >>> type(load(folder)).__name__
    'HanNet'
    """
    config = read_config(folder)
    classes = {
        name: kind for name, kind in MODELS.items() if isinstance(kind, type) and issubclass(kind, PretrainedMixin)
    }
    try:
        require_bounded(config, Path(folder, WEIGHTS))
        with torch.device("meta"):  # no memory, and no initialisation that the weights replace
            model: nn.Module = classes[config.pop("model")](**config)  # type: ignore[assignment]
    except (ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise ModelFolderError(f"{Path(folder, CONFIG)}: names none of the networks {', '.join(classes)}") from error
    return restore(model, Path(folder, WEIGHTS))
