"""An experiment of milliseconds, for tests of sweeps; worker processes import it."""

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from hannet.experiments.base import Result
from hannet.experiments.record import Run
from hannet.experiments.store import Store
from hannet.reporting.progress import OnProgress, ProgressEvent
from hannet.storage.files import StoreError


@dataclass(frozen=True)
class Toy:
    """Groups of some sizes. log: takes a line for every run computed. faults: what happens to which group."""

    log: Path
    sizes: tuple[int, ...] = (3, 1, 2, 4, 1, 2)
    pause: float = 0.002
    faults: Mapping[int, str] = ()

    name: ClassVar[str] = "toy"
    needs_weights: ClassVar[bool] = True

    def groups(self) -> list[list[Run]]:
        return [
            [Run("toy", {"group": number, "member": member}, 0) for member in range(size)]
            for number, size in enumerate(self.sizes)
        ]

    def cost(self, run: Run) -> float:
        return 1.0 + run.config["group"]

    def compute(self, group: Sequence[Run], on_progress: OnProgress) -> list[Result]:
        number = group[0].config["group"]
        fault = dict(self.faults).get(number)
        self.write("began", group)
        while fault == "waits for another process" and len({pid for pid, _ in self.lines("began")}) < 2:
            time.sleep(self.pause)
        for step in range(1, 5):
            time.sleep(60 if fault == "hangs" else self.pause)
            on_progress(ProgressEvent(f"toy {number}", step, 4))
        if fault == "fails":
            raise ArithmeticError("two\nlines")
        if fault == "full disk":
            raise StoreError("no space left")
        if fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        self.write("ended", group)
        return [self.result(run) for run in group]

    def result(self, run: Run) -> Result:
        model = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(model.weight, self.value(run))
        torch.nn.init.zeros_(model.bias)
        return Result({"value": self.value(run)}, model)

    def value(self, run: Run) -> float:
        return run.config["group"] + run.config["member"] / 8

    def write(self, what: str, group: Sequence[Run]) -> None:
        with self.log.open("a") as file:
            file.write("".join(f"{what} {os.getpid()} {run.key}\n" for run in group))

    def lines(self, what: str) -> list[list[str]]:
        """Process and key of the runs that began or ended so far."""
        text = self.log.read_text() if self.log.exists() else ""
        return [line.split()[1:] for line in text.splitlines() if line.startswith(what)]

    def ended(self) -> Counter[str]:
        """How often each run was computed."""
        return Counter(key for _, key in self.lines("ended"))

    def keys(self) -> set[str]:
        return {run.key for group in self.groups() for run in group}


def outcome(store: Store) -> dict[str, Any]:
    """What does not depend on when, where and how often a sweep was disturbed."""
    models = {path.name: path.read_bytes() for path in (store.folder / "models").iterdir()}
    records = store.records().values()
    return {"models": models} | {
        record.key: (record.experiment, record.config, record.seed, record.metrics) for record in records
    }
