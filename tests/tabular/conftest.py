"""A table for the tests of this folder."""

import numpy as np
import pandas as pd
import pytest

from hannet.tabular.readers import Table
from tabular_toy import texts


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 120))
    kind = rng.choice(["x", "y", ""], 120)
    columns = {
        "a": a,
        "b": b,
        "kind": kind,
        "number": 100 * a + 50 * (kind == "x"),
        "color": np.where(a > 0, "red", "blue"),
        "id": [f"row {n}" for n in range(120)],
    }
    return Table(pd.DataFrame({name: texts(values) for name, values in columns.items()}))
