"""A run's folder: its names, lock, summary.json, metrics.csv, code.patch; and what a typed path or `latest` means."""

import csv
import fcntl
import io
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSIONED = ("torch", "segmentation-models-pytorch", "albumentations", "hydra-core", "numpy")

_held: set[Path] = set()  # the folders that this process has locked


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other processes away from a run's or sweep's folder; the system takes the lock from a process that dies.

    A POSIX lock: worker processes don't inherit it, so that it ends with the run. A process may nest it.

    Raises:
        ValueError: another process holds it, or the folder can't be written to.
    """
    if folder.resolve() in _held:
        yield
        return
    try:
        file = take(folder / ".lock", tries=5)
    except OSError as error:
        raise ValueError(f"{folder} can't be written to: {error.strerror}") from error
    if file is None:
        raise ValueError(f"{folder} is in use by another process")
    with file:
        _held.add(folder.resolve())
        try:
            yield
        finally:
            _held.discard(folder.resolve())


def take(path: Path, tries: int = 1) -> io.TextIOBase | None:
    """A file that this process alone has locked, until it is closed; None where another has it.

    Raises:
        OSError: it can't be written to.
    """
    file = path.open("w")
    if _take(file, fcntl.LOCK_EX, tries):
        return file
    file.close()
    return None


def _take(file: io.TextIOBase, kind: int, tries: int) -> bool:
    for left in range(tries)[::-1]:
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.1 if left else 0)  # `is_held` of another process takes it for an instant
    return False


def holds(folder: Path) -> bool:
    """Whether this process has locked a folder."""
    return folder.resolve() in _held


def is_held(folder: Path) -> bool:
    """Whether any process is at work in a folder."""
    if holds(folder):
        return True
    if not (folder / ".lock").exists():
        return False
    with (folder / ".lock").open() as file:
        return not _take(file, fcntl.LOCK_SH, tries=1)


class Run:
    """The folder of one run and its summary, kept up to date on disk; a resumed run adds to the summary it finds."""

    def __init__(self, folder: Path, **facts):
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        before = read_summary(folder)
        self.started = time.monotonic() - (before.get("seconds") or 0)
        self.summary = before | {"status": "running", "folder_name": folder.name, **facts, "environment": environment()}
        self.summary.pop("error", None)
        if before:
            self.summary["earlier"] = [*before.get("earlier", []), before["environment"]]
        write_text(folder / "summary.json", to_json(self.summary))
        if patch := git("diff", "HEAD"):
            write_text(folder / "code.patch", patch + "\n")

    def update(self, **facts) -> None:
        """Merge facts into summary.json; its keys are listed in the README."""
        self.summary |= {**facts, "seconds": round(time.monotonic() - self.started, 2)}
        write_text(self.folder / "summary.json", to_json(self.summary))

    def write_metrics(self, history: list[dict[str, float]]) -> None:
        """metrics.csv: a row an epoch, the columns that concern time last."""
        names = dict.fromkeys(name for log in history for name in log)
        write_table(self.folder / "metrics.csv", sorted(names, key=lambda name: name.startswith("time/")), history)


def mark(folder: Path, status: str, **facts) -> None:
    """Write how a run stands into its summary.json, also where it had not begun to write one."""
    summary = read_summary(folder) or {"environment": environment(), "folder_name": folder.name}
    write_text(folder / "summary.json", to_json(summary | {"status": status, **facts}))


def read_summary(folder: Path) -> dict:
    """A run's summary.json; empty where there is none that can be read."""
    return _read_json(folder / "summary.json")


def _read_json(file: Path) -> dict:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


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


def is_exported(path: Path) -> bool:
    """Whether a file is one that mode=export writes, by its name."""
    return path.suffix in (".onnx", ".xml")


def find_unfinished(typed: str, out: str) -> Path:
    """The folder that `resume=` means: a run's or sweep's, that of a last.pt, or `latest`, the newest not completed.

    Raises:
        ValueError: nothing there to go on with.
    """
    if typed == "latest":
        found = sorted(_unfinished(Path(out)), key=_last_written)
        if not found:
            raise ValueError(f"resume=latest: no run or sweep under {out} is waiting to be continued")
        return found[-1]
    path = Path(typed)
    if path.suffix == ".pt":
        if path.name not in ("last.pt", "previous.pt") or not path.is_file():
            raise ValueError(
                f"resume={typed}: give a run's folder or its last.pt; ckpt= starts a new run from any weights"
            )
        path = path.resolve().parent.parent
    if not any((path / name).is_file() for name in ("summary.json", "sweep.json", ".hydra/overrides.yaml")):
        raise ValueError(f"resume={typed}: no run or sweep is there")
    return path


def _unfinished(out: Path) -> Iterator[Path]:
    for file in [*out.glob("**/summary.json"), *out.glob("**/sweep.json")]:
        folder, told = file.parent, _read_json(file)
        begun = told.get("mode") == "train" or (is_sweep(folder) and any(folder.glob("*/.hydra")))
        waits = told.get("status") != "completed" and not is_held(folder)
        if begun and waits and not is_sweep(folder.parent):
            yield folder


def _last_written(folder: Path) -> float:
    """When something last happened to a run, or to the jobs of a sweep."""
    told = [folder / "summary.json", folder / "sweep.json", *folder.glob("*/summary.json")]
    return max(file.stat().st_mtime for file in told if file.exists())


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep's, with its jobs in it."""
    return (folder / "sweep.json").is_file()


def read_sweep(folder: Path) -> dict:
    """A sweep's sweep.json: status, overrides, hydra, jobs, started, ended_before; empty where it can't be read."""
    return _read_json(folder / "sweep.json")


def read_jobs(sweep: Path) -> list[dict]:
    """The summaries of a sweep's jobs in their order, each with its `folder`."""
    folders = [file.parent for file in sweep.glob("*/summary.json")]
    numbered = sorted(folders, key=lambda folder: (job_number(folder.name), folder.name))
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
    from importlib.metadata import version  # brings an e-mail parser, which composing a config need not wait for

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
    """Write a file whole or not at all, also where the power fails."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def job_number(name: str) -> int:
    """The number that a job's folder begins with; -1 where it has none."""
    first = name.split("_")[0]
    return int(first) if first.isdigit() else -1
