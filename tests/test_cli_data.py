import json
import sys
from dataclasses import replace
from pathlib import Path

import pooch
import pytest

from hannet.data import images, regression

NAMES = [*regression.SETS, *images.SETS]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A HANNET_DATA with one small file under the name of a set, and no network."""
    monkeypatch.setenv("HANNET_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    monkeypatch.setattr(pooch.get_logger(), "disabled", True)
    path = tmp_path / "given" / "regression" / "skillcraft.csv"
    path.parent.mkdir(parents=True)
    path.touch()
    sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of nothing
    for sets in (regression.SETS, images.SETS):
        for name, source in sets.items():
            files = [replace(file, url=f"http://127.0.0.1:9/{file.name}", sha256=sha256) for file in source.files]
            monkeypatch.setitem(sets, name, replace(source, files=tuple(files)))
    return path


@pytest.fixture
def digits(here):
    """The files of mnist, beside it."""
    paths = [here.parents[1] / "mnist" / file.name for file in images.SETS["mnist"].files]
    paths[0].parent.mkdir()
    for path in paths:
        path.touch()
    return paths


@pytest.mark.parametrize("command", ["list", "get"])
def test_help_has_an_example(hannet, command):
    assert command in hannet("data", "-h")[1]
    code, out, _ = hannet("data", command, "-h")
    assert code == 0
    assert f"Example: hannet data {command}" in out


def test_list(hannet, here):
    code, out, err = hannet("data", "list")
    assert (code, err) == (0, "")
    lines = {name: next(line for line in out.splitlines() if name in line) for name in NAMES}
    assert all("regression" in lines[name] for name in regression.SETS)
    assert "3,338 x 19" in lines["skillcraft"]
    assert "CC BY 4.0" in lines["skillcraft"]
    assert "HANNET_DATA" in lines["skillcraft"]
    assert "not here" in lines["parkinsons"]
    assert "70,000 x 1 x 28 x 28" in lines["mnist"]
    assert "classification" in lines["mnist"]


def test_list_as_json(hannet, here):
    facts = json.loads(hannet("data", "list", "--json")[1])
    assert [fact["name"] for fact in facts] == NAMES
    assert [fact["where"] for fact in facts].count("HANNET_DATA") == 1
    assert all(fact["files"][0]["url"].startswith("http") and fact["quirks"].endswith(".") for fact in facts)
    assert facts[-1]["shape"] == [1, 28, 28]


def test_a_set_may_be_here_in_part(hannet, digits):
    def where():
        return json.loads(hannet("data", "list", "--json")[1])[-1]["where"]

    assert where() == "HANNET_DATA"
    digits[1].unlink()
    assert where() == "partly here"
    cached = Path(pooch.os_cache("hannet"), "mnist", digits[1].name)
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert where() == "HANNET_DATA, cache"


def test_get_prints_the_paths(hannet, here, digits):
    assert hannet("data", "get", "skillcraft", "skillcraft") == (0, f"{here}\n", "")
    assert json.loads(hannet("data", "get", "--json", "skillcraft")[1]) == {"skillcraft": [str(here)]}
    assert hannet("data", "get", "mnist")[1].splitlines() == [str(path) for path in digits]


def test_get_all(hannet, here, digits):
    for name in regression.SETS:
        here.with_name(f"{name}.csv").touch()
    code, out, _ = hannet("data", "get", "all")
    assert code == 0
    assert [Path(line).stem for line in out.splitlines()] == [*regression.SETS, *(path.stem for path in digits)]


@pytest.mark.parametrize("names", [["boston"], ["skillcraft", "boston"], ["all", "skillcraft"], []])
def test_unknown_names_are_exit_code_2(hannet, here, names):
    code, out, err = hannet("data", "get", *names)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "names" in err


def test_a_set_that_cannot_be_had_is_one_sentence_and_exit_code_1(hannet, here):
    code, out, err = hannet("data", "get", "parkinsons")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("hannet: parkinsons.csv could not be downloaded")
    here.write_text("spoilt")
    code, out, err = hannet("data", "get", "skillcraft")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert str(here) in err


def test_without_pooch_one_sentence_says_what_to_install(hannet, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    code, _, err = hannet("data", "get", "parkinsons")
    assert (code, err.count("\n")) == (1, 1)
    assert "needs the package pooch: pip install" in err
