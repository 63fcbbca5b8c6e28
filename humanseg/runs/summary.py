"""summary.json and sweep.json: what a run and a sweep say of themselves, written and read."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from humanseg.runs import conf, provenance
from humanseg.runs.atomic import write_bytes, write_json, write_table
from humanseg.runs.reading import load_json, read_json

LARGEST = 4_000_000  # bytes of a summary, which grows with each resume
ITEMS = 20_000  # values in it
NAME = 400  # characters of a metric's name, which may hold that of a source, and so of a folder
MODES = ("train", "test")  # which write into their own folder alone, so that their jobs go on
FINISHED = ("completed", "pruned")  # the states of a run that has nothing more to do
ENDED = (*FINISHED, "failed")
STATES = ("running", "interrupted", *ENDED)
UTMOST = 1e100  # of a number: the square of a larger one is no number


def _is_number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) <= UTMOST)


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= NAME)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_environment(value: Any) -> bool:
    texts = ("command", "commit")
    return value is None or (
        isinstance(value, dict) and all(isinstance(value.get(one, ""), str | None) for one in texts)
    )


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "status": (STATES.__contains__, "one of a run's states"),
    "mode": (_is_text, "a name"),
    "ranked": (lambda value: isinstance(value, bool), "true or false"),
    "monitor": (_is_text, "a name"),
    "monitor_mode": (("max", "min").__contains__, "max or min"),
    **dict.fromkeys(("monitored", "seconds", "epoch", "epochs"), (_is_number, "a number")),
    **dict.fromkeys(("best", "metrics", "speed", "left_out"), (lambda value: isinstance(value, dict | None), "a dict")),
    **dict.fromkeys(("overrides", "trained"), (_are_texts, "a list of texts")),
    "tags": (lambda value: isinstance(value, list | None), "a list"),
    "earlier": (lambda value: isinstance(value, list), "a list"),
    "error": (lambda value: isinstance(value, str), "a text"),
    "environment": (_is_environment, "what a run depends on"),
}


class Run:
    """The folder of one run and its summary, kept up to date on disk; a resumed run adds to the summary it finds.

    Args:
        mode: the mode of the run. ranked: whether a report ranks it. facts: what else the summary says.
    """

    def __init__(self, folder: Path, mode: str, ranked: bool, **facts):
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        before = read_summary(folder)
        self.started = time.monotonic() - (before.get("seconds") or 0)
        told = {"status": "running", "folder_name": folder.name, "mode": mode, "ranked": ranked}
        told["config_dirs"] = conf.own_folders()
        patch, of_patch = provenance.uncommitted()
        self.summary = before | told | facts | {"environment": provenance.environment(), "code_patch": of_patch}
        self.summary.pop("error", None)
        if before:
            self.summary["earlier"] = [*before.get("earlier", []), before.get("environment")]
        write_json(folder / "summary.json", self.summary)
        if patch:
            write_bytes(folder / "code.patch", patch.encode(errors="surrogateescape"))

    def update(self, **facts) -> None:
        """Merge facts into summary.json; its keys are listed in the README."""
        self.summary |= {**facts, "seconds": round(time.monotonic() - self.started, 2)}
        write_json(self.folder / "summary.json", self.summary)

    def write_metrics(self, history: list[dict[str, float]]) -> None:
        """Write metrics.csv: a row an epoch, with the columns that concern time last."""
        names = dict.fromkeys(name for log in history for name in log)
        write_table(self.folder / "metrics.csv", sorted(names, key=lambda name: name.startswith("time/")), history)


def mark(folder: Path, status: str, **facts) -> None:
    """Write a run's status into its summary.json, also where the run had not begun to write one."""
    summary = read_summary(folder) or {"environment": provenance.environment(), "folder_name": folder.name}
    write_json(folder / "summary.json", summary | {"status": status, **facts})


def read_summary(folder: Path) -> dict:
    """A run's summary.json; empty where there is none that can be read."""
    try:
        return load_summary(folder)
    except ValueError:
        return {}


