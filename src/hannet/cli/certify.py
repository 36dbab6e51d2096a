"""`hannet certify`: how far images may change before a classifier gives another class, proved."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import command_line, say
from .options import AsJson, EvaluationData, ForceFiles, ModelFolder, SkipBroken, require_free_files, save_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


def certify(
    model: ModelFolder,
    data: EvaluationData = None,
    radii: Annotated[str, typer.Option(metavar="R,...", help="l2 distances, pixels from 0 to 1.")] = "0.5,1.58",
    points: Annotated[int | None, typer.Option(min=1, help="How many, chosen at random.  [default: all]")] = None,
    skip_broken: SkipBroken = None,
    float32: Annotated[
        bool, typer.Option("--float32", help="The model as float32 computes it: rounding makes the radii smaller.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write a line for each point; a picture as .png and .svg.")
    ] = None,
    force: ForceFiles = False,
    as_json: AsJson = False,
) -> None:
    """Prove how far images may change, in l2, before a classifier gives another class: what no attack can beat.

    The proof is of the model as computed in float64, rounding included; --float32: as computed in float32.
    """
    import torch

    from ..certify import certificates, lipschitz_bound
    from ..vision import evaluation_data as evaluation
    from ..vision.figures import plot_certified_accuracy

    distances = _parse_radii(radii)
    require_free_files(out, ".csv", force=force)
    dtype = torch.float32 if float32 else torch.float64
    net, data = evaluation.load_network(model).to(dtype), data or evaluation.trained_on(model)
    x, y, rows, notes = evaluation.load_points(model, data, points, exactly=True, skip_broken=skip_broken or 0.0)
    inputs = evaluation.match_input_shape(net, x, y, model)
    began = time.perf_counter()
    bound = lipschitz_bound(net)
    classes, certified = certificates(net, inputs)
    seconds = time.perf_counter() - began
    correct = classes == y
    facts = {"model": str(model), "data": data, "points": len(y), "computed_in": "float32" if float32 else "float64"}
    facts |= {"lipschitz_bound": bound, **_measure(certified, correct, distances), "seconds": seconds}
    facts |= {"most_frequent": float(y.bincount().double().max()) / len(y), "notes": list(notes)}
    say(json.dumps(facts, allow_nan=False) if as_json else _summary(facts))
    figure = plot_certified_accuracy(certified, correct, distances, f"{model.name}: {data}")
    if out:
        save_files(out, evaluation.certificates_to_csv(rows, y, classes, certified), figure, quiet=as_json)
    _write_report(model, facts, figure, quiet=as_json)


def _write_report(model: Path, facts: Mapping[str, Any], figure: "Figure", *, quiet: bool) -> None:
    """The page in the model's folder; a note where that cannot be written, as it may be another's, or holds what is damaged."""
    from ..reporting.figures import figure_as_bytes
    from ..reporting.html import ReportError
    from ..storage.files import StoreError
    from ..storage.provenance import commit, describe_device, versions
    from ..vision.page import save_certificate

    made = {"command": command_line(), "device": describe_device(), "versions": dict(versions()), "commit": commit()}
    drawn = {form: figure_as_bytes(figure, form) for form in ("png", "svg")}
    try:
        path = save_certificate(model, {**facts, **made}, drawn)
    except (ReportError, StoreError) as error:
        say(f"Note: no report is written, since {error}", to_stderr=True)
        return
    if not quiet:
        say(f"Report: {path}")


def _parse_radii(text: str) -> list[float]:
    try:
        radii = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        radii = []
    if not radii or not all(0 < radius < math.inf for radius in radii):
        raise typer.BadParameter(f"{text!r} are not distances above 0, such as 0.5,1.58", param_hint="--radii")
    return radii


def _measure(certified: "Tensor", correct: "Tensor", radii: Sequence[float]) -> dict[str, Any]:
    shares = {f"{radius:.12g}": float((correct & (certified > radius)).double().mean()) for radius in radii}
    median = float(certified[correct].median()) if correct.any() else None
    return {"accuracy": float(correct.double().mean()), "certified_accuracy": shares, "median_radius": median}


def _summary(facts: Mapping[str, Any]) -> str:
    median = "no point is right" if facts["median_radius"] is None else f"{facts['median_radius']:7.4g}"
    shares = facts["certified_accuracy"].items()
    how = f"the model as computed in {facts['computed_in']}, {facts['seconds']:.1f} s"
    lines = [
        f"{facts['points']:,} points of {facts['data']}, {how}",
        f"Lipschitz bound (l2)             {facts['lipschitz_bound']:7.4g}  of all outputs together",
        f"accuracy                         {facts['accuracy']:7.2%}",
        *(f"{f'certified accuracy at {radius}':<33}{share:7.2%}" for radius, share in shares),
        f"median radius of what is right   {median}",
        *(f"Note: {note}" for note in facts["notes"]),
    ]
    return "\n".join(lines)
