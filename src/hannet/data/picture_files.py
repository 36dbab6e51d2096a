"""Which files of a folder are pictures to train on: its layouts, its links, and what operating systems leave in it."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import IMAGE_SUFFIXES, UNREAD_SUFFIXES, DataError, reading

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing")
VALIDATION_NAMES = ("val", "valid", "validation", "dev")

_PICTURES = IMAGE_SUFFIXES | UNREAD_SUFFIXES
_LEFTOVERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
)


def is_leftover(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or left by an operating system, a NAS or an archiver.

    >>> [name for name in ("__MACOSX", "._cat.jpg", "Thumbs.db", "cat.jpg") if not is_leftover(name)]
    ['cat.jpg']
    """
    return name.startswith(".") or name.lower() in _LEFTOVERS


def is_picture(path: Path) -> bool:
    """Whether a file has the suffix of a picture, also of those that are named because they need another package."""
    return path.suffix.lower() in _PICTURES


@dataclass
class Found:
    """The pictures below a path by class, and what was passed over: links out of it, files by suffix, what systems left."""

    path: Path
    classes: dict[str, list[Path]] = field(default_factory=dict)
    links: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    leftovers: int = 0
    subfolders: int = 0

    @property
    def kinds(self) -> str:
        """The files that are no pictures, by suffix."""
        return ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in self.others.most_common(5))

    def notes(self) -> list[str]:
        """What to say beside a result."""
        said = {
            f"{self.others.total():,} left out that is no picture ({self.kinds})": self.others,
            f"{self.leftovers:,} hidden or left by an operating system, passed over": self.leftovers,
            f"pictures of {self.subfolders:,} folders inside classes count for their class": self.subfolders,
        }
        return [note for note, count in said.items() if count]


class _Walk:
    """A walk through a folder, which leaves it by a link only if links are followed, and never goes round in a circle."""

    def __init__(self, root: Path, *, follow_links: bool):
        self.top, self.follow_links = Path(os.path.realpath(root)), follow_links
        self.found = Found(root)

    def entries(self, path: Path) -> list[Path]:
        """What is in a folder and counts, by name; the rest is counted."""
        kept = []
        with reading(path):
            inside = sorted(path.iterdir())
        for entry in inside:
            if is_leftover(entry.name):
                self.found.leftovers += 1
            elif not self.follow_links and not Path(os.path.realpath(entry)).is_relative_to(self.top):
                self.found.links.append(entry)
            else:
                kept.append(entry)
        return kept

    def folders(self, path: Path) -> list[Path]:
        """The folders in a folder."""
        inside = []
        for entry in self.entries(path):
            if entry.is_dir():
                inside.append(entry)
            else:
                self.found.others[entry.suffix.lower()] += 1
        return inside

    def pictures(self, path: Path, seen: frozenset[str] = frozenset()) -> Iterator[Path]:
        """The pictures in a folder and in those inside it; seen: the folders around it, to which a link may lead back."""
        seen |= {os.path.realpath(path)}
        for entry in self.entries(path):
            if entry.is_dir():
                if os.path.realpath(entry) not in seen:
                    inside = list(self.pictures(entry, seen))
                    self.found.subfolders += bool(inside)
                    yield from inside
            elif is_picture(entry) and entry.is_file():
                yield entry
            else:
                self.found.others[entry.suffix.lower()] += 1


def find(path: Path, *, follow_links: bool = False) -> tuple[dict[str, Found], Found]:
    """The pictures of each part, "train", "test" and "validation", or of "all" where the folder has no parts; and their sum.

    Parts are folders of classes, or folders in each class; the folder may be the only one in another. Raises DataError for links
    out of it, unless they are followed, for parts with unlike classes, and for classes without pictures.
    """
    path = _descend(path)
    parts, beside = _find_parts(path, follow_links=follow_links)
    walked = Found(path)
    for part in (beside, *parts.values()):
        walked.links += part.links
        walked.others += part.others
        walked.leftovers += part.leftovers
        walked.subfolders += part.subfolders
    if links := list(dict.fromkeys(walked.links)):
        names = ", ".join(str(link.relative_to(path)) for link in links[:3])
        more = f" and {len(links) - 3:,} more" if len(links) > 3 else ""
        fault = f"{len(links):,} link{'s lead' if len(links) > 1 else ' leads'} out of the folder, {names}{more}"
        raise DataError(f"{path}: {fault}: --follow-links follows them")
    _require_classes(parts)
    return parts, walked


def _descend(path: Path, stop: Sequence[str] = TRAIN_NAMES) -> Path:
    """The folder itself, or the one that archivers put inside it: the only one there, with folders in it, and not called so."""
    while True:
        inside = [entry for entry in _visible(path) if not entry.is_symlink()]
        folders = [entry for entry in inside if entry.is_dir()]
        if len(folders) != 1 or any(map(is_picture, inside)) or folders[0].name.lower() in stop:
            return path
        below = _visible(folders[0])
        if any(map(is_picture, below)) or not any(entry.is_dir() for entry in below):
            return path
        path = folders[0]