def load_summary(folder: Path) -> dict:
    """A run's summary.json; empty where there is none.

    Raises:
        ValueError: it can't be read, or holds what no run writes.
    """
    file = folder / "summary.json"
    try:
        told = load_json(file, LARGEST, ITEMS)
    except FileNotFoundError:
        return {}
    for key, (holds, words) in KINDS.items():
        if key in told and not holds(told[key]):
            raise ValueError(f"{file}: {key} is not {words}")
    if told.get("monitored") is not None and told.get("monitor") is None:
        raise ValueError(f"{file}: monitored is a number of nothing")
    return told


def numbers(told: dict | None) -> dict[str, float | None]:
    """Of a summary's metrics those that are numbers; one's own metric or callback may leave anything."""
    return {name: value for name, value in (told or {}).items() if _is_text(name) and _is_number(value)}


def read_sweep(folder: Path) -> dict:
    """A sweep's sweep.json: status, overrides, hydra, jobs, constant, started, ended_before, of a search also `search`.

    It is empty where it can't be read.
    """
    sweep = read_json(folder / "sweep.json")
    return sweep if _is_sweeps(sweep) else {}


def _is_sweeps(told: dict) -> bool:
    """Whether what a sweep.json holds is what a sweep writes."""
    jobs = told.get("jobs")
    if not isinstance(jobs, list | None):
        return False
    lists = [told.get("overrides"), told.get("hydra"), told.get("constant", []), *(jobs or [])]
    texts = all(isinstance(one, list) and all(isinstance(item, str) for item in one) for one in lists)
    numbers = all(isinstance(told.get(name, 0), int | float) for name in ("started", "ended_before"))
    environment = told.get("environment", {})
    described = isinstance(environment, dict) and isinstance(environment.get("command", ""), str)
    return texts and numbers and described and ("search" not in told or _is_search(told["search"]))


def _is_search(told: Any) -> bool:
    """Whether this is what a sweep.json says of a search: see cli/search.py."""
    if not isinstance(told, dict) or not all(type(told.get(name)) is int for name in ("trials", "left")):
        return False
    space, ways = told.get("space"), told.get("objectives")
    named = isinstance(space, dict) and isinstance(ways, dict) and all(map(_is_text, [*space, *ways]))
    return (
        named
        and bool(ways)
        and {*ways.values()} <= {"max", "min"}
        and _are_texts(told.get("constant"))
        and all(map(_is_parameter, space.values()))
    )


def _is_parameter(one: Any) -> bool:
    if not isinstance(one, dict):
        return False
    if "choices" in one:
        return _are_texts(one["choices"]) and bool(one["choices"])
    bounds = [one.get("low"), one.get("high")]
    numbers = None not in bounds and all(map(_is_number, [*bounds, one.get("step")]))
    return numbers and all(isinstance(one.get(name), bool) for name in ("log", "whole"))


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep's, with its jobs in it."""
    return (folder / "sweep.json").is_file()


def read_jobs(sweep: Path) -> list[dict]:
    """The summaries of a sweep's jobs in their order, each with its `folder`."""
    folders = [file.parent for file in sweep.glob("*/summary.json")]
    numbered = sorted(folders, key=lambda folder: (job_number(folder.name), folder.name))
    return [read_summary(folder) | {"folder": folder} for folder in numbered]


def job_number(name: str) -> int:
    """The number that the name of a job's folder begins with; -1 where it has none."""
    first = name.split("_")[0]
    return int(first) if first.isdecimal() else -1


def ranking(jobs: list[dict]) -> list[dict]:
    """Summaries of jobs, the best monitored metric first; then those that were pruned, and last those without one."""

    def key(job: dict) -> tuple:
        value, pruned = job.get("monitored"), job.get("status") == "pruned"
        if value is None:
            return True, pruned, 0.0
        return False, pruned, -value if job.get("monitor_mode", "max") == "max" else value

    return sorted(jobs, key=key)
