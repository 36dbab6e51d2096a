"""A user's folder of pictures, a folder for each class."""

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from . import BrokenPicturesError, DataError, Images, PixelRange, ProgressCallback
from .catalog import Part
from .memory import free_bytes, require_free
from .picture_files import find
from .pictures import Depth, Opened, describe_range, learn_range, open_picture, render, require_size

LEARN: Final = "learn"  # the range of deep pictures, from those that train
NAMED = 3  # broken pictures in a sentence

_HELD_OUT = 5  # one in so many pictures of a class tests
_SEED = 0
_SIZES = (256, 224, 192, 160, 128, 96, 64, 48, 32, 24, 16, 8)  # to suggest where memory is short


@dataclass(frozen=True)
class Options:
    """How a folder is read.

    Args:
        size: Pixels that its pictures become.
        follow_links: Whether links that lead out of the folder count; else they are an error.
        skip_broken: The largest share of broken pictures that are left out; none by default.
        pixel_range: What becomes black and white of pictures of more than 8 bits a channel; None for the upper 8 of 16 bits.
        bytes_per_value: Memory that a channel of a pixel will take in all, for which there must be room.
        on_progress: Called with pictures done and pictures to do.
    """

    size: int
    follow_links: bool = False
    skip_broken: float = 0.0
    pixel_range: PixelRange | Literal["learn"] | None = LEARN
    bytes_per_value: int = 1
    on_progress: ProgressCallback | None = None

    def __post_init__(self) -> None:
        require_size(self.size)
        if not 0 <= self.skip_broken <= 1:
            raise ValueError(f"skip_broken must be a share from 0 to 1, got {self.skip_broken}")


class FolderParts(NamedTuple):
    """The pictures of a folder. validation: None unless it has a part for that beside one to test on."""

    training: Images
    test: Images
    validation: Images | None


def folder(
    path: str | Path,
    size: int,
    part: Part = "train",
    on_progress: ProgressCallback | None = None,
    *,
    follow_links: bool = False,
    skip_broken: float = 0.0,
    pixel_range: PixelRange | Literal["learn"] | None = LEARN,
) -> Images:
    """The pictures of a folder of class folders, (3, size, size) as `picture` makes them; classes are in the order of names.

    Either PATH/train/CLASS/*.jpg with PATH/test or PATH/val beside it, or PATH/CLASS/*.jpg, of which one in five pictures of
    each class, always the same ones, tests; in folders inside a class too. Notes count what is passed over. Other arguments:
    see Options. Raises ValueError for a size below 1 or an unknown part, DataError for fewer than two classes, an empty class,
    or too little memory, BrokenPicturesError for pictures that are broken.
    """
    if part not in ("train", "test"):
        raise ValueError(f'part must be "train" or "test", got {part!r}')
    options = Options(size, follow_links, skip_broken, pixel_range, on_progress=on_progress)
    files, notes = _find(Path(path), options)
    return _Reader(Path(path), options).read({part: files[part]}, files["train"], notes)[part]


def read_parts(path: str | Path, options: Options) -> FolderParts:
    """All parts of a folder at once, so that everything at fault is said at once. Raises as `folder` does."""
    files, notes = _find(Path(path), options)
    found = _Reader(Path(path), options).read(files, files["train"], notes)
    return FolderParts(found["train"], found["test"], found.get("validation"))


_Files = Mapping[str, Sequence[Path]]  # of a class


def _find(path: Path, options: Options) -> tuple[dict[str, _Files], list[str]]:
    """The pictures of each part, and notes on what was passed over."""
    if not path.is_dir():
        raise DataError(f"{path} {'is not a folder' if path.exists() else 'does not exist'}")
    parts, walked = find(path, follow_links=options.follow_links)
    if "all" not in parts:
        return {part: found.classes for part, found in parts.items()}, walked.notes()
    halves = {name: _split(files) for name, files in parts["all"].classes.items()}
    training, test = ({name: half[place] for name, half in halves.items()} for place in (0, 1))
    return {"train": training, "test": test}, walked.notes()


