"""Reports as one HTML page that needs no other file: nothing is fetched, it is light or dark as the reader's system, and prints."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..storage.files import write_atomic
from .tables import Table, format_cells
from .text import printable

if TYPE_CHECKING:
    from jinja2 import Template

FILE = "report.html"
MAX_PICTURE = 200_000  # bytes of a picture as it is; a larger one is recompressed
MAX_WIDTH = 1400  # pixels of one that is


class ReportError(RuntimeError):
    """A folder of which there is no report; the message is one sentence for the user."""


@dataclass(frozen=True)
class Picture:
    """A picture within a page. about: what a person who does not see it is told; form: svg+xml, png or webp."""

    about: str
    content: bytes
    form: str

    @property
    def address(self) -> str:
        """The picture itself, as the address of an image; a browser runs no script in it."""
        return f"data:image/{self.form};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Bar:
    """A line of a bar chart. value: of which the largest fills the width; text: how it is written, with its spread."""

    label: str
    value: float
    text: str


@dataclass(frozen=True)
class Section:
    """A part of a page, shown in this order. A table without a title is what the title of the section says.

    bar_headings: of what has the bars, and of their values; facts: values by their names; code: to copy; links: paths beside the
    page by what they are.
    """

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    bars: Sequence[Bar] = ()
    bar_headings: tuple[str, str] = ("", "")
    facts: Mapping[str, str] = field(default_factory=dict)
    code: Sequence[str] = ()
    notes: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A report. result: a few characters, such as a percentage; about: what it is, its interval, what it is compared with."""

    title: str
    result: str
    about: Sequence[str]
    sections: Sequence[Section]

    def render(self) -> str:
        """The page; all that it shows is escaped."""
        return _template().render(page=self)

    def save(self, folder: Path) -> Path:
        """Write report.html into a folder that exists. Raises StoreError."""
        path = folder / FILE
        write_atomic(path, self.render().encode())
        return path


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("hannet", "reporting")
    shown = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown.finalize = _visible
    shown.filters |= {"cells": format_cells, "relative": _relative}
    return shown.get_template("page.html.j2")


def _visible(value: Any) -> Any:
    """Text in which no control character is left, which a page may not hold."""
    return printable(value) if type(value) is str else value


def _relative(path: str) -> str:
    """The address of a file beside the page."""
    return "./" + quote(path, errors="replace")


def picture(
    about: str, files: Mapping[str, bytes], stem: str, limit: int = MAX_PICTURE, width: int = MAX_WIDTH
) -> Picture | None:
    """The picture STEM.svg or STEM.png of these files, in the form that fits a page; None if there is none.

    limit: bytes of a picture as it is; width: pixels of one that is recompressed.

    >>> picture("dots", {"dots.svg": b"<svg/>"}, "dots").form
    'svg+xml'
    """
    drawn, pixels = files.get(f"{stem}.svg"), files.get(f"{stem}.png")
    if drawn and (len(drawn) <= limit or not pixels):
        return Picture(about, drawn, "svg+xml")
    if not pixels:
        return None
    smaller = _recompressed(pixels, width)
    return Picture(about, smaller, "webp") if smaller else Picture(about, pixels, "png")


def _recompressed(png: bytes, width: int) -> bytes | None:
    """The picture as WebP, no wider than that; None if that is no smaller, or Pillow cannot."""
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.thumbnail((width, 4 * width))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "WEBP", quality=80, method=6)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return buffer.getvalue() if buffer.tell() < len(png) else None


def read_pictures(folder: Path, *stems: str) -> dict[str, bytes]:
    """The files STEM.svg and STEM.png of a folder, by name. Raises ReportError for one that cannot be read."""
    paths = [folder / f"{stem}.{form}" for stem in stems for form in ("svg", "png")]
    try:
        return {path.name: path.read_bytes() for path in paths if path.is_file()}
    except OSError as error:
        raise ReportError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error
