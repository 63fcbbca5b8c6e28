"""`resume=PATH`: checked before Hydra touches the folder, then replaced by the overrides that go on with what is there.

Hydra 1.3 has no resuming: it writes `.hydra/` and `multirun.yaml` anew at every start. So a run is started again in its
own folder, with its recorded overrides and those given beside `resume=`, and its mode finds the checkpoint there. A sweep
is started again with the list of jobs that it recorded; what was swept is not read again.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from humanseg import config_rules
from humanseg.cli import hydra_private, recorded_overrides, space, typed
from humanseg.cli.composing import composed, place_of_runs
from humanseg.cli.recorded_overrides import usable
from humanseg.runs import find, recorded, trust
from humanseg.runs.locks import refuse_links
from humanseg.runs.overrides import key_of, literal, sign_of
from humanseg.runs.reading import read_config, read_yaml
from humanseg.runs.summary import FINISHED, MODES, is_sweep, job_number, read_jobs, read_summary, read_sweep

OF_THE_SEARCH = ("hydra.sweeper.objectives", "hydra.sweeper.params")  # what makes a search what it is


@dataclass
class Continuation:
    """How to go on with a folder."""

    folder: Path
    arguments: list[str]  # for Hydra
    finished: bool


def plan(arguments: list[str]) -> Continuation:
    """Read a command line with `resume=PATH` in it; nothing is written.

    Raises:
        ValueError: nothing is there, or the overrides beside it would make something else of it.
    """
    flags = [argument for argument in arguments if argument.startswith("-") and argument not in ("-m", "--multirun")]
    given = typed.values(arguments)
    named = given["resume"].strip("'\"")
    folder = find.unfinished(named, place_of_runs(arguments) if named == "latest" else "")
    if not str(folder).isprintable():  # SLURM gets it in a script, where a line of it would be a command
        raise ValueError(f"resume={folder}: the name of a run's or sweep's folder may hold no line breaks and the like")
    own = [argument for argument in arguments if not argument.startswith(("-", "resume="))]
    if mode := given.get("mode"):
        raise ValueError(f"mode={mode}: resume= goes on with {folder} in the mode it was started in")
    refuse_links(folder)
    going_on = _sweep if is_sweep(folder) else _run
    return going_on(folder, flags, own)


def _run(folder: Path, flags: list[str], overrides: list[str]) -> Continuation:
    summary = read_summary(folder)
    before = summary.get("overrides")
    if before is None:  # it ended before it had written a summary
        before = read_yaml(folder / ".hydra" / "overrides.yaml")
    before = usable(before, overrides, folder)
    together = _placed(folder, merge(before, overrides))
    if any(override.startswith("experiment=") for override in overrides):
        raise ValueError("experiment= can't be typed beside resume=, which brings its own: type the keys to change")
    if overrides and "choices" in summary and any((folder / "checkpoints").glob("*.pt")):
        own = recorded.in_todays_names(read_config(folder / "config.yaml"))
        choices = trust.safe_choices(summary["choices"])
        anew = OmegaConf.to_container(composed(together), resolve=True)
        config_rules.refuse_other_run(own, recorded.with_overrides(own, choices, anew, overrides))
    where = [f"hydra.run.dir={literal(str(folder))}", "hydra.mode=RUN"]
    later = [override for override in overrides if key_of(override) != "out"]  # the run has its place
    finished = summary.get("status") in FINISHED and merge(before, later) == merge(before, [])
    return Continuation(folder, [*flags, *together, *where], finished)


def _sweep(folder: Path, flags: list[str], overrides: list[str]) -> Continuation:
    sweep = read_sweep(folder)
    if "jobs" not in sweep:
        raise ValueError(f"{folder / 'sweep.json'} can't be read; each job can be continued: resume={folder}/JOB")
    if other := [override for override in _decisive(overrides) if override not in _decisive(sweep["overrides"])]:
        raise ValueError(
            f"{' '.join(other)} would change the jobs of {folder}: start a new sweep; beside its resume= there may be "
            + ", ".join(config_rules.of_machine())
        )
    if "search" in sweep:
        return _search(folder, sweep, flags, overrides)
    if not sweep["jobs"]:
        raise ValueError(
            f"{folder}: its sweeper chose the jobs as it went and can't be started again; each job can: resume={folder}/JOB"
        )
    of_hydra, of_jobs, overrides = _typed_beside(folder, sweep, overrides)
    recorded_overrides.refuse_many(sweep["jobs"], sweep["hydra"], overrides)
    known = {*usable(list(dict.fromkeys(text for job in sweep["jobs"] for text in job)), overrides, folder)}
    jobs = [_placed(folder, merge([text for text in job if text in known], of_jobs)) for job in sweep["jobs"]]
    launcher = merge(usable(sweep["hydra"], overrides, folder), of_hydra)
    where = [f"hydra.sweep.dir={literal(str(folder))}", hydra_private.launch_recorded(jobs)]
    return Continuation(folder, ["-m", *flags, *launcher, *jobs[0], *where], sweep.get("status") == "completed")


def _typed_beside(folder: Path, sweep: dict, overrides: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What is typed beside a sweep's `resume=`: for Hydra, for all jobs, and both together."""
    # What was swept and is typed again as it was changes nothing.
    overrides = [one for one in overrides if one not in sweep["overrides"] or recorded_overrides.is_literal(one)]
    of_hydra = [override for override in overrides if key_of(override).startswith("hydra")]
    of_jobs, *more = hydra_private.jobs_of([override for override in overrides if override not in of_hydra])
    if more:
        raise ValueError(f"resume={folder} takes no sweep beside it, which would make other jobs")
    return of_hydra, of_jobs, overrides


