"""Work that waits for the compiler, over several processes. They are forked, so nothing may have asked for the GPU before."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from .keeping import BROKEN

Job = TypeVar("Job")
_MOST = 12


def in_parallel(work: Callable[[Sequence[Job]], None], jobs: Sequence[Job], rehearsal: bool) -> None:
    """Every so-many-th job to each process. Raises SystemExit, when all have ended, if one ended with BROKEN."""
    count = 1 if rehearsal else max(1, min(_MOST, (os.cpu_count() or 1) - 2))
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(jobs[place::count],)) for place in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode == BROKEN for worker in workers):
        raise SystemExit(BROKEN)
