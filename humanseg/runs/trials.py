"""The trials of a search: its space, the journal in the sweep's folder, and what a run tells of itself while it is tried.

Optuna is imported where it is used, as nothing else needs it. A sweep's folder may come from a stranger, so the space and
the journal are checked before they are used.
"""

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from humanseg.runs.atomic import no_link
from humanseg.runs.overrides import literal, parse
from humanseg.runs.plain import LENGTH, refuse_other_than_plain
from humanseg.runs.reading import read_bytes
from humanseg.runs.summary import numbers

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

JOURNAL = "journal.log"  # in the sweep's folder; what `optuna-dashboard` opens
STUDY = "search"
LARGEST = 2**28  # bytes of a journal: 10,000 trials of 100 epochs
GRACE = 10  # seconds after which the lock of a process that was killed is taken from it
DIGITS = 4  # that count, of a value in an interval: the names of the folders show it
# Of Optuna's journal: a study, its attributes, a whole trial, its state and values.
OPERATIONS = (0, 2, 3, 4, 6, 7, 8, 9)
HOPELESS = "hopeless"  # the attribute with the epoch after which a trial was found so
PICKLED = "cma"  # the beginning of the attributes in which Optuna's CMA-ES keeps pickles

Space = dict[str, dict[str, Any]]  # by the key of an override: `choices`, or `low`, `high`, `step`, `log` and `whole`


def distribution(one: dict[str, Any]) -> "BaseDistribution":
    """Optuna's distribution of one parameter of a space.

    Raises:
        ValueError: it is none.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    try:
        if "choices" in one:
            return CategoricalDistribution(one["choices"])
        number = IntDistribution if one["whole"] else FloatDistribution
        steps = {"step": one["step"]} if one["step"] else {}
        return number(one["low"], one["high"], log=one["log"], **steps)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{error} is missing or wrong") from error


def overrides(params: dict[str, Any], space: Space) -> list[str]:
    """A trial's parameters as overrides; a choice of the space is the text that Hydra reads."""
    return [
        f"{name}={value if 'choices' in space.get(name, {}) else _written(value)}" for name, value in params.items()
    ]


def _written(value: Any) -> str:
    plain = isinstance(value, str) and value and _reads_as(value, value)
    return value if plain else literal(value)


def _reads_as(text: str, value: str) -> bool:
    try:
        return parse(f"key={text}").value == value
    except ValueError:
        return False


def rounded(value: Any, of: "BaseDistribution") -> Any:
    """A number of an interval to a few digits, within its bounds; any other value as it is."""
    from optuna.distributions import FloatDistribution

    if not isinstance(of, FloatDistribution):
        return value
    digits = DIGITS if of.step is None else 10
    return min(max(float(f"{value:.{digits}g}"), of.low), of.high)


