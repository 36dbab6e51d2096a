"""Feed-forward search: the learning rate of each feed-forward of the small GPT, over one grid for all.

Not in the paper. `feedforward` compares feed-forwards of a GPT; here the rate of each is chosen where the ninth tenth of the text
validates, so that the last tenth chooses nothing. Those of 2, 30 and 100% are not searched. About an hour of a core.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from ...reporting.figures import Figure, new_figure
from ...reporting.tables import Table
from ..base import number
from ..record import Record, Run
from ..store import Store
from .feedforward import CANDIDATES, STEPS, Training

RATES = (1e-3, 2e-3, 4e-3, 8e-3)
DATA = {"set": "tinyshakespeare", "train": 0.8, "validation": 0.1}
START = 100  # a seed that no result uses
SEARCHED = tuple(part for part, candidate in CANDIDATES.items() if candidate.budget in (0, 0.5, 8))


class Experiment(Training):
    """The search. seeds are not used: its start is its own."""

    stem: ClassVar[str] = "feedforward-search"
    parts: ClassVar[tuple[str, ...]] = SEARCHED
    partial: ClassVar[bool] = True

    def groups(self) -> list[list[Run]]:
        """Every run by itself."""
        return [[self._run(part, rate)] for part in self.chosen_parts for rate in RATES]

    def _run(self, part: str, rate: float) -> Run:
        return self.run(part, START, rate, DATA)

    def losses(self, part: str, records: Mapping[str, Record]) -> dict[float, float]:
        """The validation loss by the rate, of those that have run."""
        keys = {rate: self._run(part, rate).key for rate in RATES}
        return {rate: number(records[key].metrics["validation_loss"]) for rate, key in keys.items() if key in records}

    def _found(self, records: Mapping[str, Record]) -> dict[str, dict[float, float]]:
        found = {part: self.losses(part, records) for part in self.chosen_parts}
        return {part: losses for part, losses in found.items() if losses}

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row a candidate: the loss at each rate, and the rate of the lowest one."""
        columns = {"method": ("feed-forward", ""), "budget": ("budget %", "{:g}")}
        columns |= {f"{rate:g}": (f"loss at {rate:g}", "{:.3f}") for rate in RATES} | {"best": ("best rate", "{:g}")}
        rows = []
        for part, losses in self._found(records).items():
            row: dict[str, Any] = {"method": CANDIDATES[part].method, "budget": CANDIDATES[part].budget}
            row |= {f"{rate:g}": losses.get(rate) for rate in RATES}
            rows.append(row | {"best": min(losses, key=losses.__getitem__)})
        notes = [
            f"Shakespeare's plays: eight tenths train, the ninth validates; Adam, warm-up 5%, cosine; {STEPS:,} steps; one start",
            "HanBlock's shape, scale and start were chosen there before, at the rate 0.002; the others' shapes follow from their sizes",
        ]
        return self.make_table("Feed-forwards of a small GPT: the search", columns, rows, notes)

    def picture(self, store: Store) -> Figure:
        """Validation loss over the rate."""
        figure = new_figure(7.5, 4.4)
        axis = figure.subplots()
        for part, losses in self._found(store.records()).items():
            axis.plot(list(losses), list(losses.values()), "o-", label=part, markersize=4)
        axis.set(xscale="log", xlabel="learning rate", ylabel="loss on the ninth tenth")
        axis.set_title("A GPT of 4 blocks: feed-forwards of several kinds")
        axis.legend(fontsize=8)
        return self.annotate_quick(figure)
