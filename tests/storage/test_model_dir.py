import pytest

from hannet.storage.files import StoreError
from hannet.storage.model_dir import replace_folder, require_free


def fill(folder, text):
    folder.mkdir()
    (folder / "part").write_text(text)


def test_a_folder_takes_the_place_of_another_whole(tmp_path):
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
