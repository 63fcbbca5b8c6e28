"""Runs that repeat an experiment, over seeds and folds: mean, deviation, and the difference from another experiment.

Two experiments are paired where they can be: by the seeds and folds that both have, else by the photographs of one run of
each. The interval of a mean difference is Student's t; of photographs it is that of `compare`.
"""

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass

from humanseg import config_rules
from humanseg.runs import find

NOT_COMPARED = ("out", "tags")  # where a run went; tags have a column of their own
REPEATED = {"seed": "seeds", "data.fold": "folds"}  # runs that differ in these alone repeat one experiment
LEVEL = 0.95
SAME = 2e-6  # up to here photographs' scores give the difference of the runs' values


@dataclass(frozen=True)
class Gap:
    """How an experiment's value differs from another one's, with a 95 % interval.

    Args:
        low, high: None where nothing is known of the spread. by: seeds, folds or photographs that pair them; empty: unpaired.
    """

    difference: float
    low: float | None = None
    high: float | None = None
    by: str = ""


def experiments(jobs: list[dict], names: list[str], over: tuple[str, ...] = tuple(REPEATED)) -> list[dict]:
    """Runs that differ in the keys `over` alone, as one experiment each, in the order of the runs.

    Keys that say how a machine does the work, as trainer.device, are no part of an experiment, unless it has runs twice
    without them.

    Returns:
        for each the `settings` that its runs share, the runs as `members`, their names as `jobs`, `n`, the `turns` (each run's values of `over`), what
        they `repeats`, and of each name that all runs have a value of, `spreads`: mean and sample standard deviation, which
        one value has not.
    """
    found = {}
    for own, group in _alike(jobs, over, machine=False).items():
        twice = len({_turn(job, over) for job in group}) < len(group)
        found |= _alike(group, over, machine=True) if twice else {own: group}
    return [_experiment(dict(own), group, names, over) for own, group in found.items()]


def _alike(jobs: list[dict], over: tuple[str, ...], machine: bool) -> dict[tuple, list[dict]]:
    """Runs by the settings that they share.

    Args:
        machine: whether the keys of the machine count.
    """
    found, ignored = defaultdict(list), {*NOT_COMPARED, "name", *over}
    for job in jobs:
        own = {key: value for key, value in job["settings"].items() if key not in ignored}
        if job.get("trained"):
            own.pop("ckpt", None)  # a test stands for the run that it is of
        if not machine:
            own = {key: value for key, value in own.items() if config_rules.key(key).change != "machine"}
        found[tuple(sorted(own.items()))].append(job)
    return found


def _experiment(own: dict[str, str], group: list[dict], names: list[str], over: tuple[str, ...]) -> dict:
    values = {name: [job["values"].get(name) for job in group] for name in names}
    turns = [_turn(job, over) for job in group]
    return {
        "settings": own,
        "members": group,
        "jobs": [job["job"] for job in group],
        "n": len(group),
        "over": over,
        "turns": turns,
        "repeats": _differing(turns, over),
        "spreads": {name: _spread(found) for name, found in values.items() if None not in found},
    }


def _turn(job: dict, over: tuple[str, ...]) -> tuple:
    return tuple(setting(job, key) for key in over)


def setting(job: dict, key: str) -> str | None:
    """A run's value of a key; the seed is there also where it was not typed."""
    typed = job["settings"].get(key)
    return str(job.get("seed", typed)) if key == "seed" else typed


def _differing(turns: list[tuple], over: tuple[str, ...]) -> list[str]:
    """What runs differ by, in words."""
    return [
        REPEATED.get(key, key) for key, found in zip(over, zip(*turns, strict=True), strict=True) if len({*found}) > 1
    ]


def _spread(values: list[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def gap(base: dict, other: dict, name: str, by_photograph: bool = True) -> Gap | None:
    """How `other` differs from `base`, both of `experiments`; None where one has no such value.

    Args:
        by_photograph: whether to draw photographs, which takes a second.
    """
    if not (name in base["spreads"] and name in other["spreads"]):
        return None
    ours, theirs = _by_turn(other), _by_turn(base)
    shared = [turn for turn in ours if turn in theirs]
    pairs = [(theirs[turn], ours[turn]) for turn in shared]
    if len(pairs) > 1:
        by = " and ".join(_differing(shared, other["over"]))
        return _paired([after["values"][name] - before["values"][name] for before, after in pairs], by)
    if base["n"] == other["n"] == 1:
        pairs = [(base["members"][0], other["members"][0])]
    if by_photograph and pairs and (found := _by_photograph(*pairs[0], name)):
        return found
    return _unpaired(*([job["values"][name] for job in group["members"]] for group in (base, other)))


def _by_turn(group: dict) -> dict[tuple, dict]:
    """The runs of an experiment by their turns; none where one of these came twice."""
    found = dict(zip(group["turns"], group["members"], strict=True))
    return found if len(found) == group["n"] else {}


def _paired(differences: list[float], by: str) -> Gap:
    mean, spread = _spread(differences)
    half = _t(len(differences) - 1) * spread / math.sqrt(len(differences))
    return Gap(mean, mean - half, mean + half, by)


def _unpaired(before: list[float], after: list[float]) -> Gap:
    """Welch's interval; none where one side has a single value, or no value differs from another."""
    difference = statistics.fmean(after) - statistics.fmean(before)
    if min(len(before), len(after)) < 2:
        return Gap(difference)
    errors = [statistics.variance(values) / len(values) for values in (before, after)]
    total = sum(errors)
    if not total:
        return Gap(difference)
    shares = zip(errors, (before, after), strict=True)
    freedom = 1 / sum((error / total) ** 2 / (len(values) - 1) for error, values in shares)
    half = _t(freedom) * math.sqrt(total)
    return Gap(difference, difference - half, difference + half)


def _t(freedom: float) -> float:
    """How many standard errors hold `LEVEL` of Student's t distribution."""
    from scipy.special import stdtrit  # imported here: a command's start need not load it

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def _by_photograph(before: dict, after: dict, name: str) -> Gap | None:
    """The difference of two runs over the photographs that both were tested on; None where they have not kept their scores."""
    from humanseg.compare import scores
    from humanseg.compare.statistics import differences

    split, _, metric = name.rpartition("/")
    files = [find.scores(job["folder"], "" if job.get("mode") == "test" else split) for job in (before, after)]
    if not all(files):
        return None
    try:
        first, second = map(scores.read, files)
        second = scores.matched(first, second)
    except ValueError:  # they are of an earlier version, or of other photographs
        return None
    if not (first.has(metric) and second.has(metric)):
        return None
    found = differences(first, second, [metric])[metric]
    same = math.isclose(found.difference, after["values"][name] - before["values"][name], abs_tol=SAME)
    return Gap(found.difference, found.low, found.high, "photographs") if same else None
