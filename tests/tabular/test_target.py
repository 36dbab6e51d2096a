"""What is predicted: numbers or classes, and the words that stand for a missing target."""

import numpy as np
import pandas as pd
import pytest

from hannet.tabular.missing import DEFAULT_MISSING, unmatched_missing_tokens
from hannet.tabular.model import Model
from hannet.tabular.readers import Table, TableError
from hannet.tabular.target import Target, infer_target
from tabular_toy import learn, texts


@pytest.mark.parametrize("values", [["1,0", "2,00", "3"], ["1", "2,0", "3,000"]])
def test_classes_are_spelt_as_the_target(values):
    target, _ = infer_target(texts(values * 20), "y", None, ",")
    assert (target.classes, target.decimal) == (("1", "2", "3"), ",")


def test_a_target_of_different_signs_is_told():
    cells = texts([f"{value}{sign}" for value in np.linspace(0, 1, 30) for sign in ("%", "")])
    assert "signs beside numbers differ (%, none)" in infer_target(cells, "y", None)[1][-1]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (np.linspace(0, 1, 60), ()),
        ([0, 1] * 30, ("0", "1")),
        ([0.0, 1.0] * 30, ("0", "1")),
        ([-1, 1, ""] * 20, ("-1", "1")),
        (["b", "a"] * 30, ("a", "b")),
        (["True", "False"] * 30, ("False", "True")),
        (["+", "-"] * 30, ("+", "-")),
        ([2, 10, 1] * 20, ("1", "2", "10")),
        (list(range(20)) * 3, ()),
        (list(range(20)) * 20, tuple(map(str, range(20)))),
        ([*range(59), "oops"], ()),
    ],
)
def test_what_a_target_is_taken_for(values, classes):
    assert infer_target(texts(values), "y", None)[0].classes == classes


def test_the_task_may_be_chosen():
    cells = texts([3, 4, 5] * 20)
    assert infer_target(cells, "y", "regression")[0].classes == ()
    assert infer_target(texts(list(range(20)) * 3), "y", "classification")[0].classes[:3] == ("0", "1", "2")
    assert "--task regression" in infer_target(cells, "y", None)[1][0]


TARGETS = {
    "all missing": (["", "NA"] * 20, None, "missing in every row"),
    "all equal": ([5] * 30, None, "'5' in every row"),
    "all equal as numbers": (["5", "5.00"] * 15, "regression", "in every row"),
    "one row": ([5], None, "rows with a target: 1;"),
    "few rows left": ([1, 2, ""] * 9, None, "rows with a target: 18;"),
    "words to regress on": (["a", "b"] * 20, "regression", "regression needs numbers"),
    "classes all different": ([f"w{n}" for n in range(40)], None, "40 different values in 40 rows"),
    "numbers for classes": (np.linspace(0, 1, 40), "classification", "--task regression"),
    "all infinite": (["inf"] * 40, "regression", "regression needs numbers"),
}


ASIDE = {  # what is advised works
    "words among numbers": (
        [*range(40), *["sold", "NA"] * 10],
        None,
        "--missing default,sold leaves",
        {"words": ["default", "sold"]},
    ),
    "words to regress on": (["a", "b"] * 20, "regression", "--task classification", {"task": "classification"}),
    "numbers for classes": (np.linspace(0, 1, 40), "classification", "--task regression", {"task": "regression"}),
}


@pytest.mark.parametrize("case", ASIDE)
def test_what_is_advised_works(case):
    values, task, advice, instead = ASIDE[case]
    with pytest.raises(TableError, match=advice):
        infer_target(texts(values), "y", task)
    infer_target(texts(values), "y", instead.get("task", task), tokens=instead.get("words", DEFAULT_MISSING))


def test_nothing_is_advised_that_cannot_work():
    cells = texts([*range(40), *(f"w{n}" for n in range(40))])
    for task in (None, "classification", "regression"):
        with pytest.raises(TableError) as fault:
            infer_target(cells, "y", task)
        assert "40 of 80 values are no numbers, such as 'w0'" in str(fault.value)
        assert "--" not in str(fault.value)


@pytest.mark.parametrize("case", TARGETS)
def test_a_target_that_cannot_be_learned_is_one_sentence(case):
    values, task, part = TARGETS[case]
    with pytest.raises(TableError) as fault:
        infer_target(texts(values), "y", task)
    assert part in str(fault.value)


def test_a_wrong_target_is_one_sentence(table):
    with pytest.raises(TableError, match="no column 'Colour'; closest: 'color'"):
        learn(table, "Colour")
    with pytest.raises(TableError, match="no column 'zzz'; it has 'a', 'b', 'kind'"):
        learn(table, "zzz")
    with pytest.raises(TableError, match="one column only, 'a b c': columns are told apart by comma, semicolon"):
        learn(Table(pd.DataFrame({"a b c": texts(range(40))})), "c")
    with pytest.raises(TableError, match=r"no column to predict from is left: 'n' \(numbers the rows\)"):
        learn(Table(pd.DataFrame({"n": texts(range(40)), "y": texts([1, 2] * 20)})), "y")


@pytest.fixture
def countries(table):
    return Table(table.cells.assign(land=texts(["US", "NA", "DE"] * 40)))


def test_a_class_that_is_called_na_is_learned_and_told(countries):
    model, report, _ = learn(countries, "land", baselines=False)
    assert model.target.classes == ("DE", "NA", "US")
    assert any("'NA' counts as a value of 'land'" in note for note in report.facts["notes"])
    assert set(model.predict(countries).cells["prediction"]) <= {"DE", "NA", "US"}