def _visible(path: Path) -> list[Path]:
    with reading(path):
        return [entry for entry in path.iterdir() if not is_leftover(entry.name)]


def _find_parts(path: Path, *, follow_links: bool) -> tuple[dict[str, Found], Found]:
    """The parts, and what was passed over beside them."""
    walk = _Walk(path, follow_links=follow_links)
    folders = walk.folders(path)
    if parts := part_folders(folders):
        below = {part: _classes_below(path, _descend(folder, ()), follow_links) for part, folder in parts.items()}
        return below, walk.found
    inner = {entry.name: part_folders(_visible(entry)) for entry in folders}
    if len(inner) > 1 and all(inner.values()):
        every = dict.fromkeys(part for folders_of_class in inner.values() for part in folders_of_class)
        return {part: _parts_of_classes(path, inner, part, follow_links) for part in every}, walk.found
    if any(entry.name.lower() in TRAIN_NAMES and _holds_classes(entry) for entry in folders):
        raise DataError(f"{path}: has a folder train, but neither test nor val beside it")
    return {"all": _pictures_of(walk, {entry.name: entry for entry in folders})}, Found(path)


def part_folders(folders: Iterable[Path]) -> dict[str, Path]:
    """Which of the folders hold the parts of a data set: those to train and to test on, if both are there, and a third one.

    Where there are two, what is called val tests. Raises DataError for two of one meaning.
    """
    known = {"train": TRAIN_NAMES, "test": TEST_NAMES, "validation": VALIDATION_NAMES}
    folders = [folder for folder in folders if folder.is_dir()]
    named = {part: [one for one in folders if one.name.lower() in names] for part, names in known.items()}
    if not named["train"] or not (named["test"] or named["validation"]):
        return {}
    for same in named.values():
        if len(same) > 1:
            both = " and ".join(sorted(folder.name for folder in same))
            raise DataError(f"{same[0].parent}: has the folders {both}, of which one is enough")
    found = {part: same[0] for part, same in named.items() if same}
    return found if "test" in found else {"train": found["train"], "test": found["validation"]}


def _holds_classes(path: Path) -> bool:
    """Whether there are folders in a folder, and no pictures beside them."""
    inside = _visible(path)
    return any(entry.is_dir() for entry in inside) and not any(map(is_picture, inside))


def _classes_below(root: Path, path: Path, follow_links: bool) -> Found:
    walk = _Walk(root, follow_links=follow_links)
    walk.found.path = path
    return _pictures_of(walk, {entry.name: entry for entry in walk.folders(path)})


def _parts_of_classes(root: Path, inner: Mapping[str, Mapping[str, Path]], part: str, follow_links: bool) -> Found:
    walk = _Walk(root, follow_links=follow_links)
    return _pictures_of(walk, {name: folders[part] for name, folders in inner.items() if part in folders})


def _pictures_of(walk: _Walk, folders: Mapping[str, Path]) -> Found:
    for name, folder in folders.items():
        if name.encode(errors="replace").decode() != name:  # bytes that are no text
            raise DataError(f"{folder.parent}: the name of a class must be text in UTF-8, got {name!r}")
        walk.found.classes[name] = list(walk.pictures(folder))
    return walk.found


def _require_classes(parts: Mapping[str, Found]) -> None:
    """All parts have the classes of the first, two or more, none of them empty."""
    first, *others = parts.values()
    if len(first.classes) < 2:
        what = f"only one class, {next(iter(first.classes))}" if first.classes else "no folders of classes"
        raise DataError(f"{first.path}: holds {what}, but a classifier needs at least two folders of pictures")
    least = 1 if others else 2
    for name, files in first.classes.items():
        if len(files) < least:
            count = "1 picture, but needs two" if files else f"no pictures{', but needs two' * (not others)}"
            there = f"; left out there and elsewhere: {first.kinds}" if first.others else ""
            raise DataError(f"{first.path}: the class {name} has {count}{there}")
    for part in others:
        if unknown := [name for name in part.classes if name not in first.classes]:
            raise DataError(f"{part.path}: the class {unknown[0]} is not one of those in {first.path}")
        if missing := [name for name in first.classes if not part.classes.get(name)]:
            raise DataError(f"{part.path}: the class {missing[0]} has no pictures")


def list_pictures(path: Path) -> tuple[list[Path], int, Found]:
    """The pictures right inside a folder, wherever links lead; how many folders are there, not looked into; what was passed over."""
    walk = _Walk(path, follow_links=True)
    pictures, folders = [], 0
    for entry in walk.entries(path):
        if entry.is_dir():
            folders += 1
        elif is_picture(entry) and entry.is_file():
            pictures.append(entry)
        else:
            walk.found.others[entry.suffix.lower()] += 1
    return pictures, folders, walk.found
