"""What several commands share of their command lines: options, checks of the files to write, faults as click reports them."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ..vision import SettingError
from .console import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def complete_experiments() -> list[str]:
    """What a shell offers for an experiment, or all of them."""
    from ..experiments.base import EXPERIMENTS

    return [*EXPERIMENTS, "all"]


def complete_image_sets() -> list[str]:
    """What a shell offers for a set of images that has a name."""
    from ..data.catalog import image_sources

    return list(image_sources())


def complete_images(incomplete: str) -> list[str]:
    """What a shell offers for images: the sets that have a name, and folders whose names need no quotes."""
    parent = Path(incomplete).parent if not incomplete.endswith("/") else Path(incomplete)
    try:
        entries = [path for path in parent.iterdir() if not path.name.startswith(".")]
        folders = [name for path in entries if shlex.quote(name := str(path)) == name and path.is_dir()]
    except OSError:
        folders = []
    return [*complete_image_sets(), *sorted(folders)]


def complete_data() -> list[str]:
    """What a shell offers for the name of a data set."""
    from ..data.catalog import table_sources

    return [*table_sources(), *complete_image_sets(), "all"]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelFolder = Annotated[Path, typer.Argument(help="The folder that `save_pretrained` wrote.")]
EvaluationData = Annotated[
    str | None,
    typer.Option(
        metavar="SET|FOLDER|FILE.npz",
        autocompletion=complete_images,
        help="Test images of mnist, cifar10, ..., or of a folder of images; or arrays x and y: uint8, or 0 to 1."
        "  [default: those of its training, or mnist]",
    ),
]
SkipBroken = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, metavar="[SHARE]", help="Leave out broken images, up to this share of all; 0.05 if none is given."
    ),
]
ForceFiles = Annotated[bool, typer.Option("--force", help="Replace the files that --out names.")]


WITHOUT_VALUE = {"--skip-broken": "0.05"}  # what an option means that is given alone


class Command(TyperCommand):
    """A command that names as its option what library code says is at fault: a setting, a folder that is in use."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; an option whose value may be left out has its usual one where no number follows."""
        known = {name for param in self.params for name in param.opts}
        given = []
        for place, arg in enumerate(args):
            following = args[place + 1] if place + 1 < len(args) else ""
            alone = arg in WITHOUT_VALUE and arg in known and not following.replace(".", "", 1).isdigit()
            given.append(f"{arg}={WITHOUT_VALUE[arg]}" if alone else arg)
        return super().parse_args(ctx, given)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        if ctx.obj:
            ctx.obj()
        from ..storage.model_dir import OccupiedError

        try:
            return super().invoke(ctx)
        except OccupiedError as error:
            raise typer.BadParameter(str(error), param_hint="--out") from error
        except SettingError as error:
            option = next((known.opts[0] for known in self.params if known.name == error.setting), None)
            raise typer.BadParameter(str(error), param_hint=option) from error


def reject_output(faults: Mapping[str, bool]) -> None:
    """Refuse --out for the first fault that is found.  faults: sentences, and whether each is the case."""
    for fault, found in faults.items():
        if found:
            raise typer.BadParameter(fault, param_hint="--out")


def require_free_files(out: Path | None, suffix: str, *, force: bool) -> None:
    """Refuse --out unless it and the pictures of the same name may be written."""
    if not out:
        return
    existing = [path for path in (out, out.with_suffix(".png"), out.with_suffix(".svg")) if path.exists()]
    first = existing[0] if existing else out
    faults = {
        f"{out} does not end in {suffix}": out.suffix != suffix,
        f"{out} would be in a folder that does not exist": not out.parent.is_dir(),
        f"{first} is a folder": any(path.is_dir() for path in existing),
        f"{first} exists already: --force replaces it": bool(existing) and not force,
    }
    reject_output(faults)


def save_files(out: Path, content: bytes, figure: "Figure | None", *, quiet: bool) -> None:
    """Write the content and its pictures, and print their names unless quiet."""
    from ..reporting import figures
    from ..storage.files import write_atomic

    pictures = {
        out.with_suffix(f".{form}"): figure and figures.figure_as_bytes(figure, form) for form in ("png", "svg")
    }
    for path, data in {out: content, **pictures}.items():
        if data:
            write_atomic(path, data)
        else:
            path.unlink(missing_ok=True)  # it shows what the file held before
    saved = [out, *pictures] if figure else [out]
    if not quiet:
        say(f"Saved: {', '.join(map(str, saved))}")
