"""What was measured of a model, as its card on the Hugging Face Hub says it: `model-index` for machines, a table for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from huggingface_hub import EvalResult

from ..reporting.intervals import format_interval
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
            ends = "–" if metric.interval is None else format_interval(metric.interval, metric.form)
            lines.append(f"| {escape_markdown(metric.name)} | {metric.value:{metric.form}} | {ends} |")
        return "\n".join(lines)
