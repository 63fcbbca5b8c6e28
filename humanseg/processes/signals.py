"""Signals that ask a run to stop. While it trains they are only noted, so that it can finish its step and save."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

# SLURM and submitit warn with SIGUSR1 or SIGUSR2 before they pre-empt. The codes are a shell's for SIGINT and SIGTERM.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGUSR2: 143}

PATIENCE = 30  # seconds that a DataLoader worker outlives a SIGTERM


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number, self.code = number, EXIT_CODES[number]


@contextmanager
def raised() -> Iterator[None]:
    """Let each of the signals raise `Interrupted` at once."""

    def stop(number: int, frame: object) -> None:
        raise Interrupted(number)

    with _answered_by(stop):
        yield


@contextmanager
def noted(speaks: bool = True) -> Iterator[Callable[[], int | None]]:
    """Only note the signals; a second Ctrl-C stops at once.

    Args:
        speaks: whether the terminal says that the run will stop.

    Yields:
        A function that returns the number of the first signal, None before there was one.
    """
    seen = []

    def note(number: int, frame: object) -> None:
        if seen and number == signal.SIGINT:
            raise Interrupted(number)
        seen.append(number)
        # Written without logging: the signal may have interrupted that.
        told = f"\n{signal.Signals(number).name}: finishing the step, then saving; Ctrl-C stops at once\n"
        if speaks:
            os.write(2, told.encode())

    with _answered_by(note):
        yield lambda: seen[0] if seen else None


def leave_to_main(*_: object) -> None:
    """Ignore signals in a DataLoader worker: the process it works for answers them, and may still need this one."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(PATIENCE))


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a context that takes longer. Outside of the main thread it may take any time."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError

    with _answered_by(stop, (signal.SIGALRM,)):
        if threading.current_thread() is threading.main_thread():
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _answered_by(handler: Callable, numbers: Iterable[int] = tuple(EXIT_CODES)) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread alone
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
