"""Runs below some folders, read and ranked.

Only summary.json, sweep.json and .hydra/overrides.yaml are read. So runs that still go on, were killed or are broken
have their place too.
"""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from humanseg.report.repeats import NOT_COMPARED, REPEATED, experiments, gap
from humanseg.runs import trials
from humanseg.runs.conf import PROGRAM
from humanseg.runs.locks import is_held
from humanseg.runs.overrides import unquoted
from humanseg.runs.reading import read_yaml
from humanseg.runs.summary import job_number, load_summary, numbers, ranking, read_sweep
from humanseg.runs.value_names import metric_of, source_of

RANKED_ONCE = ("train", "test")  # the ranked modes, where the summary is too old to say it, or missing
COMPARED = 20  # experiments that are compared with the best one by their photographs
SOURCES = 60  # values by source that have a column


@dataclass
class Board:
    """Runs in their order, and what tells them apart."""

    sources: list[Path]
    jobs: list[dict]  # summaries, best first, with `folder`, `job`, `status`, `overrides`, `settings`, `values`
    monitor: str | None  # what they are ranked by
    by_source: list[str]  # that metric of each source, of all and their mean; empty where no run has several sources
    metrics: list[str]  # the other val/* and test/* that any of them has
    keys: list[str]  # keys of the overrides that differ
    search: dict | None  # what a search that is the only source has recorded
    groups: list[dict]  # repetitions over seeds and folds, best mean first; empty where nothing was repeated
    problems: list[str] = field(default_factory=list)  # files that can't be read, a sentence each

    @property
    def states(self) -> Counter:
        """How many runs there are of each status."""
        return Counter(job["status"] for job in self.jobs)

    @property
    def logarithmic(self) -> set[str]:
        """The keys that a search has drawn on a logarithmic scale."""
        space = self.search["space"] if self.search else {}
        return {name.lstrip("+") for name, one in space.items() if one.get("log")}


def read(sources: list[Path]) -> Board:
    """Find all runs below some folders, those that a sweep has planned among them, and rank them.

    Raises:
        ValueError: there is none.
    """
    base = Path(os.path.commonpath([source.resolve() for source in sources]))
    problems: list[str] = []
    found = {folder: planned for source in sources for folder, planned in _find(source.resolve(), problems)}
    every = [_read_job(folder, planned, base) for folder, planned in found.items()]
    jobs = [job for job in every if _is_ranked(job)]
    if not jobs:
        raise ValueError(f"runs={','.join(map(str, sources))}: there is no run, nor a sweep with jobs")
    problems += [problem for job in jobs for problem in job["problems"]]
    jobs, monitor = _ranked(jobs)
    search = read_sweep(sources[0]).get("search") if len(sources) == 1 else None
    objectives = search["objectives"] if search else {}
    for job in jobs:
        job["values"] |= trials.measured(job, objectives)
    names = dict.fromkeys(name for job in jobs for name in job["values"] if name.startswith(("val", "test")))
    others = sorted((name for name in names if name != monitor), key=lambda name: source_of(name) != "")
    by_source = _by_source(names, monitor)
    metrics = [name for name in dict.fromkeys([*objectives, *others]) if name not in (monitor, *by_source)]
    groups = _repeated(jobs, monitor, by_source)
    return Board(sources, jobs, monitor, by_source, metrics, _differing(jobs), search, groups, problems)


def _by_source(names: Iterable[str], monitor: str | None) -> list[str]:
    """Those of some names that are of the monitored metric, where any source has it; without the monitored one itself."""
    alike = [name for name in names if metric_of(name) == metric_of(monitor or "")]
    return [name for name in alike if name != monitor][:SOURCES] if any(map(source_of, alike)) else []


