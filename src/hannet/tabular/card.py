"""The card of a model of a table, from the facts that report.json keeps: README.md of its folder, as the Hub shows it."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from ..models.card import Evaluation, Metric
from ..reporting.text import escape_markdown, one_line
from . import metrics

FILE = "README.md"
KINDS = {
    "rmse": "rmse",
    "mae": "mae",
    "r2": "r_squared",
    "accuracy": "accuracy",
    "log_loss": "log_loss",
    "auc": "roc_auc",
}
_CARD = """---
{data}
---

# {title}

A model of the Python package `hannet` that predicts the column {target} of a table: an ensemble of HanNets on {columns} columns,
trained on {rows:,} rows.

{results}

```sh
pip install 'hannet[tables]'
hannet predict FOLDER NEW.csv
```

`report.html` in the folder compares it with other models, and says how the columns were read and what matters most.
"""


def evaluation(facts: Mapping[str, Any]) -> Evaluation:
    """What was measured of the HanNet on the rows that were held out."""
    row, task = facts["rows"][0], "classification" if facts["target"]["classes"] else "regression"
    form, first = metrics.error_format(facts["rows"]), "accuracy" if task == "classification" else "rmse"
    found = []
    for key, kind in KINDS.items():
        if row.get(key) is not None:
            shown = form if key in ("rmse", "mae") else ".4f"
            interval = row.get("interval") if key == first else None
            found.append(Metric(kind, metrics.METRIC_NAMES[key], row[key], shown, interval))
    return Evaluation(f"tabular-{task}", f"held-out rows of a table with {facts['target']['name']}", "test", found)


def make_card(facts: Mapping[str, Any]) -> str:
    """The card: metrics in the Hub's format, and what a person needs.

    Args:
        facts: Those of `Report.facts`.
    """
    measured, target = evaluation(facts), facts["target"]["name"]
    data = ModelCardData(
        library_name="hannet",
        tags=["han-layer", "tabular"],
        pipeline_tag=measured.task,
        model_name=f"HanNet predicting {one_line(target)}",
        eval_results=measured.results(),
    )
    return _CARD.format(
        data=data.to_yaml(),
        title=f"HanNet predicting {escape_markdown(target)}",
        target=escape_markdown(target),
        columns=f"{len(facts['columns']):,}",
        rows=facts["train_rows"],
        results=measured.markdown(),
    )
