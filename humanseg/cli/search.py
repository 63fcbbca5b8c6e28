"""A search: Hydra's sweeper that asks Optuna for one trial after another, by Optuna's ask-and-tell.

`Search` is the sweeper of conf/hydra/sweeper/optuna.yaml. Its state is in the sweep's folder: Optuna's journal, and
sweep.json with the space and the jobs. A search that goes on reads both again.
"""

import copy
import shlex
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from humanseg import terminal
from humanseg.cli import hydra_private, launchers, space
from humanseg.cli.recorded_overrides import resolved
from humanseg.config_rules import flat, key
from humanseg.runs import conf, locks, trials
from humanseg.runs.atomic import write_json, write_text
from humanseg.runs.overrides import key_of
from humanseg.runs.summary import ENDED, FINISHED, job_number, mark, read_summary, read_sweep
from humanseg.runs.trust import of_run

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ATTEMPTS = 100  # at a point that was not tried yet; the last half of them at random


def prepared(config: DictConfig) -> tuple[list[list[str]], dict[str, Any]]:
    """The jobs that a search has begun so far, and what sweep.json says of it: see `space.begin`.

    Raises:
        ValueError: it can't begin, or go on.
    """
    hydra_private.register(Search, hydra_private.SEARCH)
    folder, sweeper = Path(config.hydra.sweep.dir), config.hydra.sweeper
    if not locks.holds(folder):
        return [], space.begin(config)
    space.refuse_wrong(config)
    constant = OmegaConf.to_container(config.hydra.overrides.task)
    constant = resolved(constant, hydra_private.value_in_job(config, constant))
    search = read_sweep(folder)["search"] | {"constant": constant, "trials": sweeper.n_trials}
    study = trials.open_study(folder, space.directions(search))
    return space.jobs_of(study, search, free=bool(sweeper.space)), search


def say_end(folder: Path, search: dict[str, Any], has_winner: bool, max_failures: int | None) -> None:
    """Tell how to go on with a search that is not over, or that has found nothing.

    Raises:
        SystemExit: it has failed so often that it was ended, or has no winner.
    """
    how = f"{conf.command()} resume={shlex.quote(str(folder))}"
    if search["left"] and search["failed"]:
        sys.exit(terminal.visible(f"{max_failures} trials in a row failed; mend what failed, then: {how}"))
    if search["left"]:
        terminal.say(f"{search['left']} of {search['trials']} trials are left: {how}")
    elif not has_winner:
        sys.exit("no trial has been completed: mend what failed, and begin another search")


