"""Small tables and fits for the tests of tables."""

import pandas as pd

from hannet.tabular.pipeline import FitOptions, fit
from hannet.tabular.readers import Table

TINY = {"members": 1, "epochs": 3, "width": 8, "depth": 3}
KINDS = {"regression": "number", "classification": "color"}


def texts(values):
    return pd.Series(list(map(str, values)), dtype="str")


def learn(table, target, **choices):
    seen = []
    options = choices.pop("options", TINY)
    others = [name for name in KINDS.values() if name != target and target in KINDS.values()]
    cells = table.cells.drop(columns=others, errors="ignore")
    model, report = fit(Table(cells, table.notes), FitOptions(target, options=options, **choices), seen.append)
    return model, report, seen
