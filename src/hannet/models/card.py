"""What was measured of a model, as its card on the Hugging Face Hub says it: `model-index` for machines, a table for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult

from ..reporting.text import escape_markdown, one_line


class Metric(NamedTuple):
    """kind: what the Hub calls it, such as accuracy; form: number format; interval: of 95 %, if it is known."""

    kind: str
    name: str
    value: float
    form: str = ".4f"
    interval: Sequence[float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured on which data.

    Args:
        task: One of the Hub's, such as image-classification.
        data: What the data are called.
        part: Which of them were measured on.
        metrics: What came out.
    """

    task: str
    data: str
    part: str
    metrics: Sequence[Metric]

    def results(self) -> list[EvalResult]:
        """The metrics in the Hub's format."""
        return [
            EvalResult(
                task_type=self.task,
                dataset_type=one_line(self.data),
                dataset_name=one_line(self.data),
                dataset_split=self.part,
                metric_type=metric.kind,
                metric_name=metric.name,
                metric_value=metric.value,
            )
            for metric in self.metrics
        ]

    def markdown(self) -> str:
        """The metrics as a table."""
        lines = [
            f"Measured on {escape_markdown(self.data)} ({self.part}):",
            "",
            "| metric | value | 95% interval |",
            "| --- | ---: | ---: |",
        ]
        for metric in self.metrics:
            ends = "–" if metric.interval is None else "–".join(f"{end:{metric.form}}" for end in metric.interval)
            lines.append(f"| {escape_markdown(metric.name)} | {metric.value:{metric.form}} | {ends} |")
        return "\n".join(lines)


def image_evaluation(report: Mapping[str, Any]) -> Evaluation:
    """What the report.json of `hannet train images` says; a folder of images is named without the folders that it is in.

    Raises ValueError for another report.
    """
    from ..reporting.intervals import wilson_interval

    if lacking := [name for name in ("data", "images", "test_accuracy") if name not in report]:
        raise ValueError(f"report must be what report.json of `hannet train images` holds; it has no {lacking[0]!r}")
    count = report["images"]["test"]
    shares = [("accuracy", "accuracy", report["test_accuracy"])]
    for radius, share in report.get("certified_accuracy", {}).items():
        shares.append(("accuracy", f"certified accuracy at l2 distance {radius}", share))
    metrics = [Metric(kind, name, share, ".4f", wilson_interval(share, count)) for kind, name, share in shares]
    return Evaluation("image-classification", Path(report["data"]).name or "images", "test", metrics)
