"""Table 2: FC-1 and Han-3 approximate each other about equally well, with 2, 3 and 4 inputs (and as many outputs).

Nets, targets, points and recipes are those of figure3, at one width. Which width is lost in the paper's text; we take 100,
the largest of its Figure 3. One core takes about 14 minutes a seed, of which `--only adam` (no weight decay) is 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from ...reporting.figures import Figure, new_figure
from ...reporting.tables import Table
from ..record import Record
from ..store import Store
from ..verdicts import Comparison
from . import _board, figure3
from .figure3 import COLOURS, NETWORKS, PAIRS, SELECTIONS, Cell, over_seeds

WIDTH = 100
INPUTS = (2, 3, 4)
PAPER = {  # RMSE by (target, trained), for each of INPUTS
    ("FC-1", "FC-1"): (0.00033, 0.00086, 0.00184),
    ("FC-1", "Han-3"): (0.00049, 0.00078, 0.00192),
    ("Han-3", "FC-1"): (0.00107, 0.00251, 0.00478),
    ("Han-3", "Han-3"): (0.00079, 0.00237, 0.00494),
}


@dataclass(frozen=True)
class Experiment(figure3.Experiment):
    """Table 2 for some seeds and recipes."""

    stem: ClassVar[str] = "table2"
    comparisons: ClassVar[tuple[Comparison, ...]] = (
        Comparison(
            "rmse", "published", 0.2, ["target", "trained", "inputs"], "RMSE x 1000", "rmse_std", relative=True,
            higher_is_better=False, form=".2f",
        ),
    )  # fmt: skip
    along: ClassVar[str] = "inputs"
    trials: ClassVar[int] = 5

    def cells(self) -> list[Cell]:
        """What the table has numbers of."""
        return [Cell(*pair, WIDTH, inputs) for pair in PAIRS for inputs in INPUTS]

    def table(self, records: Mapping[str, Record]) -> Table:
        """One row per cell: RMSE in thousandths under both selections, mean and std over seeds, beside the paper's."""
        columns = {"target": ("target", ""), "trained": ("trained", ""), "inputs": ("inputs", "{}")}
        columns |= {"rmse": ("RMSE, best on test", "{:.2f}"), "rmse_std": ("std", "{:.2f}")}
        columns |= {"held_out": ("held-out RMSE", "{:.2f}"), "held_out_std": ("std", "{:.2f}")}
        columns |= {"relative": ("% of target", "{:.1f}"), "published": ("paper's RMSE", "{:.2f}")}
        columns |= {"ratio": ("ours / theirs", "{:.2f}")}
        rows = []
        for cell in self.cells():
            chosen = {selection: self.chosen(selection, cell, records) for selection in SELECTIONS}
            row: dict[str, Any] = {"target": cell.target, "trained": cell.trained, "inputs": cell.inputs}
            for key, best in zip(("rmse", "held_out"), chosen.values(), strict=True):
                over = over_seeds(best)
                row |= {key: 1000 * over.mean, f"{key}_std": over.std and 1000 * over.std}
            published = 1000 * PAPER[cell.target, cell.trained][INPUTS.index(cell.inputs)]
            spread = fmean(_board.metric(record, "target_std") for record in chosen["paper"])
            relative = row["rmse"] / 10 / spread
            rows.append(row | {"relative": relative, "published": published, "ratio": row["rmse"] / published})
        notes = [
            *self.notes(),
            f"width {WIDTH}; as many outputs as inputs; RMSE x 1000 on the test points, mean and std over seeds",
            "% of target: RMSE, best on test, by the standard deviation of the target",
        ]
        return self.make_table("Table 2: FC-1 and Han-3 approximate each other", columns, rows, notes)

    def picture(self, store: Store) -> Figure:
        """RMSE over the number of inputs, ours and the paper's; one panel a target."""
        figure = new_figure(9, 4)
        for axis, target in zip(self.draw_errors(figure, store.records()), NETWORKS, strict=True):
            for trained, colour in COLOURS.items():
                axis.plot(INPUTS, PAPER[target, trained], "x", color=colour, label=f"{trained}, the paper's")
            axis.legend(fontsize=8)
        return self.annotate_quick(figure)