def open_study(folder: Path, directions: list[str] | None = None, pruner: Any = None) -> "Study":
    """The study in a sweep's folder. It samples nothing: what is tried next is decided elsewhere.

    Args:
        directions: ``maximize`` or ``minimize`` for each objective, of a study that may have to be created.

    Raises:
        ValueError: it is another one's.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    path = folder.resolve() / JOURNAL
    beside = {"storage": JournalStorage(JournalFileBackend(str(path), _lock(str(path)))), "pruner": pruner}
    beside |= {"study_name": STUDY, "sampler": optuna.samplers.RandomSampler()}
    if directions is None:
        return optuna.load_study(**beside)
    study = optuna.create_study(**beside, directions=directions, load_if_exists=True)
    if [one.name.lower() for one in study.directions] != directions:
        raise ValueError(f"{path} is the journal of a search with other objectives")
    return study


def in_memory(study: "Study", sampler: Any = None) -> "Study":
    """A copy of a study, of which nothing is written."""
    import optuna

    beside = {"study_name": study.study_name, "sampler": sampler or study.sampler, "pruner": study.pruner}
    copy = optuna.create_study(directions=study.directions, **beside)
    copy.add_trials(study.get_trials(deepcopy=False))
    return copy


def _lock(path: str) -> Any:
    from optuna.storages.journal import JournalFileOpenLock

    class WholeLines(JournalFileOpenLock):
        """Who takes the lock finds whole lines: a kill, or a full disk, may have left half of one."""

        def acquire(self) -> bool:
            taken = super().acquire()
            cut_off_half_a_line(path)
            return taken

    return WholeLines(path, grace_period=GRACE)


def cut_off_half_a_line(path: str) -> None:
    """Let a file end with its last whole line."""
    with open(path, "r+b", opener=no_link) as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - LENGTH, 0)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            end = start + found + 1 if found >= 0 else start
            if found >= 0:
                break
        file.truncate(end)


def refuse_strange(folder: Path) -> bool:
    """Hold the journal of a search that is to go on against what a search writes, before Optuna reads it.

    Returns:
        whether it has been begun.

    Raises:
        ValueError: it is too large, or holds something else than plain data, or a pickle; the line is named.
    """
    path = folder / JOURNAL
    if not path.exists():
        return False
    try:
        *lines, _ = read_bytes(path, LARGEST, follow=False).split(b"\n")  # half a line is cut off before it is used
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    for number, line in enumerate(lines, 1):
        what = f"{path}, line {number}"
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{what} is no JSON") from error
        refuse_other_than_plain(told, what, interpolations=True)
        if not isinstance(told, dict) or told.get("op_code") not in OPERATIONS:
            raise ValueError(f"{what} is nothing that a search writes")
        attributes = [told.get(name) or {} for name in ("system_attrs", "system_attr")]
        if not all(isinstance(one, dict) for one in attributes):
            raise ValueError(f"{what} is nothing that a search writes")
        if any(name.startswith(PICKLED) for one in attributes for name in one):
            raise ValueError(f"{what} holds a pickle of CMA-ES, which a record may not bring: use another sampler")
    return bool(lines)


def read_trials(study: "Study", space: Space, free: bool) -> "list[FrozenTrial]":
    """The trials of a study by number.

    Args:
        free: whether a function may have added parameters to those of the space.

    Raises:
        ValueError: one is not of this space.
    """
    known = {name: distribution(one) for name, one in space.items()}
    found = study.get_trials(deepcopy=False)
    for number, trial in enumerate(found):
        for name, of in trial.distributions.items():
            is_known = known.get(name, of if free else None) == of
            if not (is_known and of._contains(of.to_internal_repr(trial.params[name]))):
                raise ValueError(f"trial {number} has {name[:200]}, which is not of the search's space")
    return found


class Pruned(Exception):
    """Ends the training of a hopeless trial."""


class Watched:
    """A trial, as the run that tries it sees it: what it has reported, and whether it is hopeless.

    Args:
        sweep: the folder. number: the trial's. pruner: one of Optuna's, which compares it with the other trials.
    """

    def __init__(self, sweep: Path, number: int, pruner: Any):
        from optuna.trial import Trial

        self.study = open_study(sweep, pruner=pruner)
        frozen = self.study.get_trials(deepcopy=False)[number]
        self.trial, self.known = Trial(self.study, frozen._trial_id), {*frozen.intermediate_values}

    def is_hopeless(self, history: list[dict[str, float]], monitor: str) -> bool:
        """Report the epochs that the journal does not know, and ask whether the pruner would stop the trial there."""
        validated = [log for log in history if monitor in log]
        for log in validated:
            if log["epoch"] not in self.known:
                self.trial.report(log[monitor], log["epoch"])
                self.known.add(log["epoch"])
        return bool(validated) and validated[-1] is history[-1] and self._is_stopped(history[-1]["epoch"])

    def _is_stopped(self, epoch: int) -> bool:
        """The pruner's answer, which stays the same when this process is killed before it has acted upon it.

        Halving notes in the study that it was asked, and has no answer for the same epoch again. So a copy of the study
        is asked first, and a yes is written before that note.
        """
        from optuna.trial import Trial

        if self.trial.user_attrs.get(HOPELESS) != epoch:
            copy = in_memory(self.study)
            if Trial(copy, copy.get_trials(deepcopy=False)[self.trial.number]._trial_id).should_prune():
                self.trial.set_user_attr(HOPELESS, epoch)
        self.trial.should_prune()  # writes the note
        return self.trial.user_attrs.get(HOPELESS) == epoch


def values(told: dict, objectives: dict[str, str]) -> list[float] | None:
    """What a run has for each objective; None where one is missing.

    Args:
        told: its summary.
    """
    found = [*measured(told, objectives).values()]
    return None if None in found else found


def measured(told: dict, objectives: dict[str, str]) -> dict[str, float | None]:
    """The objectives' values of a run: of its best epoch, or of its network's size."""
    model = told.get("model")
    known = numbers(model if isinstance(model, dict) else {}) | numbers(told.get("best") or told.get("metrics"))
    return {name: known.get(name) for name in objectives}


def front(points: dict[int, list[float]], directions: list[str]) -> list[int]:
    """The numbers of the points that no other one beats in one objective without being worse in another.

    Args:
        directions: ``max`` or ``min`` for each objective.
    """
    signs = [1 if one == "max" else -1 for one in directions]
    signed = {number: [sign * y for sign, y in zip(signs, ys, strict=True)] for number, ys in points.items()}

    def beats(one: list[float], other: list[float]) -> bool:
        return one != other and all(a >= b for a, b in zip(one, other, strict=True))

    found: list[int] = []
    for number in sorted(signed, key=signed.get, reverse=True):  # what beats another one comes before it
        if not any(beats(signed[other], signed[number]) for other in found):
            found.append(number)
    return found


def own(job: list[str], constant: list[str]) -> list[str]:
    """The overrides of a job that are the trial's own."""
    return [text for text in job if text not in constant]
