"""What a stage finds is written down at once: a record a piece, also of a piece that failed."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import torch
import triton

from gpu import driver
from hannet.experiments.record import Record, Run
from hannet.experiments.store import Store
from hannet.storage.provenance import source_hash

BROKEN = 3  # what a stage exits with whose GPU can no longer be used, such as after a wild write: another process can
Metrics = Mapping[str, float]


@dataclass
class Keeper:
    """The pieces of one stage.

    seconds: what the stage may take; since: pieces that failed after this are not tried again; rehearsal: tiny, on a CPU.
    """

    out: Path
    stage: str
    seconds: float
    since: str
    rehearsal: bool = False
    began: float = field(default_factory=perf_counter)

    def __post_init__(self) -> None:
        self.store = Store(self.out)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (perf_counter() - self.began)

    def find(self, piece: str, stage: str = "", **config: object) -> Record | None:
        """The record of a piece that this code made on this device."""
        record = self.store.records().get(self._run(piece, config, stage).key)
        return record if record and self._is_ours(record) else None

    def tell(self, piece: str, work: Callable[[], Metrics], needs: float = 0.0, **config: object) -> Metrics | None:
        """The metrics of a piece, from its record or by doing the work; None if it failed, or if fewer seconds than it needs are left."""
        return self.tell_with_curves(piece, lambda: (work(), {}), needs, **config)

    def tell_with_curves(
        self,
        piece: str,
        work: Callable[[], tuple[Metrics, Mapping[str, Sequence[float]]]],
        needs: float = 0.0,
        **config: object,
    ) -> Metrics | None:
        """The same with numbers an epoch."""
        run, failed = self._run(piece, config), self._failure(piece, config)
        for known in map(self.store.records().get, (run.key, failed.key)):
            if known and self._is_ours(known) and (known.key == run.key or known.when >= self.since):
                return known.metrics if known.key == run.key else None
        if self.left < needs or self.left <= 0:
            print(f"{self.stage}, {piece}: {self.left:.0f} s are too few", flush=True)
            return None
        print(f"{self.stage}, {piece} ...", flush=True)
        began = perf_counter()
        try:
            metrics, curves = work()
            self._append(run, metrics, perf_counter() - began, curves)
        except Exception as error:  # noqa: BLE001  it is recorded, and the next piece has its turn
            self.fail(piece, f"{type(error).__name__}: {error}", perf_counter() - began, **config)
            traceback.print_exc()
            self._leave_if_broken()
            return None
        print(
            f"{self.stage}, {piece}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()), flush=True
        )
        return metrics

    def fail(self, piece: str, message: str, seconds: float, **config: object) -> None:
        """Records a failure."""
        print(f"{self.stage}, {piece}: FAILED: {message}", flush=True)
        run = self._failure(piece, config)
        self._append(replace(run, config={**run.config, "message": message[-2000:]}), {}, seconds, key=run.key)

    def counts(self) -> tuple[int, int]:
        """The pieces of this stage that are done, and those that failed since."""
        name = self._run("", {}).experiment
        records = [record for record in self.store.records().values() if self._is_ours(record)]
        failed = [r for r in records if r.experiment == f"{name}: failed" and r.when >= self.since]
        return sum(record.experiment == name for record in records), len(failed)

    def _run(self, piece: str, config: Mapping[str, object], stage: str = "") -> Run:
        name = f"first gpu{' rehearsal' * self.rehearsal} {stage or self.stage}"
        return Run(name, {"piece": piece, **config}, 0)

    def _failure(self, piece: str, config: Mapping[str, object]) -> Run:
        run = self._run(piece, config)
        return replace(run, experiment=f"{run.experiment}: failed")

    def _is_ours(self, record: Record) -> bool:
        return record.sources == source_hash() and record.device == device_name()

    def _append(
        self,
        run: Run,
        metrics: Metrics,
        seconds: float,
        curves: Mapping[str, Sequence[float]] | None = None,
        key: str = "",
    ) -> None:
        """key: of the record, if not the run's own."""
        record = Record.of(run, metrics, seconds, curves)
        versions = {"triton": triton.__version__, "cuda": str(torch.version.cuda), "driver": driver()}
        record = replace(record, key=key or run.key, device=device_name(), versions=dict(record.versions) | versions)
        self.store.append([record])

    def _leave_if_broken(self) -> None:
        if torch.cuda.is_available():
            try:
                torch.cuda.synchronize()
            except RuntimeError as error:
                raise SystemExit(BROKEN) from error


def device_name() -> str:
    """The GPU, or that it is a rehearsal."""
    return f"cuda {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "cpu, Triton's interpreter"


def now() -> str:
    """As records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
