"""The command `hannet`, and `python -m hannet`."""

import os
import signal
from importlib import import_module


def main() -> None:
    """Run the command line. Until the work of a command begins there is nothing to lose, and Ctrl-C ends the process at once.

    Else the KeyboardInterrupt would be raised in the middle of an import, which may turn it into any other exception.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, and stays so
        signal.signal(signal.SIGINT, _end)
    _let_waiting_threads_sleep()
    from .cli import main as run

    run(on_start=_leave_ctrl_c_to_the_command)


def _let_waiting_threads_sleep() -> None:
    """PyTorch's OpenMP runtime, which reads this as it is loaded, lets idle threads spin for milliseconds before they sleep.

    Beside another busy process they spin away the time of the threads that they wait for: two commands on two cores took seven
    times as long as one. After 2,000 turns two take about twice as long as one (docs/log.md).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def _end(*_: object) -> None:
    os.write(2, b"hannet: interrupted\n")
    os._exit(130)


def _leave_ctrl_c_to_the_command() -> None:
    import_module("torch")  # every command needs it, and it takes longest
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    main()
