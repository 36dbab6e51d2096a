"""The commands that tell how robust a network is: `hannet attack`, `hannet certify`."""

import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..vision.evaluation_data import Data, load_network, load_points, match_input_shape, trained_on
from .console import exit_with_error, progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from ..attacks import Adversaries, Attack

Name = Literal["pgd", "cw", "fgsm"]
Norm = Literal["l2", "linf"]
Loss = Literal["cross-entropy", "margin"]

CW_POINTS = 1000
SHOWN = 8


def attack(
    model: Annotated[Path, typer.Argument(help="The folder that `save_pretrained` wrote.")],
    name: Annotated[Name, typer.Option("--attack", help="How to attack.")] = "pgd",
    norm: Annotated[Norm | None, typer.Option(help="How pgd and fgsm measure a perturbation.  [default: l2]")] = None,
    eps: Annotated[
        float | None, typer.Option(help="Its largest norm, pixels from 0 to 1.  [default: 1 in l2, 0.1 in linf]")
    ] = None,
    loss: Annotated[
        Loss | None, typer.Option(help="What pgd climbs; large logits cannot hide a margin.  [default: cross-entropy]")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of pgd and cw.  [default: 30 for pgd, 1000 for cw]")] = None,
    c: Annotated[float | None, typer.Option("--c", help="The weight of success over norm in cw.  [default: 1]")] = None,
    data: Data = None,
    points: Annotated[
        int | None, typer.Option(min=1, help="As many, chosen at random.  [default: all; 1000 for cw]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the attack's random starts.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Write what was found; pictures beside it as .png and .svg.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the files that --out names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how far small changes of images fool a classifier: accuracy before and under attack.

    pgd and fgsm look within a distance eps, cw for the nearest change. An attack that finds nothing proves nothing.
    """
    method = _method(name, norm, eps, steps, c, loss)
    if out:
        _require_free(out, ".npz", force=force)
    net, data = load_network(model), data or trained_on(model)
    x, y, rows = load_points(model, data, points or (CW_POINTS if name == "cw" else None), exactly=points is not None)
    inputs = match_input_shape(net, x, y, model)
    began = time.perf_counter()
    found = _run(net, inputs, y, method, seed, batch=100 if name == "cw" else 500)
    seconds = time.perf_counter() - began
    facts = {"model": str(model), "data": data, "points": len(y), "attack": name, **_facts(found, method)}
    facts |= {"seed": seed, "seconds": seconds}
    print(json.dumps(facts, allow_nan=False) if as_json else _told(facts), flush=True)  # before the disk may be full
    if not out:
        return
    saved = _save(out, _arrays(found, x, y, rows), _picture(net, found, x, y))
    if not as_json:
        print(saved)


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


def certify(
    model: Annotated[Path, typer.Argument(help="The folder that `save_pretrained` wrote.")],
    data: Data = None,
    radii: Annotated[str, typer.Option(metavar="R,...", help="l2 distances, pixels from 0 to 1.")] = "0.5,1.58",
    points: Annotated[int | None, typer.Option(min=1, help="As many, chosen at random.  [default: all]")] = None,
    float32: Annotated[
        bool, typer.Option("--float32", help="The model as float32 computes it: rounding takes from the radii.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write a line a point; a picture beside it as .png and .svg."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the files that --out names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prove how far images may change, in l2, before a classifier gives another class: what no attack can beat.

    The proof is of the model as computed in float64, rounding included; --float32: as computed in float32.
    """
    import torch

    from ..certify import certificates, lipschitz_bound

    asked = _radii(radii)
    if out:
        _require_free(out, ".csv", force=force)
    net, data = load_network(model).to(torch.float32 if float32 else torch.float64), data or trained_on(model)
    x, y, rows = load_points(model, data, points, exactly=True)
    inputs = match_input_shape(net, x, y, model)
    began = time.perf_counter()
    bound = lipschitz_bound(net)
    classes, certain = certificates(net, inputs)
    seconds = time.perf_counter() - began
    facts = {"model": str(model), "data": data, "points": len(y), "computed_in": "float32" if float32 else "float64"}
    facts |= {"lipschitz_bound": bound, **_certain(certain, classes == y, asked), "seconds": seconds}
    print(json.dumps(facts, allow_nan=False) if as_json else _proven(facts), flush=True)
    if not out:
        return
    saved = _save(out, _lines(rows, y, classes, certain), _curve(certain, classes == y, asked, f"{model.name}: {data}"))
    if not as_json:
        print(saved)


def _radii(text: str) -> list[float]:
    try:
        radii = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        radii = []
    if not radii or not all(0 < radius < math.inf for radius in radii):
        raise typer.BadParameter(f"{text!r} are not distances above 0, such as 0.5,1.58", param_hint="--radii")
    return radii


def _certain(certain: "Tensor", right: "Tensor", radii: Sequence[float]) -> dict[str, Any]:
    shares = {f"{radius:.12g}": float((right & (certain > radius)).double().mean()) for radius in radii}
    median = float(certain[right].median()) if right.any() else None
    return {"accuracy": float(right.double().mean()), "certified_accuracy": shares, "median_radius": median}


def _proven(facts: Mapping[str, Any]) -> str:
    median = "no point is right" if facts["median_radius"] is None else f"{facts['median_radius']:7.4g}"
    shares = facts["certified_accuracy"].items()
    how = f"the model as computed in {facts['computed_in']}, {facts['seconds']:.1f} s"
    lines = [
        f"{facts['points']:,} points of {facts['data']}, {how}",
        f"Lipschitz bound (l2)             {facts['lipschitz_bound']:7.4g}  of all outputs together",
        f"accuracy                         {facts['accuracy']:7.2%}",
        *(f"{f'certified accuracy at {radius}':<33}{share:7.2%}" for radius, share in shares),
        f"median radius of what is right   {median}",
    ]
    return "\n".join(lines)


def _lines(rows: "Tensor", y: "Tensor", classes: "Tensor", certain: "Tensor") -> bytes:
    """A CSV file; a radius with all its digits, for rounded up it would claim too much."""
    columns = (part.tolist() for part in (rows, y, classes, certain))
    lines = [",".join(map(str, line)) for line in zip(*columns, strict=True)]
    return ("\n".join(["row,class,predicted,radius", *lines]) + "\n").encode()


def _curve(certain: "Tensor", right: "Tensor", radii: Sequence[float], title: str) -> "Figure":
    """Certified accuracy over the radius: it falls where the radius of a point that is right ends."""
    from matplotlib.figure import Figure

    ends = certain[right].sort().values.tolist()
    left = [100 * (len(ends) - gone) / len(right) for gone in range(len(ends) + 1)]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.stairs(left, [0.0, *ends, max([*ends, *radii])], baseline=None)
    for radius in radii:
        axis.axvline(radius, color="black", linewidth=0.5, linestyle=":")
    axis.set(xlabel="l2 radius, pixels from 0 to 1", ylabel="certified accuracy in %", ylim=(0, 100), title=title)
    axis.set_xlim(left=0)
    return figure


def _require_free(out: Path, suffix: str, *, force: bool) -> None:
    taken = [path for path in (out, out.with_suffix(".png"), out.with_suffix(".svg")) if path.exists()]
    faults = {
        f"{out} does not end in {suffix}": out.suffix != suffix,
        f"{out} would stand in a folder that does not exist": not out.parent.is_dir(),
        f"{taken[0] if taken else out} is a folder": any(path.is_dir() for path in taken),
        f"{taken[0] if taken else out} is there already: --force replaces it": bool(taken) and not force,
    }
    for fault, found in faults.items():
        if found:
            raise typer.BadParameter(fault, param_hint="--out")


def _save(out: Path, content: bytes, figure: "Figure | None") -> str:
    """Write the content, and the picture beside it; tell of it."""
    from ..reporting import figures
    from ..storage.files import write_atomic

    write_atomic(out, content)
    saved = [out]
    for form in ("png", "svg"):
        path = out.with_suffix(f".{form}")
        if figure:
            write_atomic(path, figures.figure_as_bytes(figure, form))
            saved.append(path)
        else:
            path.unlink(missing_ok=True)  # of what the file held before
    return f"Saved: {', '.join(map(str, saved))}"


def _run(net: "nn.Module", x: "Tensor", y: "Tensor", method: "Attack", seed: int, batch: int) -> "Adversaries":
    from ..attacks import attack
    from ..reporting.progress import ProgressEvent

    try:
        with progress_bar() as show:

            def on_progress(done: int, total: int) -> None:
                show(ProgressEvent(type(method).__name__, done, total, "points"))

            return attack(net, x, y, method, batch=batch, seed=seed, on_progress=on_progress)
    except KeyboardInterrupt:
        exit_with_error("interrupted; nothing is saved", 130)


def _facts(found: "Adversaries", method: "Attack") -> dict[str, Any]:
    from dataclasses import asdict

    settings = {key: value for key, value in asdict(method).items() if value is not None}
    accuracies = {"clean_accuracy": found.clean_accuracy, "accuracy": found.accuracy}
    return {"norm": method.norm, "settings": settings} | accuracies | {"median_norm": found.median_norm}


def _told(facts: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in facts["settings"].items())
    median = "none was found" if facts["median_norm"] is None else f"{facts['median_norm']:.4g} in {facts['norm']}"
    return (
        f"{facts['attack']} ({settings}) on {facts['points']:,} points of {facts['data']}, {facts['seconds']:.1f} s\n"
        f"clean accuracy         {facts['clean_accuracy']:7.2%}\n"
        f"accuracy under attack  {facts['accuracy']:7.2%}\n"
        f"median perturbation    {median}"
    )


def _arrays(found: "Adversaries", x: "Tensor", y: "Tensor", rows: "Tensor") -> bytes:
    """An .npz file that --data takes again: x after the attack, y; original x, success, norms, rows of the data."""
    import numpy as np

    buffer = io.BytesIO()
    arrays: dict[str, Tensor] = {"x": found.x.reshape(x.shape), "y": y, "original": x, "rows": rows}
    arrays |= {"success": found.success, "norms": found.norms}
    plain: Any = {name: array.numpy() for name, array in arrays.items()}
    np.savez_compressed(buffer, **plain)
    return buffer.getvalue()


def _pixels(x: "Tensor") -> "Tensor | None":
    """One point as matplotlib shows it, (h, w) or (h, w, 3); None if it is no image."""
    if x.ndim == 1 and (side := math.isqrt(len(x))) ** 2 == len(x):
        return x.reshape(side, side)
    if x.ndim == 3 and x.shape[0] in (1, 3):
        return x[0] if x.shape[0] == 1 else x.permute(1, 2, 0)
    return x if x.ndim == 2 else None


def _picture(net: "nn.Module", found: "Adversaries", x: "Tensor", y: "Tensor") -> "Figure | None":
    """Original, attacked and difference of a few points, from small to large perturbations; None if there is nothing to show."""
    import torch
    from matplotlib.figure import Figure

    turned = (found.success & (found.norms > 0)).nonzero()[:, 0]
    if not len(turned) or _pixels(x[0]) is None:
        return None
    turned = turned[found.norms[turned].argsort()]
    shown = turned[torch.linspace(0, len(turned) - 1, min(SHOWN, len(turned))).round().long()]
    with torch.no_grad():
        taken = net(found.x[shown]).argmax(1)
    after = found.x.reshape(x.shape)[shown].to(x.dtype)
    figure = Figure(figsize=(1.3 * len(shown) + 1.2, 4.6), layout="constrained")
    axes = figure.subplots(3, len(shown), squeeze=False)
    change = after - x[shown]
    parts: Sequence[tuple[str, Tensor]] = (("original", x[shown]), ("attacked", after), ("change", change))
    for line, (label, images) in zip(axes, parts, strict=True):
        line[0].set_ylabel(label)
        for axis, image in zip(line, images, strict=True):
            _draw(axis, image, float(change.abs().max()) if label == "change" else None)
    if x.shape[1] != 3:
        figure.supxlabel("change: red where there is less, blue where there is more", fontsize=10)
    for place, row in enumerate(shown.tolist()):
        axes[0, place].set_title(f"{int(y[row])}", fontsize=10)
        axes[1, place].set_title(f"taken for {int(taken[place])}", fontsize=10)
        axes[2, place].set_title(f"norm {found.norms[row]:.3g}", fontsize=10)
    return figure


def _draw(axis: Any, image: "Tensor", largest: float | None) -> None:
    """largest: of a change in any picture; None for an image with pixels from 0 to 1."""
    pixels = _pixels(image)
    assert pixels is not None
    if largest is None:
        axis.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1)
    elif pixels.ndim == 3:
        axis.imshow((0.5 + pixels / (2 * largest)).numpy())
    else:
        axis.imshow(pixels.numpy(), cmap="RdBu", vmin=-largest, vmax=largest)
    axis.set(xticks=[], yticks=[])
