"""Runs of the suite in processes of their own that are killed: forked from one that has imported torch already."""

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
CONTEXT.set_forkserver_preload(["humanseg.modes.train", "segmentation_models_pytorch", "albumentations"])


def start(log: Path, *arguments: str, at: str | None = None, call: int = 1) -> multiprocessing.Process:
    """Begin ``python run.py ARGUMENTS``, its output appended to `log`.

    Args:
        at: ``module:name`` or ``module:Class.name``; the process kills itself with SIGKILL at the `call`th call of it.
    """
    process = CONTEXT.Process(target=_main, args=(log, arguments, at, call))
    process.start()
    return process


def finish(log: Path, *arguments: str, code: int = 0) -> str:
    """Run to the end; returns what was printed."""
    log.unlink(missing_ok=True)
    process = start(log, *arguments)
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
    process = start(log, *arguments, at=at, call=call)
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"{at} was not called {call} times\n{log.read_text()}"


def _main(log: Path, arguments: tuple[str, ...], at: str | None, call: int) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1), os.dup2(out, 2)
    if at:
        _arm(at, call)
    import torch

    torch.set_num_threads(2)
    sys.orig_argv = [sys.executable, str(ROOT / "run.py"), *arguments]
    sys.argv = ["run.py", *arguments]
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")


def _arm(at: str, call: int) -> None:
    module, _, name = at.partition(":")
    *path, name = name.split(".")
    owner = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    real, left = getattr(owner, name), [call]

    def deadly(*arguments, **named):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(10)
        return real(*arguments, **named)

    setattr(owner, name, deadly)
