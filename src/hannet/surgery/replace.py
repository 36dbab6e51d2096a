"""Linear layers and feed-forwards of a model that exists, replaced by Han-layers: shown first, done, and undone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.linear import HanLinear
from ..layers.validation import require_positive
from ..reporting.tables import Table, markdown
from .costs import Cost, cost_of
from .feedforward import Slots, find_feedforwards
from .find import Inspector, SurgeryError, Where, as_linear, fault_of_layer, linear_names, matches, require_model

By = int | Callable[[nn.Linear], nn.Module]
_COLUMNS = {
    "name": ("layer", ""),
    "before": ("is", ""),
    "after": ("becomes", ""),
    "parameters_before": ("parameters", "{:,}"),
    "parameters_after": ("after", "{:,}"),
    "multiply_adds_before": ("multiply-adds a row", "{:,}"),
    "multiply_adds_after": ("after", "{:,}"),
}


@dataclass
class Change:
    """A layer and what replaces it. was: what stood at which name, once it is done.

    before, after: the cost of the parts; module: what does the work afterwards, None until it is made; at, last: the names where it
    goes, which took the inputs, and of the layer that gave the outputs, `name` by default; empty: names that become nn.Identity.
    """

    name: str
    kind: str
    before: Cost
    after: Cost
    becomes: str
    make: Callable[[], nn.Module]
    empty: tuple[str, ...] = ()
    at: str = ""
    last: str = ""
    module: nn.Module | None = None
    was: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.at, self.last = self.at or self.name, self.last or self.name

    def puts(self) -> dict[str, nn.Module]:
        """What comes to which name."""
        if self.module is None:
            self.module = self.make()
        return {self.at: self.module} | {name: nn.Identity() for name in self.empty}


class Surgery:
    """What is to be changed in a model, or was.

    The model holds the new layers, this object the old ones and, in the CPU's memory, a copy of all else that may be trained.

    Attributes:
        changes: the layers that are replaced.
        refused: why other layers that were meant are not, by name.
        done: whether the model is changed at present.
    """

    def __init__(self, model: nn.Module, changes: Sequence[Change], refused: Mapping[str, str]):
        self.model, self.changes, self.refused, self.done = model, list(changes), dict(refused), False
        self._kept: list[tuple[nn.Module, str, Tensor]] = []

    def apply(self, *only: str) -> "Surgery":
        """Changes the model, or only the layers of these names. Returns itself; what is changed already stays so.

        Raises:
            SurgeryError: for a name that is not among `changes`.
        """
        if unknown := sorted({*only} - {change.name for change in self.changes}):
            raise SurgeryError(f"{unknown[0]} is not among the layers to change")
        before = [] if self.done else self._trainable()
        for change in self.changes:
            if change.was or (only and change.name not in only):
                continue
            new = change.puts()
            change.was = {name: put(self.model, name, module) for name, module in new.items()}
        if before:
            still = {*self.model.modules()}
            self._kept = [
                (m, key, t.detach().to("cpu", copy=True)) for m, key, t in before if m in still and not t.is_meta
            ]
        self._settle_fast_paths()
        return self

    def _trainable(self) -> list[tuple[nn.Module, str, Tensor]]:
        """What training may change: buffers, and parameters that require gradients; with their modules and names there."""
        modules = list(self.model.modules())
        found = [(m, key, p) for m in modules for key, p in m.named_parameters(recurse=False) if p.requires_grad]
        return found + [(m, key, b) for m in modules for key, b in m.named_buffers(recurse=False)]

    def undo(self, *only: str) -> None:
        """The very modules that were there come back, in reverse order: all of them, or those of these names.

        When no new layer is left, what required gradients before surgery and all buffers have their values of then again, too,
        however the model was trained since.

        Raises:
            SurgeryError: where something else has replaced a new layer since, or a parameter has another shape; then nothing is
                changed.
        """
        self.require_in_place()
        self._put_back(*only)
        if not self.done:
            with torch.no_grad():
                for module, key, value in self._kept:
                    getattr(module, key).copy_(value)
            self._kept = []

    def _put_back(self, *only: str) -> None:
        for change in reversed([c for c in self.changes if not only or c.name in only]):
            for name, module in reversed(change.was.items()):
                put(self.model, name, module)
            change.was = {}
        self._settle_fast_paths()

    def require_in_place(self) -> None:
        """Raises SurgeryError where something else has replaced what this surgery put into the model."""
        for change in self.changes:
            place = change.at
            if change.was and self.model.get_submodule(place) is not change.module:
                raise SurgeryError(f"{place} is no longer what this surgery put there: undo later changes first")
        for module, key, value in self._kept:
            if getattr(getattr(module, key, None), "shape", None) != value.shape:
                fault = f"{key} of {type(module).__name__} no longer has its shape before surgery"
                raise SurgeryError(f"{fault}: undo later changes first")

    def _settle_fast_paths(self) -> None:
        self.done = any(change.was for change in self.changes)
        settle_fast_paths(self.model)

    @property
    def total(self) -> tuple[Cost, Cost]:
        """The cost of all parts that are replaced, before and after."""
        zero = Cost(0, 0, 0)
        return sum((c.before for c in self.changes), zero), sum((c.after for c in self.changes), zero)

    def table(self) -> Table:
        """A row for each layer, with parameters and multiply-adds before and after, and one for all; notes say what is refused."""
        rows = [_row(c.name, c.kind, c.becomes, c.before, c.after) for c in self.changes]
        notes = [f"{name} stays: {reason}." for name, reason in self.refused.items()]
        return Table("Surgery", _COLUMNS, [*rows, _row("all of these", "", "", *self.total)], notes)

    def __str__(self) -> str:
        return markdown(self.table())


def _row(name: str, before: str, after: str, costs: Cost, costs_after: Cost) -> dict[str, Any]:
    return {
        "name": name, "before": before, "after": after,
        "parameters_before": costs.parameters, "parameters_after": costs_after.parameters,
        "multiply_adds_before": costs.multiply_adds, "multiply_adds_after": costs_after.multiply_adds,
    }  # fmt: skip


def put(model: nn.Module, name: str, value: Any) -> Any:
    """Puts a module, or a function that stood in the place of one, at a name; returns what was there."""
    parent_name, _, key = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    was = getattr(parent, key)
    if not isinstance(value, nn.Module) and key in parent._modules:
        delattr(parent, key)
    if key in parent._modules:
        parent._modules[key] = value  # in the same place of the order, which Sequential computes in
    else:
        setattr(parent, key, value)
    return was


def settle_fast_paths(model: nn.Module) -> None:
    """TransformerEncoderLayer in eval mode reads the weights of its Linears past their modules: not where one is replaced."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            parts = (module.get_submodule(name) for name in ("linear1", "linear2", "self_attn.out_proj"))
            plain = all(getattr(type(part), "forward", None) is nn.Linear.forward for part in parts)
            _switch(module, "activation_relu_or_gelu", 0, off=not plain)
    for module in model.modules():
        if isinstance(
            module, nn.TransformerEncoder
        ):  # which hands nested tensors to all layers, for the fast path of the first
            changed = any(hasattr(layer, "_activation_relu_or_gelu_before_surgery") for layer in module.layers)
            _switch(module, "use_nested_tensor", False, off=changed)


