"""`hannet report`: the page of a folder that `fit`, `train images`, `certify` or `reproduce` wrote, made anew and shown."""

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..storage.files import store_errors
from .console import say

if TYPE_CHECKING:
    from ..reporting.html import Page


def report(
    folder: Annotated[
        Path, typer.Argument(help="What `fit`, `train images` or `reproduce` wrote, also with an older version.")
    ],
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the path as JSON.")] = False,
) -> None:
    """Write report.html from what the folder holds, and print its path: one page that needs no other file and no network."""
    with store_errors(folder):
        path = _make_page(folder).save(folder)
    say(json.dumps({"report": str(path)}) if as_json else str(path))
    if show and not webbrowser.open(path.resolve().as_uri()):
        say("No browser could be started: open the page yourself", to_stderr=True)


def _make_page(folder: Path) -> "Page":
    """The page of what is in the folder. Raises ReportError if that is nothing that has one."""
    from ..reporting.html import ReportError

    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder: name one that `hannet fit`, `train images` or `reproduce` wrote")
    if (folder / "table.json").exists():
        from ..tabular import page as tabular_page

        return tabular_page.page_of(folder)
    if (folder / "config.json").exists():
        from ..vision import page as vision_page

        return vision_page.page_of(folder)
    from ..experiments import page

    if page.has_results(folder):
        return page.folder_page(folder)
    raise ReportError(
        f"{folder} holds nothing that has a report: no model of `hannet fit` or `train images`, no results"
    )
