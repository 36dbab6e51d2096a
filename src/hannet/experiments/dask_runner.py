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
from .store import Run, Store
from .work_queue import FATAL, Kept, Outcome, SweepError, WorkQueue, compute, in_words, keep

CONNECT_WITHIN = 10.0  # seconds
AHEAD = 2  # groups under way per worker: one that it computes, one that waits there
LOOK_EVERY = 0.5  # seconds, for workers that came and for groups that another process held
REPORT_EVERY = 1.0  # seconds between two events of a worker

_one_at_a_time = threading.Lock()  # PyTorch has one random state a process, and a network's start is drawn from it


def distribute(agenda: WorkQueue, experiment: Experiment, store: Store, address: str) -> None:
    """Compute an agenda's groups on the workers of a scheduler (tcp://host:port, or its file), and keep them here.

    A group whose worker dies is computed by another. Raises SweepError if the scheduler cannot be reached or goes away, or if
    a worker has another version of hannet.
    """
    _raise_file_limit()
    with _connected(address) as client, _Fleet(client, agenda, experiment, store) as fleet:
        try:
            while agenda.open:
                workers = len(client.nthreads())
                while len(fleet.flights) < AHEAD * max(workers, 1) and (work := agenda.take()):
                    fleet.launch(*work)
                if not workers:
                    agenda.wait_for("workers to join the cluster")
                fleet.listen()
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
        raise SweepError(f"no Dask scheduler answers at {address} ({in_words(error)})") from error
    with client:
        try:
            found = client.run(versions)
        except ModuleNotFoundError as error:
            raise SweepError(f"the workers of {address} lack the package {error.name}") from error
        except OSError as error:
            raise SweepError(f"the cluster at {address} went away ({in_words(error)})") from error
        for worker, theirs in found.items():
            _require_our_version(theirs["hannet"], f"worker {worker}")
        yield client


def _require_our_version(theirs: str, whose: str) -> None:
    ours = metadata.version("hannet")
    if theirs != ours:
        raise SweepError(f"{whose} has hannet {theirs}, here is {ours}: install the same on both")


@dataclass(frozen=True)
class _Flight:
    """A group on its way: the missing runs of it, and the claims on all."""

    number: int
    claims: ExitStack


class _Fleet:
    """The groups that are on the cluster."""

    def __init__(self, client: Client, agenda: WorkQueue, experiment: Experiment, store: Store):
        self.client, self.agenda, self.experiment, self.store = client, agenda, experiment, store
        self.flights: dict[Future, _Flight] = {}
        self.news: SimpleQueue[Any] = SimpleQueue()  # futures that ended, and events from workers
        self.topic = f"hannet-{uuid4()}"

    def __enter__(self) -> Self:
        self.client.subscribe_topic(self.topic, self.news.put)
        return self

    def __exit__(self, *_: object) -> None:
        for flight in self.flights.values():
            flight.claims.close()

    def launch(self, number: int, group: list[Run]) -> None:
        """Send what is missing of a group, unless another process has it."""
        with ExitStack() as claims:
            if not claims.enter_context(self.store.claim(group)):
                return self.agenda.mark_done(number, Outcome(busy=True))
            missing = self.store.missing(group, models=self.experiment.needs_weights)
            if not missing:
                return self.agenda.mark_done(number, Outcome())
            future = self.client.submit(_remotely, self.experiment, missing, number, self.topic, pure=False)
            self.flights[future] = _Flight(number, claims.pop_all())
        return future.add_done_callback(self.news.put)

    def listen(self) -> None:
        """Wait for news, and take in all there are."""
        try:
            news = [self.news.get(timeout=LOOK_EVERY)]
        except Empty:
            return
        while not self.news.empty():
            news.append(self.news.get())
        for item in news:
            if isinstance(item, Future):
                self._land(item)
            else:
                _, (number, *values) = item
                if number in self.agenda.in_work:
                    self.agenda.report(number, ProgressEvent(*values))

    def _land(self, future: Future) -> None:
        with self.flights[future].claims:
            outcome = self._outcome(future)
        self.agenda.mark_done(self.flights.pop(future).number, outcome)

    def _outcome(self, future: Future) -> Outcome:
        try:
            computed: list[Kept] = future.result()
        except ModuleNotFoundError as error:
            raise SweepError(f"the workers lack the package {error.name}") from error
        except (*FATAL, FutureCancelledError):
            raise
        except Exception as error:  # noqa: BLE001  whatever a net dies of there, the other groups go on
            return Outcome(failure=in_words(error))
        for record, _ in computed:
            _require_our_version(record.versions["hannet"], "a worker that joined later")
        keep(self.store, computed)
        return Outcome(new=len(computed))


def _remotely(experiment: Experiment, group: Sequence[Run], number: int, topic: str) -> list[Kept]:
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
