"""Jobs of a sweep that Hydra's launchers run at once: what they share of a machine, and a signal to stop."""

import itertools
import os
import platform
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import active_children
from pathlib import Path

from omegaconf import DictConfig

from humanseg import interrupts, runs

# The YAMLs of conf/hydra/launcher go over the plugins' own of the same names, which is what Hydra warns of.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

_signals: list[int] = []  # that this process was asked to stop with
_takes_jobs = False  # whether it is one of joblib's, that gets one job after another


def jobs_at_once(hydra: DictConfig, planned: list | None) -> int:
    """How many jobs of a sweep this machine runs at once; 1 for each of those that SLURM gives a share of its own."""
    launcher = hydra.launcher
    if launcher._target_.endswith(".LocalLauncher"):
        return len(planned or [()])  # submitit starts all of them
    if not _is_joblib(launcher):
        return 1
    from joblib import effective_n_jobs

    wanted = effective_n_jobs(launcher.n_jobs)
    return min(wanted, len(planned)) if planned else wanted


@contextmanager
def share(config: DictConfig, hydra: DictConfig, folder: Path, sweep: dict) -> Iterator[None]:
    """Inside, a job of the sweep in `folder`, whose sweep.json is `sweep`, has its share of the cores and as many GPUs of its own as it asks for.

    Raises:
        ValueError: `sweep.gpus` names one that is not there.
    """
    sys.orig_argv[:] = shlex.split(sweep["environment"]["command"])  # this process may be another than the sweep's
    at_once = jobs_at_once(hydra, sweep["jobs"])
    if at_once == 1:
        yield
        return
    from humanseg import device

    trainer, gpus = config.trainer, config.sweep.gpus
    with ExitStack() as held:
        mine = []
        count = device.count_gpus(trainer.device)
        if gpus and count and isinstance(trainer.devices, int):
            there = [*range(count)] if gpus == "auto" else [*dict.fromkeys(gpus)]
            if not set(there) <= set(range(count)):
                raise ValueError(f"sweep.gpus={gpus}: this machine has {count} CUDA device(s), numbered from 0")
            mine = _take_gpus(folder / ".gpus", there, min(trainer.devices, len(there)), held)
        held.enter_context(device.given(mine, at_once))
        yield


def _take_gpus(folder: Path, gpus: list[int], wanted: int, held: ExitStack) -> list[int]:
    """Some of this machine's GPUs that the fewest other jobs have; the system takes them from a job that dies."""
    folder.mkdir(exist_ok=True)
    mine = []
    for others in itertools.count():
        for gpu in gpus:
            if len(mine) == wanted:
                return mine
            if gpu not in mine and (file := runs.take(folder / f"{platform.node()}-{gpu}.{others}")):
                held.enter_context(file)
                mine.append(gpu)


def hand_on_signals(hydra: DictConfig, planned: list | None) -> None:
    """Let the processes of joblib finish their step and save when the sweep is asked to stop: it would kill them."""
    if not _is_joblib(hydra.launcher) or jobs_at_once(hydra, planned) == 1:
        return
    _signals.clear()

    def hand_on(number: int, frame: object) -> None:
        if _signals and number == signal.SIGINT:
            raise interrupts.Interrupted(number)
        _signals.append(number)
        for process in active_children():
            os.kill(process.pid, signal.SIGTERM)  # a second SIGINT, beside the terminal's own, would stop it at once

    for number in interrupts.EXIT_CODES:
        signal.signal(number, hand_on)


def note_signals(hydra: DictConfig, planned: list | None) -> None:
    """In a process of joblib: between two jobs, a signal is only noted."""
    global _takes_jobs
    _takes_jobs = _is_joblib(hydra.launcher) and jobs_at_once(hydra, planned) > 1
    if _takes_jobs:
        for number in interrupts.EXIT_CODES:
            signal.signal(number, lambda number, frame: _signals.append(number))


def takes_jobs() -> bool:
    """Whether this process is one of joblib's: it has to outlive a stop, or joblib would kill the others."""
    return _takes_jobs


def take_no_more(number: int) -> None:
    """Remember a signal that has stopped a job."""
    _signals.append(number)


def stopped() -> int | None:
    """The signal that has asked this process to start no more jobs."""
    return _signals[0] if _signals else None


def requeue(number: int) -> None:
    """Let submitit, where it runs this job, put it into the queue again, if the signal is the one it waits for.

    Raises:
        SystemExit: it has. RuntimeError: it doesn't, for the reason it gives.
    """
    handler = signal.getsignal(number)
    if getattr(handler, "__name__", "") == "checkpoint_and_try_requeue":
        handler(number, None)


def _is_joblib(launcher: DictConfig) -> bool:
    return launcher._target_.endswith(".JoblibLauncher")
