"""What callbacks and trackers see of a run beside its values."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunInfo:
    """A run at its start, and at its end.

    Args:
        folder: the run's own. config: resolved. overrides: those in effect. choices: the choice of each config group.
        changed: the keys that have another value than before, where the run goes on.
        sweep: the sweep that it is a job of, as ``2026-11-26/10-32-01``.
        tracked: for a tracker, what its `start` returned before this run went on.
        status: at the end ``completed``, ``pruned``, ``interrupted`` or ``failed``.
        scores: at the end the best epoch's values, and those of `trainer.test`.
    """

    folder: Path
    config: dict[str, Any]
    overrides: list[str]
    choices: dict[str, str]
    changed: list[str] = field(default_factory=list)
    sweep: str | None = None
    tracked: str | None = None
    status: str = "running"
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name with that of the day, or of the sweep."""
        return "/".join(self.folder.parts[-2:])
