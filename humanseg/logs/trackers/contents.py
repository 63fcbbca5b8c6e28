"""What the trackers show of a run: its parameters, its scores and the files that were chosen."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from humanseg.config_rules import flat
from humanseg.runs.run_info import RunInfo


def parameters(run: RunInfo) -> dict[str, Any]:
    """The choices of the groups and the config's keys, with dots."""
    values = run.choices | flat(run.config)
    return {clean(name): clean(value) if isinstance(value, str) else value for name, value in values.items()}


def clean(text: str) -> str:
    """A text without what is no character: a byte of a file's name that is no UTF-8 becomes ``\\udc80``."""
    return text.encode(errors="backslashreplace").decode()


def scores(run: RunInfo) -> dict[str, float]:
    """The best epoch's values and those of the test by their names in TensorBoard, as ``best/val/iou``."""
    return {f"best/{name}": value for name, value in run.scores.items() if name.startswith(("val", "test"))}


def refuse_outside(patterns: Sequence[str]) -> None:
    """Names of files and patterns stay within the run's folder.

    Raises:
        ValueError: one does not, or is none.
    """
    if isinstance(patterns, str) or not all(isinstance(one, str) and one for one in patterns):
        raise ValueError(f"artifacts={patterns}: give a list of names or patterns, as [summary.json,'*.png']")
    for one in patterns:
        parts = PurePath(one).parts
        if PurePath(one).is_absolute() or ".." in parts:
            raise ValueError(f"artifacts: {one} does not stay within the run's folder")
        if not parts or any("**" in part and part != "**" for part in parts):  # pathlib would say so at the run's end
            raise ValueError(f"artifacts: {one} is no name or pattern, as *.png or **/*.png")


def files(run: RunInfo, patterns: Sequence[str]) -> list[Path]:
    """The files of a completed run that patterns name, each once; no links, and nothing that lies behind one."""
    if run.status != "completed":
        return []
    found, real = {file for one in patterns for file in run.folder.glob(one)}, run.folder.resolve()
    return sorted(file for file in found if file.is_file() and file.resolve() == real / file.relative_to(run.folder))
