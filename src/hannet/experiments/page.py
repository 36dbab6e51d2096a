"""The pages of results: of one folder, and of the whole paper, from the files that `hannet reproduce` keeps."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..reporting.html import Page, ReportError, Section, picture, read_pictures
from ..reporting.page_parts import report_errors
from ..reporting.tables import Table, format_cells
from . import base
from .verdicts import Verdict, compare, count, verdict_table

RECORDS = "records.jsonl"
SMALL = {"limit": 30_000, "width": 1000}  # of the pictures of the whole paper: bytes as it is, pixels if recompressed

_FORM = re.compile(
    r"([^{}]|\{(0(\[\w+\])*)?(:[^{}]{0,5})?\})*"
)  # what formats numbers, and no more of a file of somebody

SELECTED = "Where the paper picks its runs by their test score, so do we; the linked tables also give results picked without it."


@dataclass(frozen=True)
class Result:
    """A table that `hannet reproduce` kept.

    name: of the experiment; path: of its .json file; command: that makes it; comparable: with the paper's, as it is trained in full.
    """

    name: str
    path: Path
    table: Table
    records: Sequence[Mapping[str, Any]]
    command: Sequence[str]
    comparable: bool

    @property
    def verdicts(self) -> list[Verdict]:
        """Ours beside the paper's, if that means anything."""
        return compare(self.table.rows, base.comparisons(self.name)) if self.comparable else []


def has_results(folder: Path) -> bool:
    """Whether a folder, or one in it, holds records or tables of experiments."""
    return any((path / RECORDS).is_file() for path in (folder, *_inside(folder)))


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def experiment_of(stem: str) -> str:
    """The experiment whose files are named so, "" if there is none.

    >>> experiment_of("figure6-hannet"), experiment_of("figure6-full"), experiment_of("notes")
    ('figure6', 'figure6-full', '')
    """
    known = (name for name in base.EXPERIMENTS if stem == name or stem.startswith(f"{name}-"))
    return max(known, key=len, default="")


def read_results(folder: Path) -> list[Result]:
    """The tables of experiments in a folder. Raises ReportError for one that is damaged."""
    paths = sorted(path for path in folder.glob("*.json") if experiment_of(path.stem))
    return [_read(path) for path in paths if path.with_suffix(".md").is_file()]


def _read(path: Path) -> Result:
    with report_errors(path, "hannet reproduce"):
        result = _result(path, json.loads(path.read_bytes()))
        format_cells(result.table)
        verdict_table(result.verdicts)
        _made([result])
    return result


def _result(path: Path, kept: Mapping[str, Any]) -> Result:
    """What a file holds; files of earlier versions have neither columns nor the command."""
    name = experiment_of(path.stem)
    columns = kept.get("columns") or {key: (key, "") for row in kept["rows"] for key in row}
    shown = {key: (str(heading), str(form)) for key, (heading, form) in columns.items()}
    if wrong := [form for _, form in shown.values() if not _FORM.fullmatch(form)]:
        raise ValueError(f"{wrong[0]!r} is no number format")
    table = Table(str(kept["title"]), shown, kept["rows"], [str(note) for note in kept["notes"]])
    command = [str(word) for word in kept.get("command", ["hannet", "reproduce", name])]
    comparable = bool(kept.get("comparable", not path.stem.endswith("-quick")))
    return Result(name, path, table, kept["records"], command, comparable)


def folder_page(folder: Path) -> Page:
    """The page of a folder of results, or of one with such folders in it. Raises ReportError if nothing is there yet."""
    results = read_results(folder)
    if not results:
        if any(read_results(path) for path in _inside(folder)):
            return paper_page(folder)
        raise ReportError(
            f"{folder} holds records, but no table yet: `hannet reproduce` writes it when all runs are there"
        )
    sections = [_section(result, folder) for result in results]
    verdicts = [verdict for result in results for verdict in result.verdicts]
    about = [base.describe_experiment(name) for name in dict.fromkeys(result.name for result in results)]
    if not any(result.comparable for result in results):
        head, about = "", [*about, "A quick or shortened run: its numbers mean nothing beside the paper's."]
    else:
        head, about = _headline(verdicts, about)
    sections.append(
        Section("How to use it", code=["\n".join([*map(_command, results), f"hannet runs {shlex.quote(str(folder))}"])])
    )
    return Page(results[0].table.title, head, about, [*sections, _made(results)])