class Search(Sweeper):
    """Tries points of a space until `n_trials` have ended.

    Args:
        sampler: makes one of Optuna's samplers of a seed. pruner: one of Optuna's; the jobs make their own of its YAML.
        n_trials: in all. timeout: seconds after which none begins; None: never. n_jobs: see `launchers.slots`.
        seed: with the trial's number it decides what is asked. objectives, params: see `space.begin`.
        space: the dotted path of a function that gets Optuna's trial and suggests values for further keys.
    """

    def __init__(
        self, sampler: partial, pruner: Any, n_trials: int, timeout: float | None, n_jobs: int | None, seed: int,
        objectives: list[str] | None, space: str | None, params: dict[str, str] | None,
    ):  # fmt: skip
        self.sampler, self.n_trials, self.timeout, self.seed = sampler, n_trials, timeout or float("inf"), seed
        self.more: Callable | None = get_method(space) if space else None
        self.lock = threading.Lock()  # on all below
        self.failures, self.errors = 0, []

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.folder = config, Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Try until the trials, the time or the patience with failures are over; arguments are those of sweep.json."""
        self.search = read_sweep(self.folder)["search"]
        self.study = trials.open_study(self.folder, space.directions(self.search))
        self.jobs = space.jobs_of(self.study, self.search, bool(self.more))
        self.waiting = [one.number for one in self.study.get_trials(deepcopy=False) if not one.state.is_finished()]
        self.ends = time.monotonic() + self.timeout
        if not self.jobs:
            space.refuse_wrong_bounds(self.config, self.search)
        ways = ", ".join(f"{name} ({way})" for name, way in self.search["objectives"].items())
        terminal.say(
            f"search     {self.n_trials} trials by {ways} over {', '.join(self.search['space']) or 'a space of your own'}"
        )
        if launchers.slots(self.config.hydra) == 1:
            self._work()
        else:
            self._work_at_once(launchers.slots(self.config.hydra))
        self._record()
        self._write_best()

    def _work_at_once(self, count: int) -> None:
        """Several slots, each in a thread that waits for the launcher; a launcher's processes do the work."""

        def work() -> None:
            try:
                self._work()
            except BaseException as error:
                self.errors.append(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]  # Ctrl-C need not wait for them
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _work(self) -> None:
        while (number := self._next()) is not None:
            self._launch(number)
            with self.lock:
                self._tell(number)

    def _next(self) -> int | None:
        """The number of a trial to try: one that was begun before this search went on, or a new one."""
        with self.lock:
            if launchers.stopped() or self.errors or self._gives_up():
                return None
            if self.waiting:
                return self.waiting.pop(0)
            if len(self.jobs) >= self.n_trials or (self.jobs and time.monotonic() > self.ends):
                return None
            if (asked := self._ask()) is None:
                terminal.say("search     all points of the space have been tried")
                self.n_trials = len(self.jobs)
                return None
            self.study.add_trial(asked)  # one line of the journal
            self.jobs.append([*self.search["constant"], *trials.overrides(asked.params, self.search["space"])])
            self._record()
            return len(self.jobs) - 1

    def _gives_up(self) -> bool:
        limit = self.config.sweep.max_failures
        return limit is not None and self.failures >= limit

    def _ask(self) -> "FrozenTrial | None":
        """A point that was not tried yet; None where none is found. Nothing is written.

        It is asked of a copy of the study in memory, so that a kill leaves no half of a trial.
        """
        import numpy as np
        import optuna

        known = self.study.get_trials(deepcopy=False)
        of_space = {name: trials.distribution(one) for name, one in self.search["space"].items()}
        tried = [trial.params for trial in known]
        for attempt in range(ATTEMPTS):
            seed = int(np.random.SeedSequence([self.seed, len(known), attempt]).generate_state(1)[0])
            of_its_own = {} if "seed" in self.sampler.keywords else {"seed": seed}
            sampler = self.sampler(**of_its_own) if 2 * attempt < ATTEMPTS else optuna.samplers.RandomSampler(seed)
            memory = trials.in_memory(self.study, sampler)
            trial = memory.ask(of_space)
            if self.more:
                self.more(trial)
            drawn = memory.get_trials(deepcopy=False)[-1]
            params = {name: trials.rounded(value, drawn.distributions[name]) for name, value in drawn.params.items()}
            if params not in tried:
                facts = {"distributions": drawn.distributions, "system_attrs": drawn.system_attrs}
                return optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, params=params, **facts)
        return None

    def _launch(self, number: int) -> None:
        """Run a trial to its end, where a launcher may have another process do it."""
        folder = self._folder(number)
        while folder and locks.is_held(folder):  # a job of submitit outlives the search that began it
            time.sleep(1)
        if self._status(number) in ENDED:
            return
        try:
            with self.lock:
                [*hydra_private.composed_jobs(self.config, [self.jobs[number]])]
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: a choice is a number
            folder, told = self.folder / f"{number}_not_composed", " ".join(str(error).split())
            folder.mkdir(exist_ok=True)
            mark(folder, "failed", error=told)
            terminal.say(f"job {number} failed: {told}")
            return
        try:
            for done in self.launcher.launch([self.jobs[number]], number):
                done.return_value  # noqa: B018  it raises what the job has raised
        except Exception as error:  # as of a launcher whose process has died; the trial is finished by `resume=`
            terminal.say(f"job {number} has died: {terminal.reason(error)}")

    def _folder(self, number: int) -> Path | None:
        return next((one for one in self.folder.glob(f"{number}*") if job_number(one.name) == number), None)

    def _status(self, number: int) -> str | None:
        folder = self._folder(number)
        return read_summary(folder).get("status") if folder else None

    def _tell(self, number: int) -> None:
        """Tell the study how a trial has ended. One that has not is left to the search that goes on."""
        from optuna.trial import TrialState

        folder = self._folder(number)
        told = read_summary(folder) if folder else {}
        status, values = told.get("status"), trials.values(told, self.search["objectives"])
        if status == "completed" and values is None:
            terminal.say(f"job {number} has not measured {', '.join(self.search['objectives'])}: it counts as failed")
            status = "failed"
        self.failures = 0 if status in FINISHED else self.failures + 1
        if status == "completed":
            self.study.tell(number, values)
        elif status in ENDED:
            self.study.tell(number, state=TrialState.PRUNED if status == "pruned" else TrialState.FAIL)

    def _record(self) -> None:
        """Bring sweep.json up to date."""
        finished = sum(one.state.is_finished() for one in self.study.get_trials(deepcopy=False))
        self.search |= {"trials": self.n_trials, "left": max(self.n_trials - finished, 0), "failed": self._gives_up()}
        write_json(self.folder / "sweep.json", read_sweep(self.folder) | {"jobs": self.jobs, "search": self.search})

    def _write_best(self) -> None:
        """The winner as an experiment; of several objectives each trial of the Pareto front, the best in the first as the winner."""
        ways = self.search["objectives"]
        done = {one.number: one.values for one in self.study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"}
        if not done:
            return
        best = (max if [*ways.values()][0] == "max" else min)(done, key=lambda number: done[number][0])
        several = {f"trial_{one}": one for one in trials.front(done, [*ways.values()])} if len(ways) > 1 else {}
        (self.folder / "experiment").mkdir(exist_ok=True)
        for name, number in {**several, "best": best}.items():
            told = ", ".join(f"{way} {value:.4g}" for way, value in zip(ways, done[number], strict=True))
            text = experiment(self.config, self.jobs[number], f"Trial {number}: {told}.", self.folder, name)
            write_text(self.folder / "experiment" / f"{name}.yaml", text)
        write_text(self.folder / "best.yaml", text)
        typed = shlex.join([*conf.PROGRAM.split(), "--config-dir", str(self.folder), "experiment=best"])
        terminal.say(
            f"best       {told}  {' '.join(trials.own(self.jobs[best], self.search['constant']))}",
            f"           {typed}",
        )


def experiment(config: DictConfig, job: list[str], told: str, folder: Path, name: str) -> str:
    """A YAML that composes to what a job of a sweep trains: its groups' choices, and all that differs from these.

    Args:
        config: the sweep's. told: of the trial. name: that the file will have in `folder`/experiment.
    """
    ((whole, choices),) = hydra_private.composed_jobs(config, [job])
    chosen = of_run({group: choice for group, choice in choices.items() if "@" not in group})
    bare = copy.deepcopy(config)  # without the experiment Hydra may not know the keys of its sweeper that were typed
    with read_write(bare), open_dict(bare):
        bare.hydra.overrides.hydra = [one for one in bare.hydra.overrides.hydra if key_of(one) == "hydra.searchpath"]
    ((plain, _),) = hydra_private.composed_jobs(bare, [[f"{group}={choice}" for group, choice in chosen.items()]])
    mine, theirs = (flat(OmegaConf.to_container(one, resolve=True)) for one in (whole, plain))
    differ: dict = {}
    for path, value in mine.items():
        if (
            (path not in theirs or theirs[path] != value)
            and key(path).change != "machine"
            and path not in ("mode", "resume")
        ):
            *groups, last = path.split(".")
            node = differ
            for group in groups:
                node = node.setdefault(group, {})
            node[last] = value
    typed = shlex.join([*conf.PROGRAM.split(), "--config-dir", str(folder), f"experiment={name}"])
    lines = ["# @package _global_", f"# {told} {typed}"]
    lists = {"defaults": [*({f"override /{group}": choice} for group, choice in chosen.items()), "_self_"]}
    return "\n".join([*lines, yaml.safe_dump(lists | differ, sort_keys=False, allow_unicode=True)])
