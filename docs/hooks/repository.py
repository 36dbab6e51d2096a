"""The site is made of the repository: what its pages link to outside docs/ becomes part of it, and links keep working on GitHub."""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")  # pages that only the navigation links to
LINK = re.compile(r"(?<=\]\()[^)#\s]+(?=(?:#[^)\s]*)?\))")
SCRIPT = re.compile(r"^\[`examples/(\w+\.py)`\]\(\S+\)$", re.MULTILINE)  # a line that only links to a script


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the files outside docs/ that pages link to, and those that these link to."""
    from mkdocs.structure.files import File

    waiting = [*OUTSIDE, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.startswith("docs/"):
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
        found = {target for target in targets(path) if (ROOT / target).is_file() and not target.startswith("docs/")}
        waiting += sorted(found - seen)
        seen |= found
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Links as the site needs them; the code of a script below the line that links to it."""
    here = page.file.src_uri
    path = here if page.file.generated_by else f"docs/{here}"

    def on_site(link: re.Match) -> str:
        if "://" in link[0]:
            return link[0]
        target = normpath(join(dirname(path), link[0])).removeprefix("docs/")
        return relpath(target, dirname(here) or ".")

    return SCRIPT.sub(with_code, LINK.sub(on_site, markdown))


def on_post_page(output: str, page: "Page", config: "MkDocsConfig") -> str:
    """A name for the dialog of the search, which the theme leaves without one."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )


def with_code(line: re.Match) -> str:
    """The link becomes a block that opens."""
    code = (ROOT / "examples" / line[1]).read_text().replace("\n", "\n    ").rstrip()
    return f'??? example "examples/{line[1]}"\n\n    ```python\n    {code}\n    ```'


def targets(path: str) -> Iterator[str]:
    """Paths in the repository that a page links to."""
    if path.endswith(".md"):
        for link in LINK.findall((ROOT / path).read_text()):
            if "://" not in link:
                yield normpath(join(dirname(path), link))
