"""Numbers in the README and the docs are those of the committed records; documented_numbers.toml says of which."""

import json
import math
import re
import tomllib
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from string import Formatter

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
DOCUMENTED = tomllib.loads(Path(__file__).with_name("documented_numbers.toml").read_text())
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", *(path for path in DOCS if path != "docs/log.md")]
# What looks measured: decimals, powers of ten, thousands; per cent, "x" and "times" after a whole number.
NUMBER = re.compile(r"(?<![\w.,/:=>-])(\d+(?:\.\d+|(?:,\d{3})+|e-\d+)+|\d+(?=%|x\b| times))(?![\d.]*\d)")


class Row(dict):
    """A row of a table, or a record, with its columns as attributes."""

    __getattr__ = dict.__getitem__


@cache
def table(name):
    (path,) = RESULTS.glob(f"*/{name}.json")
    return [Row(row) for row in json.loads(path.read_text())["rows"]]


@cache
def records(name):
    """Those behind a table, else those of a folder: metrics, and the configuration under dotted names."""
    (path,) = [*RESULTS.glob(f"{name}/records.jsonl"), *RESULTS.glob(f"*/{name}.json")][-1:]
    text = path.read_text()
    found = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)["records"]
    return [Row(flatten(record["config"]) | record | record["metrics"]) for record in found]


def flatten(config, prefix=""):
    flat = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def best(rows, column, *keys):
    """The largest value of a column for each combination of the keys' values; nets that diverged have none."""
    found = {}
    for row in rows:
        key = tuple(row[key] for key in keys)
        found[key] = max(found.get(key, -math.inf), -math.inf if row[column] is None else row[column])
    return found


def look_up(value, names):
    """A claim's name: a source of rows, an expression after "=", or the value itself."""
    if isinstance(value, dict):
        return select(value, names)
    return eval(value[1:], dict(names)) if str(value).startswith("=") else value  # noqa: S307


def select(source, names):
    """The one row with these values, or the list of rows if there are more."""
    wanted = {key: evaluate(value, names) for key, value in source.items()}
    rows = table(wanted.pop("table")) if "table" in wanted else records(wanted.pop("records"))
    found = [row for row in rows if all(str(row.get(key)) == str(value) for key, value in wanted.items())]
    assert found, f"no row has {wanted}"
    return found[0] if len(found) == 1 else found


def evaluate(template, names):
    return "".join(text for text, _ in pieces(str(template), names))


def pieces(template, names):
    """Text of the template, and whether it was computed."""
    for literal, field, spec, _ in Formatter().parse(template):
        yield literal, False
        if field is not None:
            yield format(eval(field, dict(names)), spec), True  # noqa: S307


def render(claim, case):
    """A claim's text, the spans in it that were computed, and what it was computed from."""
    names = {"best": best, "prod": math.prod, "mean": mean, "stdev": stdev} | case
    for key, value in claim.items():
        if key not in {"text", "each", "holds"}:
            names[key] = look_up(value, names)
    text, spans = "", []
    for piece, computed in pieces(claim["text"], names):
        spans += [(len(text), len(text) + len(piece))] * computed
        text += piece
    return text, spans, names


CLAIMS = [
    pytest.param(page, claim, case, id=f"{page}-{number}")
    for page in PAGES
    for number, claim in enumerate(DOCUMENTED.get(page, []), 1)
    for case in look_up(claim.get("each", [{}]), {})
]


@cache
def blocks(page):
    """Paragraphs and rows of tables, each on one line; of tutorials without their code, whose numbers are settings."""
    text = (ROOT / page).read_text()
    if "tutorials/" in page:
        text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n|\n(?=\||- )", text)]


def find(page, text):
    """The only block with this text, and where in it."""
    found = [(block, match.start()) for block in blocks(page) for match in re.finditer(re.escape(text), block)]
    assert found, f"{page} does not say: {text}"
    assert len(found) == 1, f"{page} says more than once: {text}"
    return found[0]


@pytest.mark.parametrize(("page", "claim", "case"), CLAIMS)
def test_claim_is_what_the_records_give(page, claim, case):
    text, _, names = render(claim, case)
    find(page, text)
    for condition in claim.get("holds", []):
        assert eval(condition, dict(names)), f"{condition} does not hold, but {page} says: {text}"  # noqa: S307


@pytest.mark.parametrize(("page", "claim", "case"), CLAIMS)
def test_single_seed_is_called_one(page, claim, case):
    sources = [value for value in claim.values() if isinstance(value, dict)]
    names = {source.get("table") or source["records"] for source in sources}
    if any(len({record["seed"] for record in records(name)}) == 1 for name in names - {"benchmarks", "trust"}):
        block, _ = find(page, render(claim, case)[0])
        assert "one seed" in block


def test_tables_hold_the_records_of_their_folder():
    for path in RESULTS.glob("*/*.json"):
        lines = path.with_name("records.jsonl").read_text().splitlines()
        stored = {record["key"]: record for record in map(json.loads, lines)}
        for record in json.loads(path.read_text())["records"]:
            kept = {"sources": None, **stored[record["key"]]}  # which the older ones lack
            assert kept == kept | record


@pytest.mark.parametrize("page", PAGES)
def test_every_number_is_traced_or_excused(page):
    accounted = {block: set() for block in blocks(page)}
    for where, claim, case in (param.values for param in CLAIMS):
        if where == page:
            text, spans, _ = render(claim, case)
            block, start = find(page, text)
            accounted[block] |= {start + place for span in spans for place in range(*span)}
    for excuse in [*DOCUMENTED["unrecorded"], *DOCUMENTED["given"]]:
        for text in excuse["texts"] if excuse["in"] == page else []:
            places = [(block, match) for block in blocks(page) for match in re.finditer(re.escape(text), block)]
            assert places, f"{page} no longer says: {text}"
            for block, match in places:
                accounted[block] |= set(range(*match.span()))
    untraced = [
        f"{match[1]} in: ...{block[max(0, match.start() - 60) : match.end() + 30]}..."
        for block in blocks(page)
        for match in NUMBER.finditer(block)
        if not accounted[block].issuperset(range(*match.span(1)))
    ]
    assert not untraced, "\n".join(untraced)
