import numpy as np
import pandas as pd
import pytest

from hannet.tabular.leaks import find_leaks, leak_notes
from hannet.tabular.metrics import Split
from hannet.tabular.readers import Table
from tabular_toy import learn, texts


def leaks(x, y, classes=0):
    split = Split(x, y, x, y, classes)
    return find_leaks({f"x{number}": slice(number, number + 1) for number in range(x.shape[1])}, split, 0)


def test_a_column_that_tells_the_class_is_found():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    x = np.column_stack([rng.normal(size=300), y + rng.normal(size=300), (y * 7) % 5])
    assert leaks(x, y, 3) == {"x2": 1.0}
    rare = np.where(np.arange(300) < 6, 1, 0)
    assert leaks(np.column_stack([rng.normal(size=300), rare]), rare, 2) == {"x1": 1.0}
    assert leaks(rng.normal(size=(300, 2)), rare, 2) == {}  # though 98% are right


def test_a_small_class_that_it_does_not_tell_hides_no_leak():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    x = np.column_stack([rng.normal(size=400), y])
    y[:6] = 2
    assert leaks(x, y, 3) == {"x1": 1.0}


def test_a_column_that_tells_the_number_is_found_however_it_is_written():
    rng = np.random.default_rng(0)
    y = rng.normal(size=100)
    x = np.column_stack([1.19 * y + 3, np.exp(-y), y + 0.3 * rng.normal(size=100), np.ones(100)])
    assert set(leaks(x, y)) == {"x0", "x1"}
    y = np.repeat(rng.normal(size=8), 50)
    assert set(leaks(np.column_stack([rng.normal(size=400), rng.permutation(8).repeat(50)]), y)) == {"x1"}


def test_the_only_column_is_no_leak():
    y = np.arange(40.0)
    assert leaks(y[:, None], y) == {}
    assert leaks(np.column_stack([y, -y]), np.ones(40)) == {}


def test_notes_name_the_flag_and_the_first_columns():
    assert leak_notes({}, "y") == []
    notes = leak_notes({"a b": 1.0, "c": 0.995, "d": 0.99, "e": 0.99, "f": 0.99}, "y")
    assert notes[0].startswith("warning: column 'a b' alone predicts 'y' nearly perfectly (100.0%)")
    assert notes[0].endswith("leave it out with --drop 'a b'")
    assert len(notes) == 4
    assert notes[3] == "warning: the same is true of 2 more columns"


@pytest.mark.parametrize("drop", [[], ["outcome"]])
def test_a_fit_warns(drop):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    cells = pd.DataFrame(
        {"age": rng.normal(size=120), "outcome": np.where(y, "paid", "open"), "z": rng.normal(size=120), "y": y}
    )
    _, report, _ = learn(Table(cells.apply(texts)), "y", baselines=False, drop=drop)
    assert set(report.facts["leaks"]) == {"outcome"} - set(drop)
    assert report.facts["notes"][0].startswith("warning: column 'outcome' alone") != bool(drop)