def _headline(verdicts: Sequence[Verdict], about: Sequence[str]) -> tuple[str, list[str]]:
    """How many of the paper's numbers are met, and the first of them with its spread."""
    if not verdicts:
        return "", [*about, "There is no number of the paper to compare with."]
    same, known = sum(bool(one.same) for one in verdicts), next((one for one in verdicts if one.ours is not None), None)
    lines = ["of the paper's numbers here are met within the tolerance that each table states."]
    if known:
        cells = known.cells()
        spread = " (standard deviation over seeds)" if known.std is not None else ""
        lines.append(f"{known.row}: ours {cells['ours']}{spread}, the paper's {cells['theirs']}.")
    return f"{same} of {len(verdicts)}", [*lines, SELECTED, *about]


def _section(result: Result, root: Path, *, brief: bool = False) -> Section:
    """A table with its verdicts, its picture and where its records are.

    root: the folder of the page; brief: a small picture, and of a table that has verdicts only those: it is one link away.
    """
    folder, stem, verdicts = result.path.parent, result.path.stem, result.verdicts
    drawn = picture(result.table.title, read_pictures(folder, stem), stem, **(SMALL if brief else {}))
    paths = [folder / f"{stem}.md", result.path, *([folder / RECORDS] if (folder / RECORDS).is_file() else [])]
    links = {path.name: path.relative_to(root).as_posix() for path in paths}
    tables = [verdict_table(verdicts)] if verdicts else []
    tables += [] if brief and verdicts else [replace(result.table, title="")]
    title = result.table.title + (f" ({stem})" if stem != result.name else "")
    return Section(title, [], [drawn] if drawn else [], tables, links=links)


def _command(result: Result) -> str:
    """The command that makes the table again."""
    return shlex.join([*result.command, "--out", str(result.path.parent)])


def _made(results: Sequence[Result]) -> Section:
    """Which seeds, devices, versions and commits the records tell of; a record may stand behind several tables."""
    records = list({record["key"]: record for result in results for record in result.records}.values())

    def listed(key: str, most: int = 10) -> str:
        found = [str(value) for value in sorted({record[key] for record in records if record.get(key) is not None})]
        return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")

    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.get("versions", {}).items():
            versions.setdefault(name, set()).add(version)
    facts = {
        "runs": f"{len(records):,}, {sum(record.get('seconds', 0) for record in records) / 3600:.1f} hours",
        "seeds": listed("seed", 20),
        "device": listed("device"),
        "versions": "; ".join(f"{name} {', '.join(sorted(found))}" for name, found in versions.items()),
        "commit": listed("commit"),
    }
    return Section("How it was made", facts={name: value for name, value in facts.items() if value})


def _all_results(root: Path) -> list[Result]:
    """The tables in a folder and in those inside that are comparable with the paper's."""
    folders = [root, *_inside(root)]
    return [result for folder in folders for result in read_results(folder) if result.comparable]


def _overview(root: Path, found: Sequence[Result]) -> list[dict[str, str]]:
    """Of each experiment its name, what it shows, and a verdict in words. found: the tables in `root`."""
    started = {experiment_of(folder.name) for folder in _inside(root) if (folder / RECORDS).is_file()}
    rows = []
    for name in base.EXPERIMENTS:
        missing = "started, not all runs are there" if name in started else "not run"
        mine = [result for result in found if result.name == name]
        verdict = count([verdict for result in mine for verdict in result.verdicts]) if mine else missing
        rows.append({"name": name, "what": base.describe_experiment(name), "verdict": verdict})
    return rows


def paper_page(root: Path) -> Page:
    """One page of the whole paper, from the folders of results in `root`: ours beside theirs, verdicts, pictures, links.

    Raises ReportError for a damaged file.
    """
    found = _all_results(root)
    order = {name: place for place, name in enumerate(base.EXPERIMENTS)}
    found.sort(key=lambda result: order[result.name])
    verdicts = [verdict for result in found for verdict in result.verdicts]
    columns = {"name": ("experiment", ""), "what": ("what it shows", ""), "verdict": ("verdict", "")}
    first = Section("All experiments", tables=[Table("", columns, _overview(root, found))])
    head, about = _headline(verdicts, [])
    present = len({result.name for result in found})
    about = [
        *about[:1],
        SELECTED,
        f"{present} of {len(order)} experiments have results here; some are not in the paper.",
    ]
    code = [f"hannet reproduce all --as-is --out {shlex.quote(str(root))}", "hannet reproduce figure1"]
    use = Section("How to use it", ["To write this page again, and to run one experiment:"], code=["\n".join(code)])
    sections = [
        first,
        *(_section(result, root, brief=True) for result in found),
        use,
        *([_made(found)] if found else []),
    ]
    return Page("The paper, reproduced", head, about, sections)
