"""What was measured of a classifier of images, for the card of its network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models.card import Evaluation, Metric
from ..reporting.intervals import wilson_interval


def image_evaluation(report: Mapping[str, Any]) -> Evaluation:
    """What the report.json of `hannet train images` says; a folder of images is named without the folders that it is in.

    Raises ValueError for another report.
    """
    if lacking := [name for name in ("data", "images", "test_accuracy") if name not in report]:
        raise ValueError(f"report must be what report.json of `hannet train images` holds; it has no {lacking[0]!r}")
    count = report["images"]["test"]
    shares = [("accuracy", "accuracy", report["test_accuracy"])]
    for radius, share in report.get("certified_accuracy", {}).items():
        shares.append(("accuracy", f"certified accuracy at l2 distance {radius}", share))
    metrics = [Metric(kind, name, share, ".4f", wilson_interval(share, count)) for kind, name, share in shares]
    return Evaluation("image-classification", Path(report["data"]).name or "images", "test", metrics)
