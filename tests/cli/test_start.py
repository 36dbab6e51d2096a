import gzip
import io
import os
import shlex
import sys
from pathlib import Path

import pytest

from hannet.cli import start
from hannet.data import IMAGE_SUFFIXES
from hannet.data.image_folder import folder
from hannet.tabular.model import PARTS
from hannet.vision.preprocessing import FILE

HOUSES = "rooms;area;price in EUR\n1;2;3\n"


def commands(folder):
    return [command for command, _ in start.suggest(folder)]


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_hannet_alone_says_what_it_is_and_what_to_try(hannet, own_folder):
    code, out, err = hannet()
    assert (code, err) == (0, "")
    assert out.startswith("hannet: ")
    assert all(f"\n  {command} " in out for command, _ in start.FALLBACKS)
    assert out.endswith("\nAll commands: hannet --help\n")


def test_what_is_there_is_what_to_try(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my houses.csv").write_text(HOUSES)
    make(tmp_path, *(f"photos/{name}/1.JPG" for name in ("apple", "plum")), f"hannet-models/houses/{PARTS[0]}")
    (fit, train, predict) = commands(Path())
    assert shlex.split(fit) == ["hannet", "fit", "my houses.csv", "--target", "price in EUR"]
    assert train == "hannet train images photos"
    assert predict == "hannet predict hannet-models/houses NEW.csv"


def test_pictures_beside_models_and_records_are_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = (f"hannet-models/{name}/{file}" for name in "ab" for file in ("report.png", "report.json", PARTS[0]))
    make(tmp_path, *models, *(f"hannet-results/{name}/{file}" for name in "ab" for file in ("x.png", "records.jsonl")))
    assert commands(Path())[:2] == ["hannet predict hannet-models/a NEW.csv", "hannet report hannet-models/a --open"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"\xef\xbb\xbfx,y\n1,2\n", "a.csv --target y"),
        ("a.CSV", b"1,2,0.5\n1,2,0.5\n", "a.CSV --no-header --target c2"),
        ("a.tsv", b"x, 1\ty\n1\t2\n", "a.tsv --target y"),
        ("a.csv.gz", gzip.compress(b"x,y\n1,2\n", mtime=0), "a.csv.gz --target y"),
        ("-a.csv", b"x,-y\n1,2\n", "./-a.csv --target=-y"),
    ],
)
def test_the_column_is_one_of_the_table(tmp_path, monkeypatch, name, content, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert commands(Path())[0] == f"hannet fit {expected}"


def test_the_column_of_a_parquet_file(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    pandas.DataFrame({"x": [1], "y": [2]}).to_parquet("a.parquet")
    assert commands(Path())[0] == "hannet fit a.parquet --target y"


@pytest.mark.parametrize("parts", [(), ("Train/", "valid/")], ids=["classes", "parts"])
def test_the_folder_can_be_trained_on(photos, monkeypatch, parts):
    monkeypatch.chdir(photos.parent)
    if parts:
        for part in parts:
            make(photos.parent, *(f"parts/{part}{name}/1.png" for name in ("apples", "limes")))
        (photos.parent / "photos").rename(photos.parent / ".photos")
    assert commands(Path())[0] == f"hannet train images {'parts' if parts else 'photos'}"
    if not parts:
        assert len(folder(photos, size=8).classes) == 3
        monkeypatch.chdir(photos)
        assert commands(Path())[0] == "hannet train images ."


def test_a_classifier_of_images(tmp_path, monkeypatch):
    make(tmp_path, FILE)
    monkeypatch.chdir(tmp_path)
    assert commands(Path())[0] == "hannet predict . IMAGE.png"
    assert {start.TABLE_MODEL} < {*PARTS}
    assert start.IMAGE_MODEL == FILE
    assert ".png" in IMAGE_SUFFIXES


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"x\n1\n", b"x,y\n", b"\x00\xff\x00,\n1", b"a," + b"x" * 200_000, b'"a,b\n1,2']
)
def test_no_table_is_passed_over(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "a.parquet", "a.csv.gz"):
        (tmp_path / name).write_bytes(content)
    assert commands(Path()) == [command for command, _ in start.FALLBACKS]


def test_odd_folders_are_no_fault(tmp_path, monkeypatch, hannet):
    general = [command for command, _ in start.FALLBACKS]
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.csv")  # reading it would wait for ever
    Path("link.csv").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    (tmp_path / "locked").mkdir(mode=0)
    (tmp_path / os.fsdecode(b"\xff.csv")).write_text(HOUSES)
    assert commands(Path()) == general
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert hannet()[::2] == (0, "")


def test_of_many_files_a_few_are_looked_at(tmp_path, monkeypatch):
    make(tmp_path, *(f"{number:04}.csv" for number in range(3 * start.MAX_ENTRIES)))
    for number in range(30):
        (tmp_path / f"folder{number}").mkdir()
    opened = []
    monkeypatch.setattr(start, "_columns", lambda path: opened.append(path) or [])
    start.suggest(tmp_path)
    assert len(opened) == start.MAX_FOLDERS
    assert sum(map(len, start._contents(tmp_path))) <= start.MAX_ENTRIES


def test_a_terminal_without_the_letters_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("x,größe\n1,2\n", encoding="utf-8")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    start.show_start()
    assert b"--target 'gr??e'" in raw.getvalue()
