"""What the examples share: a quick run for tests, and where the picture goes."""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

from hannet.reporting.figures import figure_as_bytes


def arguments() -> argparse.Namespace:
    """`python examples/NAME.py [PICTURE] [--quick]`."""
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser()
    parser.add_argument("picture", nargs="?", type=Path, default=Path(__file__).parent / "output" / f"{name}.png")
    parser.add_argument("--quick", action="store_true", help="a moment's training, to see that it works")
    return parser.parse_args()


def save(figure: Figure, picture: Path) -> None:
    """The picture as PNG and as SVG."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    for form in ("png", "svg"):
        picture.with_suffix(f".{form}").write_bytes(figure_as_bytes(figure, form))
    print(f"saved {picture} and .svg")
