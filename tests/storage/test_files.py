import os

import pytest

from hannet.storage.files import StoreError, read_json_object, write_atomic


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


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "cannot be read"), ("[1]", "damaged"), ("{", "damaged"), ("[" * 10**5, "damaged"), (b"\xff", "damaged")],
)
def test_what_is_no_json_object_is_one_sentence_of_the_callers_error(tmp_path, content, fault):
    path = tmp_path / "facts.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LookupError, match=rf"facts\.json: {fault}"):
        read_json_object(path, LookupError)
    path.write_text('{"a": 1}')
    assert read_json_object(path, LookupError) == {"a": 1}
