"""`hannet` alone: what it is, and three things to try, chosen by what is in the folder."""

import csv
import gzip
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..data import IMAGE_SUFFIXES
from ..data.picture_files import TRAIN_NAMES, is_leftover

ABOUT = (
    "hannet: small neural networks of Han-layers, y = |H(u) x + b|, for tables and images; and their paper, reproduced."
)
FALLBACKS = (
    ("hannet reproduce figure1", "the paper's first figure"),
    ("hannet data list", "data sets that it can fetch"),
    ("hannet train images mnist", "a classifier of handwritten digits"),
)
TABLE_MODEL, IMAGE_MODEL = "estimator.json", "preprocessing.json"  # what tells the folder of a model
MADE_BY_US = {
    TABLE_MODEL,
    IMAGE_MODEL,
    "config.json",
    "report.json",
    "records.jsonl",
}  # pictures beside them are no data
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
MAX_ENTRIES = 200  # entries of a folder to look at: one of a million files takes no longer
MAX_FOLDERS = 10  # folders to look into
HEAD_BYTES = 64_000  # of a table

Suggestion = tuple[str, str]  # a command, what it does


def show_start() -> None:
    """Print what hannet is and three commands to try."""
    chosen = suggest(Path())
    width = max(len(command) for command, _ in chosen)
    lines = [f"  {command:<{width}}  # {about}" for command, about in chosen]
    text = "\n".join([ABOUT, "", "Three things to try here:", *lines, "", "All commands: hannet --help"])
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


def suggest(folder: Path) -> list[Suggestion]:
    """Three commands to try in a folder; one of each kind that there is something for, then general ones."""
    files, folders = _contents(folder)
    found = (_fit(files), _train(folder, folders), _predict(folder, folders), _report(folder, folders))
    return [*(one for one in found if one), *FALLBACKS][:3]


def _contents(folder: Path) -> tuple[list[Path], list[Path]]:
    """Some of its files and folders, by name; nothing of one that cannot be read, and no names that a terminal cannot show."""
    files, folders = [], []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in islice(entries, MAX_ENTRIES):
            if is_leftover(entry.name) or not entry.name.isprintable():
                continue
            with suppress(OSError):
                if entry.is_dir():
                    folders.append(folder / entry.name)
                elif entry.is_file():  # no pipe, which would be waited for
                    files.append(folder / entry.name)
    return sorted(files), sorted(folders)


def _fit(files: Sequence[Path]) -> Suggestion | None:
    tables = (path for path in files if path.name.lower().endswith(TABLES) and "-predictions." not in path.name)
    for path in islice(tables, MAX_FOLDERS):
        names = _columns(path)
        if len(names) < 2:
            continue
        without = all(map(_is_number, names))
        target = f"c{len(names) - 1}" if without else names[-1].strip()
        options = f"{' --no-header' * without} --target{'=' if target.startswith('-') else ' '}{shlex.quote(target)}"
        return f"hannet fit {_quote(path)}{options}", "learn to predict a column, here the last"
    return None


def _columns(path: Path) -> list[str]:
    """The first line of a table; of Parquet, the names of its columns. Empty if it cannot be read, or the last has no plain name."""
    names: Sequence[str] = ()
    with suppress(ImportError, OSError, ValueError, NotImplementedError, EOFError, csv.Error):
        if path.suffix.lower() == ".parquet":
            from pyarrow.parquet import read_schema

            names = read_schema(path).names
        else:
            with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
                line, *rest = file.read(HEAD_BYTES).decode("utf-8-sig").splitlines()
            delimiter = max("\t;|,", key=line.count)  # of equally many, not the comma, which names contain
            names = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []) if rest else ()
    return [*names] if names and names[-1].strip() and names[-1].isprintable() else []


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _train(here: Path, folders: Sequence[Path]) -> Suggestion | None:
    about = "learn to tell its classes of images apart"
    for folder in folders[:MAX_FOLDERS]:
        inside = _contents(folder)[1]
        training = [part for part in inside if part.name.lower() in TRAIN_NAMES]
        if sum(_holds_images(one) for one in inside[:MAX_FOLDERS]) > 1 or any(map(_has_classes, training)):
            return f"hannet train images {_quote(folder)}", about
    if sum(_holds_images(folder) for folder in folders[:MAX_FOLDERS]) > 1:
        return "hannet train images .", about
    return None


def _has_classes(folder: Path) -> bool:
    return sum(_holds_images(one) for one in _contents(folder)[1][:MAX_FOLDERS]) > 1


def _holds_images(folder: Path) -> bool:
    files = _contents(folder)[0]
    return not MADE_BY_US & {path.name for path in files} and any(
        path.suffix.lower() in IMAGE_SUFFIXES for path in files
    )


def _predict(here: Path, folders: Sequence[Path]) -> Suggestion | None:
    for folder in _model_folders(here, folders):
        with suppress(OSError):
            if (folder / TABLE_MODEL).is_file():
                return f"hannet predict {_quote(folder)} NEW.csv", "predict the rows of another table"
            if (folder / IMAGE_MODEL).is_file():
                return f"hannet predict {_quote(folder)} IMAGE.png", "classify images"
    return None


def _report(here: Path, folders: Sequence[Path]) -> Suggestion | None:
    for folder in _model_folders(here, folders):
        with suppress(OSError):
            if (folder / "report.json").is_file():
                return f"hannet report {_quote(folder)} --open", "see how good it is, in the browser"
    return None


def _model_folders(here: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """Where a model may be: here, in a folder here, where `hannet fit` and `hannet train` save."""
    yield here
    yield from folders
    yield from _contents(here / "hannet-models")[1]


def _quote(path: Path) -> str:
    name = str(path)
    return shlex.quote(f"./{name}" if name.startswith("-") else name)
