import pytest

from hannet.reporting.text import printable, without_formula

UNSAFE = {
    "\x1b[31mred": "\\x1b[31mred",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x9b2J": "\\x9b2J",
    "a\rb\x08c\x7f": "a\\rb\\x08c\\x7f",
    "photo\u202egpj.exe": "photo\\u202egpj.exe",
    "a\u2028b\ufeff": "a\\u2028b\\ufeff",
    "\udcff": "\\udcff",
}


@pytest.mark.parametrize("text", UNSAFE)
def test_what_would_steer_a_terminal_is_written_out(text):
    assert printable(text) == UNSAFE[text]


@pytest.mark.parametrize("text", ["plain", "two\nlines\tand a tab", "Größe, 大小, حجم", "👩\u200d🔬", "می\u200cخواهم"])
def test_what_people_write_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize("cell", ["=1+1", "=cmd|' /C calc'!A0", "+SUM(A1)", "-A1", "@x", "\t=1", "\r=1", "＝1"])
def test_a_formula_begins_with_an_apostrophe(cell):
    assert without_formula(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "a=b", "-2.5", "+3", "-1e-3", "-inf", "12"])
def test_numbers_and_words_stay(cell):
    assert without_formula(cell) == cell
