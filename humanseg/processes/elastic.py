"""Starting the processes of a run on this machine by torch's elastic launcher, and reporting how they ended."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import connection, get_context, get_start_method, parent_process, set_start_method
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import uuid4

# Read in torch 2.11 and 2.14. Its elastic launcher is public; the names of the failures are not documented.
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from humanseg.processes import distributed, hardware, signals
from humanseg.processes.signals import EXIT_CODES, Interrupted

SAVING = 110  # seconds that processes have to finish their step and save: SLURM is asked for 120


class Group(NamedTuple):
    """The processes to start on this machine for one run."""

    world_size: int
    gpus: list[int] | None = None  # one for each; None: they share the CPU
    restarts: int = 0  # how often all of them start again after one has died
    preload: tuple[str, ...] = ()  # modules that are imported once for all


def launch(work: Callable[..., Any], arguments: tuple, group: Group) -> Any:
    """Call `work(*arguments)` in processes that find each other.

    They are forked from a server that has imported torch once. They get the signals that this process gets, and end
    with this process.

    Returns:
        What the main one of them returned.

    Raises:
        ValueError: one raised it, or an OSError, or died. RuntimeError: one raised something else; the cause holds that
            process' traceback. Interrupted: they were asked to stop.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # this function reports what went wrong
    get_context("forkserver").set_forkserver_preload([__name__, *group.preload])
    with TemporaryDirectory() as logs, signals.raised():  # `raised` restores the handlers that torch replaces
        settings = LaunchConfig(
            1,
            1,
            group.world_size,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=group.restarts,
            start_method="forkserver",
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            signals_to_handle=",".join(number.name for number in EXIT_CODES),
        )
        settings.shutdown_timeout = SAVING  # torch 2.11 has no such argument and waits 30 s
        started = (work, arguments, group.gpus, hardware.sharers(), get_start_method())
        try:
            results = elastic_launch(settings, _process)(*started)
        except SignalException as stop:
            raise Interrupted(stop.sigval) from stop
        except ChildFailedError as error:
            told = _told(*error.get_first_failure(), group.world_size)
            raise told from told.__cause__
    return results[0]


class ProcessTraceback(Exception):
    """The traceback of another process, as text."""


def _told(rank: int, failure: ProcessFailure, world_size: int) -> BaseException:
    """The first failure of the processes as this process' exception."""
    for stop, code in EXIT_CODES.items():
        if failure.exitcode == code:
            return Interrupted(stop)
    if not failure.error_file_data.get("message") or failure.exitcode < 0:
        return ValueError(f"process {rank} of {world_size} died ({failure.signal_name() or failure.exitcode})")
    message = failure.message["message"]
    kind, _, text = message.partition(": ")
    if kind == "ValueError":
        return ValueError(text)
    error = RuntimeError(message)
    error.__cause__ = ProcessTraceback(failure.message["extraInfo"]["py_callstack"])
    return error


def _process(work: Callable, arguments: tuple, gpus: list[int] | None, sharers: int, start_method: str) -> Any:
    """What a started process does."""
    set_start_method(start_method, force=True)  # DataLoader workers of the forkserver would not see this process die
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.setpgid(0, 0)  # the launcher passes a terminal's Ctrl-C on: here it would count as a second one and stop at once
    try:
        with signals.raised(), distributed.root_cause_first():
            distributed.init(gpus, 5, sharers)
            return work(*arguments)  # the end of the process parts it from the others
    except Interrupted as stop:
        raise SystemExit(stop.code) from stop
    except OSError as error:
        raise ValueError(str(error)) from error
    except ValueError as error:
        raise ValueError(str(error)) from error  # subclasses too: the launcher passes the name of the class on


def _end_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
