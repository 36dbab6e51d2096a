"""What each replacement alone costs in accuracy or loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from ..reporting.progress import OnProgress, ProgressEvent
from ..reporting.tables import Table
from .replace import Surgery, replace_linear

_COLUMNS = {
    "name": ("layer", ""),
    "saved": ("parameters saved", "{:,}"),
    "value": ("value with it alone", "{:.4g}"),
    "change": ("change", "{:+.4g}"),
}


@dataclass(frozen=True)
class Effect:
    """A layer that was replaced alone.  saved: parameters; value: what was measured; change: from the model as it is."""

    name: str
    saved: int
    value: float
    change: float


@dataclass(frozen=True)
class Sensitivity:
    """What each replacement alone does. before: what was measured of the model as it is; effects: in the order of the model."""

    before: float
    effects: Sequence[Effect]

    def smallest(self, count: int) -> list[str]:
        """The names of the layers whose replacement changes the least, as `where` takes them."""
        return [effect.name for effect in sorted(self.effects, key=lambda effect: abs(effect.change))[:count]]

    def table(self) -> Table:
        """A row for each layer; the note says what was measured before."""
        rows = [vars(effect) for effect in self.effects]
        return Table("Sensitivity", _COLUMNS, rows, [f"The model as it is: {self.before:.4g}."])


def sensitivity(
    model: nn.Module,
    evaluate: Callable[[nn.Module], float],
    planned: Surgery | None = None,
    on_progress: OnProgress | None = None,
) -> Sensitivity:
    """Replaces each layer alone, measures, and puts the layer back: choose by it what to replace.

    Args:
        model: as in replace_linear; it is afterwards as it was.
        evaluate: gives a number for the model: an accuracy, a loss.
        planned: what to try, from a dry run on this model; None for replace_linear with its defaults. What it fits is kept, so that
            `planned.apply(*names)` afterwards takes no time.
        on_progress: called after each layer.

    Raises:
        ValueError: for a plan of another model, or one that is carried out already.

    >>> import torch
    >>> model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(5, 8)
    >>> found = sensitivity(model, lambda model: model(x).square().mean().item(), replace_linear(model, by=2, dry_run=True))
    >>> [effect.name for effect in found.effects]
    ['0', '2']
    """
    planned = replace_linear(model, dry_run=True) if planned is None else planned
    if planned.model is not model or planned.done:
        raise ValueError("planned must be a dry run on this model, which is not carried out yet")
    before, effects = float(evaluate(model)), []
    for number, change in enumerate(planned.changes, 1):
        try:
            planned.apply(change.name)
            value = float(evaluate(model))
        finally:
            planned.undo()
        saved = change.before.parameters - change.after.parameters
        effects.append(Effect(change.name, saved, value, value - before))
        if on_progress:
            on_progress(
                ProgressEvent("sensitivity", number, len(planned.changes), "layers", {change.name: value - before})
            )
    return Sensitivity(before, effects)
