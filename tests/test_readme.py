"""What the README and the docs show works as printed."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    pytest.param(example, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    if page.parent.name != "tutorials"  # which run as a whole: tests/docs/test_tutorials.py
    for number, example in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example, capsys):
    """What prints does print, and nothing that is not a number; what trains and scores gets most of it right."""
    for package in re.findall(r"^(?:import|from) (lightning|skorch)\b", example, re.MULTILINE):
        pytest.importorskip(package)
    exec(compile(example, "example", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert bool(printed.strip()) == ("print(" in example)
    assert not re.search(r"\b(nan|inf)\b", printed)
    assert all(float(share) > 90 for share in re.findall(r"([\d.]+)% of \d+ unseen", printed))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_into_the_repository_lead_somewhere(page):
    links = {link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()) if "://" not in link}
    assert not {link for link in links if not (page.parent / link).exists()}


def test_the_readme_fits_on_a_screen_or_three():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110
