import os
import sys
from pathlib import Path

import pytest

from hannet.storage import model_dir
from hannet.storage.files import StoreError
from hannet.storage.model_dir import replace_folder, require_free, reserve


def fill(folder, text):
    folder.mkdir()
    (folder / "part").write_text(text)


@pytest.fixture(params=[True, False], ids=["exchanged", "renamed twice"])
def exchange(request, monkeypatch):
    """With and without a system that lets two folders change places at one instant."""
    if not request.param:
        monkeypatch.setattr(model_dir, "_exchange", lambda *_: False)


def test_a_folder_takes_the_place_of_another_whole(tmp_path, exchange):
    for text in ("one", "two"):
        with replace_folder(tmp_path / "net") as temp_path:
            fill(temp_path, text)
        assert (tmp_path / "net" / "part").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize(("fault", "seen"), [(OSError("no"), StoreError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, fault, seen):
    fill(tmp_path / "net", "one")

    def interrupted():
        with replace_folder(tmp_path / "net") as temp_path:
            fill(temp_path, "two")
            raise fault

    with pytest.raises(seen):
        interrupted()
    assert (tmp_path / "net" / "part").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs renameat2")
def test_there_is_no_moment_without_a_folder(tmp_path, monkeypatch):
    fill(tmp_path / "net", "one")
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("two steps, between which a kill would leave no folder"))
    with replace_folder(tmp_path / "net") as temp_path:
        fill(temp_path, "two")
    assert (tmp_path / "net" / "part").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize("there", [True, False])
def test_the_next_training_puts_right_what_a_killed_one_left(tmp_path, there):
    if there:
        fill(tmp_path / "net", "one")
    fill(tmp_path / ".net.123.old", "old")
    fill(tmp_path / ".net.123", "half")
    fill(tmp_path / ".net.probe-a_b1", "")
    for other in (".net.unfinished", ".net.x.123", ".other.123", "net.123"):
        fill(tmp_path / other, "another's")
    with reserve(tmp_path / "net", ("part",), (), force=True):
        assert (tmp_path / "net" / "part").read_text() == ("one" if there else "old")
    expected = {"net", ".net.unfinished", ".net.x.123", ".other.123", "net.123"}
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_nobody_can_put_a_link_where_a_folder_is_made(tmp_path):
    (tmp_path / "theirs").mkdir()
    private = tmp_path / f".net.{os.getpid()}"
    private.symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match="File exists"), replace_folder(tmp_path / "net") as temp_path:
        fill(temp_path, "one")
    assert not list((tmp_path / "theirs").iterdir())
    private.unlink()
    with replace_folder(tmp_path / "net") as temp_path:
        assert private.stat().st_mode & 0o077 == 0
        fill(temp_path, "one")
    fill(tmp_path / "usual", "one")
    assert (tmp_path / "net").stat().st_mode == (
        tmp_path / "usual"
    ).stat().st_mode  # only what was around it was closed


def test_only_a_whole_model_is_replaced_and_only_by_force(tmp_path):
    names = (("part",), ("beside",))
    require_free(tmp_path / "deep" / "net", *names, force=False)
    fill(tmp_path / "net", "one")
    require_free(tmp_path / "net", *names, force=True)
    with pytest.raises(StoreError, match="--force replaces it"):
        require_free(tmp_path / "net", *names, force=False)
    (tmp_path / "net" / "beside").touch()
    require_free(tmp_path / "net", *names, force=True)
    (tmp_path / "net" / "notes.txt").touch()
    with pytest.raises(StoreError, match="no model's"):
        require_free(tmp_path / "net", *names, force=True)
    with pytest.raises(StoreError, match="Not a directory"):
        require_free(tmp_path / "net" / "notes.txt", *names, force=True)