def test_words_that_cost_rows_are_told_and_may_be_chosen(countries, tmp_path):
    cells = countries.cells.assign(land=texts(["United States", "NA", "Germany"] * 40))
    _, report, _ = learn(Table(cells), "land", baselines=False)
    assert (
        "rows left out, as they have no target: 40 of 120 ('NA' 40; --missing \"\" takes words for classes)"
        in report.facts["notes"]
    )
    model, report, _ = learn(Table(cells), "land", baselines=False, missing=[])
    assert report.facts["target"]["classes"] == ("Germany", "NA", "United States")
    model.save(tmp_path / "model", report.files())
    again = Model.load(tmp_path / "model")
    assert again.encoder.missing == ()
    assert again.predict(Table(cells)).metrics["accuracy"] <= 1


def test_words_among_numbers_are_told_and_may_be_chosen(table):
    cells = table.cells.drop(columns="color").assign(number=texts([*table.cells["number"][:116], *["unknown"] * 3, ""]))
    cells["a"] = texts(["?", "?", *table.cells["a"][2:]])
    notes = learn(Table(cells), "number", baselines=False)[1].facts["notes"]
    assert "rows left out, as they have no target: 4 of 120 ('unknown' 3, empty 1)" in notes
    assert any(note.startswith("read as missing: '?' (2, in 'a')") for note in notes)
    cells["number"] = texts([*table.cells["number"][:90], *["999"] * 30])
    report = learn(Table(cells), "number", baselines=False, missing=["999"])[1]
    assert report.facts["train_rows"] + report.facts["test_rows"] == 90


def test_a_word_that_no_cell_holds_is_told():
    cells = pd.DataFrame({"a": ["-999.0", "1"], "b": ["x", "Unknown"]}, dtype="str")
    assert unmatched_missing_tokens(cells, ["default", "-999", "unknown"]) == ["--missing: no cell holds '-999'"]
    assert unmatched_missing_tokens(cells, ["default", "-999.0"]) == []


def test_advice_on_words_keeps_those_that_were_named():
    cells = pd.Series(["1.5", "2.5", "3.5", "4.5", "5.5", "6.5"] * 10 + ["sold"] * 9 + ["-999"], dtype="str")
    with pytest.raises(TableError, match=r"--missing default,-999,sold leaves such rows out"):
        infer_target(cells, "y", "regression", tokens=["default", "-999"])


def test_a_word_that_was_named_is_no_class():
    table = Table(pd.DataFrame({"k": ["1", "2", "9", "9.0"]}, dtype="str"))
    codes, counts = Target("k", ("1", "2", "9"), ".").codes(table, ["default", "9"])
    assert counts.tolist() == [True, True, False, True]
    assert codes[:2].tolist() == [0, 1]


def test_classes_that_differ_in_capitals_are_one_and_told():
    target, notes = infer_target(texts(["yes", "no", "YES", "yes"] * 10), "y", None)
    assert target.classes == ("no", "yes")
    assert notes == ["column 'y': 'yes', 'YES' differ in capitals only; taken as one"]
    codes, known = target.codes(Table(pd.DataFrame({"y": texts(["No", "Yes", "yes", "Ja", ""])})))
    assert codes[known].tolist() == [0, 1, 1]


def test_values_that_are_none_of_the_classes_are_named():
    target = Target("y", ("yes", "no"), ".")
    table = Table(pd.DataFrame({"y": texts(["Ja", "Nein", "Ja", "YES", "", "NA"])}))
    known = target.codes(table)[1]
    assert target.spelling_notes(table, known) == ["'Ja', 'Nein' are none of the model's classes 'yes', 'no'"]
    assert target.spelling_notes(table, np.ones(6, bool)) == []


def test_predict_names_the_values_that_are_no_classes(table):
    model = learn(table, "color", baselines=False)[0]
    cells = table.cells.assign(color=table.cells["color"].replace({"red": "RED", "blue": "Blau"}))
    found = model.predict(Table(cells))
    assert "'Blau' is none of the model's classes 'blue', 'red'" in found.notes
    assert any(note.startswith("rows with no known value of 'color'") for note in found.notes)


def test_the_range_of_the_target_tells_thousands_from_decimals():
    target, _ = infer_target(texts([59_222 + 5000 * n for n in range(40)]), "y", None)
    table = Table(pd.DataFrame({"y": texts(["143.012 $", "145.846 $"])}))
    codes, known = target.codes(table)
    assert codes.tolist() == [143_012, 145_846]
    assert target.spelling_notes(table, known) == [
        "numbers such as '143.012 $' can be read in two ways, here as 143012, in 'y'"
    ]


def test_classes_that_say_that_nothing_is_known_are_named():
    cells = texts(["ja", "nein"] * 20 + ["unbekannt"] * 12)
    target, notes = infer_target(cells, "y", None)
    assert target.classes == ("ja", "nein", "unbekannt")
    assert notes == ["'unbekannt' (12 rows) is taken for a class; --missing default,unbekannt leaves those rows out"]
    target, notes = infer_target(cells, "y", None, tokens=("default", "unbekannt"))
    assert (target.classes, notes) == (("ja", "nein"), [])
    both = infer_target(pd.concat([cells, texts(["k. A."])]), "y", None)[1]
    assert "'k. A.' (1 row) are taken for classes; --missing 'default,unbekannt,k. A.' leaves" in both[0]
    assert infer_target(texts(["NC", "ND", "none"] * 20), "y", None)[1] == []
