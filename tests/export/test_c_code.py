import numpy as np
import pytest

from hannet.export.c_code import comment, literal, quote


@pytest.mark.parametrize("text", ["a*/b\n", "Preis*€", "*\n", "*/", "**//", "/*/", "*\\/", "/\\*", "@/*@*/"])
def test_no_text_ends_or_begins_a_comment(text):
    shown = comment(text)
    assert "*/" not in shown
    assert "/*" not in shown
    assert not {"\\", "@", "\n"} & {*shown}
    assert shown.isascii()


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1 / 3, 1e-45, 3.4e38, 123456789.0])
def test_literals_read_back_exactly(value):
    text = literal(np.float32(value))
    assert text.endswith("f")
    assert np.float32(text[:-1]) == np.float32(value)


def test_texts_cannot_leave_strings():
    assert quote('a"\\?@ü') == '"a\\042\\134\\077\\100\\303\\274"'
