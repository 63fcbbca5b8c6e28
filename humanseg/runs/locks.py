"""Locks on folders: one process at a time works in a run's or a sweep's folder."""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from humanseg.runs.atomic import no_link, remove_leftovers

try:
    import fcntl
except ImportError as error:
    told = f"humanseg runs on Linux and macOS: {sys.platform} has no fcntl, with which folders are locked"
    raise ImportError(told, name="fcntl") from error

BY_OTHERS = ("wandb/*/logs/debug-core.log", ".submission_file_*.sh")  # links that W&B's client and submitit make

_held: set[Path] = set()  # the folders that this process has locked


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other processes away from a run's or sweep's folder. The system takes the lock from a process that dies.

    It is a POSIX lock: child processes do not inherit it, so it ends with the run. A process may nest it.

    Raises:
        ValueError: another process holds it, or the folder can't be written to.
    """
    if holds(folder):
        yield
        return
    try:
        file = take(folder / ".lock", tries=5)
    except OSError as error:
        raise ValueError(f"{folder} can't be written to: {error.strerror}") from error
    if file is None:
        raise ValueError(f"{folder} is in use by another process")
    with file:
        _held.add(folder.resolve())
        remove_leftovers(folder)
        try:
            yield
        finally:
            _held.discard(folder.resolve())


def take(path: Path, tries: int = 1) -> io.TextIOBase | None:
    """A file that this process alone has locked, until it is closed; None where another process has it.

    Raises:
        OSError: it can't be written to, or is a link.
    """
    file = open(path, "a", opener=no_link)  # noqa: SIM115  it stays open as long as it is held; nothing is truncated
    if _take(file, fcntl.LOCK_EX, tries):
        return file
    file.close()
    return None


def wait_for(file: io.IOBase, before: Callable[[], None]) -> None:
    """Lock a file, until it is closed; where another process has it, call `before` and wait."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        before()
        fcntl.lockf(file, fcntl.LOCK_EX)


def refuse_links(folder: Path) -> None:
    """A run's or sweep's folder may come from a stranger: a link in it could lead what is written to another file.

    W&B's client and submitit on SLURM make some themselves. Nothing opens these again: they have new names each time.

    Raises:
        ValueError: there is one.
    """
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(parent, name)
            if os.path.islink(path) and not any(map(Path(path).match, BY_OTHERS)):
                raise ValueError(f"{path} is a link, which the folder of a run may not hold: copy what it leads to")
            if not (os.path.isfile(path) or os.path.isdir(path) or os.path.islink(path)):
                raise ValueError(f"{path} is neither a file nor a folder, which the folder of a run may not hold")


def holds(folder: Path) -> bool:
    """Whether this process has locked a folder."""
    return folder.resolve() in _held


def is_held(folder: Path) -> bool:
    """Whether any process works in a folder."""
    if holds(folder):
        return True
    try:
        file = open(folder / ".lock", opener=no_link)  # noqa: SIM115  it is closed below
    except OSError:  # there is none, or it is a link or a pipe, which no process of ours holds
        return False
    with file:
        return not _take(file, fcntl.LOCK_SH, tries=1)


def _take(file: io.TextIOBase, kind: int, tries: int) -> bool:
    for left in range(tries)[::-1]:
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.1 if left else 0)  # another process' `is_held` has it for an instant
    return False
