"""The data sets that have a name, as catalog.toml lists them: publishers, terms, files and checksums."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .download import Archive, File, Source

Part = Literal["train", "test"]

_CATALOG = tomllib.loads(Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class TableSource(Source):
    """A table: its columns beside the last one, the target."""

    features: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many features a row has."""
        return (len(self.features),)


@dataclass(frozen=True, kw_only=True)
class ImageSource(Source):
    """Images of one size, (channels, height, width).

    files: first training_files to train on, then those to test on; counts: images to train on and to test on.
    """

    size: tuple[int, int, int]
    counts: tuple[int, int]
    training_files: int
    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The channels, height and width of an image."""
        return self.size

    def part(self, part: Part) -> tuple[tuple[File, ...], int]:
        """The files of a part, and how many images they hold."""
        if part == "train":
            return self.files[: self.training_files], self.counts[0]
        return self.files[self.training_files :], self.counts[1]


def _with_tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _file(path: str, url: str, checksum: str, archive: Archive | None = None) -> File:
    folder, _, name = path.rpartition("/")
    return File(folder, name, url, checksum, archive)


def _unpacked(archive: Mapping[str, Any]) -> list[File]:
    """The files of an archive. Those whose sizes are not listed are not taken out of it by us."""
    options = {key: value for key, value in archive.items() if key != "members"}
    sizes = tuple((member["path"], member["size"]) for member in archive["members"] if "size" in member)
    packed = Archive(members=sizes, **options)
    return [_file(member["path"], packed.url, member["checksum"], packed) for member in archive["members"]]


def table_sources() -> dict[str, TableSource]:
    """The paper's tables by name."""
    found = {}
    for name, entry in _CATALOG["regression"].items():
        facts = _with_tuples(entry)
        file = _file(f"regression/{name}.csv", facts.pop("url"), facts.pop("checksum"))
        found[name] = TableSource(name=name, files=(file,), **facts)
    return found


def image_sources() -> dict[str, ImageSource]:
    """The named sets of images by name."""
    found = {}
    for name, entry in _CATALOG["images"].items():
        facts = _with_tuples(entry)
        files = [_file(**file) for file in facts.pop("files", ())]
        files += [file for archive in facts.pop("archives", ()) for file in _unpacked(archive)]
        if "numbered_classes" in facts:
            facts["classes"] = tuple(map(str, range(1, facts.pop("numbered_classes") + 1)))
        found[name] = ImageSource(name=name, files=tuple(files), **facts)
    return found
