"""Parts that the pages of several commands share."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..storage.files import read_json_object
from .html import Page, ReportError, Section


def made_section(facts: Mapping[str, Any], **more: str) -> Section:
    """How something was made, as far as its report says; more: facts of its own."""
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    known = {
        "command": facts.get("command"),
        **more,
        "device": facts.get("device"),
        "versions": versions,
        "commit": facts.get("commit"),
    }
    return Section("How it was made", facts={name: str(value) for name, value in known.items() if value})


def page_from(path: Path, command: str, make: Callable[[dict[str, Any]], Page]) -> Page:
    """The page that is made of the facts in a file, which renders. Raises ReportError for a file that the command did not write."""
    facts = read_json_object(path, ReportError)
    with report_errors(path, command):
        page = make(facts)
        page.render()
    return page


@contextmanager
def report_errors(path: Path, command: str) -> Iterator[None]:
    """Inside, an error over what a file holds becomes a ReportError that names it, and the command that should have written it."""
    try:
        yield
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ReportError(f"{path}: not written by `{command}`, or damaged ({error!r})") from error
