"""Runs of the suite in processes of their own, which can be killed: forked from one that is ready, see ready.py."""

import importlib
import multiprocessing
import os
import runpy
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTEXT = multiprocessing.get_context("forkserver")


def start(log: Path, *arguments: str, at: str | None = None, calls=(1,), number=signal.SIGKILL, environment=None):
    """Begin ``python run.py ARGUMENTS``, its output appended to `log`.

    Args:
        environment: variables to add.
        at: ``module:name`` or ``module:Class.name``; the process sends itself the signal `number` when that is called
            for the first time, or for each of the times in `calls`.
    """
    CONTEXT.set_forkserver_preload(["ready"])  # of no effect where it runs already
    process = CONTEXT.Process(target=_main, args=(log, arguments, at, calls, number, environment or {}))
    process.start()
    return process


def finish(log: Path, *arguments: str, code: int = 0, **options) -> str:
    """Run to the end, as `start`; returns what was printed."""
    log.unlink(missing_ok=True)
    process = start(log, *arguments, **options)
    process.join()
    assert process.exitcode == code, f"exit code {process.exitcode}\n{log.read_text()}"
    return log.read_text()


def kill_after(seconds: float, log: Path, *arguments: str) -> bool:
    """SIGKILL after so many seconds; tells whether it came before the end."""
    process = start(log, *arguments)
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
    return process.exitcode != 0


def kill_at(at: str, log: Path, *arguments: str, call: int = 1) -> None:
    """SIGKILL when `at` is called for the `call`th time, which must come."""
    finish(log, *arguments, at=at, calls=(call,), code=-signal.SIGKILL)


def _main(log: Path, arguments: tuple, at: str | None, calls: tuple, number: int, environment: dict[str, str]) -> None:
    # As in a shell on Linux; workers of another forkserver would outlive a killed run.
    multiprocessing.set_start_method("fork", force=True)
    os.environ.pop("HYDRA_FULL_ERROR", None)  # of a test that called run.py in its own process
    os.environ |= environment
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1), os.dup2(out, 2)
    if at:
        _arm(at, calls, number)
    import torch

    torch.set_num_threads(1)  # several spin while they wait for each other, for long where the machine is busy
    sys.orig_argv = [sys.executable, str(ROOT / "run.py"), *arguments]
    sys.argv = ["run.py", *arguments]
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")


def _arm(at: str, calls: tuple[int, ...], number: int) -> None:
    module, _, name = at.partition(":")
    *path, name = name.split(".")
    owner = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    real, count, main = getattr(owner, name), [0], os.getpid()

    def armed(*arguments, **named):
        count[0] += os.getpid() == main
        if count[0] in calls and os.getpid() == main:
            os.kill(main, number)
            time.sleep(10 if number == signal.SIGKILL else 0)
        return real(*arguments, **named)

    setattr(owner, name, armed)
