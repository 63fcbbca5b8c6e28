"""Calls a run's callbacks: at its start, after each epoch and at its end; its trackers get every value beside that."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from humanseg.logs.trackers.delivery import Delivery, Values
from humanseg.loop import Record
from humanseg.runs.run_info import RunInfo

log = logging.getLogger(__name__)


class CallbackList:
    """The callbacks of a run in their order. One that fails is told once.

    Args:
        callbacks: by their names. Each is a function f(record, writer, step), or has some of the methods start(run),
            __call__(record, writer, step) and end(run). One with log(values, step, epoch) is a tracker: its start, log and
            end are called in a thread.

    Raises:
        ValueError: one is something else.
    """

    def __init__(self, callbacks: dict[str, Any], strict: bool):
        for name, one in callbacks.items():
            if not callable(one) and not any(hasattr(one, method) for method in ("start", "log", "end")):
                raise ValueError(
                    f"callbacks.{name} is a {type(one).__name__}: name a function f(record, writer, step), or a class with "
                    "start, log or end"
                )
        self.trackers = {name: Delivery(name, one) for name, one in callbacks.items() if hasattr(one, "log")}
        self.callbacks = {name: one for name, one in callbacks.items() if name not in self.trackers}
        self.strict, self._ended = strict, False
        self._failed: dict[str, str] = {}  # what callbacks have raised, by their names

    def start(self, run: RunInfo) -> None:
        """Say that the run starts, or goes on.

        Raises:
            ValueError: a callback fails, with callbacks.strict=true.
        """
        self._call_all("start", run)
        self.refuse_failed()
        for one in self.trackers.values():
            one.open(run)

    def log(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Hand the trackers what was measured after `step` optimizer steps and `epoch` finished epochs."""
        values = {name: value for name, value in values.items() if name not in ("epoch", "step")}
        for one in self.trackers.values():
            one.put(Values(step, epoch, values))

    def react(self, record: Record, writer: SummaryWriter, monitor: str | None) -> None:
        """Let the callbacks see an epoch; they may add to its log.

        Args:
            monitor: the name of the value that the run is judged by. It may be that of a callback which fails.
        """
        for name, callback in self.callbacks.items():
            if not callable(callback):
                continue
            done = self._succeeds(name, f"in epoch {record.epoch}", callback, record, writer, record.step)
            if not done and record.counts is not None and monitor:
                record.log.setdefault(monitor, math.nan)

    def end(self, run: RunInfo) -> None:
        """Say how the run has ended, once. What trackers have not got by then, they get as far as their `wait` allows."""
        if self._ended:
            return
        self._ended = True
        self._call_all("end", run)
        for one in self.trackers.values():
            one.close(run)
        started = time.monotonic()  # they send at the same time
        for one in self.trackers.values():
            one.join(started + one.wait - time.monotonic())

    def refuse_failed(self) -> None:
        """With callbacks.strict=true a callback that has failed ends the run.

        Raises:
            ValueError: one has.
        """
        if self._failed and self.strict:
            raise ValueError("\n".join(f"callbacks.{name} failed: {told}" for name, told in self._failed.items()))

    def _call_all(self, moment: str, run: RunInfo) -> None:
        for name, callback in self.callbacks.items():
            if hasattr(callback, moment):
                self._succeeds(name, f"at the {moment}", getattr(callback, moment), run)

    def _succeeds(self, name: str, when: str, function: Callable, *arguments: Any) -> bool:
        try:
            function(*arguments)
        except Exception as error:  # whatever it is, the training is none of its business
            told = f"{type(error).__name__}: {error}"
            if name not in self._failed:
                self._failed[name] = told
                log.warning("callbacks.%s failed %s: %s", name, when, told)
                log.debug("callbacks.%s", name, exc_info=error)
            return False
        return True
