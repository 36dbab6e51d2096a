"""The commands that show and fetch the paper's data: `hannet data list`, `hannet data get`."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .console import stdout_console

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..data.download import Source

data = typer.Typer(
    help="Data sets of the paper's experiments: what they are, and getting them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _sources() -> "dict[str, Source]":
    from ..data import images, regression

    return {**regression.SETS, **images.SETS}


@data.command("list", epilog="Example: hannet data list --json")
def list_data(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the data sets: their sizes, what is predicted, on what terms, and whether they are here."""
    from dataclasses import asdict

    from rich.table import Table

    sources = _sources().values()
    if as_json:
        print(json.dumps([asdict(source) | {"shape": source.shape, "where": source.where} for source in sources]))
        return
    table = Table("name", "rows x features", "task", "target", "terms", "where")
    for source in sources:
        size = " x ".join([f"{source.rows:,}", *map(str, source.shape)])
        table.add_row(source.name, size, source.task, source.target, source.terms, source.where)
    stdout_console().print(table)


def _by_hand(source: "Source") -> bool:
    """Whether the publisher lets only those download it who have agreed to terms, and it is not here."""
    from ..data.download import where

    return any(file.archive and file.archive.by_hand and where(file) == "not here" for file in source.files)


def _tell_sizes(sources: "Iterable[Source]") -> None:
    """Say on standard error what is downloaded in archives, before it is."""
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


@data.command("get", epilog="Example: hannet data get bikesharing mnist")
def get_data(
    names: Annotated[list[str], typer.Argument(help="Names from `hannet data list`, or all.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object of names and lists of paths.")] = False,
) -> None:
    """Download data sets that are not here yet, check them, and print the paths of their files.

    The sizes of large downloads are told first. all leaves out what only you may download, after agreeing to its terms.
    """
    from ..data.download import find

    sources = _sources()
    wanted = list(dict.fromkeys(names))
    if names == ["all"]:
        wanted = [name for name, source in sources.items() if not _by_hand(source)]
        for name in sources.keys() - wanted:
            print(f"Left out: {name}; `hannet data get {name}` says where you get it", file=sys.stderr)
    if unknown := [name for name in wanted if name not in sources]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(sources)}, all", param_hint="names")
    _tell_sizes(sources[name] for name in wanted)
    paths = {name: [str(find(file)) for file in sources[name].files] for name in wanted}
    print(json.dumps(paths) if as_json else "\n".join(path for found in paths.values() for path in found))
