import os

import pytest

from hannet.storage.files import StoreError, write_atomic


def test_a_link_in_place_of_the_temporary_file_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for name in (f".report.json.{os.getpid()}", "report.json"):
        (tmp_path / name).symlink_to(victim)
        write_atomic(tmp_path / "report.json", b"new")
        assert (victim.read_bytes(), (tmp_path / "report.json").read_bytes()) == (b"precious", b"new")
        assert not (tmp_path / "report.json").is_symlink()
        (tmp_path / "report.json").unlink()


def test_a_file_that_appears_first_is_one_sentence(tmp_path, monkeypatch):
    """Another's, between the look and the opening."""
    monkeypatch.setattr(type(tmp_path), "unlink", lambda *_, **__: None)
    (tmp_path / f".a.{os.getpid()}").symlink_to(tmp_path / "victim")
    with pytest.raises(StoreError, match="File exists"):
        write_atomic(tmp_path / "a", b"new")
    assert not (tmp_path / "victim").exists()
