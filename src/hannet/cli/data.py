"""The commands that show and fetch the paper's data: `hannet data list`, `hannet data get`."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .console import print_table
from .options import AsJson, complete_data

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..data.download import Source


def _sources() -> "dict[str, Source]":
    from ..data import images, regression

    return {**regression.SETS, **images.SETS}


def list_data(as_json: AsJson = False) -> None:
    """Show the data sets: their sizes, what is predicted, on what terms, and whether they are here."""
    from dataclasses import asdict

    sources = _sources().values()
    if as_json:
        print(json.dumps([asdict(source) | {"shape": source.shape, "where": source.where} for source in sources]))
        return
    sizes = (" x ".join([f"{source.rows:,}", *map(str, source.shape)]) for source in sources)
    rows = [
        (one.name, size, one.task, one.target, one.terms, one.where) for one, size in zip(sources, sizes, strict=True)
    ]
    print_table(("name", "rows x features", "task", "target", "terms", "where"), rows)


def _by_hand(source: "Source") -> bool:
    """Whether the publisher lets only those download it who have agreed to terms, and it is not here."""
    from ..data.download import where

    return any(file.archive and file.archive.by_hand and where(file) == "not here" for file in source.files)


def _announce_downloads(sources: "Iterable[Source]") -> None:
    """Print to standard error which archives will be downloaded, and how large they are."""
    from ..data.download import where

    archives = {
        file.archive.name: file.archive.size
        for source in sources
        for file in source.files
        if file.archive and not file.archive.by_hand and where(file) == "not here"
    }
    if archives:
        sizes = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in archives.items())
        print(f"Downloads {sum(archives.values()) / 1e6:,.0f} MB: {sizes}", file=sys.stderr, flush=True)


def get_data(
    names: Annotated[
        list[str], typer.Argument(help="Names from `hannet data list`, or all.", autocompletion=complete_data)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object of names and lists of paths.")] = False,
) -> None:
    """Download data sets that are not here yet, check them, and print the paths of their files.

    The sizes of large downloads are printed first. all leaves out what only you may download, after agreeing to its terms.
    """
    from ..data.download import find

    sources = _sources()
    wanted = list(dict.fromkeys(names))
    if names == ["all"]:
        wanted = [name for name, source in sources.items() if not _by_hand(source)]
        for name in sources.keys() - wanted:
            print(f"Left out: {name}; `hannet data get {name}` says where to get it", file=sys.stderr)
    if unknown := [name for name in wanted if name not in sources]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(sources)}, all", param_hint="names")
    _announce_downloads(sources[name] for name in wanted)
    paths = {name: [str(find(file)) for file in sources[name].files] for name in wanted}
    print(json.dumps(paths) if as_json else "\n".join(path for found in paths.values() for path in found))
