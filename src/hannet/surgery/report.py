"""What a surgery costs and saves, measured, and whether it is worth it: as Markdown and as one HTML page."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ..models.modes import modes_kept
from ..reporting.html import Page, Section
from ..reporting.tables import Table, markdown
from ..storage.files import write_atomic
from .costs import cost_of
from .distill import call, model_before
from .find import SurgeryError
from .replace import Surgery
from .sensitivity import Sensitivity

BATCHES = (1, 64)
WORTHWHILE = 0.1  # the least share of parameters or time that must be saved
_COLUMNS = {
    "what": ("", ""),
    "before": ("before", "{}"),
    "after": ("after", "{}"),
    "ratio": ("after / before", "{:.2f}"),
}


@dataclass(frozen=True)
class Report:
    """Tables of a surgery. worth_it: whether it pays, None where nobody measured accuracy or loss; recommendation: why."""

    worth_it: bool | None
    recommendation: str
    tables: tuple[Table, ...]

    def markdown(self) -> str:
        """The report as Markdown."""
        return f"{self.recommendation}\n\n" + "\n".join(markdown(table) for table in self.tables)

    def html(self) -> str:
        """The report as a page that needs no other file."""
        sections = [Section(table.title, tables=[replace(table, title="")]) for table in self.tables]
        return Page("Surgery", "", [self.recommendation], sections).render()

    def save(self, folder: str | Path) -> list[Path]:
        """Writes report.md and report.html into a folder, which is made if need be; gives their paths."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        contents = {"report.md": self.markdown(), "report.html": self.html()}
        paths = [Path(folder, name) for name in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            write_atomic(path, content.encode())
        return paths


def report(
    surgery: Surgery,
    example: Any,
    evaluate: Callable[[nn.Module], float] | None = None,
    *,
    higher_is_better: bool = True,
    tolerated: float = 0.01,
    effects: Sensitivity | None = None,
    seconds: float = 1.0,
) -> Report:
    """Measures a model before and after surgery.

    Args:
        surgery: that is carried out.
        example: an input of the model with at least one row, as in `distill`; its first row is repeated for larger batches.
        evaluate: gives the accuracy or the loss of a model.
        higher_is_better: whether `evaluate` gives an accuracy, rather than a loss.
        tolerated: how much worse the result may be for the surgery to be worth it, in the unit of `evaluate`.
        effects: what `sensitivity` found, for the table of layers.
        seconds: for which each latency is measured.

    Returns:
        The report; `save(folder)` writes it.

    Raises:
        SurgeryError: for a surgery that is not carried out.
        ValueError: for a `tolerated` below 0.

    >>> from hannet.surgery import replace_linear
    >>> model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    >>> found = report(replace_linear(model, "0", steps=0), torch.randn(1, 256), lambda _: 1.0, seconds=0.01)
    >>> found.html().startswith("<!doctype html>"), "parameters" in found.markdown()
    (True, True)
    """
    if not surgery.done:
        raise SurgeryError("the surgery is not carried out: call apply() first")
    if not tolerated >= 0:
        raise ValueError(f"tolerated must be at least 0, got {tolerated}")
    old, new = model_before(surgery), surgery.model
    costs = cost_of(old), cost_of(new)
    names = ("parameters", "bytes", "multiply-adds a row")
    rows = [_row(name, one, two, "{:,}") for name, one, two in zip(names, *costs, strict=True)]
    times = {size: _latencies((old, new), repeated(example, size), seconds) for size in BATCHES}
    rows += [_row(f"milliseconds, batch {size}", 1e3 * one, 1e3 * two, "{:.3g}") for size, (one, two) in times.items()]
    worse = None
    if evaluate is not None:
        was, now = float(evaluate(old)), float(evaluate(new))
        rows.append(_row("accuracy" if higher_is_better else "loss", was, now, "{:.4g}"))
        worse = was - now if higher_is_better else now - was
    threads = torch.get_num_threads()
    note = f"Times: medians on {_device(new)}, {threads} thread{'s' * (threads != 1)}, without gradients, before and after in turn."
    overall = Table("Before and after", _COLUMNS, rows, [note])
    smaller = 1 - costs[1].parameters / max(1, costs[0].parameters)
    faster = {size: one / two for size, (one, two) in times.items()}
    worth_it, why = recommend(smaller, faster, worse, tolerated)
    tables = [overall, surgery.table(), *([] if effects is None else [effects.table()])]
    return Report(worth_it, why, tuple(tables))


def recommend(
    smaller: float, faster: Mapping[int, float], worse: float | None, tolerated: float
) -> tuple[bool | None, str]:
    """Whether a surgery is worth it, and why.

    Args:
        smaller: share of the model's parameters that is saved.
        faster: time before over time after, for each size of batch.
        worse: by how much the model got worse; None where nobody measured it.
        tolerated: how much worse it may be.

    >>> recommend(0.5, {1: 1.3, 64: 2.0}, 0.2, 0.01)[1].split(":")[0]
    'Not worth it as it is'
    """
    times = ", ".join(f"{_speed(factor)} at batch {size}" for size, factor in faster.items())
    gains = f"{abs(smaller):.1%} {'fewer' if smaller >= 0 else 'more'} parameters; {times}"
    if smaller < WORTHWHILE and max(faster.values()) < 1 / (1 - WORTHWHILE):
        return False, f"Not worth it: the model is neither much smaller nor faster ({gains})."
    if worse is None:
        return None, f"The model has {gains}. Whether that is worth it depends on its accuracy: give `evaluate`."
    if math.isnan(worse):
        return False, f"Not worth it as it is: evaluate gave NaN. {gains}."
    if worse > tolerated:
        advice = "distill the model, replace fewer layers (sensitivity says which matter), or take more reflections"
        return (
            False,
            f"Not worth it as it is: worse by {worse:.4g}, more than the {tolerated:.4g} tolerated. {gains}. To try: {advice}.",
        )
    change = f"worse by {worse:.4g}" if worse > 0 else "no worse" + f" (better by {-worse:.4g})" * (worse < 0)
    return True, f"Worth it: {gains}; {change}, {tolerated:.4g} tolerated."


def _speed(factor: float) -> str:
    return f"{factor:.2f} times as fast" if factor >= 1 else f"{1 / factor:.2f} times as slow"


def repeated(example: Any, size: int) -> Any:
    """A batch of so many times the first row of an example."""
    if isinstance(example, Tensor):
        return example[:1].repeat(size, *[1] * (example.dim() - 1))
    if isinstance(example, Mapping):
        return {name: repeated(value, size) for name, value in example.items()}
    return tuple(repeated(value, size) for value in example) if isinstance(example, tuple | list) else example


@torch.no_grad()
def _latencies(models: tuple[nn.Module, nn.Module], batch: Any, seconds: float) -> tuple[float, float]:
    """Median seconds of each model in eval mode; they take turns, so that other programs slow both."""
    times: tuple[list[float], list[float]] = ([], [])
    with modes_kept(*models):
        for model in models:
            call(model.eval(), batch)
        end = time.perf_counter() + 2 * seconds
        while time.perf_counter() < end or len(times[0]) < 5:
            for model, own in zip(models, times, strict=True):
                start = time.perf_counter()
                call(model, batch)
                _wait(model)
                own.append(time.perf_counter() - start)
    return median(times[0]), median(times[1])


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _wait(model: nn.Module) -> None:
    if _device(model).type == "cuda":
        torch.cuda.synchronize(_device(model))


def _row(what: str, before: float, after: float, form: str) -> dict[str, Any]:
    ratio = after / before if before else None
    return {"what": what, "before": form.format(before), "after": form.format(after), "ratio": ratio}
