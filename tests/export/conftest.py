"""A table with all that a column may be but a date, and models of it."""

import numpy as np
import pandas as pd
import pytest

from hannet.tabular.readers import Table
from tabular_toy import learn


def make_table(count=300):
    rng = np.random.default_rng(0)
    cells = {
        "rooms": [str(value) if rng.random() > 0.1 else "" for value in rng.integers(1, 6, count)],
        "area": [f"{value:.3f}" for value in rng.normal(1e4, 3, count)],
        "city": rng.choice(["Köln", "a@b", "NA", 'c*/"d?', ""], count),
        "street": [f"s{int(value)}" for value in rng.exponential(30, count)],
        "garden": rng.choice(["yes", "no"], count),
        "price": [f"{value:.2f}" for value in rng.normal(size=count) * 1000 + 2e5],
        "color": rng.choice(["red?", 'gr"een', "bl@ue"], count),
    }
    return Table(pd.DataFrame({name: pd.Series(list(map(str, values)), dtype="str") for name, values in cells.items()}))


@pytest.fixture(scope="session")
def table_models():
    """Models that predict a number and a class."""
    options = {"members": 2, "epochs": 2, "width": 20, "depth": 3}
    return {target: learn(make_table(), target, options=options)[0] for target in ("price", "color")}
