from importlib import import_module

import pytest

pandas = pytest.importorskip("pandas")


def test_a_table_without_formulas():
    from hannet.cli.predict import without_formulas

    cells = pandas.DataFrame({"=name": ["=cmd|' /C calc'!A0", "-5", None, "plain"], "n": [-1.5, 2, 3, 4]})
    safe = without_formulas(cells)
    assert list(safe) == ["'=name", "n"]
    assert safe["'=name"].tolist()[:2] == ["'=cmd|' /C calc'!A0", "-5"]
    assert safe["'=name"].isna().tolist() == [False, False, True, False]
    assert safe["n"].equals(cells["n"])
    assert list(cells) == ["=name", "n"]


def test_safe_csv_is_an_option_of_tables_too(hannet, monkeypatch, tmp_path):
    predict = import_module("hannet.cli.predict")
    asked = []
    monkeypatch.setattr(predict, "_predict_table", lambda *_, safe_csv, **__: asked.append(safe_csv))
    (tmp_path / "new.csv").touch()
    for words in (["--safe-csv"], []):
        assert (
            hannet("predict", str(tmp_path), str(tmp_path / "new.csv"), "--out", str(tmp_path / "o.csv"), *words)[0]
            == 0
        )
    assert asked == [True, False]
