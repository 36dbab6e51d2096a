"""`hannet attack`: how far small changes of images fool a classifier."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .console import exit_with_error, say
from .options import AsJson, EvaluationData, ForceFiles, ModelFolder, SkipBroken, require_free_files, save_files
from .progress_bar import progress_bar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..attacks import Adversaries, Attack

Name = Literal["pgd", "cw", "fgsm"]
Norm = Literal["l2", "linf"]
Loss = Literal["cross-entropy", "margin"]

CW_POINTS = 1000


def attack(
    model: ModelFolder,
    name: Annotated[Name, typer.Option("--attack", help="How to attack.")] = "pgd",
    norm: Annotated[Norm | None, typer.Option(help="How pgd and fgsm measure a perturbation.  [default: l2]")] = None,
    eps: Annotated[
        float | None, typer.Option(help="Its largest norm, pixels from 0 to 1.  [default: 1 in l2, 0.1 in linf]")
    ] = None,
    loss: Annotated[
        Loss | None,
        typer.Option(help="What pgd maximizes; large logits cannot hide a margin.  [default: cross-entropy]"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of pgd and cw.  [default: 30 for pgd, 1000 for cw]")
    ] = None,
    c: Annotated[float | None, typer.Option("--c", help="The weight of success over norm in cw.  [default: 1]")] = None,
    data: EvaluationData = None,
    points: Annotated[
        int | None, typer.Option(min=1, help="How many, chosen at random.  [default: all; 1000 for cw]")
    ] = None,
    skip_broken: SkipBroken = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the attack's random starts.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Write what was found; pictures as .png and .svg.")
    ] = None,
    force: ForceFiles = False,
    as_json: AsJson = False,
) -> None:
    """Measure how far small changes of images fool a classifier: accuracy before and under attack.

    pgd and fgsm look within a distance eps, cw for the nearest change. An attack that finds nothing proves nothing.
    """
    from ..vision import evaluation_data as evaluation

    method = _method(name, norm, eps, steps, c, loss)
    require_free_files(out, ".npz", force=force)
    net, data = evaluation.load_network(model), data or evaluation.trained_on(model)
    count = points or (CW_POINTS if name == "cw" else None)
    x, y, rows, notes = evaluation.load_points(
        model, data, count, exactly=points is not None, skip_broken=skip_broken or 0.0
    )
    inputs = evaluation.match_input_shape(net, x, y, model)
    began = time.perf_counter()
    found = _run(net, inputs, y, method, seed, batch=100 if name == "cw" else 500)
    seconds = time.perf_counter() - began
    settings = {key: value for key, value in asdict(method).items() if value is not None}
    facts = {"model": str(model), "data": data, "points": len(y), "attack": name, "norm": method.norm}
    facts |= {"settings": settings, "clean_accuracy": found.clean_accuracy, "accuracy": found.accuracy}
    facts |= {"median_norm": found.median_norm, "seed": seed, "seconds": seconds, "notes": list(notes)}
    say(json.dumps(facts, allow_nan=False) if as_json else _summary(facts))  # in case the disk is full
    if out:
        from ..vision.figures import plot_adversaries

        content = evaluation.adversaries_to_npz(found, x, y, rows)
        save_files(out, content, plot_adversaries(net, found, x, y), quiet=as_json)


def _method(
    name: Name, norm: Norm | None, eps: float | None, steps: int | None, c: float | None, loss: Loss | None
) -> "Attack":
    from ..attacks import CW, FGSM, PGD

    foreign = {
        "--norm": norm if name == "cw" else None,
        "--eps": eps if name == "cw" else None,
        "--steps": steps if name == "fgsm" else None,
        "--c": c if name != "cw" else None,
        "--loss": loss if name != "pgd" else None,
    }
    for option, given in foreign.items():
        if given is not None:
            raise typer.BadParameter(f"{name} has no such setting: leave it out", param_hint=option)
    norm = norm or "l2"
    eps = eps if eps is not None else {"l2": 1.0, "linf": 0.1}[norm]
    try:
        if name == "cw":
            return CW(c if c is not None else 1.0, steps or 1000)
        return PGD(norm, eps, steps or 30, loss=loss or "cross-entropy") if name == "pgd" else FGSM(norm, eps)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--c" if name == "cw" else "--eps") from error


def _run(net: "nn.Module", x: "Tensor", y: "Tensor", method: "Attack", seed: int, batch: int) -> "Adversaries":
    from ..attacks import attack

    try:
        with progress_bar() as show:
            return attack(net, x, y, method, batch=batch, seed=seed, on_progress=show)
    except KeyboardInterrupt:
        exit_with_error("interrupted; nothing is saved", 130)


def _summary(facts: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in facts["settings"].items())
    median = "none was found" if facts["median_norm"] is None else f"{facts['median_norm']:.4g} in {facts['norm']}"
    lines = [
        f"{facts['attack']} ({settings}) on {facts['points']:,} points of {facts['data']}, {facts['seconds']:.1f} s",
        f"clean accuracy         {facts['clean_accuracy']:7.2%}",
        f"accuracy under attack  {facts['accuracy']:7.2%}",
        f"median perturbation    {median}",
        *(f"Note: {note}" for note in facts["notes"]),
    ]
    return "\n".join(lines)