def _switch(module: nn.Module, name: str, value: Any, *, off: bool) -> None:
    """Sets an attribute to what turns something off, or back to what it was before."""
    own, kept = vars(module), f"_{name}_before_surgery"
    if off and kept not in own:
        own[kept] = getattr(module, name)
        setattr(module, name, value)
    elif not off and kept in own:
        setattr(module, name, own.pop(kept))


def replace_linear(
    model: nn.Module, where: Where = None, by: By = 16, *, steps: int = 200, dry_run: bool = False
) -> Surgery:
    """Replaces linear layers of a model in place.

    Args:
        model: with nn.Linear layers, or the Conv1D of `transformers`, anywhere but as itself.
        where: which: a name, a pattern such as "encoder.*.fc?", a type, a predicate of name and module, a list of these, or None for all.
        by: the number of reflections of the HanLinear that is fitted to each (at most its smaller side), or a function that
            makes a module from an nn.Linear.
        steps: of each fit, as in `HanLinear.from_linear`.
        dry_run: only says what would change; `apply()` of the result does it.

    Returns:
        What was replaced and what was refused; print it for a table, and `undo()` it.

    Raises:
        SurgeryError: where nothing that is meant can be replaced, or the model is wrapped by DDP, FSDP or torch.compile.

    >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> surgery = replace_linear(model, "0", by=4)
    >>> model[0]
    HanLinear(in_features=64, out_features=32, bias=True, reflections=4)
    >>> surgery.undo()
    >>> model[0]
    Linear(in_features=64, out_features=32, bias=True)
    """
    if isinstance(by, int):
        require_positive(by=by)
    plan = plan_linears(
        model, where, "surgery.han makes a HanLinear", lambda name, layer: _linear_change(name, layer, by, steps)
    )
    surgery = Surgery(model, *plan)
    require_changes(surgery, "linear layer", where)
    return surgery if dry_run else surgery.apply()


def plan_linears(
    model: nn.Module, where: Where, instead: str, change: Callable[[str, nn.Module], Change]
) -> tuple[list[Change], dict[str, str]]:
    """A change for each linear layer that is meant, and why there is none for some. instead: what to do for the model itself."""
    inspector, changes, refused = Inspector(model), [], {}
    for name in linear_names(model, where):
        fault = inspector.fault_of(name) if name else f"it is the model itself: {instead}"
        if fault:
            refused[name or "the model"] = fault
        else:
            changes.append(change(name, model.get_submodule(name)))
    return changes, refused


