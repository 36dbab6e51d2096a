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
    checksum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of nothing
    for sets in (regression.SETS, images.SETS):
        for name, source in sets.items():
            files = [offline(replace(file, checksum=checksum)) for file in source.files]
            monkeypatch.setitem(sets, name, replace(source, files=tuple(files)))
    return path


def offline(file):
    """With nobody at its address, which for what is got by hand is not asked."""
    if file.archive and file.archive.by_hand:
        return file
    archive = file.archive and replace(file.archive, url=f"http://127.0.0.1:9/{file.archive.name}")
    return replace(file, url=f"http://127.0.0.1:9/{file.name}", archive=archive)


@pytest.fixture
def photographs(here):
    """The files of the sets that come in archives for everybody."""
    files = [file for name in ("cifar10", "cifar100", "stl10") for file in images.SETS[name].files]
    paths = [here.parents[1] / file.folder / file.name for file in files]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return paths


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
    assert "13,000 x 3 x 96 x 96" in lines["stl10"]


def test_list_as_json(hannet, here):
    facts = json.loads(hannet("data", "list", "--json")[1])
    assert [fact["name"] for fact in facts] == NAMES
    assert [fact["where"] for fact in facts].count("HANNET_DATA") == 1
    assert all(fact["files"][0]["url"].startswith("http") and fact["quirks"].endswith(".") for fact in facts)
    shapes = {fact["name"]: fact["shape"] for fact in facts}
    assert (shapes["mnist"], shapes["cifar100"]) == ([1, 28, 28], [3, 32, 32])
    archive = facts[NAMES.index("stl10")]["files"][0]["archive"]
    assert (archive["name"], archive["size"]) == ("stl10_binary.tar.gz", 2640397119)


def test_a_set_may_be_here_in_part(hannet, digits):
    def where():
        return json.loads(hannet("data", "list", "--json")[1])[NAMES.index("mnist")]["where"]

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


def test_get_all_leaves_out_what_only_the_user_may_get(hannet, here, digits, photographs):
    for name in regression.SETS:
        here.with_name(f"{name}.csv").touch()
    code, out, err = hannet("data", "get", "all")
    assert code == 0
    expected = [*(str(here.with_name(f"{name}.csv")) for name in regression.SETS), *map(str, digits + photographs)]
    assert out.splitlines() == expected
    assert err == "Left out: downsampled-imagenet; `hannet data get downsampled-imagenet` says where to get it\n"


def test_get_all_takes_what_the_user_has_got(hannet, here, digits, photographs):
    for name in regression.SETS:
        here.with_name(f"{name}.csv").touch()
    files = images.SETS["downsampled-imagenet"].files
    for file in files:
        path = here.parents[1] / file.folder / file.name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    code, out, err = hannet("data", "get", "all")
    assert (code, err, len(out.splitlines())) == (0, "", 5 + 4 + 12 + 11)


def test_what_only_the_user_may_get_is_said_to_him(hannet, here):
    code, out, err = hannet("data", "get", "downsampled-imagenet")
    assert (code, out, err.count("\n")) == (1, "", 1)
    for part in ("agree to the terms at https://image-net.org/download.php", "Imagenet32_train_npz.zip", "HANNET_DATA"):
        assert part in err


def test_large_downloads_are_told_before_they_begin(hannet, here):
    code, out, err = hannet("data", "get", "cifar10", "cifar100")
    assert (code, out, err.count("\n")) == (1, "", 2)
    assert err.startswith("Downloads 339 MB: cifar-10-binary.tar.gz 170 MB, cifar-100-binary.tar.gz 169 MB\nhannet: ")
    assert "set HANNET_DATA to a folder that holds cifar-10-batches-bin/data_batch_1.bin" in err


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
