"""What plugs into Hydra: a run's folder before it starts, a job's end, a sweep's leaderboard and its resume."""

import gc
import logging
import math
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # what a sweep's jobs are, no public name tells
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from humanseg import interrupts, launch, parallel_jobs, report, resume, runs

log = logging.getLogger(__name__)

HINTS = {
    r"DataLoader worker \(pid": "it is killed where memory runs out: try a smaller data.num_workers",
    "out of memory": "try a smaller data.batch_size, with trainer.accumulate for the same step",
}

_sweep_lock = ExitStack()


def run_job(config: DictConfig) -> float | None:
    """Hand the config to its mode; a user's mistake ends in one sentence, the traceback in run.log.

    A job of a sweep never raises: it writes its summary.json, a line to the terminal, and returns NaN. One that was
    completed before the sweep was resumed returns its result; its mode makes another go on where it was.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if hydra.mode != RunMode.MULTIRUN:
        with runs.lock(folder):
            return _run(config, folder, folder)
    sweep = runs.read_sweep(folder.parent)
    parallel_jobs.note_signals(hydra, sweep["jobs"])
    before = runs.read_summary(folder)
    if before.get("status") == "completed":
        return before.get("monitored")
    if parallel_jobs.stopped() or gives_up(folder.parent, config.sweep.max_failures):
        return math.nan
    try:
        with runs.lock(folder), parallel_jobs.share(config, hydra, folder.parent, sweep):
            result = _run(config, folder, folder.parent)
    except interrupts.Interrupted as stop:
        if not parallel_jobs.takes_jobs():
            sys.exit(stop.code)
        return math.nan
    except Exception as error:
        print(f"job {hydra.job.num} failed: {one_sentence(error)}", file=sys.stderr, flush=True)
        result = math.nan
    else:
        print(progress(folder), flush=True)
    _free_memory()
    return result


def _run(config: DictConfig, folder: Path, resumable: Path) -> float | None:
    """Call the mode and leave in summary.json how it ended; `resumable` is what `resume=` goes on with."""
    try:
        with interrupts.raised():
            return launch.run(config)
    except interrupts.Interrupted as stop:
        traceback.clear_frames(stop.__traceback__)  # and with them worker processes, which would be waited for at exit
        runs.mark(folder, "interrupted")
        if parallel_jobs.takes_jobs():
            parallel_jobs.take_no_more(stop.number)
        else:
            _say_how_to_go_on(resumable)
        parallel_jobs.requeue(stop.number)
        raise
    except Exception as error:
        launch.to_run_log("the run")
        traceback.clear_frames(error.__traceback__)
        try:
            runs.mark(folder, "failed", error=one_sentence(error))
        except OSError as full:  # what failed the run may keep its summary from being written
            log.error("%s can't be written: %s", folder / "summary.json", full)
        if resumable == folder and (isinstance(error, ValueError | OSError) or _hint(str(error))):
            kept = (folder / "checkpoints" / "last.pt").exists()
            how = f"\npython run.py resume={shlex.quote(str(folder))} goes on from the last checkpoint" * kept
            sys.exit(f"error: {one_sentence(error)}{how}")
        raise


def _say_how_to_go_on(folder: Path) -> None:
    print(f"interrupted: python run.py resume={shlex.quote(str(folder))} goes on", flush=True)


def progress(job: Path) -> str:
    """A finished job in one line: what it was, what came out, and how much is left of its sweep."""
    summary, sweep = runs.read_summary(job), runs.read_sweep(job.parent)
    number, planned = runs.job_number(job.name), sweep["jobs"]
    own = [item for item in summary["overrides"] if not planned or any(item not in other for other in planned)]
    result = "" if summary.get("monitored") is None else f"  {summary['monitor']} {summary['monitored']:.4f}"
    line = f"job {number} done: {' '.join(own)}{result}  {summary['seconds']:.1f} s"
    if not planned:
        return line
    ended = sum(one.get("status") in ("completed", "failed") for one in runs.read_jobs(job.parent))
    left = len(planned) - ended
    since = max(time.time() - sweep["started"], 0)  # the clock may have been put back
    minutes = since / max(ended - sweep["ended_before"], 1) * left / 60
    return f"{line}  ({left} of {len(planned)} left, about {minutes:.0f} min)" if left else f"{line}  (the last)"


def gives_up(sweep: Path, limit: int | None) -> bool:
    """Whether the last `limit` jobs of a sweep, by number, all failed."""
    states = [job.get("status") for job in runs.read_jobs(sweep)]
    ended = [state for state in states if state in ("completed", "failed")]
    return limit is not None and len(ended) >= limit and set(ended[-limit:]) == {"failed"}


def _free_memory() -> None:
    """A job that failed, of a lack of memory for one, leaves nothing to the next."""
    gc.collect()
    gc.freeze()  # the modules that are loaded stay: going through them takes a quarter of a second after each job
    if (torch := sys.modules.get("torch")) and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def one_sentence(error: Exception) -> str:
    """An error's message; of one that a DataLoader worker raised, its last lines without the worker's traceback."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.rpartition("Error: ")[2]
    text = text.strip() or type(error).__name__
    return (text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}") + _hint(text)