def require_changes(surgery: Surgery, what: str, where: Where) -> None:
    """Raises SurgeryError where nothing that is meant can be replaced."""
    if not surgery.changes:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in surgery.refused.items())
        meant = "" if where is None else f" where {where!r} says"
        raise SurgeryError(reasons or f"the model has no {what}{meant}")


def _linear_change(name: str, layer: nn.Module, by: By, steps: int) -> Change:
    before = cost_of(layer)
    if not isinstance(by, int):
        made = by(as_linear(layer))
        return Change(name, type(layer).__name__, before, cost_of(made), type(made).__name__, lambda: made)
    weight: Any = layer.weight
    k = min(by, *weight.shape)
    sketch = HanLinear(*as_shape(layer), layer.bias is not None, "meta", weight.dtype, reflections=k)
    what = f"HanLinear, {k} reflections"
    return Change(name, type(layer).__name__, before, cost_of(sketch), what, lambda: han(layer, k, steps=steps))


def as_shape(layer: nn.Module) -> tuple[int, int]:
    """(in, out) of an nn.Linear or a Conv1D."""
    weight: Any = layer.weight
    first, second = weight.shape
    return (second, first) if isinstance(layer, nn.Linear) else (first, second)


def han(layer: nn.Module, reflections: int = 16, *, steps: int = 200) -> nn.Module:
    """One call for a layer that exists: a HanLinear near a Linear; a model gets all its Linears replaced, and is returned.

    Args:
        layer: an nn.Linear, a Conv1D of `transformers`, or a model.
        reflections: k of each HanLinear, at most its smaller side.
        steps: of each fit.

    Raises:
        SurgeryError: for a layer that cannot be replaced.

    >>> han(nn.Linear(8, 4), 2)
    HanLinear(in_features=8, out_features=4, bias=True, reflections=2)
    """
    require_model(layer)
    if any(layer.children()):
        replace_linear(layer, by=reflections, steps=steps)
        return layer
    if fault := fault_of_layer(layer):
        raise SurgeryError(fault)
    linear = as_linear(layer)
    made = HanLinear.from_linear(linear, min(reflections, *linear.weight.shape), steps=steps)
    for parameter in made.parameters():
        parameter.requires_grad_(linear.weight.requires_grad)
    return made


def replace_feedforward(
    model: nn.Module,
    where: Where = None,
    by: Callable[[nn.Linear, nn.Linear], nn.Module] | None = None,
    *,
    dry_run: bool = False,
    **options: Any,
) -> Surgery:
    """Replaces feed-forwards, two linear layers with an activation between, by HanBlocks in place; they start untrained.

    Found are those of nn.TransformerEncoderLayer and DecoderLayer, of BERT, GPT-2, ViT and others of `transformers` that are built
    alike, the gated ones of Llama, and Linear, activation, Linear in nn.Sequential. Dropout between the two goes with them; norms,
    skip connections and dropout around them stay.

    Args:
        model: as in replace_linear.
        where: as in replace_linear; names are those of the module that holds the feed-forward (in nn.Sequential, of the first Linear).
        by: makes a module from the first and the last nn.Linear; None for a HanBlock.
        dry_run: as in replace_linear.
        options: of the HanBlock (hidden, depth, reflections, scale, norm, skip); scale is 1 unless it is given.

    Returns:
        As replace_linear does.

    Raises:
        SurgeryError: as replace_linear does.

    >>> import torch
    >>> layer = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True)
    >>> surgery = replace_feedforward(layer)
    >>> layer(torch.randn(2, 3, 16)).shape, sum(after.parameters for after in surgery.total[1:])
    (torch.Size([2, 3, 16]), 80)
    """
    inspector, changes, refused = Inspector(model), [], {}
    for slots in find_feedforwards(model):
        if not matches(where, slots.name, model.get_submodule(slots.name)):
            continue
        if fault := slots.fault(model, inspector, keeps_width=by is None):
            refused[slots.name or "the model"] = fault
        else:
            changes.append(_block_change(model, slots, by, options))
    surgery = Surgery(model, changes, refused)
    require_changes(surgery, "feed-forward", where)
    return surgery if dry_run else surgery.apply()


def _block_change(
    model: nn.Module, slots: Slots, by: Callable[[nn.Linear, nn.Linear], nn.Module] | None, options: dict[str, Any]
) -> Change:
    parts = [getattr_of(model, name) for name in slots.all]
    before = cost_of(*(part for part in parts if isinstance(part, nn.Module)))
    made = slots.make(model, by, options)
    what = "gated feed-forward" if slots.whole else "feed-forward"
    name = slots.name or slots.first
    becomes = type(made).__name__
    last = slots.name if slots.whole else slots.last
    return Change(name, what, before, cost_of(made), becomes, lambda: made, slots.empty, slots.at, last)


def getattr_of(model: nn.Module, name: str) -> Any:
    """What is at a name: a module, or a function that stands in the place of one."""
    parent_name, _, key = name.rpartition(".")
    return getattr(model.get_submodule(parent_name), key)
