import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hannet.tabular.missing import MISSING_TOKENS

TINY = ("--epochs", "2", "--members", "1", "--no-baselines")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def houses(tmp_path):
    """houses.csv, as a spreadsheet in German saves it."""
    rng = np.random.default_rng(0)
    area, town = rng.uniform(30, 200, 90), rng.choice(["Köln", "Bonn"], 90)
    price = [f"{value:.2f}".replace(".", ",") for value in 3000 * area * (1 + (town == "Köln"))]
    rows = [";".join(row) for row in zip(map(str, range(90)), area.round(1).astype(str), town, price, strict=True)]
    path = tmp_path / "houses.csv"
    path.write_text("\n".join([";area;town;price €", *rows]), encoding="cp1252")
    return path


def test_help_has_an_example(hannet):
    for command in ("fit", "predict"):
        assert command in hannet("--help")[1]
        assert f"Example: hannet {command}" in hannet(command, "-h")[1]


@pytest.mark.slow
def test_one_folder_has_one_fit(hannet, houses):
    arguments = ["fit", "houses.csv", "--target", "price €", *TINY]
    long = [*arguments, "--epochs", "100000"]
    with subprocess.Popen(
        [sys.executable, "-c", "from hannet.cli import main; main()", *long], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert "HanNet" in process.stderr.readline()
            for more in ([], ["--force"]):
                code, out, err = hannet(*arguments, *more)
                assert (code, out, err.count("\n")) == (1, "", 1)
                assert "hannet: another process is training for hannet-models/houses: wait until it ends" in err
        finally:
            process.kill()
    assert hannet(*arguments)[0] == 0  # a process that was killed is in nobody's way
    assert [path.name for path in Path("hannet-models").iterdir()] == ["houses"]


def test_from_a_table_to_predictions(hannet, houses, tmp_path):
    code, out, err = hannet("fit", "houses.csv", "--target", "price €", "--epochs", "3", "--members", "1")
    assert code == 0
    assert all(
        part in out for part in ("HanNet", "boosted trees", "72 rows to train on", "Windows-1252", "numbers the rows")
    )
    assert "Predict with: hannet predict hannet-models/houses NEW.csv" in out
    assert "HanNet 3/3" in err
    assert "model 1/5" in err
    assert err.splitlines()[-1].startswith("100% boosted trees trained, model 5/5")
    files = {path.name for path in Path("hannet-models", "houses").iterdir()}
    assert files == {
        "model.safetensors", "estimator.json", "table.json", "README.md",
        "report.html", "report.md", "report.json", "report.png", "report.svg",
    }  # fmt: skip
    Path("new.csv").write_text("town,note,area\nBonn,x,50\nAachen,y,\n", encoding="utf-8")
    code, out, _ = hannet("predict", "hannet-models/houses", "new.csv")
    assert code == 0
    assert "ignored: note" in out
    assert "'Aachen'" in out
    assert "2 rows predicted. Saved: new-predictions.csv" in out
    told = pd.read_csv("new-predictions.csv")
    assert list(told) == ["town", "note", "area", "prediction"]
    assert np.isfinite(told["prediction"]).all()
    code, out, _ = hannet("predict", "hannet-models/houses", "houses.csv")
    assert "RMSE" in out
    code, out, err = hannet("predict", "hannet-models/houses", "new.csv", "--out", "-")
    assert (code, out) == (0, Path("new-predictions.csv").read_text())
    assert "2 rows predicted.\n" in err
    before = Path("new-predictions.csv").read_bytes()
    code, out, err = hannet("predict", "hannet-models/houses", "new.csv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "new-predictions.csv exists already: --force replaces it" in err
    assert Path("new-predictions.csv").read_bytes() == before
    assert hannet("predict", "hannet-models/houses", "new.csv", "--force")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "houses.csv", "new.csv", "hannet-models", "new-predictions.csv", "houses-predictions.csv",
    }  # fmt: skip


def test_a_log_ends_with_the_last_epoch(hannet, houses):
    code, out, err = hannet("fit", "houses.csv", "--target", "price €", "--members", "1", "--no-baselines")
    assert code == 0
    assert "numbers have decimal commas in 'price €'" in out
    assert re.search(r"^100% HanNet ([\d,]+)/\1, .* 0:00 left$", err.splitlines()[-1])


def test_json(hannet, houses):
    code, out, _ = hannet("fit", "houses.csv", "--target", "town", "--json", "--out", "model", *TINY)
    facts = json.loads(out)
    assert code == 0
    assert (facts["folder"], facts["task"], facts["target"]["classes"]) == ("model", "classification", ["Bonn", "Köln"])
    assert facts == json.loads(Path("model/report.json").read_text()) | {"folder": "model"}
    code, out, _ = hannet("predict", "model", "houses.csv", "--json")
    facts = json.loads(out)
    assert (code, facts["rows"], facts["file"]) == (0, 90, "houses-predictions.csv")
    assert 0 <= facts["metrics"]["accuracy"] <= 1
    assert list(pd.read_csv(facts["file"]))[-3:] == ["prediction", "probability Bonn", "probability Köln"]


def test_without_a_header(hannet):
    rows = "\n".join(f"{n % 7},{n % 5},{n % 7 + n % 5}.5" for n in range(60))
    Path("bare.csv").write_text(rows)
    code, _, err = hannet("fit", "bare.csv", "--target", "c2", *TINY)
    assert (code, err.count("\n")) == (1, 1)
    assert "--header no" in err
    assert hannet("fit", "bare.csv", "--target", "c2", "--no-header", *TINY)[0] == 0
    assert hannet("predict", "hannet-models/bare", "bare.csv")[0] == 0
    assert list(pd.read_csv("bare-predictions.csv")) == ["c0", "c1", "c2", "prediction"]


def test_words_for_missing_values(hannet):
    rows = [f"{n % 7},{n % 5},{['North', 'NA', 'unknown'][n % 3]}" for n in range(60)]
    Path("lands.csv").write_text("\n".join(["a,b,land", *rows]))
    assert (
        "as they have no target: 20 of 60 ('NA' 20; --missing"
        in hannet("fit", "lands.csv", "--target", "land", *TINY)[1]
    )
    for words, classes in {"": ["NA", "North", "unknown"], "na, Unknown": None, "unknown": ["NA", "North"]}.items():
        code, out, err = hannet(
            "fit", "lands.csv", "--target", "land", "--missing", words, "--json", "--out", f"model {words}", *TINY
        )
        if classes:
            assert json.loads(out)["target"]["classes"] == classes
        else:
            assert (code, "in every row" in err) == (1, True)
    assert hannet("predict", "model unknown", "lands.csv")[0] == 0
    assert set(pd.read_csv("lands-predictions.csv", keep_default_na=False)["prediction"]) <= {"NA", "North"}


@pytest.fixture
def visits():
    """visits.csv: three visits of forty people, a column that gives the target away, and weights."""
    rows = [
        f"{n % 40},{2000 + n // 40},{(n * 7) % 11},{'yes' if n % 40 < 8 else 'no'},{n % 3},{'+-'[n % 40 < 8]}x"
        for n in range(120)
    ]
    Path("visits.csv").write_text("\n".join(["person,year,a,ill,w,outcome", *rows]))
    return ("fit", "visits.csv", "--target", "ill", "--json", "--force", *TINY)


def test_rows_and_columns_are_chosen(hannet, visits):
    facts = json.loads(hannet(*visits, "--drop", "outcome,a", "--drop", "w", "--group", "person")[1])
    assert set(facts["dropped"]) == {"outcome", "a", "w", "person"}
    assert (facts["split"]["by"], facts["split"]["groups"], facts["test_rows"]) == ("group", 40, 24)
    facts = json.loads(hannet(*visits, "--kind", "a=category", "--kind", "year=number")[1])
    assert [facts["columns"][name]["kind"] for name in ("a", "year")] == ["category", "number"]
    for wrong in ("a", "a=float", "=number"):
        assert "--kind" in hannet(*visits, "--kind", wrong)[2]
    facts = json.loads(hannet(*visits, "--time", "year", "--weights", "w", "--class-weight", "balanced")[1])
    assert facts["split"] == {"by": "time", "column": "year", "from": "2002"}
    assert (facts["test_rows"], facts["dropped"]["w"], facts["plan"]["class_weight"]) == (
        40,
        "weighs the rows",
        "balanced",
    )
    assert [row["class"] for row in facts["classes"]] == ["no", "yes"]
    assert "outcome" in facts["leaks"]
    for more, part in {
        ("--drop", "outcom"): "--drop: the table has no column 'outcom'; closest: 'outcome'",
        ("--group", "persons"): "--group: the table has no column 'persons'; closest: 'person'",
        ("--weights", "outcome"): "--weights: 'outcome' must hold a number",
    }.items():
        code, out, err = hannet(*visits, *more)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert part in err


def test_a_leak_and_the_classes_stand_on_the_terminal(hannet, visits):
    out = " ".join(hannet(*(word for word in visits if word != "--json"))[1].split())
    assert "warning: column 'outcome' alone predicts 'ill' nearly perfectly" in out
    assert "leave it out with --drop outcome" in out
    assert "HanNet by class" in out


@pytest.mark.parametrize("name", ["tab.tsv", "tab.tsv.gz", "tab.csv.gz"])
def test_a_model_is_called_like_its_table(hannet, name):
    content = "\n".join(["a\tb", *(f"{n}.5\t{n % 7}.5" for n in range(30))]).encode()
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert hannet("fit", name, "--target", "b", *TINY)[0] == 0
    assert hannet("predict", "hannet-models/tab", name)[0] == 0
    assert Path("tab-predictions.csv").exists()


def test_a_model_is_replaced_only_by_force(hannet, houses):
    fit = ("fit", "houses.csv", "--target", "area", "--out", "model", *TINY)
    assert hannet(*fit)[0] == 0
    code, out, err = hannet(*fit)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--force" in err
    assert hannet(*fit, "--force", "--seed", "1")[0] == 0
    Path("model", "mine.txt").touch()
    code, _, err = hannet(*fit, "--force")
    assert code == 2
    assert "name another folder" in err


USAGE = {
    "no target": ("fit", "houses.csv"),
    "an unknown task": ("fit", "houses.csv", "--target", "area", "--task", "clustering"),
    "a share of 2": ("fit", "houses.csv", "--target", "area", "--test", "2"),
    "no epochs": ("fit", "houses.csv", "--target", "area", "--epochs", "0"),
    "a file for a folder": ("fit", "houses.csv", "--target", "area", "--out", "houses.csv"),
    "a folder that cannot be": ("fit", "houses.csv", "--target", "area", "--out", "/proc/none"),
    "a folder of other things": ("fit", "houses.csv", "--target", "area", "--out", "."),
    "the table as output": ("predict", "model", "houses.csv", "--out", "./houses.csv", "--force"),
    "a folder as output": ("predict", "model", "houses.csv", "--out", ".", "--force"),
    "a file in no folder": ("predict", "model", "houses.csv", "--out", "none/other.csv"),
    "a table and JSON on standard output": ("predict", "model", "houses.csv", "--out", "-", "--json"),
    "a file that is there": ("predict", "model", "houses.csv", "--out", "other.csv"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_bad_command_line_is_one_sentence_and_exit_code_2(hannet, houses, case):
    Path("other.csv").touch()
    before = houses.read_bytes()
    code, out, err = hannet(*USAGE[case])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("hannet: ")
    assert houses.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("fit", "none.csv", "--target", "y"), "none.csv: No such file"),
        (("fit", ".", "--target", "y"), "directory"),
        (("fit", "houses.csv", "--target", "aera"), "closest: 'area'"),
        (("fit", "houses.csv", "--target", "town", "--task", "regression"), "needs numbers"),
        (("fit", "one.csv", "--target", "b"), "rows with a target: 1;"),
        (("fit", "slashes.csv", "--target", "b"), "one column only, 'a/b'"),
        (("predict", "nowhere", "houses.csv"), "not a folder"),
        (("predict", ".", "houses.csv"), "no model of `hannet fit`"),
    ],
)
def test_bad_data_is_one_sentence_and_exit_code_1(hannet, houses, arguments, part):
    Path("one.csv").write_text("a,b\n1,2\n")
    Path("slashes.csv").write_text("a/b\n1/2\n" * 30)
    code, out, err = hannet(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert part in err
    assert not Path("hannet-models", "houses").exists()


def test_bad_new_tables_are_one_sentence(hannet, houses):
    assert hannet("fit", "houses.csv", "--target", "price €", "--out", "model", *TINY)[0] == 0
    Path("header.csv").write_text("area,town\n")
    Path("other.csv").write_text("town\nBonn\n")
    for name, part in {"header.csv": "no rows", "other.csv": "lacks 1 of the model's columns: 'area'"}.items():
        code, out, err = hannet("predict", "model", name)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert part in err
    weights = Path("model", "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    code, _, err = hannet("predict", "model", "houses.csv")
    assert (code, err.count("\n")) == (1, 1)
    assert "model.safetensors" in err


@pytest.mark.slow
def test_a_reader_may_leave_before_the_end(hannet, houses, tmp_path):
    assert hannet("fit", "houses.csv", "--target", "area", "--out", "model", *TINY)[0] == 0
    command = [
        sys.executable,
        "-c",
        "from hannet.cli import main; main()",
        "predict",
        "model",
        "houses.csv",
        "--out",
        "-",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    process.stdout.close()
    told = process.stderr.read().decode()
    assert (process.wait(timeout=60), told.splitlines()[-1]) == (0, "90 rows predicted.")


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_and_is_exit_code_130(houses, tmp_path):
    command = [sys.executable, "-c", "from hannet.cli import main; main()"]
    fit = [*command, "fit", "houses.csv", "--target", "area", "--epochs", "1000000", "--out", "models/deep"]
    process = subprocess.Popen(fit, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert "HanNet" in process.stderr.readline()  # it trains
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("hannet: interrupted")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif("HANNET_DATA" not in os.environ, reason="HANNET_DATA names no folder")
def test_a_real_table(hannet):
    data = Path(os.environ["HANNET_DATA"], "regression", "skillcraft.csv")
    code, out, _ = hannet("fit", str(data), "--no-header", "--target", "c19", "--epochs", "10", "--json")
    rows = {row["model"]: row for row in json.loads(out)["rows"]}
    assert code == 0
    assert rows["HanNet"]["r2"] > 0.4  # the paper's nets reach 0.55


def test_help_names_the_usual_words_for_missing_values(hannet):
    told = "".join(hannet("fit", "-h")[1].split())
    words = told.split("defaultisshortfor:")[1].split(",andamong")[0].lower().split(",")
    assert {"", *words} == MISSING_TOKENS


def test_a_table_says_how_it_is_to_be_read(hannet):
    rows = "".join(f"{n % 7};{n % 5};{n % 7 + n % 5},5 é\n".replace(" é", "") for n in range(60))
    Path("odd.csv").write_bytes(f"x;1\n2001;2002;prix é\n{rows}".encode("cp1252"))
    reading = ("--skip", "1", "--encoding", "cp1252", "--header", "yes")
    assert hannet("fit", "odd.csv", "--target", "prix é", *reading, *TINY)[0] == 0
    assert hannet("predict", "hannet-models/odd", "odd.csv", *reading)[0] == 0
    assert list(pd.read_csv("odd-predictions.csv")) == ["2001", "2002", "prix é", "prediction"]
    code, _, err = hannet("fit", "odd.csv", "--target", "y", "--header", "yes", "--no-header")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = hannet("fit", "odd.csv", "--target", "y", "--encoding", "nonsense", "--out", "other", *TINY)
    assert (code, err.count("\n")) == (1, 1)
    assert "no encoding 'nonsense'" in err
