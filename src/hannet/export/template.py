"""Files that exports write, with places for what a model says."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_FOLDER = Path(__file__).parent / "templates"


def fill(file: str, values: Mapping[str, str]) -> str:
    """The text of a file in `templates`, with a value in place of each @KEY@; values are not searched themselves."""
    from .. import __version__

    known = {**values, "VERSION": __version__}
    text = (_FOLDER / file).read_text(encoding="utf-8")
    return re.sub("@([A-Z]+)@", lambda found: known[found[1]], text)


def swap(text: str, *changes: tuple[str, str]) -> str:
    """The text with each old part, which stands there once, replaced by a new one. Raises ValueError if it does not."""
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands there {text.count(old)} times, not once")
        text = text.replace(old, new)
    return text


def files(folder: str) -> Iterator[str]:
    """Names of the files in a folder of `templates`, and in those within it."""
    paths = sorted(path for path in (_FOLDER / folder).rglob("*") if path.is_file())
    return (path.relative_to(_FOLDER / folder).as_posix() for path in paths)