def _find(source: Path, problems: list[str]) -> Iterator[tuple[Path, list[str] | None]]:
    """Each run below a folder with the overrides that its sweep planned for it; also jobs that have not begun.

    Args:
        problems: gets a sentence for each sweep.json that can't be read.
    """
    plans = {}
    for path, names, files in os.walk(source):
        folder, number = Path(path), job_number(Path(path).name)
        names.sort(key=lambda name: (job_number(name), name))
        there = {*names, *files}
        if "sweep.json" in there:
            sweep = read_sweep(folder)
            problems += [] if sweep else [f"{folder / 'sweep.json'} is no record of a sweep"]
            plans[folder] = dict(enumerate(sweep.get("jobs") or []))
            begun = {job_number(name) for name in names}
            yield from ((folder / str(job), planned) for job, planned in plans[folder].items() if job not in begun)
        is_job = folder.parent in plans and number >= 0
        if is_job or {"summary.json", ".hydra"} & there:
            names.clear()  # a run holds no other run: the test/ in it is its own
            yield folder, plans.get(folder.parent, {}).get(number)


def _read_job(folder: Path, planned: list[str] | None, base: Path) -> dict:
    """A run's summary with what its folder and its sweep tell about it."""
    problems: list[str] = []
    told = _read(load_summary, folder, problems) or {}
    overrides = told.get("overrides", planned)
    if overrides is None:
        overrides = _read(_recorded_overrides, folder, problems)
    own = settings(overrides or [])
    if trained := settings(told.get("trained") or []):  # a test: the seed that counts is the training's
        own = trained | {key: value for key, value in own.items() if key != "seed"}
    return told | {
        "folder": folder,
        "job": folder.name if folder == base else folder.relative_to(base).as_posix(),
        "status": _status(folder, told, planned),
        "overrides": overrides or [],
        "settings": own,
        "compared": overrides is not None,
        "problems": problems,
        "error": "; ".join(problems) or told.get("error"),
        "values": numbers(told.get("best") or told.get("metrics")),
        "monitor": told.get("monitor"),
        "monitor_mode": told.get("monitor_mode", "max"),
    }


def _read(read: Callable[[Path], Any], folder: Path, problems: list[str]) -> Any:
    """What is read of a run's folder; None, and a sentence more, where it can't be."""
    try:
        return read(folder)
    except ValueError as error:
        problems.append(str(error))
        return None


def _is_ranked(job: dict) -> bool:
    """Whether runs of this run's mode are ranked, as its summary says."""
    mode = job.get("mode", job["settings"].get("mode", "train"))
    return job.get("ranked", mode in RANKED_ONCE)


def _status(folder: Path, told: dict, planned: list[str] | None) -> str:
    """The status that a run wrote, unless the process that would change it is gone."""
    if told.get("status", "running") != "running":
        return told["status"]
    if is_held(folder):
        return "running"
    if told:
        return "killed"
    return "waiting" if planned and not (folder / "summary.json").exists() else "unreadable"


def _recorded_overrides(folder: Path) -> list[str] | None:
    """What Hydra recorded; None where it recorded nothing.

    Raises:
        ValueError: it can't be read.
    """
    file = folder / ".hydra" / "overrides.yaml"
    if not os.path.lexists(file):
        return None
    recorded = read_yaml(file)
    if not isinstance(recorded, list) or not all(isinstance(item, str) for item in recorded):
        raise ValueError(f"{file} is no list of overrides")
    return recorded


def settings(overrides: list[str]) -> dict[str, str]:
    """The values of overrides by key, without quotes; what `~key` deletes has the value `removed`."""
    parts = [(override, *override.lstrip("+~").partition("=")) for override in overrides]
    return {key: "removed" if override.startswith("~") else unquoted(value) for override, key, _, value in parts}


def _ranked(jobs: list[dict]) -> tuple[list[dict], str | None]:
    """Best first by what most runs monitor; then those that monitor something else, then those without a value."""
    counts = Counter(job["monitor"] for job in jobs if job.get("monitored") is not None)
    places = {monitor: place for place, (monitor, _) in enumerate(counts.most_common())}
    numbered = sorted(jobs, key=lambda job: (job["folder"].parent, job_number(job["folder"].name), job["job"]))

    def place(job: dict) -> int:
        return len(places) if job.get("monitored") is None else places[job["monitor"]]

    planned = next((job["monitor"] for job in jobs if job.get("monitor")), None)
    return sorted(ranking(numbered), key=place), next(iter(places), planned)


