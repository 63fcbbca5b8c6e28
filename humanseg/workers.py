"""Processes that a machine starts for a run of its own, by torch's elastic launcher, and how their ends are told."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import connection, get_context, get_start_method, parent_process, set_start_method
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import uuid4

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from humanseg import device, distributed, interrupts
from humanseg.interrupts import EXIT_CODES, Interrupted

SAVING = 110  # seconds that workers have to finish their step and save: SLURM is asked for 120


class Plan(NamedTuple):
    """The processes that a machine starts for a run."""

    processes: int
    gpus: list[int] | None = None  # one each; None: they share the CPU
    restarts: int = 0  # of all of them, after one has died
    preload: tuple[str, ...] = ()  # modules that are imported once for all


def launch(work: Callable[..., Any], arguments: tuple, plan: Plan) -> Any:
    """Call `work(*arguments)` in processes of their own that find each other, by torch's elastic launcher.

    They come from a server that has imported torch once. A signal is handed on to them, and they end with this process.

    Returns:
        What it returned in the main one of them.

    Raises:
        ValueError: one raised it, or an OSError, or died. RuntimeError: one raised something else; its cause has that
            process' traceback. Interrupted: they were asked to stop.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what went wrong is told once, by us
    get_context("forkserver").set_forkserver_preload([__name__, *plan.preload])
    with TemporaryDirectory() as logs, interrupts.raised():  # which puts back what torch does to the signals
        settings = LaunchConfig(
            1,
            1,
            plan.processes,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=plan.restarts,
            start_method="forkserver",
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            signals_to_handle=",".join(number.name for number in EXIT_CODES),
        )
        settings.shutdown_timeout = SAVING  # torch 2.11 has no such argument and waits 30 s
        try:
            results = elastic_launch(settings, _worker)(
                work, arguments, plan.gpus, device.sharers(), get_start_method()
            )
        except SignalException as stop:
            raise Interrupted(stop.sigval) from stop
        except ChildFailedError as error:
            told = _told(*error.get_first_failure(), plan.processes)
            raise told from told.__cause__
    return results[0]


class ProcessTraceback(Exception):
    """The traceback of another process, as text."""


def _told(number: int, failure: ProcessFailure, processes: int) -> BaseException:
    """What went wrong first in the workers."""
    for stop, code in EXIT_CODES.items():
        if failure.exitcode == code:
            return Interrupted(stop)
    if not failure.error_file_data.get("message") or failure.exitcode < 0:
        return ValueError(f"process {number} of {processes} died ({failure.signal_name() or failure.exitcode})")
    message = failure.message["message"]
    kind, _, text = message.partition(": ")
    if kind == "ValueError":
        return ValueError(text)
    error = RuntimeError(message)
    error.__cause__ = ProcessTraceback(failure.message["extraInfo"]["py_callstack"])
    return error


def _worker(work: Callable[..., Any], arguments: tuple, gpus: list[int] | None, sharers: int, start_method: str) -> Any:
    set_start_method(start_method, force=True)  # of data workers: those of the server would not see this process die
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.setpgid(0, 0)  # a terminal's Ctrl-C is the launcher's to hand on: a second one would stop at once
    try:
        with interrupts.raised(), distributed.root_cause_first():
            distributed.join(gpus, 5, sharers)
            return work(*arguments)  # the end of the process parts it from the others
    except Interrupted as stop:
        raise SystemExit(stop.code) from stop
    except OSError as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    except ValueError as error:
        raise ValueError(str(error)) from error  # whatever its class


def _end_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
