"""Adapters: reflections before a layer that stays as it is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import functional
from ..layers.validation import require_positive
from ..ops import reference
from .costs import Cost, cost_of, is_conv1d
from .find import Where
from .replace import Change, Surgery, as_shape, plan_linears, require_changes


def _require_even(reflections: int) -> None:
    require_positive(reflections=reflections)
    if reflections % 2:
        raise ValueError(f"reflections must be even, so that they cancel at the start, got {reflections}")


class HanAdapter(nn.Module):
    """base(H(u_k) ... H(u_1) x): an orthogonal change of what a layer sees, the identity at the start.  x: (..., in) -> (..., out).

    The paper of HRA (Yuan et al. 2024) starts pairs of reflections that cancel as well; there the product is a matrix, here it is not.

    Args:
        base: nn.Linear, or Conv1D of `transformers`; its parameters stop to require gradients.
        reflections: k, an even number.

    Raises:
        ValueError: for a k that is odd or below 2.

    >>> layer, x = nn.Linear(8, 4), torch.randn(3, 8)
    >>> torch.allclose(HanAdapter(layer, 2)(x), layer(x), atol=1e-6)
    True
    """

    def __init__(self, base: nn.Module, reflections: int = 8):
        _require_even(reflections)
        super().__init__()
        self.base = base.requires_grad_(False)
        weight = next(base.parameters())
        shape = reflections, as_shape(base)[0]
        self.u = nn.Parameter(torch.empty(shape, device=weight.device, dtype=weight.dtype))
        self.reset_parameters()
        self.train(base.training)

    def reset_parameters(self) -> None:
        """u: random unit vectors, each twice in a row, which cancels."""
        with torch.no_grad():
            pairs = self.u.new_empty(len(self.u) // 2, self.u.shape[1]).normal_()
            self.u.copy_(reference.unit(pairs).repeat_interleave(2, 0))

    def forward(self, x: Tensor) -> Tensor:
        """What the base makes of the reflected x."""
        return self.base(functional.householder(x, self.u))

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """The base with W H(u_k) ... H(u_1) as its weight, computed in float64; the adapter is then used up."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        rows = (weight.mT if is_conv1d(self.base) else weight).detach().double()
        merged = functional.householder(rows.contiguous(), self.u.double().flip(0))
        weight.copy_(merged.mT if is_conv1d(self.base) else merged)
        return self.base

    def extra_repr(self) -> str:
        """How many reflections, for print."""
        return f"reflections={len(self.u)}"


class Adaptation(Surgery):
    """The adapters of a model, whose other parameters are frozen; `undo` takes them away, `merge` makes them part of the weights."""

    _trained: Sequence[nn.Parameter] = ()

    def apply(self, *only: str) -> "Adaptation":
        """As in Surgery; all parameters of the model but those of adapters stop to require gradients."""
        if not self.done:
            self._trained = [p for p in self.model.parameters() if p.requires_grad]
        super().apply(*only)
        self.model.requires_grad_(False)
        for module in self.model.modules():
            if isinstance(module, HanAdapter):
                module.u.requires_grad_()
        return self

    def _trainable(self) -> list[tuple[nn.Module, str, Tensor]]:
        """Buffers alone: a copy of parameters would be in vain, as all that were there are frozen."""
        return [found for found in super()._trainable() if not isinstance(found[2], nn.Parameter)]

    def undo(self, *only: str) -> None:
        """As in Surgery; when no adapter is left, the parameters that required gradients do so again."""
        super().undo(*only)
        self._thaw()

    def _thaw(self) -> None:
        if not self.done:
            for parameter in self._trained:
                parameter.requires_grad_()

    def merge(self) -> None:
        """Each adapter becomes part of its layer's weight, and the model has its own layers again. It cannot be undone.

        Raises:
            SurgeryError: where something else has replaced an adapter since; then nothing is changed.
        """
        self.require_in_place()
        for change in self.changes:
            if isinstance(change.module, HanAdapter) and change.was:
                change.module.merge()
        self._put_back()  # and no more: what is merged stays
        self._kept = []
        self._thaw()
        for change in self.changes:
            change.module = None  # used up: another `apply` starts from the identity


def adapt(model: nn.Module, where: Where = None, reflections: int = 8, *, dry_run: bool = False) -> Adaptation:
    """Puts k reflections before linear layers of a model; all its other parameters are frozen.

    k (in_features) numbers a layer are trained, and a step keeps one more activation of each layer, not a matrix.

    Args:
        model: as in replace_linear.
        where: as in replace_linear.
        reflections: k, an even number.
        dry_run: as in replace_linear.

    Returns:
        What was changed and refused. `undo()` gives the model back as it was, `merge()` with the adapters in its weights.

    Raises:
        SurgeryError: as replace_linear does.
        ValueError: for a k that is odd or below 2.

    >>> model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(5, 8)
    >>> expected = model(x)
    >>> adapters = adapt(model, "0", reflections=2)
    >>> [name for name, p in model.named_parameters() if p.requires_grad], torch.allclose(model(x), expected, atol=1e-6)
    (['0.u'], True)
    >>> adapters.merge()
    >>> model[0]
    Linear(in_features=8, out_features=8, bias=True)
    """
    _require_even(reflections)
    plan = plan_linears(model, where, "use HanAdapter", lambda name, layer: _change(name, layer, reflections))
    adaptation = Adaptation(model, *plan)
    require_changes(adaptation, "linear layer", where)
    return adaptation if dry_run else adaptation.apply()


def _change(name: str, layer: nn.Module, reflections: int) -> Change:
    before, width = cost_of(layer), as_shape(layer)[0]
    more = reflections * width
    after = before + Cost(more, more * next(layer.parameters()).element_size(), 2 * more)
    what = f"HanAdapter, {reflections} reflections"
    return Change(name, type(layer).__name__, before, after, what, lambda: HanAdapter(layer, reflections))
