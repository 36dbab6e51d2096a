"""The commands that show and fetch the paper's data: `hannet data list`, `hannet data get`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from .console import console

if TYPE_CHECKING:
    from .data.fetch import Source

data = typer.Typer(
    help="Data sets of the paper's experiments: what they are, and getting them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _sources() -> "dict[str, Source]":
    from .data import images, regression

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
    console().print(table)


@data.command("get", epilog="Example: hannet data get bikesharing mnist")
def get_data(
    names: Annotated[list[str], typer.Argument(help="Names from `hannet data list`, or all.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object of names and lists of paths.")] = False,
) -> None:
    """Download data sets that are not here yet, check them, and print the paths of their files."""
    from .data.fetch import find

    sources = _sources()
    wanted = list(sources) if names == ["all"] else list(dict.fromkeys(names))
    if unknown := [name for name in wanted if name not in sources]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(sources)}, all", param_hint="names")
    paths = {name: [str(find(file)) for file in sources[name].files] for name in wanted}
    print(json.dumps(paths) if as_json else "\n".join(path for found in paths.values() for path in found))
