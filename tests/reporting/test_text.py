from html import escape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hannet.reporting.text import escape_markdown, one_line, printable, without_formula

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


@given(st.text("ab |*_`<>&![]()~#$@:/.\\'\"{}+-=1;\x1b"))
@example("![x](http://a.b/c.png) [y](z) <img src=x> &lt; \\` `code` *a* __b__ ~~c~~ | d")
def test_markdown_shows_a_name_as_it_is_also_in_a_table(text):
    shown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    known = escape(printable(one_line(text))).replace("&#x27;", "'")
    written = escape_markdown(text)
    assert shown.render(f"a{written}b") == f"<p>a{known}b</p>\n"
    assert f"<td>a{known}b</td>" in shown.render(f"| x | y |\n| --- | --- |\n| a{written}b | c |\n")


@pytest.mark.parametrize("text", ["http://a.b", "HTTPS://a.b", "www.a.b", "WWW.a.b", "me@a.b"])
def test_an_address_in_a_name_becomes_no_link(text):
    assert text not in escape_markdown(text)


def test_what_reads_well_without_markdown_stays():
    text = "warning: column 'price (in €)' alone predicts 'sold?' nearly perfectly (99.9%); --drop it"
    assert escape_markdown(text) == text
