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


def test_a_column_of_unknown_words_is_a_warning(hannet, tmp_path):
    pytest.importorskip("sklearn")
    rows = [f"{'Male' if n % 2 else 'Female'},{n * 7 % 40},{n % 2 + n / 100}" for n in range(40)]
    (tmp_path / "people.csv").write_text("\n".join(["sex,age,y", *rows]))
    model = str(tmp_path / "model")
    assert (
        hannet("fit", str(tmp_path / "people.csv"), "--target", "y", "--no-baselines", "--epochs", "2", "--out", model)[
            0
        ]
        == 0
    )
    (tmp_path / "new.csv").write_text("sex,age\nherr,3\nfrau,4\n")
    code, out, _ = hannet("predict", model, str(tmp_path / "new.csv"), "--out", str(tmp_path / "o.csv"))
    assert code == 0
    assert "Warning: all 2 values of 'sex' are unknown to the model" in " ".join(out.split())
