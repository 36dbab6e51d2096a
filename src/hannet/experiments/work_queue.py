"""A sweep under way: which groups of runs are to do, in work, done or failed; and how one of them is computed and kept."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..data import DataError
from ..reporting.progress import OnProgress, ProgressEvent
from ..storage.files import StoreError
from ..storage.provenance import source_hash
from ..train.errors import TerminatedError
from .base import Experiment, format_seeds
from .record import Record, Run
from .store import Store, serialize_weights

RETRY_AFTER = 0.5  # seconds until a group that another process has is tried again
MAX_DEATHS = 3  # processes that may die over a group before it counts as failed
FATAL = (StoreError, DataError, ModuleNotFoundError, TerminatedError)  # they would befall every other group as well

Computed = tuple[Record, bytes | None]


class SweepError(RuntimeError):
    """A sweep that could not do all its work; the message is one sentence for the user."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a group ended. new: runs computed; busy: another process has it; failure: what went wrong."""

    new: int = 0
    busy: bool = False
    failure: str = ""


class WorkQueue:
    """The groups of a sweep, the longest first, each taken and then marked done; and the progress of the whole.

    on_progress: takes the events of the groups, each within one of the sweep. on_failure: takes a line for each group that fails.
    """

    def __init__(
        self,
        groups: Sequence[list[Run]],
        cost: Callable[[Run], float],
        on_progress: OnProgress,
        on_failure: Callable[[str], None] | None = None,
    ):
        self.groups = sorted(groups, key=lambda group: -sum(map(cost, group)))
        self.costs = [sum(map(cost, group)) for group in self.groups]
        self.on_progress, self.on_failure = on_progress, on_failure
        self.shares = [0.0] * len(groups)
        self.ready = deque(range(len(groups)))
        self.in_work: set[int] = set()
        self.busy: dict[int, float] = {}  # when to try them again
        self.deaths: Counter[int] = Counter()
        self.labels: dict[int, str] = {}
        self.failures: list[str] = []
        self.new = 0
        self.began = time.perf_counter()

    @property
    def open(self) -> bool:
        """Whether a group is not settled for good."""
        return bool(self.ready or self.in_work or self.busy)

    def take(self) -> tuple[int, list[Run]] | None:
        """A group to attempt, and its number; None if there is nothing to attempt now."""
        if not self.ready:
            now = time.perf_counter()
            self.ready.extend(number for number, when in self.busy.items() if when <= now)
            self.busy = {number: when for number, when in self.busy.items() if when > now}
        if not self.ready:
            return None
        number = self.ready.popleft()
        self.in_work.add(number)
        return number, self.groups[number]

    def report(self, number: int, event: ProgressEvent) -> None:
        """How far a group is."""
        self.labels[number] = event.label
        self.shares[number] = event.fraction
        self._report(number, event)

    def mark_done(self, number: int, outcome: Outcome) -> None:
        """How an attempt at a group ended."""
        self.in_work.discard(number)
        if outcome.busy:
            self.busy[number] = time.perf_counter() + RETRY_AFTER
            if not self.ready and not self.in_work:
                self.wait_for("another process")
            return
        self.shares[number] = 1.0
        self.new += outcome.new
        if outcome.failure:
            self.failures.append(f"{self._name(number)}: {outcome.failure}")
            if self.on_failure:
                self.on_failure(self.failures[-1])

    def died(self, number: int, how: str) -> None:
        """The process at work on a group died: the group is attempted again, unless that happens too often."""
        self.deaths[number] += 1
        if self.deaths[number] >= MAX_DEATHS:
            self.mark_done(number, Outcome(failure=f"its process died {MAX_DEATHS} times, {how}"))
        else:
            self.in_work.discard(number)
            self.ready.appendleft(number)

    def wait_for(self, what: str) -> None:
        """Show that nothing goes on here, and why."""
        self._report(len(self.groups) - 1, ProgressEvent(f"waiting for {what}", 0, 1, ""))

    def close(self, store: Store) -> None:
        """Raises SweepError if a group failed."""
        if self.failures:
            raise SweepError(
                f"{len(self.failures)} of {len(self.groups)} groups failed, the first: {self.failures[0]}; "
                f"the others are kept in {store.folder}, and the same command tries these again"
            )

    def _name(self, number: int) -> str:
        if number in self.labels:
            return self.labels[number]
        group = self.groups[number]
        what = " ".join(map(str, group[0].config.get("network", group[0].config).values()))
        return f"{group[0].experiment} {what}, {format_seeds(sorted({run.seed for run in group}))}"

    def _report(self, number: int, event: ProgressEvent) -> None:
        done = sum(cost * share for cost, share in zip(self.costs, self.shares, strict=True))
        metrics: dict[str, float | str] = {"group": f"{number + 1}/{len(self.costs)}"}
        if self.new:
            metrics["runs/min"] = 60 * self.new / (time.perf_counter() - self.began)
        if self.failures:
            metrics["failed"] = len(self.failures)
        self.on_progress(replace(event, within=ProgressEvent("sweep", done, sum(self.costs), "", metrics)))


def compute(experiment: Experiment, group: Sequence[Run], on_progress: OnProgress) -> list[Computed]:
    """The records of a group's runs, with the weights of those that keep some, as safetensors."""
    source_hash()  # which is kept: the files may change while it computes
    began = time.perf_counter()
    results = experiment.compute(group, on_progress)
    share = (time.perf_counter() - began) / len(group)
    return [
        (
            Record.of(run, result.metrics, share, result.curves, result.device),
            None if result.model is None else serialize_weights(result.model),
        )
        for run, result in zip(group, results, strict=True)
    ]


def save_results(store: Store, computed: Sequence[Computed]) -> None:
    """Put a group into the store: weights first, so that a record never lacks them."""
    for record, content in computed:
        if content is not None:
            store.save_weights(record.key, content)
    store.append([record for record, _ in computed])


def attempt(experiment: Experiment, store: Store, group: Sequence[Run], on_progress: OnProgress) -> Outcome:
    """Compute and keep what the store still lacks of a group, unless another process has it."""
    with store.claim(group) as mine:
        if not mine:
            return Outcome(busy=True)
        missing = store.missing(group, models=experiment.needs_weights)
        if not missing:
            return Outcome()
        try:
            computed = compute(experiment, missing, on_progress)
        except FATAL:
            raise
        except Exception as error:  # noqa: BLE001  whatever a net dies of, the other groups go on
            return Outcome(failure=format_exception(error))
        save_results(store, computed)
        return Outcome(new=len(missing))


def format_exception(error: BaseException) -> str:
    """An exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
