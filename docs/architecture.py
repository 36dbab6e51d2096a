"""The diagram of the packages, from their imports: `python docs/architecture.py` writes docs/architecture.svg."""

import ast
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from statistics import mean

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "src" / "hannet"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
BOX, THIN, GAP = 108, 6, 16  # widths of a box, of an arrow that passes, and of the space beside them
TALL, ROW = 34, 78  # heights of a box and of a row


def main() -> None:
    """Write the diagram."""
    (DOCS / "architecture.svg").write_text(diagram(imports()))


def imports() -> dict[str, set[str]]:
    """For each package (or module at the root) those whose code it imports, at whatever depth."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        here, *_ = name_of(path).split(".")
        found.setdefault(here, set()).update({name.split(".")[0] for name in imported(path)} - {here})
    return found


def name_of(path: Path) -> str:
    """A file's dotted name below hannet, which is a package's own for its __init__.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def imported(path: Path) -> set[str]:
    """Names of the package's modules that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("hannet.") for alias in node.names if alias.name.startswith("hannet.")}
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "hannet"):
            base = path.parents[node.level - 1] if node.level else PACKAGE.parent
            base = base.joinpath(*(node.module or "").split("."))
            for alias in node.names:
                target = base / alias.name
                is_module = target.with_suffix(".py").is_file() or target.is_dir()
                found.add(".".join((target if is_module else base).relative_to(PACKAGE).parts))
    return found - {""}


def levels(graph: dict[str, set[str]]) -> list[list[str]]:
    """Rows of packages, each below all that import it; the top one first."""
    height: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        height[name] = max((height[other] + 1 for other in graph[name]), default=0)
    rows = [sorted(name for name in height if height[name] == level) for level in range(max(height.values()) + 1)]
    return rows[::-1]


def direct(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports that no chain of others implies: what the arrows show."""
    below: dict[str, set[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        below[name] = graph[name].union(*(below[other] for other in graph[name]))
    return {name: {o for o in graph[name] if not any(o in below[p] for p in graph[name])} for name in graph}


def arranged(rows: list[list[str]], arrows: dict[str, set[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Rows with a place for every arrow that passes, each row ordered by what is above it; and the places of each arrow."""
    height = {name: y for y, row in enumerate(rows) for name in row}
    rows, ways = [list(row) for row in rows], []
    for name, other in sorted((upper, lower) for upper in arrows for lower in arrows[upper]):
        passed = [f"{name}>{other}>{y}" for y in range(height[name] + 1, height[other])]
        for y, place in enumerate(passed, height[name] + 1):
            rows[y].append(place)
        ways.append([name, *passed, other])
    above: dict[str, list[str]] = {}
    for way in ways:
        for upper, lower in pairwise(way):
            above.setdefault(lower, []).append(upper)
    where = middles(rows[:1])
    for y, row in enumerate(rows[1:], 1):
        row.sort(key=lambda place: (mean(where[upper][0] for upper in above[place]) if place in above else 0, place))
        where |= middles(rows[: y + 1])
    return rows, ways


def middles(rows: list[list[str]]) -> dict[str, tuple[float, float]]:
    """Where the middle of each place is; every row stands in the middle of the picture."""
    found = {}
    for y, row in enumerate(rows):
        widths = [THIN if ">" in place else BOX for place in row]
        left = -(sum(widths) + GAP * (len(row) - 1)) / 2
        for place, width in zip(row, widths, strict=True):
            found[place] = (left + width / 2, ROW * (y + 0.5))
            left += width + GAP
    return found


def diagram(graph: dict[str, set[str]]) -> str:
    """SVG: a box for each package, arrows to what it imports."""
    rows, ways = arranged(levels(graph), direct(graph))
    where = middles(rows)
    half = max(x for x, _ in where.values()) + BOX / 2 + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-half:.0f} 0 {2 * half:.0f} {ROW * len(rows)}" role="img"',
        ' font-family="sans-serif" font-size="15" text-anchor="middle">',
        f"<title>Packages of hannet: {', '.join(name for row in levels(graph) for name in row)}</title>",
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path d="M0 0L8 4L0 8z" fill="#5c6bc0"/></marker>',
    ]
    lines += [f'<path d="{curve(way, where)}" fill="none" stroke="#5c6bc0" marker-end="url(#tip)"/>' for way in ways]
    for name in sorted(graph):
        x, y = where[name]
        lines.append(
            f'<rect x="{x - BOX / 2:.0f}" y="{y - TALL / 2:.0f}" width="{BOX}" height="{TALL}" rx="5" fill="#e8eaf6" stroke="#3949ab"/>'
        )
        lines.append(f'<text x="{x:.0f}" y="{y + 5:.0f}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def curve(way: list[str], where: dict[str, tuple[float, float]]) -> str:
    """An arrow from the lower edge of a box to the upper edge of another, by the places that it passes."""
    x, y = where[way[0]]
    pieces = [f"M{x:.0f} {y + TALL / 2:.0f}"]
    for place, following in pairwise(way):
        (x, y), (end_x, middle) = where[place], where[following]
        end_y = middle if ">" in following else middle - TALL / 2
        pieces.append(
            f"C{x:.0f} {y + ROW / 3 + TALL / 4:.0f} {end_x:.0f} {end_y - ROW / 3:.0f} {end_x:.0f} {end_y:.0f}"
        )
    return "".join(pieces)


if __name__ == "__main__":
    main()
