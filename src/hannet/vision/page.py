"""The page of a classifier of images: its training, and what was proved of it, as far as its folder tells."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..models.hub import WEIGHTS
from ..reporting.html import FILE, Page, Picture, ReportError, Section, picture, read_pictures
from ..reporting.intervals import format_interval, interval_form, wilson_interval
from ..reporting.page_parts import made_section, page_from
from ..reporting.tables import Table
from ..storage.files import read_json_object, write_atomic

__all__ = ["FILE", "FILES", "certified_page", "page_of", "save_certificate", "trained_page"]
CERTIFICATE = "certificate"  # its files in the folder of a network: .json, .png, .svg
FILES = (FILE, *(f"{CERTIFICATE}.{end}" for end in ("json", "png", "svg")))
MAX_CLASSES = 50  # that the page lists
_PYTHON = """from pathlib import Path

from hannet.vision.inference import classify

pictures, faults, notes = classify(Path({folder!r}), [Path("IMAGE.png")])
print(pictures[0].classes, pictures[0].probabilities)"""
_CERTIFY = """from pathlib import Path

from hannet.certify import certified_radius
from hannet.vision import evaluation_data as evaluation

folder = Path({folder!r})
network = evaluation.load_network(folder).double()
x, y, *_ = evaluation.load_points(folder, {data!r}, 10, exactly=True)
print(certified_radius(network, evaluation.match_input_shape(network, x, y, folder)))"""


def page_of(folder: Path) -> Page:
    """The page of what `hannet train images` saved in a folder, of any version, and of what `hannet certify` added to it.

    Raises ReportError for a folder with neither, and for what they did not write.
    """
    trained, certified = folder / "report.json", folder / f"{CERTIFICATE}.json"
    drawn = read_pictures(folder, "curves", CERTIFICATE)
    proof = None
    if certified.exists() and read_json_object(certified, ReportError).get("weights") == weights_digest(folder):
        proof = page_from(certified, "hannet certify", lambda facts: certified_page(facts, str(folder), drawn))
    if not trained.exists():
        if proof is None:
            raise ReportError(f"{folder}: holds neither report.json nor a certificate of the network in it")
        return proof
    return page_from(trained, "hannet train images", lambda facts: trained_page(facts, str(folder), drawn, proof))


def _certificate(proof: Page) -> list[Section]:
    """What was proved of a network, as parts of the page of its training."""
    first, *others = proof.sections
    first = replace(first, text=[f"{proof.result} {proof.about[0]}", *proof.about[1:]])
    return [replace(part, title=f"Certificate: {part.title.lower()}") for part in (first, *others)]


def trained_page(
    facts: Mapping[str, Any], folder: str, pictures: Mapping[str, bytes], proof: Page | None = None
) -> Page:
    """The page of a training.

    Args:
        facts: Those of `TrainedClassifier.report`.
        folder: Where the network is, for the lines that use it.
        pictures: Files by name, curves.svg and curves.png among them.
        proof: What was proved of the network.
    """
    images, classes = facts["images"], facts["classes"]
    accuracy, interval = _share(facts["test_accuracy"], images["test"])
    about = [f"accuracy on {images['test']:,} test images; 95% interval {interval} (Wilson)."]
    if (usual := _most_frequent(facts)) is not None:
        about.append(f"Always predicting the most frequent class of the training: {usual:.1%}.")
    for radius, share in facts.get("certified_accuracy", {}).items():
        about.append(f"Certified accuracy at l2 distance {radius}: {share:.1%}, proved.")
    drawn = picture("Loss and errors over the epochs", pictures, "curves")
    more = f" and {len(classes) - MAX_CLASSES:,} more" if len(classes) > MAX_CLASSES else ""
    shown = {"data": facts["data"], "classes": f"{len(classes):,}: {', '.join(classes[:MAX_CLASSES])}{more}"}
    shown |= {f"{part} images": f"{count:,}" for part, count in images.items()}
    shown |= {"broken images left out": f"{len(facts['broken']):,}"} if facts.get("broken") else {}
    sections = [
        Section("The training", pictures=[drawn] if drawn else [], facts=_network(facts)),
        *_classes(facts),
        Section("The data as understood", facts=shown, notes=[*facts.get("notes", [])]),
        *(_certificate(proof) if proof else []),
        Section("How to use the network", code=_commands(facts, folder)),
        made_section(facts, seed=str(facts["seed"]), recipe=_listed(facts["recipe"])),
    ]
    return Page(f"Classifier of images: {facts['data']}", accuracy, about, sections)


def _share(share: float, count: int) -> tuple[str, str]:
    return f"{share:.1%}", format_interval(wilson_interval(share, count), ".1%")


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items() if value is not None)


def _network(facts: Mapping[str, Any]) -> dict[str, str]:
    shown = {"network": _listed(facts["network"]), "parameters": f"{facts['parameters']:,}"}
    validation = facts["validation_accuracy"]
    shown["epochs"] = f"{facts['epochs']}, {facts['seconds']:.1f} s"
    if validation:
        held_out = f"{validation[-1]:.1%} of {facts['images']['validation']:,} images held out from the training"
        shown["validation accuracy"] = f"{held_out}; nothing was chosen by it"
    return shown


def _most_frequent(facts: Mapping[str, Any]) -> float | None:
    """The accuracy of who always says the class that the training has most of; None of versions that did not count."""
    if not facts.get("confusion") or not facts.get("training_counts"):
        return None
    counts = [sum(row) for row in facts["confusion"]]
    usual = max(range(len(counts)), key=facts["training_counts"].__getitem__)
    return counts[usual] / sum(counts)


def _classes(facts: Mapping[str, Any]) -> list[Section]:
    """Of each class how many are recognised, and what the others are taken for most often; the lowest share first."""
    confusion, names = facts.get("confusion"), facts["classes"]
    if not confusion or len(names) > MAX_CLASSES:
        return []
    rows: list[dict[str, Any]] = []
    for name, line, trained in zip(names, confusion, facts["training_counts"], strict=True):
        place = len(rows)
        count, wrong = sum(line), {other: n for other, n in enumerate(line) if other != place and n}
        most = max(wrong, key=wrong.__getitem__, default=None)
        row = {"class": name, "train": trained, "test": count, "recall": line[place] / count if count else None}
        rows.append(row | {"mistaken": None if most is None else f"{names[most]} ({wrong[most]:,})"})
    rows.sort(key=lambda row: 2.0 if row["recall"] is None else row["recall"])
    columns = {"class": ("class", ""), "train": ("training images", "{:,}"), "test": ("test images", "{:,}")}
    columns |= {"recall": ("recognised", "{:.1%}"), "mistaken": ("most often taken for", "")}
    return [Section("Class by class", tables=[Table("", columns, rows)])]


def _commands(facts: Mapping[str, Any], folder: str) -> list[str]:
    name = shlex.quote(folder)
    lines = [f"hannet predict {name} IMAGE.png", f"hannet attack {name}"]
    lines += [f"hannet certify {name}"] if "certified_accuracy" in facts else []
    return ["\n".join(lines), _PYTHON.format(folder=folder)]


def certified_page(facts: Mapping[str, Any], folder: str, pictures: Mapping[str, bytes]) -> Page:
    """The page of a certification; arguments as those of `trained_page`, pictures: certificate.svg and certificate.png among them."""
    count, usual = facts["points"], facts["most_frequent"]
    rows = [{"what": "right", "share": facts["accuracy"]}]
    rows += [
        {"what": f"right, and provably so within {radius}", "share": share}
        for radius, share in facts["certified_accuracy"].items()
    ]
    rows.append({"what": "right, if every point is given the most frequent class", "share": usual})
    shown = [{**row, "interval": wilson_interval(row["share"], count)} for row in rows]
    radius, share = max(facts["certified_accuracy"].items(), key=lambda item: item[1])
    result, interval = _share(share, count)
    proof = f"no change of l2 norm {radius} or less can alter it: proved, as computed in {facts['computed_in']}"
    about = [f"of {count:,} points of {facts['data']} are right, and {proof}; 95% interval {interval} (Wilson)."]
    about.append(f"Without any change {facts['accuracy']:.1%} are right.")
    columns = {
        "what": ("answer", ""),
        "share": ("share", "{:.1%}"),
        "interval": ("95% interval", interval_form(".1%")),
    }
    drawn: Sequence[Picture | None] = [picture("Certified accuracy over the radius", pictures, CERTIFICATE)]
    median = facts["median_radius"]
    proved = {"Lipschitz bound (l2)": f"{facts['lipschitz_bound']:.4g}, of all outputs together"}
    proved |= {"median radius of what is right": "no point is right" if median is None else f"{median:.4g}"}
    sections = [
        Section(
            "Proved",
            pictures=[one for one in drawn if one],
            tables=[Table("", columns, shown)],
            facts=proved,
            notes=facts.get("notes", []),
        ),
        Section(
            "How to use it",
            code=[f"hannet attack {shlex.quote(folder)}", _CERTIFY.format(folder=folder, data=facts["data"])],
        ),
        made_section(facts),
    ]
    return Page(f"Certificate: {folder}", result, about, sections)


def weights_digest(folder: Path) -> str:
    """What names the weights that a certificate is of; "" if there are none. Raises ReportError if they cannot be read."""
    path = folder / WEIGHTS
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from error


def save_certificate(folder: Path, facts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Path:
    """Write what was proved of a network into its folder, and its page anew; gives the page's path.

    Args:
        folder: Of the network.
        facts: What `hannet certify` prints.
        pictures: Contents of certificate.svg and certificate.png, by their endings.

    Raises:
        StoreError: The folder cannot be written.
        ReportError: What it holds of the training is damaged; what was proved is kept.
    """
    kept = {**facts, "weights": weights_digest(folder)}
    for end, content in pictures.items():
        write_atomic(folder / f"{CERTIFICATE}.{end}", content)
    write_atomic(folder / f"{CERTIFICATE}.json", (json.dumps(kept, indent=1, allow_nan=False) + "\n").encode())
    return page_of(folder).save(folder)