def _hint(text: str) -> str:
    """What to do about an error that is no defect, though it does not come as a ValueError."""
    return next((f" ({hint})" for pattern, hint in HINTS.items() if re.search(pattern, text)), "")


class Runs(Callback):
    """Gives each run and sweep a folder of its own; ranks a sweep's jobs when it ends.

    Hydra turns what a callback raises into a warning, except SystemExit.
    """

    def on_run_start(self, config: DictConfig, **kwargs) -> None:
        with _refusals(config.hydra.run.dir):
            _claim(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        given = {kind: OmegaConf.to_container(config.hydra.overrides[kind]) for kind in ("task", "hydra")}
        with _refusals(config.hydra.sweep.dir):
            _claim(config, "sweep")
        typed = OverridesParser.create().parse_overrides(config.hydra.overrides.task)
        swept = {override.key_or_group for override in typed if override.is_sweep_override()}
        constant = [override.key_or_group for override in typed if override.key_or_group not in swept]
        _for_all_jobs(config, f"hydra.job.config.override_dirname.exclude_keys={resume.quoted(constant)}")
        jobs = planned_jobs(config)
        with _refusals(config.hydra.sweep.dir):
            _plan(Path(config.hydra.sweep.dir), jobs, given)
        parallel_jobs.hand_on_signals(config.hydra, jobs)

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        folder = Path(config.hydra.sweep.dir)
        if number := parallel_jobs.stopped():
            _say_how_to_go_on(folder)
            sys.exit(interrupts.EXIT_CODES[number])
        sweep, jobs = runs.read_sweep(folder), runs.read_jobs(folder)
        completed = [job for job in jobs if job.get("status") == "completed"]
        done = len(completed) == len(sweep["jobs"] or jobs)
        with _sweep_lock, _refusals(folder):
            runs.write_text(folder / "sweep.json", runs.to_json(sweep | {"status": "completed" if done else "failed"}))
            print(report.write([folder], folder), flush=True)
        if not done:
            missing = len(sweep["jobs"] or jobs) - len(jobs)
            stopped = f"{config.sweep.max_failures} jobs in a row failed, {missing} were not started; " * bool(missing)
            sys.exit(f"{stopped}mend what failed, then: python run.py resume={folder}")


@contextmanager
def _refusals(folder: str | Path) -> Iterator[None]:
    """What keeps a run or sweep from its folder ends the program in one sentence."""
    try:
        yield
    except OSError as error:
        sys.exit(f"error: {folder} can't be written to: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {error}")


def planned_jobs(config: DictConfig) -> list[list[str]] | None:
    """Each job's overrides, as Hydra's own sweeper will make them; None under one that decides as it goes."""
    sweeper = config.hydra.sweeper
    if not sweeper._target_.endswith(BasicSweeper.__name__):
        return None
    given = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + list(config.hydra.overrides.task)
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return BasicSweeper.split_arguments(parser.parse_overrides(given), None)[0]


def _plan(folder: Path, jobs: list[list[str]] | None, given: dict[str, list[str]]) -> None:
    """Write what a sweep is made of; one that goes on is first held against what it was.

    Raises:
        ValueError: it would run other jobs.
    """
    ended = 0
    if runs.holds(folder):
        resume.refuse_other_jobs(folder, jobs)
        for job in runs.read_jobs(folder):
            ended += job.get("status") == "completed"
            if job.get("status") == "failed":
                runs.mark(job["folder"], "interrupted")  # it is tried again, and counts for no max_failures until then
        print(f"goes on    {ended} of {len(jobs)} jobs are completed", flush=True)
    else:
        _sweep_lock.enter_context(runs.lock(folder))
    facts = {
        "status": "running",
        "overrides": given["task"],
        "hydra": [item for item in given["hydra"] if not item.startswith(("hydra.sweep.dir=", "hydra.mode="))],
        "jobs": jobs,
        "started": time.time(),
        "ended_before": ended,
        "environment": runs.environment(),
    }
    runs.write_text(folder / "sweep.json", runs.to_json(facts))


def _claim(config: DictConfig, kind: str) -> None:
    """Create the folder of a run or sweep: a new one beside one of the same second; a typed one may hold no other."""
    folder = Path(config.hydra[kind].dir)
    if runs.holds(folder):  # to go on with it
        return
    if any(override.startswith(f"hydra.{kind}.dir=") for override in config.hydra.overrides.hydra):
        held = [*folder.glob("**/checkpoints/*.pt"), *folder.glob("sweep.json")]
        if held:
            raise ValueError(f"hydra.{kind}.dir={folder} holds {held[0].name}: go on with it by resume={folder}")
        folder.mkdir(parents=True, exist_ok=True)
        return
    free, number = folder, 1
    while True:
        try:
            os.makedirs(free)
            break
        except FileExistsError:
            number += 1
            free = folder.with_name(f"{folder.name}_{number}")
    with read_write(config), open_dict(config):
        config.hydra[kind].dir = str(free)
    if kind == "sweep":
        _for_all_jobs(config, f"hydra.sweep.dir={resume.quoted(str(free))}")


def _for_all_jobs(config: DictConfig, override: str) -> None:
    """Hydra composes each job's config anew, from the overrides of the sweep."""
    with read_write(config), open_dict(config):
        config.hydra.overrides.hydra.append(override)
