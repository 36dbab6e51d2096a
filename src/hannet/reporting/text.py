"""Text of others made harmless: in a terminal, in a spreadsheet, and in Markdown."""

import re
import unicodedata

_FORMULAS = (*"=+-@＝＋－＠", "\t", "\r", "\n")
_STAY = "\n\t"
_CONTROLS = (
    "Cc",
    "Cf",
    "Cs",
    "Zl",
    "Zp",
)  # also marks that turn the direction of writing, and so what a name seems to be
_JOINERS = "\u200c\u200d"  # within words of some scripts, and within emoji
_MARKUP = re.compile(r"[\\`*_\[\]<>&|#~$@]|:(?=//)|(?<=www)\.", re.IGNORECASE)  # the last two: addresses become links


def printable(text: str) -> str:
    r"""Text for a terminal, in which it changes nothing: control characters are written as Python writes them.

    >>> print(printable("a\x1b[31mred\x07"))
    a\x1b[31mred\x07
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in _STAY or character in _JOINERS or unicodedata.category(character) not in _CONTROLS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def without_formula(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: what begins like one, and is no number, begins with an apostrophe.

    >>> without_formula("=cmd|' /C calc'!A0"), without_formula("-2.5")
    ("'=cmd|' /C calc'!A0", '-2.5')
    """
    if not cell.startswith(_FORMULAS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def one_line(text: str) -> str:
    r"""Text without line breaks, and with single spaces.

    >>> one_line(" a\n  b")
    'a b'
    """
    return " ".join(text.split())


def escape_markdown(text: str) -> str:
    r"""Text that Markdown shows as it is, in one line: it is no markup, no HTML, no link, and ends no cell of a table.

    >>> print(escape_markdown("a|b\n<script> ![c](http://d)"))
    a\|b \<script\> !\[c\](http\://d)
    """
    return _MARKUP.sub(r"\\\g<0>", printable(one_line(text)))
