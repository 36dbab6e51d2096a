"""A run is what to compute; its record is what came out, when, and from which code."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from ..storage.provenance import commit, describe_device, source_hash, versions


@dataclass(frozen=True)
class Run:
    """One thing to compute. config holds plain JSON values: equal configs mean equal runs, whatever their key order."""

    experiment: str
    config: Mapping[str, Any]
    seed: int

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits that name this run in the store."""
        text = json.dumps([self.experiment, self.config, self.seed], sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """What one run gave, where, when, from which code and with which versions.

    metrics: a number, or None for one that is not finite; curves: numbers an epoch, for pictures, four significant digits;
    sources: `provenance.source_hash`, missing in records older than it.
    """

    key: str
    experiment: str
    config: Mapping[str, Any]
    seed: int
    metrics: Mapping[str, float | None]
    seconds: float
    device: str
    versions: Mapping[str, str]
    commit: str | None
    when: str
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    sources: str | None = None

    @classmethod
    def of(
        cls,
        run: Run,
        metrics: Mapping[str, float],
        seconds: float,
        curves: Mapping[str, Sequence[float]] | None = None,
        trained_on: str = "cpu",
    ) -> "Record":
        """The record of a run that just ended on this machine. trained_on: "cpu" or "cuda"."""
        return cls(
            key=run.key,
            experiment=run.experiment,
            config=run.config,
            seed=run.seed,
            metrics={name: _finite(value) for name, value in metrics.items()},
            seconds=round(seconds, 3),
            device=describe_device(trained_on),
            versions=versions(),
            commit=commit(),
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            curves={
                name: [_finite(float(f"{value:.4g}")) for value in curve] for name, curve in (curves or {}).items()
            },
            sources=source_hash(),
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
