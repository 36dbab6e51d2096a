import pytest

from hannet.export import template


def test_values_are_not_searched_for_places(tmp_path, monkeypatch):
    monkeypatch.setattr(template, "_FOLDER", tmp_path)
    (tmp_path / "file").write_text("@A@ @B@ @media")
    assert template.fill("file", {"A": "@B@", "B": "b@"}) == "@B@ b@ @media"


def test_files_of_folders_within():
    assert {"README.md", "zephyr/module.yml"} <= set(template.files("c"))


def test_what_is_swapped_stands_there_once():
    assert template.swap("a b c", ("b", "x"), ("x c", "y")) == "a y"
    for text in ("a", "b b"):
        with pytest.raises(ValueError, match=r"'b' stands there [02] times, not once"):
            template.swap(text, ("b", "x"))
