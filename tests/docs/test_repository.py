"""The site is whole: every page is in its navigation, every public name in its reference, nothing in it comes from elsewhere."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import hannet
import repository

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DIRECTIVE = re.compile(r"^::: (\S+)$", re.MULTILINE)
DOCUMENTED = [name for page in PAGES for name in DIRECTIVE.findall(page.read_text())]


settings = yaml.load((ROOT / "mkdocs.yml").read_text(), yaml.SafeLoader)


def pages_of(navigation):
    for entry in navigation:
        (value,) = entry.values()
        yield from [value] if isinstance(value, str) else pages_of(value)


def values_of(names):
    """The objects behind dotted names; those that several packages export are one."""
    for name in names:
        module, _, attribute = name.rpartition(".")
        yield id(getattr(importlib.import_module(module), attribute))


def public_names():
    """What packages export, and what the README and the docs import."""
    yield from (f"hannet.{name}" for name in {*hannet.__all__, *hannet._HOMES} - {"functional"})
    for module in pkgutil.iter_modules(hannet.__path__, "hannet."):
        if module.name != "hannet.__main__":
            exported = getattr(importlib.import_module(module.name), "__all__", ())
            yield from (f"{module.name}.{name}" for name in exported)
    for page in [ROOT / "README.md", *PAGES]:
        for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "hannet":
                    yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_page_is_in_the_navigation_once():
    listed = list(pages_of(settings["nav"]))
    assert sorted(listed) == sorted([*(page.relative_to(DOCS).as_posix() for page in PAGES), *repository.OUTSIDE])


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=lambda page: page.name)
def test_the_reference_names_what_there_is(page):
    names = DIRECTIVE.findall(page.read_text())
    assert len(list(values_of(names))) == len(set(names)) > 0


def test_every_public_name_is_in_the_reference():
    known = {*values_of(DOCUMENTED)}
    modules = {f"hannet.{name}" for name in hannet._MODULES}
    missing = {name for name in public_names() if name not in modules and not known & {*values_of([name])}}
    assert not missing


def test_the_reference_names_everything_once():
    assert len(DOCUMENTED) == len({*values_of(DOCUMENTED)})


def page(path, *, outside=False):
    return SimpleNamespace(file=SimpleNamespace(src_uri=path, generated_by="test" if outside else None))


def test_links_out_of_the_docs_stay_in_the_site():
    link = "[a](../results/table9/table9.md#x), [b](layer.md), [c](https://a.example/b.md), ![d](../../results/a.png)"
    at_root = repository.on_page_markdown(link, page("speed.md"), None, None)
    assert at_root.startswith("[a](results/table9/table9.md#x), [b](layer.md), [c](https://a.example/b.md)")
    below = repository.on_page_markdown(link.replace("(../r", "(../../r"), page("tutorials/table.md"), None, None)
    assert below.startswith("[a](../results/table9/table9.md#x), [b](layer.md)")
    assert below.endswith("![d](../results/a.png)")
    changes = repository.on_page_markdown("[a](docs/gpu.md)", page("CHANGELOG.md", outside=True), None, None)
    assert changes == "[a](gpu.md)"


def test_nothing_is_asked_of_the_network():
    """Fonts, mermaid and MathJax would be fetched from elsewhere when a page is opened."""
    assert settings["theme"]["font"] is False
    assert "repo_url" not in settings
    assert all((DOCS / path).is_file() for path in settings["extra_css"] + settings["extra_javascript"])
    for page in PAGES:
        elsewhere = r"```mermaid|\]\(https?://\S+\.(png|svg|gif)\)|<(script|iframe)|<img[^>]+https?:"
        assert not re.search(elsewhere, page.read_text()), page
