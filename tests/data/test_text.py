import pytest

from hannet.data import DataError
from hannet.data.text import shakespeare


def test_another_text_in_its_place_is_refused(tmp_path, monkeypatch):
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("To be")
    monkeypatch.setenv("HANNET_DATA", str(tmp_path))
    with pytest.raises(DataError, match="SHA-256"):
        shakespeare()


def test_the_text_that_is_there(monkeypatch):
    try:
        text = shakespeare()
    except DataError:
        pytest.skip("the text is neither here nor can it be downloaded")
    assert (len(text), len(set(text))) == (1_115_394, 65)
    assert text.startswith("First Citizen:")