def _differing(jobs: list[dict]) -> list[str]:
    """The keys of overrides that some runs lack or that have several values."""
    compared = [job["settings"] for job in jobs if job["compared"]]
    keys = dict.fromkeys(key for one in compared for key in one if key not in NOT_COMPARED)
    return [key for key in keys if len({one.get(key) for one in compared}) > 1]


def _repeated(jobs: list[dict], monitor: str | None, by_source: list[str]) -> list[dict]:
    """Experiments over seeds and folds, the best mean first; none where nothing was repeated.

    Args:
        by_source: names of other values that get mean and deviation too.
    """
    measured = [job for job in jobs if job["status"] == "completed" and job.get("monitored") is not None]
    alike = [
        job | {"values": job["values"] | {monitor: job["monitored"]}} for job in measured if job["monitor"] == monitor
    ]
    groups = experiments(alike, [monitor, *by_source])
    if not any(group["repeats"] for group in groups):
        return []
    ranked = ranking(
        [
            group | {"monitored": group["spreads"][monitor][0], "monitor_mode": group["members"][0]["monitor_mode"]}
            for group in groups
        ]
    )
    gaps = [gap(ranked[0], group, monitor, place < COMPARED) if place else None for place, group in enumerate(ranked)]
    return [group | {"gap": one} for group, one in zip(ranked, gaps, strict=True)]


def repeated_keys(board: Board) -> list[str]:
    """The keys of overrides that tell experiments apart, whatever their seed and fold."""
    return [key for key in board.keys if any(key in group["settings"] for group in board.groups)]


def repetition(board: Board) -> str:
    """What experiments are repeated over, in words: seeds, folds, or both."""
    return " and ".join(word for word in REPEATED.values() if any(word in group["repeats"] for group in board.groups))


def value(board: Board, job: dict) -> float | None:
    """The value that a run is ranked by; None where it has none or monitors something else than most."""
    return job.get("monitored") if job.get("monitor") == board.monitor else None


def epoch(job: dict) -> int | None:
    """The epoch of a run's best values."""
    return job["values"].get("epoch", job.get("epoch"))


def tags(job: dict) -> str:
    """A run's tags with spaces between them."""
    return " ".join(map(str, job.get("tags") or []))


def speed(job: dict) -> float | None:
    """Images per second in training; of a run that has not ended, in its best epoch."""
    return (numbers(job.get("speed")) or job["values"]).get(
        "images_per_second", job["values"].get("time/images_per_second")
    )


def remarks(board: Board) -> list[str]:
    """Sentences on what can't be compared."""
    return [told for told in (_other_monitors(board), _other_samples(board)) if told]


def _other_monitors(board: Board) -> str:
    """A sentence on the runs that can't be ranked with most; empty where there are none."""
    others = [job["monitor"] for job in board.jobs if job.get("monitored") is not None and value(board, job) is None]
    names = ", ".join(dict.fromkeys(others))
    return f"ranked by {board.monitor}; {len(others)} monitored {names} instead and come after" if others else ""


def _other_samples(board: Board) -> str:
    """A sentence on runs that did without other photographs than the rest; empty where all left out the same."""
    marks = Counter(str((job.get("left_out") or {}).get("mark", "")) for job in board.jobs)
    if len(marks) < 2:
        return ""
    others = len(board.jobs) - marks.most_common(1)[0][1]
    return f"{others} of {len(board.jobs)} runs left out other photographs (left_out.csv), so their results are not comparable"


def sweep_command(board: Board) -> str:
    """The command that starts the sweep again; empty where the runs are no single sweep."""
    sweep = read_sweep(board.sources[0]) if len(board.sources) == 1 else {}
    return shlex.join([*PROGRAM.split(), "-m", *sweep["overrides"], *sweep["hydra"]]) if "hydra" in sweep else ""
