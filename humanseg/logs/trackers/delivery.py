"""A tracker gets its values from a thread: training never waits for it, and it never ends a training."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from humanseg.logs.trackers import receipt
from humanseg.logs.trackers.receipt import Receipt
from humanseg.runs.run_info import RunInfo

log = logging.getLogger(__name__)

HELD = 10_000  # values of steps and epochs that wait for a tracker; the oldest give way
PAUSE = 30  # seconds until a call that failed is tried again
WAIT = 10  # seconds that the end of a run waits for a tracker that has no `wait`


class Values(NamedTuple):
    """What is logged after `step` optimizer steps and `epoch` finished epochs, in this order; averaged weights count as one more."""

    step: int
    epoch: int
    values: dict[str, float]


class Delivery:
    """Calls a tracker's start(run), log(values, step, epoch) and end(run) in their order, in a thread.

    A call that fails is told once, and tried again until the run ends. What a tracker has got is noted in the run's
    folder, so that a run that goes on sends nothing twice. A tracker that keeps values in memory first has `settles`: the
    seconds after which a kill can't take them any more. Those of a kill are sent again.
    """

    def __init__(self, name: str, tracker: Any):
        self.name, self.tracker = name, tracker
        self.wait = getattr(tracker, "wait", WAIT)
        self._held: deque[Values] = deque(maxlen=HELD)
        self._settling: deque[tuple[float, Receipt]] = deque()  # what was sent, and when a kill can't take it any more
        self._dropped = 0
        self._news, self._closing = threading.Condition(), threading.Event()
        self._told = self._failing = self._begun = self._given_up = False
        self._thread = threading.Thread(target=self._work, name=f"callbacks.{name}", daemon=True)

    def open(self, run: RunInfo) -> None:
        """Begin, or go on where the run's folder has a receipt."""
        self._run, self._file = run, receipt.path(run.folder, self.name)
        try:
            self._sent = receipt.load(self._file)
        except ValueError as error:
            log.warning("%s; callbacks.%s begins a new tracked run", error, self.name)
            self._sent = Receipt()
        self._thread.start()

    def put(self, values: Values) -> None:
        """Have values sent, soon. Nobody waits for that."""
        with self._news:
            self._dropped += len(self._held) == HELD
            self._held.append(values)
            self._news.notify()

    def close(self, run: RunInfo) -> None:
        """Have the end sent, after all values; see `join`."""
        self._run = run
        with self._news:
            self._closing.set()
            self._news.notify()

    def join(self, seconds: float) -> None:
        """Wait until all is sent, or so many seconds; what is left is given up."""
        self._thread.join(max(seconds, 0))
        self._given_up = self._thread.is_alive()
        if self._dropped:
            log.warning("callbacks.%s was slow or away: %d values of steps were dropped", self.name, self._dropped)
        elif self._given_up and not self._failing:
            log.warning(
                "callbacks.%s has %s within %g s of the run's end; callbacks.%s.wait= gives it more time",
                self.name, "not got all values" if self._begun else "not answered, nor got any value,", self.wait, self.name,
            )  # fmt: skip

    def _work(self) -> None:
        for call in self._calls():
            while not self._succeeds(call):
                if self._closing.is_set():
                    return
                self._closing.wait(PAUSE)

    def _calls(self) -> Iterator[Callable[[], None]]:
        yield self._start
        while values := self._next():
            yield partial(self._log, values)
        yield self._end

    def _next(self) -> Values | None:
        """The next values; None where the run has ended and there are no more."""
        with self._news:
            self._news.wait_for(lambda: self._held or self._closing.is_set())
            return self._held.popleft() if self._held else None

    def _succeeds(self, call: Callable[[], None]) -> bool:
        """Whether a call succeeds, or need not any more."""
        if self._given_up:
            return True
        try:
            call()
        except Exception as error:  # whatever a tracker raises, the training is none of its business
            self._failing = not self._given_up
            if self._failing and not self._told:
                told = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("callbacks.%s failed: %s; training goes on, and it is tried again", self.name, told)
                log.debug("callbacks.%s", self.name, exc_info=error)
                self._told = True
            return False
        if self._failing:
            log.info("callbacks.%s works again", self.name)
        self._failing = False
        return True

    def _start(self) -> None:
        start = getattr(self.tracker, "start", None)
        tracked = start(replace(self._run, tracked=self._sent.id)) if start else None
        if tracked is not None and not receipt.ID.fullmatch(tracked):
            raise ValueError(f"start returned {tracked}: give up to 64 letters, digits, - and _, or None")
        if tracked != self._sent.id:
            self._sent = Receipt(tracked)
            self._note(self._sent)
        self._begun = True

    def _log(self, values: Values) -> None:
        if values[:2] > (self._sent.step, self._sent.epoch):
            self.tracker.log(values.values, values.step, values.epoch)
            self._sent = replace(self._sent, step=values.step, epoch=values.epoch)
            self._settling.append((time.monotonic() + getattr(self.tracker, "settles", 0), self._sent))
        settled = None
        while self._settling and self._settling[0][0] <= time.monotonic():
            settled = self._settling.popleft()[1]
        if settled:
            self._note(settled)

    def _end(self) -> None:
        if end := getattr(self.tracker, "end", None):
            end(replace(self._run, tracked=self._sent.id))
        self._note(self._sent)

    def _note(self, sent: Receipt) -> None:
        if not self._given_up:
            receipt.save(self._file, sent)
