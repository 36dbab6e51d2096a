import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hannet.data import DataError
from hannet.data import regression as module
from hannet.data.regression import SETS, regression, standardise


def needs_data():
    if not os.environ.get("HANNET_DATA"):
        pytest.skip("HANNET_DATA is not set")


@pytest.mark.parametrize("name", SETS)
def test_a_table_is_what_its_source_says(name):
    needs_data()
    table = regression(name)
    assert table.source is SETS[name]
    assert table.x.shape == (table.source.rows, len(table.source.features))
    assert table.y.shape == (table.source.rows,)
    assert table.x.dtype == table.y.dtype == np.float64
    last = Path(os.environ["HANNET_DATA"], "regression", f"{name}.csv").read_text().splitlines()[-1]
    assert [*table.x[-1], table.y[-1]] == [float(number) for number in last.split(",")]


@pytest.mark.parametrize("name", SETS)
def test_standardised_columns_of_a_table(name):
    needs_data()
    x = standardise(regression(name).x)
    assert x.dtype == torch.float32
    assert x.shape[1] == len(SETS[name].features)
    assert x.double().mean(0).abs().max() < 1e-6
    assert (x.double().std(0, correction=0) - 1).abs().max() < 1e-6


def test_the_columns_carry_their_names():
    """What the sources say of their columns, seen in the numbers."""
    needs_data()
    bikes, houses, flights = (regression(name) for name in ("bikesharing", "calhousing", "elevators"))

    def column(table, name):
        return table.x[:, table.source.features.index(name)]

    assert len(np.unique(column(bikes, "hr"))) == 24
    assert len(np.unique(column(bikes, "weekday"))) == 7
    assert np.corrcoef(column(bikes, "temp"), column(bikes, "atemp"))[0, 1] > 0.98
    assert np.corrcoef(column(houses, "income"), houses.y)[0, 1] > 0.65
    change = column(flights, "SaTime2") - column(flights, "SaTime3")
    assert np.corrcoef(change, column(flights, "diffSaTime2"))[0, 1] > 0.99
    assert (houses.y.round(6) == houses.y.max().round(6)).sum() >= 965  # capped


def test_parkinsons_has_42_groups_and_the_others_none():
    needs_data()
    table = regression("parkinsons")
    assert table.groups.dtype == np.int64
    assert sorted(set(table.groups)) == list(range(1, 43))
    assert np.array_equal(table.x[:, 0], table.groups)
    assert all(regression(name).groups is None for name in SETS if name != "parkinsons")


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(ValueError, match=r"one of bikesharing, calhousing, elevators, .* got 'boston'"):
        regression("boston")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Puts a text in place of the parkinsons table, with the checksum that it has."""
    source = replace(SETS["parkinsons"], rows=3, features=("subject", "age"))
    monkeypatch.setenv("HANNET_DATA", str(tmp_path))
    (tmp_path / "regression").mkdir()

    def put(content):
        (tmp_path / "regression" / "parkinsons.csv").write_bytes(content)
        file = replace(source.files[0], checksum="sha256:" + hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(module.SETS, "parkinsons", replace(source, files=(file,)))

    return put


def test_reads_numbers_in_the_publishers_format(write):
    write(b"1,72,34.5\n1,72,3E-05\r\n2,-6,.5")
    table = regression("parkinsons")
    assert table.x.tolist() == [[1, 72], [1, 72], [2, -6]]
    assert table.y.tolist() == [34.5, 3e-5, 0.5]
    assert table.groups.tolist() == [1, 1, 2]


DAMAGE = {
    "empty": (b"", "expected 3 rows of 3 numbers"),
    "cut between lines": (b"1,2,3\n4,5,6\n", r"expected 3 rows of 3 numbers, got shape \(2, 3\)"),
    "a column short": (b"1,2\n4,5\n7,8\n", r"got shape \(3, 2\)"),
    "cut inside a line": (b"1,2,3\n4,5,6\n7,8", "cut off in the middle"),
    "cut after a comma": (b"1,2,3\n4,5,6\n7,8,", "not a table of numbers"),
    "a header": (b"a,b,c\n1,2,3\n4,5,6\n", "not a table of numbers"),
    "a web page": (b"<html>\n<p>404", "not a table of numbers"),
    "not text": (b"\xff\xfe" * 99, "not a table of numbers"),
    "nan": (b"1,2,3\n4,nan,6\n7,8,9\n", "not finite"),
    "too large for a number": (b"1,2,3\n4,1e999,6\n7,8,9\n", "not finite"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_in_one_sentence(write, tmp_path, damage):
    content, message = DAMAGE[damage]
    write(content)
    with pytest.raises(DataError, match=message) as caught:
        regression("parkinsons")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_caught_by_its_checksum(tmp_path, monkeypatch):
    monkeypatch.setenv("HANNET_DATA", str(tmp_path))
    (tmp_path / "regression").mkdir()
    (tmp_path / "regression" / "elevators.csv").write_text("1,2,3\n")
    with pytest.raises(DataError, match="SHA-256"):
        regression("elevators")


def test_standardise_drops_constant_columns_and_keeps_tiny_and_large_ones():
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    x = np.stack([0.1 * np.ones(4), 1e-8 * signs + 3e-8, 1e6 + 1e-2 * signs, signs], 1)
    assert torch.allclose(standardise(x), torch.tensor(signs).float()[:, None].expand(-1, 3), atol=1e-6)
    assert standardise(np.ones((4, 2))).shape == (4, 0)


@pytest.mark.parametrize("x", [np.ones(3), np.ones((0, 2)), np.array([[1.0, np.nan]])])
def test_standardise_refuses_what_is_no_table(x):
    with pytest.raises(ValueError, match="x must be"):
        standardise(x)