def _split(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Those that train, those that test."""
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(_SEED), device="cpu").tolist()
    test = set(order[: max(1, len(files) // _HELD_OUT)])
    return [file for position, file in enumerate(files) if position not in test], [files[i] for i in sorted(test)]


def _flat(classes: _Files) -> list[Path]:
    return [file for files in classes.values() for file in files]


@dataclass
class _Seen:
    """What was found out about pictures while they were decoded, by their positions."""

    faults: dict[int, str] = field(default_factory=dict)
    deep: dict[int, Depth] = field(default_factory=dict)
    animated: set[int] = field(default_factory=set)
    halved: set[int] = field(default_factory=set)

    def add(self, position: int, opened: Opened) -> None:
        """Keep what is to be said of a picture."""
        if opened.depth:
            self.deep[position] = opened.depth
        if opened.animated:
            self.animated.add(position)
        if opened.halved:
            self.halved.add(position)

    def notes(self, total: int, pixel_range: PixelRange | None) -> list[str]:
        """What to say beside a result."""
        said = {
            f"{len(self.animated):,} with several frames or pages: the first counts": self.animated,
            f"{len(self.halved):,} with 16 bits a channel, of which only the upper 8 can be read": self.halved,
            describe_range(tuple(self.deep.values()), total - len(self.deep), pixel_range): self.deep,
        }
        return [note for note, places in said.items() if places]


class _Reader:
    """Decodes the pictures of a folder, several at once."""

    def __init__(self, path: Path, options: Options):
        self.path, self.options = path, options

    def read(self, parts: Mapping[str, _Files], training: _Files, notes: Sequence[str]) -> dict[str, Images]:
        """The images of each part; training: whose range counts. notes: the first part has them, and those of what is found here."""
        files = [file for classes in parts.values() for file in _flat(classes)]
        self._require_memory(len(files))
        try:
            x = torch.empty(len(files), 3, self.options.size, self.options.size, dtype=torch.uint8, device="cpu")
        except RuntimeError as error:  # the allocator's
            raise DataError(f"{self._count(len(files))} do not fit into memory") from error
        seen, pixel_range = self._fill(x, files, training)
        self._require_whole(files, seen)
        said = [*notes, *seen.notes(len(files), pixel_range), *_broken_note(files, seen)]
        found: dict[str, Images] = {}
        start = 0
        for part, classes in parts.items():
            count = len(_flat(classes))
            images, y = self._part(part, classes, x[start : start + count], {at - start for at in seen.faults})
            facts = (tuple(said), tuple(seen.faults.values())) if not found else ((), ())
            found[part] = Images(images, y, tuple(classes), *facts, pixel_range)
            start += count
        return found

    def _count(self, pictures: int) -> str:
        return f"{self.path}: {pictures:,} pictures of {self.options.size} x {self.options.size}"

    def _require_memory(self, pictures: int) -> None:
        per_pixel = 3 * pictures * self.options.bytes_per_value
        free = free_bytes()
        fitting = next((size for size in _SIZES if free and per_pixel * size**2 <= free), None)
        hint = f"; --size {fitting} fits" if fitting and fitting < self.options.size else ""
        require_free(per_pixel * self.options.size**2, self._count(pictures), hint)

    def _fill(self, x: Tensor, files: Sequence[Path], training: _Files) -> tuple[_Seen, PixelRange | None]:
        """Decode all pictures into x, deep ones again when it is known what becomes black and white of them."""
        seen, wanted = _Seen(), self.options.pixel_range
        self._decode(files, range(len(files)), seen, x, None if wanted == LEARN else wanted, undecided=wanted == LEARN)
        if wanted != LEARN:
            return seen, wanted
        if not seen.deep:
            return seen, None
        among = set(_flat(training))
        depths = [depth for position, depth in seen.deep.items() if files[position] in among]
        if not among.intersection(files):
            measured = _Seen()
            self._decode(list(among), range(len(among)), measured, None, None)
            depths = list(measured.deep.values())
        pixel_range = learn_range(depths)
        again = [position for position, depth in seen.deep.items() if pixel_range or not depth.bits]
        self._decode(files, again, seen, x, pixel_range)
        return seen, pixel_range

    def _decode(
        self,
        files: Sequence[Path],
        positions: Sequence[int],
        seen: _Seen,
        x: Tensor | None,
        pixel_range: PixelRange | None,
        *,
        undecided: bool = False,
    ) -> None:
        """Decode pictures into their places in x, if it is given; undecided: those whose range is needed stay empty."""
        size, total = self.options.size, len(positions)

        def decode(position: int) -> Opened | DataError:
            try:
                opened = open_picture(files[position], size)
                if x is not None and not (undecided and opened.depth and not opened.depth.bits):
                    x[position] = render(files[position], opened, size, pixel_range)
            except DataError as error:
                return error
            return replace(opened, values=None)  # its pixels go

        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
            try:
                for done, (position, outcome) in enumerate(zip(positions, pool.map(decode, positions), strict=True), 1):
                    if isinstance(outcome, DataError):
                        seen.faults[position] = str(outcome)
                    else:
                        seen.add(position, outcome)
                    if self.options.on_progress and x is not None:
                        self.options.on_progress(done, total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _require_whole(self, files: Sequence[Path], seen: _Seen) -> None:
        """Raises BrokenPicturesError for more broken pictures than may be left out."""
        faults, allowed = tuple(seen.faults[place] for place in sorted(seen.faults)), self.options.skip_broken
        if len(faults) <= allowed * len(files):
            return
        first = "; ".join(faults[:NAMED])
        more = f"; and {len(faults) - NAMED:,} more" if len(faults) > NAMED else ""
        head = f"{len(faults):,} of {len(files):,} pictures cannot be read: " if len(faults) > 1 else ""
        share = f"; more than the share of {allowed:g} that may be left out" if allowed else ""
        raise BrokenPicturesError(f"{head}{first}{more}{share}", faults)

    def _part(self, part: str, classes: _Files, x: Tensor, broken: set[int]) -> tuple[Tensor, Tensor]:
        """Images and labels of a part without its broken pictures, in the same memory."""
        labels = [label for label, files in enumerate(classes.values()) for _ in files]
        kept = [place for place in range(len(labels)) if place not in broken]
        if len(kept) < len(labels):
            for target, place in enumerate(kept):
                x[target] = x[place]
        y = torch.tensor([labels[place] for place in kept], dtype=torch.int64, device="cpu")
        if lost := set(range(len(classes))) - set(y.tolist()):
            name = list(classes)[min(lost)]
            raise DataError(f"{self.path}: of the class {name} no picture of the {part} part can be read")
        return x[: len(kept)], y


def _broken_note(files: Sequence[Path], seen: _Seen) -> list[str]:
    if not seen.faults:
        return []
    broken = sorted(seen.faults)
    names = ", ".join(files[place].name for place in broken[:NAMED])
    more = f" and {len(broken) - NAMED:,} more" if len(broken) > NAMED else ""
    return [f"{len(broken):,} of {len(files):,} pictures left out, which cannot be read: {names}{more}"]
