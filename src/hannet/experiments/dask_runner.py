"""A sweep on a Dask cluster. Its workers need hannet, but no file system in common with us: results come back over the wire.

Dask's nodes send each other pickled code and data: whoever reaches the scheduler can run anything on its machines and on
this one. Use clusters that are yours, on a network you trust or with Dask's TLS.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self
from uuid import uuid4

import torch
from distributed import Client, Future, get_worker
from distributed.client import FutureCancelledError

from ..reporting.progress import OnProgress, ProgressEvent
from ..storage.provenance import versions
from .base import Experiment
from .record import Run
from .store import Store
from .work_queue import FATAL, Computed, Outcome, SweepError, WorkQueue, compute, format_exception, save_results

CONNECT_WITHIN = 10.0  # seconds
PER_WORKER = 2  # groups under way per worker: one that it computes, one that waits there
LOOK_EVERY = 0.5  # seconds, for workers that came and for groups that another process held
REPORT_EVERY = 1.0  # seconds between two events of a worker

_one_at_a_time = threading.Lock()  # PyTorch has one random state a process, and a network's start is drawn from it


def run_on_cluster(queue: WorkQueue, experiment: Experiment, store: Store, address: str) -> None:
    """Compute an queue's groups on the workers of a scheduler (tcp://host:port, or its file), and keep them here.

    A group whose worker dies is computed by another. Raises SweepError if the scheduler cannot be reached or goes away, or if
    a worker has another version of hannet.
    """
    _raise_file_limit()
    with _connected(address) as client, _ClusterQueue(client, queue, experiment, store) as submitted:
        try:
            while queue.open:
                workers = len(client.nthreads())
                while len(submitted.pending) < PER_WORKER * max(workers, 1) and (work := queue.take()):
                    submitted.submit(*work)
                if not workers:
                    queue.wait_for("workers to join the cluster")
                submitted.listen()
        except (OSError, FutureCancelledError) as error:
            raise SweepError(
                f"the Dask scheduler at {address} went away; what is done is kept in {store.folder}"
            ) from error


def _raise_file_limit() -> None:
    """Every run under way has a lock, which is an open file: the usual 1,024 serve about fifty workers."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    logging.getLogger("distributed.client").setLevel(
        logging.CRITICAL
    )  # it logs tracebacks of what we say in a sentence
    file = Path(address)
    try:
        scheduler = json.loads(file.read_text())["address"] if file.is_file() else address
        client = Client(scheduler, timeout=CONNECT_WITHIN, set_as_default=False)
    except (OSError, ValueError, KeyError) as error:
        raise SweepError(f"no Dask scheduler answers at {address} ({format_exception(error)})") from error
    with client:
        try:
            found = client.run(versions, on_error="return")
        except OSError as error:
            raise SweepError(f"the cluster at {address} went away ({format_exception(error)})") from error
        for worker, theirs in found.items():
            match theirs:
                case ModuleNotFoundError():
                    raise SweepError(f"the workers of {address} lack the package {theirs.name}") from theirs
                case OSError():  # it died meanwhile: the others go on
                    continue
                case Exception():
                    raise theirs
            _require_our_version(theirs["hannet"], f"worker {worker}")
        yield client


def _require_our_version(theirs: str, whose: str) -> None:
    ours = metadata.version("hannet")
    if theirs != ours:
        raise SweepError(f"{whose} has hannet {theirs}, here is {ours}: install the same on both")


@dataclass(frozen=True)
class _Submission:
    """A group on its way: the missing runs of it, and the claims on all."""

    number: int
    claims: ExitStack


class _ClusterQueue:
    """The groups that are on the cluster."""

    def __init__(self, client: Client, queue: WorkQueue, experiment: Experiment, store: Store):
        self.client, self.queue, self.experiment, self.store = client, queue, experiment, store
        self.pending: dict[Future, _Submission] = {}
        self._messages: SimpleQueue[Any] = SimpleQueue()  # futures that ended, and events from workers
        self.topic = f"hannet-{uuid4()}"

    def __enter__(self) -> Self:
        self.client.subscribe_topic(self.topic, self._messages.put)
        return self

    def __exit__(self, *_: object) -> None:
        for submission in self.pending.values():
            submission.claims.close()

    def submit(self, number: int, group: list[Run]) -> None:
        """Send what is missing of a group, unless another process has it."""
        with ExitStack() as claims:
            if not claims.enter_context(self.store.claim(group)):
                return self.queue.mark_done(number, Outcome(busy=True))
            missing = self.store.missing(group, models=self.experiment.needs_weights)
            if not missing:
                return self.queue.mark_done(number, Outcome())
            future = self.client.submit(_compute_remotely, self.experiment, missing, number, self.topic, pure=False)
            self.pending[future] = _Submission(number, claims.pop_all())
        return future.add_done_callback(self._messages.put)

    def listen(self) -> None:
        """Wait for news, and take in all there are."""
        try:
            messages = [self._messages.get(timeout=LOOK_EVERY)]
        except Empty:
            return
        while not self._messages.empty():
            messages.append(self._messages.get())
        for item in messages:
            if isinstance(item, Future):
                self._collect(item)
            else:
                _, (number, *values) = item
                if number in self.queue.in_work:
                    self.queue.report(number, ProgressEvent(*values))

    def _collect(self, future: Future) -> None:
        with self.pending[future].claims:
            outcome = self._outcome(future)
        self.queue.mark_done(self.pending.pop(future).number, outcome)

    def _outcome(self, future: Future) -> Outcome:
        try:
            computed: list[Computed] = future.result()
        except ModuleNotFoundError as error:
            raise SweepError(f"the workers lack the package {error.name}") from error
        except (*FATAL, FutureCancelledError):
            raise
        except Exception as error:  # noqa: BLE001  whatever a net dies of there, the other groups go on
            return Outcome(failure=format_exception(error))
        for record, _ in computed:
            _require_our_version(record.versions["hannet"], "a worker that joined later")
        save_results(self.store, computed)
        return Outcome(new=len(computed))


def _compute_remotely(experiment: Experiment, group: Sequence[Run], number: int, topic: str) -> list[Computed]:
    """Compute a group on a worker, on one thread."""
    with _one_at_a_time:
        torch.set_num_threads(1)
        return compute(experiment, group, _reporter(number, topic))


def _reporter(number: int, topic: str) -> OnProgress:
    worker, reported = get_worker(), 0.0

    def report(event: ProgressEvent) -> None:
        nonlocal reported
        if time.perf_counter() - reported > REPORT_EVERY or event.step == event.total:
            reported = time.perf_counter()
            worker.log_event(topic, [number, event.label, event.step, event.total, event.unit, dict(event.metrics)])

    return report
