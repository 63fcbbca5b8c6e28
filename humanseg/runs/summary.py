"""summary.json and sweep.json: what a run and a sweep say of themselves, written and read."""

import time
from pathlib import Path

from humanseg.runs import provenance
from humanseg.runs.atomic import write_json, write_table, write_text
from humanseg.runs.reading import read_json


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
        seconds = before.get("seconds")
        self.started = time.monotonic() - (seconds if isinstance(seconds, int | float) else 0)
        told = {"status": "running", "folder_name": folder.name, "mode": mode, "ranked": ranked}
        self.summary = before | told | facts | {"environment": provenance.environment()}
        self.summary.pop("error", None)
        if before:
            self.summary["earlier"] = [*before.get("earlier", []), before.get("environment")]
        write_json(folder / "summary.json", self.summary)
        if patch := provenance.git("diff", "HEAD"):
            write_text(folder / "code.patch", patch + "\n")

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
    return read_json(folder / "summary.json")


def read_sweep(folder: Path) -> dict:
    """A sweep's sweep.json: status, overrides, hydra, jobs, constant, started, ended_before; empty where it can't be read."""
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
    return texts and numbers and isinstance(environment, dict) and isinstance(environment.get("command", ""), str)


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
    return int(first) if first.isdigit() else -1


def ranking(jobs: list[dict]) -> list[dict]:
    """Summaries of jobs, the best monitored metric first; jobs without one come last."""

    def key(job: dict) -> tuple:
        value = job.get("monitored")
        return (True, 0.0) if value is None else (False, -value if job["monitor_mode"] == "max" else value)

    return sorted(jobs, key=key)
