"""What a run is apart from its config: its folder, its overrides, its choices. The command line makes it, modes get it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from humanseg.runs.summary import Run


@dataclass(frozen=True)
class Trial:
    """Which trial of a search a run is.

    Args:
        sweep: the search's folder, with its journal. number: of the trial. pruner: a YAML's node that makes the pruner.
    """

    sweep: Path
    number: int
    pruner: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What a mode gets beside its config.

    Args:
        folder: the run's own. overrides: those in effect, without Hydra's own. choices: the choice of each config group.
        mode: the name of the mode. ranked: whether a report ranks its runs.
        typed: the overrides of this command line, where the run's folder has recorded others.
        trial: of a search that may stop this run; None: it is none.
    """

    folder: Path
    overrides: list[str]
    choices: dict[str, str]
    mode: str = "train"
    ranked: bool = True
    typed: list[str] = field(default_factory=list)
    trial: Trial | None = None

    def begin(self, **facts) -> Run:
        """Begin the run's summary.json with what is known at its start."""
        if self.trial:
            facts["trial"] = self.trial.number
        return Run(self.folder, mode=self.mode, ranked=self.ranked, overrides=self.overrides, **facts)
