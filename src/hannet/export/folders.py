"""Files and folders that exports write, and what they may replace."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..storage.model_dir import replace_folder
from .program import ExportError

_BUILT = "CMakeCache.txt"  # in the folder `build` that the README of exported C has CMake fill


def require_file(path: Path, *, force: bool) -> None:
    """Raises ExportError unless a file may be written there."""
    if path.is_dir():
        raise ExportError(f"{path} is a folder: name a file")
    _require_free(path, force=force)


def require_folder(path: Path, marker: str, names: Callable[[str], Collection[str]], *, force: bool) -> None:
    """Raises ExportError unless a folder may be written there: nothing is there yet, or an earlier export alone and force.

    Args:
        path: of the folder.
        marker: how the name of one file of every export ends, behind the export's name.
        names: what an export of a name may have written, relative to the folder.
        force: an earlier export may be replaced.
    """
    if path.exists() and not path.is_dir():
        raise ExportError(f"{path} is a file: name a folder")
    _require_free(path, force=force)
    if not path.exists():
        return
    found = _found(path)
    exports = [name.removesuffix(marker) for name in found if name.endswith(marker) and "/" not in name]
    others = found - set(names(exports[0])) if len(exports) == 1 else found
    if others:
        raise ExportError(f"{path} holds files that no export wrote, such as {min(others)}: name another folder")


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes files to a folder, which takes the place of one that is there; text in UTF-8."""
    with replace_folder(folder) as made:
        made.mkdir(parents=True)
        _write(made, files)


@contextmanager
def temporary_folder(files: Mapping[str, str | bytes]) -> Iterator[Path]:
    """A folder of files, which goes when the block ends; text in UTF-8."""
    with TemporaryDirectory(prefix="hannet-") as folder:
        _write(Path(folder), files)
        yield Path(folder)


def _write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)


def _found(folder: Path) -> set[str]:
    """All files in a folder and in those within it, but for what CMake built."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {path.relative_to(folder).as_posix() for path in paths}
    return {name for name in names if not (name.startswith("build/") and f"build/{_BUILT}" in names)}


def _require_free(path: Path, *, force: bool) -> None:
    if not path.parent.is_dir():
        raise ExportError(f"{path} would be in a folder that does not exist")
    if path.exists() and not force:
        raise ExportError(f"{path} exists already: --force replaces it")
