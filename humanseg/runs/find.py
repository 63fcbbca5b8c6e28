"""Which checkpoint `ckpt=` means, and which run or sweep `resume=`: a path, `latest`, or a name of the zoo."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from humanseg import terminal, zoo
from humanseg.runs.locks import is_held
from humanseg.runs.reading import read_json
from humanseg.runs.summary import FINISHED, MODES, is_sweep, ranking, read_jobs

NAMED = "a checkpoint, a run's or sweep's folder, `latest`, or a name of the zoo"  # by ckpt=, in sentences
TABLE = "per_image.csv"  # what a test leaves of each photograph


def checkpoint(ckpt: str, out: str, key: str = "ckpt") -> Path:
    """The checkpoint that `ckpt=` means: a file, a run's best.pt, a sweep's winner, `latest`, or one of the zoo's.

    Args:
        key: what an error calls it.

    Raises:
        ValueError: nothing there, or several are named.
    """
    if not isinstance(ckpt, str | Path):
        raise ValueError(f"{key}={ckpt}: give one checkpoint; a sweep takes several in turn, as `-m {key}=A,B`")
    if ckpt == "latest":
        found = [file for file in Path(os.path.expanduser(out)).glob("**/checkpoints/best.pt") if file.is_file()]
        found.sort(key=lambda path: path.stat().st_mtime)
        if not found:
            raise ValueError(f"{key}=latest: no run under {out} has a best.pt")
        return found[-1]
    path = Path(os.path.expanduser(ckpt))
    if not path.exists():
        return _of_the_zoo(str(path), key)
    if not path.is_dir():
        return path
    if (path / "checkpoints" / "best.pt").is_file():
        return path / "checkpoints" / "best.pt"
    jobs = [job for job in ranking(read_jobs(path)) if (job["folder"] / "checkpoints" / "best.pt").is_file()]
    if not jobs:
        raise ValueError(f"{key}={ckpt}: neither a checkpoint, nor a run or sweep with a best.pt")
    return jobs[0]["folder"] / "checkpoints" / "best.pt"


def _of_the_zoo(name: str, key: str) -> Path:
    """The checkpoint that the suite brings under a name.

    Raises:
        ValueError: it brings none; those that it does are named.
    """
    if file := zoo.file_of(name):
        return file
    there = zoo.names()
    brought = f"{terminal.did_you_mean(name, there)}; the suite brings {', '.join(there)}" if there else ""
    raise ValueError(f"{key}={name}: no such checkpoint{brought}")


def test(given: str) -> Path | None:
    """The folder of a test that has left its scores; None where something else is named."""
    path = Path(os.path.expanduser(given))
    return path if scores(path, "") else None


def scores(run: Path, split: str) -> Path | None:
    """The table of a run's scores of each photograph; None where it has none.

    Args:
        split: the folder in the run, as ``test`` or ``val_full_size``; empty for a run of mode=test.
    """
    folder = run / split
    own = re.fullmatch(r"\w*", split) and not (split and folder.is_symlink())
    return folder / TABLE if own and (folder / TABLE).is_file() else None


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run whose best.pt a checkpoint is; None for any other file."""
    is_best = checkpoint.name == "best.pt" and checkpoint.parent.name == "checkpoints"
    return checkpoint.parent.parent if is_best else None


def is_exported(path: Path) -> bool:
    """Whether a file is one that mode=export writes, by its name."""
    return path.suffix in (".onnx", ".xml")


def unfinished(resume: str, out: str) -> Path:
    """The folder that `resume=` means: a run's or sweep's, that of a last.pt, or `latest`, the newest that is not finished.

    Raises:
        ValueError: nothing there to go on with.
    """
    if resume == "latest":
        found = sorted(_unfinished(Path(os.path.expanduser(out))), key=_last_written)
        if not found:
            raise ValueError(f"resume=latest: no run or sweep under {out} is waiting to be continued")
        return found[-1]
    path = Path(os.path.expanduser(resume))
    if path.suffix == ".pt":
        if path.name not in ("last.pt", "previous.pt") or not path.is_file():
            raise ValueError(
                f"resume={resume}: give a run's folder or its last.pt; ckpt= starts a new run from any weights"
            )
        path = path.resolve().parent.parent
    if not any((path / name).is_file() for name in ("summary.json", "sweep.json", ".hydra/overrides.yaml")):
        of_zoo = f"; ckpt={resume} starts a new run from the zoo's network" if zoo.file_of(resume) else ""
        raise ValueError(f"resume={resume}: no run or sweep is there{of_zoo}")
    return path


def _unfinished(out: Path) -> Iterator[Path]:
    for file in [*out.glob("**/summary.json"), *out.glob("**/sweep.json")]:
        folder, told = file.parent, read_json(file)
        begun = told.get("mode") == "train" or (_is_sweep_of_runs(folder, told) and any(folder.glob("*/.hydra")))
        waits = told.get("status") not in FINISHED and not is_held(folder)
        if begun and waits and not is_sweep(folder.parent):
            yield folder


def _is_sweep_of_runs(folder: Path, told: dict) -> bool:
    """Whether a folder holds a sweep that trains or tests: jobs of other modes don't go on."""
    overrides = told.get("overrides")
    modes = [str(one) for one in overrides if str(one).startswith("mode=")] if isinstance(overrides, list) else []
    return is_sweep(folder) and set(modes) <= {f"mode={mode}" for mode in MODES}


def _last_written(folder: Path) -> float:
    """When something last happened to a run, or to the jobs of a sweep."""
    told = [folder / "summary.json", folder / "sweep.json", *folder.glob("*/summary.json")]
    return max(file.stat().st_mtime for file in told if file.exists())
