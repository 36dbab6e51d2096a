"""Free text as numbers."""

import json

import numpy as np
import pandas as pd
import pytest

from hannet.export.program import ExportError
from hannet.tabular.encoders import Encoder
from hannet.tabular.export_source import TableSource
from hannet.tabular.readers import Table
from hannet.tabular.text import is_text
from tabular_toy import learn, texts

RNG = np.random.default_rng(0)
PARTS = (
    ["lovely", "dreadful"],
    ["red", "blue", "green", "white"],
    ["house", "flat", "barn"],
    ["by the sea", "in town", "near a wood"],
)


def sentences(count):
    """Sentences that differ, and whether each is lovely."""
    rows = [[RNG.choice(words) for words in PARTS] for _ in range(count)]
    return texts(f"a {' '.join(row)}, lot {n}" for n, row in enumerate(rows)), np.array(
        [row[0] == "lovely" for row in rows]
    )


def test_text_is_told_from_identifiers():
    assert is_text(sentences(100)[0])
    assert is_text(texts(f"{n} 本当に良い家です" + "海山川空"[n % 4] + "東西南北"[n // 4 % 4] for n in range(100)))
    for identifiers in (
        [f"row {n}" for n in range(100)],
        [f"some words {n}" for n in range(100)],
        [f"{RNG.integers(2**60):016x}-{RNG.integers(2**16):04x}" for _ in range(100)],
        [f"{''.join(RNG.choice(list('abcdefghijklmnopqrstuvwxyz'), 12))}" for _ in range(100)],
        [f"user{n}@example.com" for n in range(100)],
    ):
        assert not is_text(texts(identifiers)), identifiers[0]
    assert not is_text(texts(["a lovely red house", "a dreadful blue barn"] * 50))


def test_text_becomes_few_columns_that_separate_what_it_says():
    cells, lovely = sentences(300)
    encoder = Encoder.fit(pd.DataFrame({"x": cells}))
    assert encoder.columns[0].kind == "text"
    assert 2 <= len(encoder.inputs) <= 16
    assert encoder.inputs[0] == "x text 1"
    new, truth = sentences(100)
    x, notes = encoder.encode(pd.DataFrame({"x": cells}))
    assert notes == []
    weights = np.linalg.lstsq(np.c_[x, np.ones(len(x))], lovely, rcond=None)[0]
    predicted = np.c_[encoder.encode(pd.DataFrame({"x": new}))[0], np.ones(len(new))] @ weights > 0.5
    assert (predicted == truth).mean() > 0.9


def test_it_is_deterministic_and_survives_json():
    cells = pd.DataFrame({"x": sentences(60)[0]})
    encoder = Encoder.fit(cells)
    assert Encoder.fit(cells) == encoder
    again = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(cells)[0], encoder.encode(cells)[0])
    x, _ = again.encode(pd.DataFrame({"x": texts(["", "NA", "zzz"])}))
    assert np.isfinite(x).all()
    assert not x[:2].any()


def test_a_model_with_text_learns_saves_and_is_refused_by_the_exporters(tmp_path):
    cells, lovely = sentences(200)
    table = Table(pd.DataFrame({"text": cells, "k": texts(np.arange(200) % 7), "y": texts(lovely.astype(int))}))
    model, report, _ = learn(table, "y", baselines=False)
    assert report.facts["columns"]["text"]["kind"] == "text"
    model.save(tmp_path / "model", report.files())
    again = type(model).load(tmp_path / "model")
    assert again.predict(table).cells.equals(model.predict(table).cells)
    with pytest.raises(
        ExportError, match="the column 'text' holds free text, which cannot be exported: fit without it"
    ):
        TableSource(model)
