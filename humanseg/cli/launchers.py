"""Jobs of a sweep that Hydra's launchers run at once: what they share of a machine, and a signal to stop.

All that is known of the launchers' own packages stands here, as it was read in submitit 1.5, hydra-submitit-launcher 1.2
and hydra-joblib-launcher 1.2. tests/test_private.py says in one sentence what another version has not.
"""

import itertools
import os
import platform
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from multiprocessing import active_children
from pathlib import Path

from omegaconf import DictConfig

from humanseg import terminal
from humanseg.cli import hydra_private
from humanseg.processes import signals, slurm
from humanseg.runs import locks
from humanseg.runs.conf import PROGRAM

# Hydra warns that the YAMLs of conf/hydra/launcher replace the plugins' own of the same names, as they are meant to.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

PACKAGE = r"hydra_plugins\.hydra_(\w+)_launcher"
REQUEUE = "checkpoint_and_try_requeue"  # the method of submitit that answers SIGUSR2; another one of its class SIGTERM

_signals: list[int] = []  # those that this process was asked to stop with
_takes_jobs = False  # whether this process is one of joblib's, which gets one job after another


def refuse_missing(launcher: DictConfig) -> None:
    """
    Raises:
        ValueError: the launcher's package is not installed.
    """
    if match := re.match(PACKAGE, launcher._target_):
        try:
            import_module(match[0])
        except ModuleNotFoundError as error:
            needed = f'the package hydra-{match[1]}-launcher is missing: pip install -e ".[{match[1]}]"'
            raise ValueError(needed) from error


def jobs_at_once(hydra: DictConfig, planned: list | None) -> int:
    """How many jobs of a sweep this machine runs at once; 1 for each of those that SLURM gives a share of its own."""
    launcher = hydra.launcher
    if hydra_private.is_search(hydra):
        return 1 if launcher._target_.endswith(".SlurmLauncher") else slots(hydra)
    if launcher._target_.endswith(".LocalLauncher"):
        return len(planned or [()])  # submitit starts all of them
    if not _is_joblib(launcher):
        return 1
    from joblib import effective_n_jobs

    wanted = effective_n_jobs(launcher.n_jobs)
    return min(wanted, len(planned)) if planned else wanted


def slots(hydra: DictConfig) -> int:
    """How many trials of a search there are at once: as many as it asks for, or as joblib has processes.

    Hydra's own launcher runs them in this process, so it has one.
    """
    if hydra.launcher._target_.endswith(".BasicLauncher"):
        return 1
    if not _is_joblib(hydra.launcher):
        return hydra.sweeper.n_jobs or 1
    from joblib import effective_n_jobs

    there = effective_n_jobs(hydra.launcher.n_jobs)
    return min(hydra.sweeper.n_jobs or there, there)


@contextmanager
def share(config: DictConfig, hydra: DictConfig, folder: Path, sweep: dict) -> Iterator[None]:
    """Let a job have its share of the cores, and as many GPUs of its own as it asks for.

    Args:
        folder: the sweep's. sweep: its sweep.json.

    Raises:
        ValueError: `sweep.gpus` names one that is not there.
    """
    sys.orig_argv[:] = shlex.split(sweep["environment"]["command"])  # this process may be another than the sweep's
    at_once = jobs_at_once(hydra, sweep["jobs"])
    if at_once == 1:
        yield
        return
    from humanseg.processes import hardware

    trainer, gpus = config.trainer, config.sweep.gpus
    with ExitStack() as held:
        mine = []
        count = hardware.count_gpus(trainer.device)
        if gpus and count and isinstance(trainer.devices, int):
            there = [*range(count)] if gpus == "auto" else [*dict.fromkeys(gpus)]
            if not set(there) <= set(range(count)):
                raise ValueError(f"sweep.gpus={gpus}: this machine has {count} CUDA device(s), numbered from 0")
            mine = _take_gpus(folder / ".gpus", there, min(trainer.devices, len(there)), held)
        held.enter_context(hardware.given(mine, at_once))
        yield


def _take_gpus(folder: Path, gpus: list[int], wanted: int, held: ExitStack) -> list[int]:
    """Take those GPUs of this machine that the fewest other jobs have. The system takes them from a job that dies."""
    folder.mkdir(exist_ok=True)
    mine = []
    for others in itertools.count():
        for gpu in gpus:
            if len(mine) == wanted:
                return mine
            if gpu not in mine and (file := locks.take(folder / f"{platform.node()}-{gpu}.{others}")):
                held.enter_context(file)
                mine.append(gpu)


def pass_signals_on(hydra: DictConfig, planned: list | None) -> None:
    """When the sweep is asked to stop, ask joblib's processes too, so that they save; joblib itself would kill them."""
    if not _is_joblib(hydra.launcher) or jobs_at_once(hydra, planned) == 1:
        return
    _signals.clear()

    def pass_on(number: int, frame: object) -> None:
        if _signals and number == signal.SIGINT:
            raise signals.Interrupted(number)
        _signals.append(number)
        for process in active_children():
            os.kill(process.pid, signal.SIGTERM)  # the terminal sends SIGINT itself, and a second one stops at once

    for number in signals.EXIT_CODES:
        signal.signal(number, pass_on)


def note_signals(hydra: DictConfig, planned: list | None) -> None:
    """In a process of joblib: only note a signal that comes between two jobs."""
    global _takes_jobs
    _takes_jobs = _is_joblib(hydra.launcher) and jobs_at_once(hydra, planned) > 1
    if _takes_jobs:
        for number in signals.EXIT_CODES:
            signal.signal(number, lambda number, frame: _signals.append(number))


def takes_jobs() -> bool:
    """Whether this process is one of joblib's. It has to outlive a stop, or joblib kills the other ones."""
    return _takes_jobs


def take_no_more(number: int) -> None:
    """Remember a signal that has stopped a job."""
    _signals.append(number)


def stopped() -> int | None:
    """The signal that has asked this process to start no more jobs."""
    return _signals[0] if _signals else None


def requeue(number: int) -> None:
    """Where submitit runs this job, and the signal says that it has to go on later, let it queue the job again.

    submitit waits for SIGUSR2 alone. SLURM pre-empts by SIGTERM too, and would end the job for good.

    Raises:
        SystemExit: it has done so. RuntimeError: it refuses, with its reason.
    """
    answer = signal.getsignal(number)
    again = getattr(getattr(answer, "__self__", None), REQUEUE, None)
    if again and (answer == again or (number == signal.SIGTERM and slurm.preempts())):
        again(number, None)


def _is_joblib(launcher: DictConfig) -> bool:
    return launcher._target_.endswith(".JoblibLauncher")


def explain(error: RuntimeError) -> str:
    """One sentence for what submitit or joblib raise where a job has died, or SLURM is not there or refuses the jobs; empty
    for other errors."""
    text = str(error)
    if text.startswith("sbatch: "):
        reason = terminal.reason(error).removeprefix("sbatch: ").removeprefix("error: ")
        return f"hydra.launcher: sbatch takes no such job ({reason}); mend its keys beside {PROGRAM} resume=latest"
    if type(error).__module__.startswith(("submitit.", "joblib.")):
        return f"a job has died ({terminal.reason(error)}); {PROGRAM} resume=latest goes on with its sweep"
    return f"hydra/launcher: {text}" if text.startswith("Could not detect") else ""  # srun, says submitit
