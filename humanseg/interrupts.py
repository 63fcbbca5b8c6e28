"""Signals that ask a run to stop: while it trains they are only noted, so that it can finish its step and save."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# SLURM and submitit warn with SIGUSR1 or SIGUSR2 before they pre-empt. The codes are a shell's for SIGINT and SIGTERM.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGUSR2: 143}

PATIENCE = 30  # seconds that a worker process outlives a SIGTERM


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number, self.code = number, EXIT_CODES[number]


@contextmanager
def raised() -> Iterator[None]:
    """Inside, each of the signals raises `Interrupted` at once."""

    def stop(number: int, frame: object) -> None:
        raise Interrupted(number)

    with _answered_by(stop):
        yield


@contextmanager
def noted(speaks: bool = True) -> Iterator[Callable[[], int | None]]:
    """Inside, a signal is only noted, but for a second Ctrl-C, which stops at once; gives what tells the first one.

    Args:
        speaks: whether it is said on the terminal.
    """
    seen = []

    def note(number: int, frame: object) -> None:
        if seen and number == signal.SIGINT:
            raise Interrupted(number)
        seen.append(number)
        # Not by logging, which may be what the signal came into.
        told = f"\n{signal.Signals(number).name}: finishing the step, then saving; Ctrl-C stops at once\n"
        if speaks:
            os.write(2, told.encode())

    with _answered_by(note):
        yield lambda: seen[0] if seen else None


def leave_to_main(*_: object) -> None:
    """For worker processes: a signal to the whole group is the main process's to answer, which may need them still."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(PATIENCE))


@contextmanager
def _answered_by(handler: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python has signals in the main one alone
        yield
        return
    before = {number: signal.signal(number, handler) for number in EXIT_CODES}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
