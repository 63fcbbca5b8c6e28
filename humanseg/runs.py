"""A run's folder: its names, summary.json, metrics.csv, code.patch; and what a typed path or `latest` means."""

import csv
import io
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

VERSIONED = ("torch", "segmentation-models-pytorch", "albumentations", "hydra-core", "numpy")


class Run:
    """The folder of one run and its summary, kept up to date on disk."""

    def __init__(self, folder: Path, **facts):
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.started = time.time()
        self.summary = {"status": "running", **facts, "environment": environment()}
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "summary.json", to_json(self.summary))
        if patch := git("diff", "HEAD"):
            write_text(folder / "code.patch", patch + "\n")

    def update(self, **facts) -> None:
        """Merge facts into summary.json; its keys are listed in the README."""
        self.summary |= {**facts, "seconds": round(time.time() - self.started, 2)}
        write_text(self.folder / "summary.json", to_json(self.summary))

    def write_metrics(self, history: list[dict[str, float]]) -> None:
        """metrics.csv: a row an epoch, the columns that concern time last."""
        names = dict.fromkeys(name for log in history for name in log)
        write_table(self.folder / "metrics.csv", sorted(names, key=lambda name: name.startswith("time/")), history)


def fail(folder: Path, error: str) -> None:
    """Leave the reason of a failure in summary.json, also where the run had not begun to write one."""
    file = folder / "summary.json"
    summary = json.loads(file.read_text()) if file.exists() else {"environment": environment()}
    write_text(file, to_json(summary | {"status": "failed", "error": error}))


def read_summary(folder: Path) -> dict:
    """A run's summary.json; empty where there is none."""
    file = folder / "summary.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def find_checkpoint(typed: str, out: str) -> Path:
    """The checkpoint that `ckpt=` means: a file, a run's best.pt, a sweep's winner, or `latest`.

    Raises:
        ValueError: nothing there.
    """
    if typed == "latest":
        found = sorted(Path(out).glob("**/checkpoints/best.pt"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise ValueError(f"ckpt=latest: no run under {out} has a best.pt")
        return found[-1]
    path = Path(typed)
    if not path.is_dir():
        return path
    if (path / "checkpoints" / "best.pt").is_file():
        return path / "checkpoints" / "best.pt"
    jobs = [job for job in rank(read_jobs(path)) if (job["folder"] / "checkpoints" / "best.pt").is_file()]
    if not jobs:
        raise ValueError(f"ckpt={typed}: neither a checkpoint, nor a run or sweep with a best.pt")
    return jobs[0]["folder"] / "checkpoints" / "best.pt"


def read_jobs(sweep: Path) -> list[dict]:
    """The summaries of a sweep's jobs in their order, each with its `folder`."""
    folders = [file.parent for file in sweep.glob("*/summary.json")]
    numbered = sorted(folders, key=lambda folder: (_number(folder.name), folder.name))
    return [{"folder": folder, **read_summary(folder)} for folder in numbered]


def rank(jobs: list[dict]) -> list[dict]:
    """Best monitored metric first; jobs without one last."""

    def key(job: dict) -> tuple:
        value = job.get("monitored")
        return (True, 0.0) if value is None else (False, -value if job["monitor_mode"] == "max" else value)

    return sorted(jobs, key=key)


def environment() -> dict:
    """What a result depends on besides the config: code, versions, machine, command."""
    return {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),  # sys.argv has been put in order for Hydra
        "commit": git("rev-parse", "HEAD"),
        "versions": versions(),
        "machine": f"{platform.node()}, {os.cpu_count()} CPUs",
    }


def versions() -> dict[str, str]:
    """Python's and the main packages' versions."""
    return {"python": platform.python_version()} | {name: version(name) for name in VERSIONED}


def git(*arguments: str) -> str | None:
    """What git says about the project's tree; None outside of a repository."""
    root = Path(__file__).parent.parent
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def to_json(value: object) -> str:
    """Indented JSON; a number that is not finite becomes null, which JSON can say."""
    return json.dumps(_finite(value), indent=2, default=str) + "\n"


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_table(path: Path, columns: list[str], rows: list[dict]) -> None:
    """A CSV with a header; what a row has not stays empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _number(name: str) -> int:
    first = name.split("_")[0]
    return int(first) if first.isdigit() else 0
