"""Words that differ in capitals alone."""

import numpy as np
import pandas as pd
import pytest

from hannet.export import to_onnx
from hannet.tabular.categories import Category, match_capitals, unify_capitals
from hannet.tabular.encoders import Encoder
from hannet.tabular.readers import Table
from tabular_toy import learn, texts


def frame(*values):
    return pd.DataFrame({"sex": texts(values)})


def test_spellings_that_differ_in_capitals_are_one_category_and_told():
    encoder = Encoder.fit(frame(*["yes"] * 5, *["Yes"] * 3, "YES", *["Maybe"] * 4, "maybe", "no", "no"))
    assert encoder.inputs == ["sex = yes", "sex = Maybe", "sex = no"]
    assert encoder.notes == [
        "column 'sex': 'yes', 'Yes', 'YES' differ in capitals only; taken as one, and so are the spellings of 1 more"
    ]
    assert Encoder.fit(frame("a", "b", "a", "b")).notes == []


def test_capitals_of_a_new_table_make_no_unknown_category():
    encoder = Encoder.fit(frame(*["Male", "Female", "7"] * 4))
    x, notes = encoder.encode(frame("male", "FEMALE", "Male", "7.0"))
    np.testing.assert_array_equal(x, encoder.encode(frame("Male", "Female", "Male", "7"))[0])
    assert notes == []


def test_a_model_that_tells_capitals_apart_does_so_on():
    column = Category("category", "sex", ["M", "m", "f"], {})  # as models before had it
    blocks, notes = column.encode(texts(["m", "M", "F", "NA"]))
    np.testing.assert_array_equal(np.stack(blocks, 1), [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert notes == []
    assert match_capitals(texts(["ja", "JA"]), ["Ja", "jA"]).tolist() == ["ja", "JA"]


def test_a_missing_word_stays_one_whatever_its_capitals():
    encoder = Encoder.fit(frame(*["NA", "DE", "FR"] * 4))  # Namibia
    x, _ = encoder.encode(frame("NA", "na", "de"))
    assert x.sum(1).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (["m"], "warning: the one value of 'sex' is unknown to the model (it knows 'Female', 'Male')"),
        (["m"] * 9, "warning: all 9 values of 'sex' are unknown to the model (it knows 'Female', 'Male')"),
        (
            ["m", "w", "Male", ""],
            "warning: 2 of 3 values of 'sex' are unknown to the model (it knows 'Female', 'Male')",
        ),
        (
            ["m", "Male", ""],
            "column 'sex': values such as 'm' are not among the training rows, treated as another value (1)",
        ),
    ],
)
def test_most_values_unknown_is_a_warning(values, note):
    assert Encoder.fit(frame(*["Male", "Female"] * 4)).encode(frame(*values))[1] == [note]


def test_words_that_were_rare_in_training_are_a_warning_only_if_many_are_there_and_nothing_else():
    encoder = Encoder.fit(frame(*["often"] * 30, *map("w{}".format, range(50))))
    assert "are rare or not among" in encoder.encode(frame("w1", "w2", "often"))[1][0]
    assert "are rare or not among" in encoder.encode(frame("w1", "w2"))[1][0]
    assert encoder.encode(frame(*map("w{}".format, range(12))))[1][0].startswith("warning: all 12 values")


def test_the_most_frequent_spelling_stays():
    cells, notes = unify_capitals("x", texts(["B", "b", "b", "a"]))
    assert cells.tolist() == ["b", "b", "b", "a"]
    assert notes == ["column 'x': 'b', 'B' differ in capitals only; taken as one"]


def test_an_exported_model_computes_what_predict_does(tmp_path):
    pytest.importorskip("onnxruntime")
    words = ["Never Seen", "never seen", "Na", "other"] * 30
    table = Table(pd.DataFrame({"x": texts(words), "y": texts(np.arange(120) % 7 / 3)}))
    assert to_onnx(learn(table, "y", baselines=False)[0], tmp_path / "net.onnx").checks
