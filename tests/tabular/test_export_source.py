import numpy as np
import pandas as pd
import pytest

from hannet.export import describe, to_c, to_onnx, verify
from hannet.export.program import Date
from hannet.export.sources import open_source
from hannet.tabular.readers import Table
from tabular_toy import learn


@pytest.fixture(scope="module")
def model():
    """Of dates with open ends and gaps, times of a day, and points in time."""
    rng = np.random.default_rng(0)
    days = pd.Timestamp("2015-03-01") + pd.to_timedelta(rng.integers(0, 2500, 400), unit="D")
    times = pd.Timestamp("2020-02-20") + pd.to_timedelta(rng.integers(0, 60_000, 400), unit="min")
    until = np.where(rng.random(400) < 0.1, "9999-12-31", days.strftime("%Y-%m-%d"))
    cells = {
        "until": np.where(rng.random(400) < 0.1, "", until),
        "at": times.strftime("%H:%M"),
        "when": times.strftime("%Y-%m-%d %H:%M:%S"),
        "size": [f"{value:.3f}" for value in rng.normal(size=400)],
        "price": [f"{value:.3f}" for value in days.day_of_week + times.hour + rng.normal(size=400)],
    }
    table = Table(
        pd.DataFrame({name: pd.Series(list(map(str, values)), dtype="str") for name, values in cells.items()})
    )
    return learn(table, "price", options={"members": 1, "epochs": 2, "width": 20, "depth": 3})[0]


def test_what_is_known_of_dates(model):
    until, at, when = (column for column in describe(model).inputs.columns if isinstance(column, Date))
    assert 2932896 not in until.ends  # all from 2900 on is late instead
    assert until.late == pd.Timestamp("2900-01-01").toordinal() - pd.Timestamp("1970-01-01").toordinal()
    assert until.numbers[-1].present.size
    assert (at.origin, at.parts[0], at.ends) == (-25567, "time", ())
    assert 0 < at.numbers[0].mean < 1
    assert when.origin == 0
    assert {"time", "hour", "week sin", "day cos"} <= {*when.parts}


def test_onnx_computes_the_same(model, tmp_path):
    pytest.importorskip("onnxruntime")
    assert len(to_onnx(model, tmp_path / "net.onnx").checks) == 2


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_c_computes_the_same(dtype, model, tmp_path, needs_compiler):
    assert to_c(model, tmp_path / "net", dtype=dtype).checks


def test_rows_have_what_is_unusual(model):
    source = open_source(model)
    rows = source.rows(500, np.random.default_rng(0))
    days = rows["until"]
    assert np.isnan(days).any()
    assert np.isinf(days).any()
    truth = verify.trial(source, 100).truth
    assert np.isfinite(truth).all()
