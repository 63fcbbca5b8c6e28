"""What a sweep is: a folder with a plan of its jobs, from its start to the leaderboard. Hydra calls `Runs`."""

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from humanseg import report, terminal
from humanseg.cli import hydra_private, launchers, planned, resume, search, typed
from humanseg.cli.job import say_how_to_go_on
from humanseg.cli.recorded_overrides import literal_keys, resolved
from humanseg.config_rules import refuse_wrong_values
from humanseg.processes import signals
from humanseg.runs import conf, locks, provenance
from humanseg.runs.atomic import NotWritten, write_json
from humanseg.runs.overrides import key_of, literal
from humanseg.runs.summary import ENDED, MODES, mark, read_jobs, read_sweep

SET_ANEW = ("hydra.sweep.dir=", "hydra.mode=", f"hydra.sweeper._target_={hydra_private.RECORDED}")

_sweep_lock = ExitStack()
claimed: list[Path] = []  # the folder of the run or sweep that this process has begun


class Runs(Callback):
    """Gives each run and sweep a folder of its own; ranks the jobs of a sweep when it ends.

    Hydra turns what a callback raises into a warning, except SystemExit.
    """

    def on_run_start(self, config: DictConfig, **kwargs) -> None:
        with _refusals(config.hydra.run.dir):
            _claim(config, "run")
        claimed.append(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        given = {kind: OmegaConf.to_container(config.hydra.overrides[kind]) for kind in ("task", "hydra")}
        with _refusals(config.hydra.sweep.dir):
            launchers.refuse_missing(config.hydra.launcher)
            _claim(config, "sweep")
            refuse_wrong_values({"sweep": OmegaConf.to_container(config.sweep)}, complete=False)
            folder, searched = Path(config.hydra.sweep.dir), {}
            claimed.append(folder)
            if hydra_private.is_search(config.hydra):
                jobs, searched["search"] = search.prepared(config)
                plans = planned.plan(config, [searched["search"]["constant"]])
            else:
                jobs = hydra_private.planned_jobs(config)
                if jobs:
                    jobs = [resolved(job, hydra_private.value_in_job(config, job)) for job in jobs]
                plans = planned.plan(config, jobs)
            constant = _plan(folder, jobs, given, plans, config.sweep.changed == "keep", searched)
        _for_all_jobs(config, f"hydra.job.config.override_dirname.exclude_keys={literal(constant)}")
        launchers.pass_signals_on(config.hydra, jobs)

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        folder = Path(config.hydra.sweep.dir)
        if number := launchers.stopped():
            say_how_to_go_on(folder, config.mode)
            sys.exit(signals.EXIT_CODES[number])
        sweep, jobs = read_sweep(folder), read_jobs(folder)
        completed = [job for job in jobs if job.get("status") == "completed"]
        done = len(completed) == len(sweep["jobs"] or jobs)
        if searched := sweep.get("search"):
            done = not searched["left"]
        with _sweep_lock, _refusals(folder):
            broken_off = "interrupted" if searched else "failed"
            write_json(folder / "sweep.json", sweep | {"status": "completed" if done else broken_off})
            if any(job.get("ranked") for job in jobs) or (not done and config.mode in MODES):
                terminal.say(report.write([folder], folder))
        if searched:
            search.say_end(folder, searched, bool(completed), config.sweep.max_failures)
        elif not done:
            missing = len(sweep["jobs"] or jobs) - len(jobs)
            stopped = f"{config.sweep.max_failures} jobs in a row failed, {missing} were not started; " * bool(missing)
            resumed = f"then: {conf.command()} resume={shlex.quote(str(folder))}"
            again = resumed if config.mode in MODES else "and type it again"
            sys.exit(terminal.visible(f"{stopped}mend what failed, {again}"))


@contextmanager
def _refusals(folder: str | Path) -> Iterator[None]:
    """End the program in one sentence where a run or sweep can't have its folder."""
    try:
        yield
    except (NotWritten, ValueError) as error:
        sys.exit(f"error: {terminal.message(error)}")
    except OSError as error:
        sys.exit(terminal.visible(f"error: {folder} can't be written to: {error.strerror}"))


def _plan(
    folder: Path,
    jobs: list[list[str]] | None,
    given: dict[str, list[str]],
    plans: list[planned.Plan],
    keep: bool,
    searched: dict,
) -> list[str]:
    """Write what a sweep is made of; one that goes on is first compared with what it was.

    Args:
        searched: of a search, its record, as `search`.

    Returns:
        the keys that all jobs share, which the names of their folders leave out.

    Raises:
        ValueError: a job's folder in it is another job's, or conf/ gives jobs that are left another config.
    """
    ended, before = 0, {}
    if locks.holds(folder):
        before = read_sweep(folder)
        resume.refuse_other_jobs(folder, jobs)
        planned.refuse_changed(folder, plans, keep, shared=bool(searched))
        ended = _count_ended(folder, len(jobs), searched)
    else:
        _sweep_lock.enter_context(locks.lock(folder))
        planned.write(folder, plans)
    if before:
        known = {key_of(override) for job in before["jobs"] for override in job}
        added = {*map(key_of, typed.overrides())} - known
        constant = sorted({*before.get("constant", literal_keys(before["overrides"])), *added})
    else:
        constant = _constant(given["task"])
    facts = {
        "status": "running",
        "overrides": before.get("overrides", given["task"]),
        "hydra": [item for item in given["hydra"] if not item.startswith(SET_ANEW)],
        "jobs": jobs,
        "config_dirs": conf.own_folders(),
        "constant": constant,
        "started": time.time(),
        "ended_before": ended,
        "environment": provenance.environment(),
        **searched,
    }
    write_json(folder / "sweep.json", facts)
    return constant


def _count_ended(folder: Path, jobs: int, searched: dict) -> int:
    """How many jobs of a sweep have nothing more to do as it goes on, which is said."""
    states = {job["folder"]: job.get("status") for job in read_jobs(folder)}
    if searched:
        ended = sum(status in ENDED for status in states.values())
        terminal.say(f"goes on    {ended} of {searched['search']['trials']} trials have ended")
        return ended
    for job, status in states.items():
        if status == "failed":
            mark(job, "interrupted")  # it is tried again, and counts for no max_failures until then
    ended = sum(status == "completed" for status in states.values())
    terminal.say(f"goes on    {ended} of {jobs} jobs are completed")
    return ended


def _constant(overrides: list[str]) -> list[str]:
    """The keys and groups of overrides that are no sweep."""
    read = OverridesParser.create().parse_overrides(overrides)
    return sorted({one.key_or_group for one in read} - {one.key_or_group for one in read if one.is_sweep_override()})


def _claim(config: DictConfig, kind: str) -> None:
    """Create the folder of a run or sweep. Two of the same second get two folders. A folder that an override names may hold no other run.

    Raises:
        ValueError: it holds one.
    """
    folder = Path(config.hydra[kind].dir)
    if locks.holds(folder):  # to go on with it
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
        _for_all_jobs(config, f"hydra.sweep.dir={literal(str(free))}")


def _for_all_jobs(config: DictConfig, override: str) -> None:
    """Add an override for all jobs: Hydra composes the config of each job anew, from the overrides of the sweep."""
    with read_write(config), open_dict(config):
        config.hydra.overrides.hydra.append(override)
