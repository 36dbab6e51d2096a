"""SIGTERM and Ctrl-C between two steps of a training instead of in the middle of one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import TerminatedError


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Notes SIGTERM and the first SIGINT instead of dying of them; what is ignored stays ignored."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, _: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_interruption(number: int, message: str) -> None:
    """Ends a training as the signal of that number asks for."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt(message)
    raise TerminatedError(f"terminated; {message}")
