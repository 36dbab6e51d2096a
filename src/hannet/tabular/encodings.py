"""Which encoding a text has."""

import codecs

from .table import TableError

MARKS = {  # the longer ones first: that of UTF-32 begins as that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
# Those in which tables are met. Of the code pages of DOS only the Cyrillic one: the others look like Windows-1252 in short texts.
USUAL = ("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "mac-roman", "koi8-r", "cp866")
EAST_ASIAN = ("cp932", "euc_jis_2004", "gb18030", "big5hkscs", "cp949")
MAX_EVIDENCE = 100_000  # bytes
PIECE = 2**24  # bytes that are decoded at a time, to be checked


class Decoder:
    """Text of any encoding as UTF-8, piece by piece; notes: on an encoding that had to be guessed.

    Args:
        content: The start of the text, or all of it.
        encoding: Its encoding, if that is known.
        whole: Whether that is all of it.

    Raises:
        TableError: There is no such encoding.
    """

    def __init__(self, content: bytes, encoding: str | None = None, *, whole: bool = True):
        self.encoding, note = (_check(encoding), None) if encoding else detect_encoding(content, whole=whole)
        self.notes = [note] if note else []
        self._decoder = codecs.getincrementaldecoder(self.encoding)("replace" if note else "strict")
        self._begun = False
        marked = self.encoding == "utf-8-sig" and _first_foreign(content, whole=False) is None
        self._checked = not encoding and (marked or self.encoding == "utf-8")

    def decode(self, content: bytes, *, final: bool) -> bytes:
        """The next bytes as UTF-8; raises TableError if they have not the encoding that the user named, or that was found."""
        begun, self._begun = self._begun, True
        try:
            if self._checked and not begun:  # which saves time and memory
                left = _incomplete_end(content)
                self._decoder = codecs.getincrementaldecoder("utf-8")()
                self._decoder.decode(left, final)
                return (content[: -len(left)] if left else content).removeprefix(codecs.BOM_UTF8)
            text = self._decoder.decode(content, final)
        except UnicodeError as error:
            raise TableError(f" is not text in {self.encoding}: {error}") from error
        return (text if begun else text.removeprefix("\ufeff")).encode()


def detect_encoding(content: bytes, *, whole: bool = True) -> tuple[str, str | None]:
    """The encoding of a text, and a note if it had to be guessed; content: its start, or the whole of it."""
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            return encoding, None
    start = content[:MAX_EVIDENCE]
    if start.count(b"\0") > start.count(b"\n") and (wide := _guess(content[: MAX_EVIDENCE // 4 * 4], WIDE)):
        return wide, f"read as {wide.upper()}; --encoding names another encoding"
    place = _first_foreign(content, whole=whole)
    if place is None:
        return "utf-8", None
    lines = content[max(0, place - MAX_EVIDENCE) : place + MAX_EVIDENCE].split(b"\n")
    evidence = b"\n".join(line for line in lines if not line.isascii())[:MAX_EVIDENCE]
    found = _guess(evidence, USUAL + EAST_ASIAN) or "cp1252"
    name = found.replace("cp125", "Windows-125")
    return found, f"not UTF-8: read as {name}, so check letters with accents; --encoding names another encoding"


def _first_foreign(content: bytes, *, whole: bool) -> int | None:
    """About where the first bytes that are not UTF-8 stand; a last character may be cut, unless it is the only one beyond ASCII."""
    if content.isascii():
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(content), PIECE):
        try:
            decoder.decode(content[start : start + PIECE])
        except UnicodeDecodeError as error:
            return start + error.start
    end = len(content) - len(_incomplete_end(content))
    return end if whole and end < len(content) and content[:end].isascii() else None


def _incomplete_end(content: bytes) -> bytes:
    """The bytes of a last character of UTF-8 of which some are missing."""
    end = content[-4:]
    return end[codecs.utf_8_decode(end, "ignore", False)[1] :]


def _check(name: str) -> str:
    """The name; raises TableError if there is no such encoding of text."""
    try:
        b"a".decode(name, errors="replace")
        codecs.getincrementaldecoder(name)()
    except (LookupError, ValueError, UnicodeError) as error:
        raise TableError(
            f": there is no encoding {name!r}; some are utf-8, utf-16, cp1252, mac-roman, cp932"
        ) from error
    return name


def _guess(evidence: bytes, encodings: tuple[str, ...]) -> str | None:
    try:
        import chardet
    except ImportError as error:
        raise TableError(
            ": to read text that is not UTF-8, pip install chardet; or --encoding names the encoding"
        ) from error
    found = chardet.detect_all(evidence, ignore_threshold=True, include_encodings=encodings)
    rates = {codecs.lookup(guess["encoding"]).name: guess["confidence"] for guess in found if guess["encoding"]}
    best = max(rates, key=rates.__getitem__, default=None)
    # In short texts the letters of western Europe pass for those of central Europe, which are met less often.
    return "cp1252" if best == "cp1250" and rates.get("cp1252", 0) > rates[best] / 2 else best
