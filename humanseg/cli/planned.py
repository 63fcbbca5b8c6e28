"""The configs that the jobs of a sweep had at its start, in planned.json beside sweep.json.

conf/ may change while a sweep runs, or before it goes on. The jobs that are left would then train another config than the
others, in the same ranking.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from humanseg import terminal
from humanseg.cli import hydra_private
from humanseg.config_rules import flat, key
from humanseg.runs import recorded
from humanseg.runs.atomic import write_json
from humanseg.runs.plain import refuse_other_than_plain
from humanseg.runs.reading import is_config, load_json
from humanseg.runs.summary import job_number, read_jobs, read_sweep
from humanseg.runs.trust import of_run

FILE = "planned.json"
LARGEST, VALUES = 2**28, 5_000_000  # bytes and values of the plans of 10,000 jobs
SHOWN = 8  # differences in one sentence
PLACES = ("mode", "out", "ckpt", "resume", "sweep")  # what is done where, which no record decides


class Plan(NamedTuple):
    """A job's resolved config, and the choice of each of its groups."""

    config: dict[str, Any]
    choices: dict[str, str]


def plan(config: DictConfig, jobs: list[list[str]] | None) -> list[Plan]:
    """The plan of each job of a sweep; of a search that of what all jobs share. None where one can't be composed.

    Hydra tells why it can't when the job's turn comes.
    """
    try:
        return [Plan(*_plain(*one)) for one in hydra_private.composed_jobs(config, jobs or [])]
    except (HydraException, OmegaConfBaseException):
        return []


def _plain(config: DictConfig, choices: DictConfig) -> tuple[dict, dict]:
    return _as_recorded(OmegaConf.to_container(config, resolve=True)), of_run(choices)


def write(folder: Path, plans: list[Plan]) -> None:
    """Keep the plans of a sweep that begins."""
    write_json(folder / FILE, {"jobs": [one._asdict() for one in plans]})


def read(folder: Path) -> list[Plan] | None:
    """The plans that a sweep began with; None where an earlier version began it.

    Raises:
        ValueError: they can't be read.
    """
    if not (folder / FILE).exists():
        return None
    try:
        jobs = load_json(folder / FILE, LARGEST, VALUES).get("jobs")
    except ValueError:
        jobs = None
    whole = isinstance(jobs, list) and all(isinstance(job, dict) and job.keys() == {*Plan._fields} for job in jobs)
    if not whole or not all(is_config(job["config"]) and isinstance(job["choices"], dict) for job in jobs):
        raise ValueError(
            f"{folder / FILE} can't be read; each job that has begun can be continued: resume={folder}/JOB"
        )
    for job in jobs:
        refuse_other_than_plain(job, str(folder / FILE))
    return [Plan(**job) for job in jobs]


def refuse_changed(folder: Path, plans: list[Plan], keep: bool, shared: bool = False) -> None:
    """Compare what conf/ gives now with what it gave at the start to jobs that have not begun.

    A mistake in conf/ that made jobs fail before they trained may be mended: what differs in them, and in no job that has
    begun, is taken by all that are left, which is said.

    Args:
        plans: what it gives now. keep: these jobs train what was planned, which is said.
        shared: whether there is one plan, of what all jobs share, because a search chooses the rest as it goes.

    Raises:
        ValueError: it differs, and is not to be kept.
    """
    jobs, planned = read_jobs(folder), read(folder) or []
    begun = {job_number(file.parents[1].name) for file in folder.glob("*/checkpoints/last.pt")}
    begun |= {job_number(job["folder"].name) for job in jobs if job.get("status") == "completed"}
    failed = {job_number(job["folder"].name) for job in jobs if job.get("status") == "failed"} - begun
    if shared:
        begun = failed = set()
    trained, mended, left = {}, {}, {}
    for number, (before, now) in enumerate(zip(planned, plans, strict=False)):
        found = _differences(before.config, now.config)
        for some, applies in ((trained, number in begun), (mended, number in failed), (left, number not in begun)):
            some |= found if applies else {}
    mended = {name: told for name, told in mended.items() if name not in trained}
    found = {name: told for name, told in left.items() if name not in mended}
    if found and not keep:
        raise ValueError(
            f"{folder}: conf/ has changed since this sweep began: {_told(found)}. Change it back, or type sweep.changed=keep: "
            "the jobs that are left then train what was planned"
        )
    if mended and not keep:
        terminal.say(f"mended     {_told(mended)}: the jobs that failed and those that are left take it")
        write(folder, [before if number in begun else plans[number] for number, before in enumerate(planned)])


def as_planned(config: DictConfig, folder: Path, number: int, overrides: list[str]) -> DictConfig:
    """The config of a job of a sweep: the composed one, with what was planned where conf/ has changed since.

    Raises:
        ValueError: the plan can't be read, or names what conf/ does not have.
    """
    now, plans = OmegaConf.to_container(config, resolve=True), read(folder)
    composed = _as_recorded(now)
    if plans and (search := read_sweep(folder).get("search")):
        number = 0
        composed = plan(OmegaConf.create({"hydra": HydraConfig.get()}), [search["constant"]])[0].config
    if plans is None:  # the jobs before this one were divided by their seed
        return OmegaConf.create(now | {"data": now["data"] | recorded.drawn_by_seed(now)})
    if number >= len(plans) or not (differ := _differences(plans[number].config, composed)):
        return config
    terminal.say(f"job {HydraConfig.get().job.num} keeps what was planned: {_told(differ)}")
    before = {name: value for name, value in plans[number].config.items() if name not in PLACES}
    before["trainer"] = now["trainer"] | before["trainer"]  # an older version had fewer keys
    return OmegaConf.create(recorded.with_overrides(now | before, plans[number].choices, now, overrides))


def _as_recorded(config: dict) -> dict:
    """A config as it is once it was written and read."""
    return json.loads(json.dumps(config))


def _differences(before: dict, now: dict) -> dict[str, str]:
    """The keys that differ, each with its value before and now. What this machine decides may differ."""
    old, new = flat(before), flat(now)
    differ = [name for name in {**old, **new} if old.get(name) != new.get(name) and key(name).change != "machine"]
    return {name: f"{name} ({old.get(name)} -> {new.get(name)})" for name in differ}


def _told(differ: dict[str, str]) -> str:
    more = f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
    return ", ".join([*differ.values()][:SHOWN]) + more
