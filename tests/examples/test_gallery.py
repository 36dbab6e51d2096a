"""Each script of the gallery draws its picture, is short, and stands on the gallery's page with a small copy of the picture."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if not path.name.startswith("_"))
PAGE = (ROOT / "docs" / "gallery.md").read_text()
PNG, SVG = b"\x89PNG\r\n", b"<?xml"


def run(script, picture, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    monkeypatch.setattr(sys, "argv", [str(script), str(picture), "--quick"])
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.delenv("HANNET_DATA", raising=False)
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_the_script_draws_its_picture(script, tmp_path, monkeypatch):
    run(script, tmp_path / "new" / "picture.png", monkeypatch)
    assert (tmp_path / "new" / "picture.png").read_bytes().startswith(PNG)
    assert (tmp_path / "new" / "picture.svg").read_bytes().startswith(SVG)


@pytest.mark.slow
def test_a_script_runs_from_any_folder_and_draws_where_it_is(tmp_path):
    example = tmp_path / "examples"
    example.mkdir()
    for name in ("_gallery.py", "one_bit.py"):
        (example / name).write_text((ROOT / "examples" / name).read_text())
    subprocess.run([sys.executable, "examples/one_bit.py", "--quick"], cwd=tmp_path, check=True, capture_output=True)
    assert {path.name for path in (example / "output").iterdir()} == {"one_bit.png", "one_bit.svg"}


def test_there_are_ten():
    assert len(EXAMPLES) == 10


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_the_script_is_short(script):
    assert len(script.read_text().splitlines()) < 60


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_the_page_shows_picture_and_code(script):
    assert re.search(rf"^!\[.+\]\(gallery/{script.stem}\.png\)$", PAGE, re.MULTILINE)
    assert f"\n[`examples/{script.name}`](../examples/{script.name})\n" in PAGE
    picture = (ROOT / "docs" / "gallery" / f"{script.stem}.png").read_bytes()
    assert picture.startswith(PNG)
    assert len(picture) < 100_000


def test_every_picture_is_shown():
    assert {path.stem for path in (ROOT / "docs" / "gallery").iterdir()} == {path.stem for path in EXAMPLES}