def _search(folder: Path, sweep: dict, flags: list[str], overrides: list[str]) -> Continuation:
    """A search is started again with what it recorded: its space, and the trials in its journal, which are all of it."""
    of_hydra, of_jobs, overrides = _typed_beside(folder, sweep, overrides)
    search = sweep["search"]
    if other := [
        text for text in of_hydra if key_of(text) == "hydra/sweeper" or key_of(text).startswith(OF_THE_SEARCH)
    ]:
        raise ValueError(f"{' '.join(other)} would make another search of {folder}: start a new one")
    given = [text for text in sweep["hydra"] if not key_of(text).startswith("hydra.sweeper.params")]  # read once
    space.refuse_strange(folder, search)
    recorded_overrides.refuse_many([search["constant"]], given, overrides)
    constant = _placed(folder, merge(usable(search["constant"], overrides, folder), of_jobs))
    launcher = merge(usable(given, overrides, folder), of_hydra)
    where = f"hydra.sweep.dir={literal(str(folder))}"
    return Continuation(
        folder, ["-m", *flags, *launcher, *constant, where], sweep.get("status") == "completed" and not of_hydra
    )


def _placed(folder: Path, overrides: list[str]) -> list[str]:
    """Overrides with `out` where the folder of a run or sweep lies now: it may have been moved with all around it."""
    whole = folder.parent if is_sweep(folder.parent) else folder
    day, kind = whole.parent, whole.parents[1:2]
    in_order = re.fullmatch(r"\d{4}-\d\d-\d\d", day.name) and kind and kind[0].name in (*MODES, "multirun")
    if not in_order or any(key_of(override) == "out" for override in overrides):
        return overrides
    out = kind[0].parent
    return overrides if out.resolve() == Path("outputs").resolve() else [*overrides, f"out={literal(str(out))}"]


def merge(before: list[str], later: list[str]) -> list[str]:
    """Overrides in which later ones take the place of the ones with the same key; what `+` added stays added."""
    together = {}
    for override in before + later:
        key = key_of(override)
        sign = sign_of(together.get(key, "")).rstrip("~") if override[:1] not in "+~" else ""
        together[key] = sign + override
    return list(together.values())


def refuse_other_jobs(folder: Path, planned: list[list[str]]) -> None:
    """Compare a sweep that is to go on with what lies in its folder.

    Raises:
        ValueError: a folder is not the job's whose number it has.
    """
    seen = set()
    for job in read_jobs(folder):
        name, number = job["folder"].name, job_number(job["folder"].name)
        if number in seen or not 0 <= number < len(planned) or name != job.get("folder_name", name):
            raise ValueError(f"{job['folder']} is no job of this sweep, or was renamed: move it away or name it back")
        if _decisive(job.get("overrides", planned[number])) != _decisive(planned[number]):
            raise ValueError(f"{job['folder']} holds another job than number {number} of this sweep: move it away")
        seen.add(number)


def _decisive(overrides: list[str]) -> list[str]:
    """The overrides that make a job what it is, sorted, each in one form."""
    decisive = (item for item in overrides if config_rules.key(key_of(item)).change != "machine")
    return sorted(recorded_overrides.in_one_form(item) for item in decisive)
