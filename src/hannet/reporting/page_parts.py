"""Parts that the pages of several commands share."""

from collections.abc import Callable, Mapping
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
    try:
        page = make(facts)
        page.render()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ReportError(f"{path}: not written by `{command}`, or damaged ({error!r})") from error
    return page
