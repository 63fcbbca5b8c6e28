"""The numbers behind the charts of a search: how it went, which keys mattered, which values go together, the Pareto front."""

import math
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

from humanseg.report.axes import finite, scale_of
from humanseg.report.board import Board
from humanseg.runs import trials
from humanseg.runs.summary import FINISHED, job_number
from humanseg.terminal import visible

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 6  # completed trials of which importance is reckoned
ENOUGH = 8  # labels on an axis of parallel coordinates


def search_data(board: Board, keys: list[str]) -> dict:
    """What the page draws of a search, as plain JSON. Trials are named by their places in the ranking.

    Args:
        keys: what the trials differ in.

    Returns:
        `objectives`; `history`: `jobs`, `x` (the numbers of the trials), `y`, `pruned`, and `best`: pairs of the numbers of
        completed trials and the best value up to them; `importance`: pairs of a key and its share, the largest first;
        `axes`: for each key and objective its `name` and `labels`, pairs of a place in [0, 1] and a text; `lines`: for each
        of `jobs` its places on the axes; `front`: the places on the Pareto front, with `points` of all, by place.
    """
    ways = board.search["objectives"]
    measured = {place: trials.values(job, ways) for place, job in enumerate(board.jobs) if job["status"] in FINISHED}
    measured = {place: ys for place, ys in measured.items() if ys}
    completed = {place: ys for place, ys in measured.items() if board.jobs[place]["status"] == "completed"}
    numbers = {place: job_number(board.jobs[place]["folder"].name) for place in measured}
    in_turn = sorted(measured, key=numbers.get)
    settings = {place: board.jobs[place]["settings"] for place in in_turn}
    axes = [_axis(key, {at: settings[at].get(key) for at in in_turn}, key in board.logarithmic) for key in keys]
    axes += [_axis(name, {at: repr(measured[at][index]) for at in in_turn}, False) for index, name in enumerate(ways)]
    history = {"jobs": in_turn, "x": [numbers[at] for at in in_turn], "y": [measured[at][0] for at in in_turn]}
    history |= {"pruned": [at not in completed for at in in_turn], "best": _best_so_far(ways, numbers, completed)}
    front = trials.front(completed, [*ways.values()]) if len(ways) > 1 else []
    return {
        "objectives": [visible(name) for name in ways],
        "history": history,
        "importance": [(visible(key), share) for key, share in importance(board, keys, completed)],
        "axes": [{"name": visible(axis["name"]), "labels": axis["labels"]} for axis in axes if axis],
        "lines": [[axis["at"].get(place) for axis in axes if axis] for place in in_turn],
        "front": sorted(front, key=lambda place: completed[place][0]),
        "points": completed if front else {},
    }


def _best_so_far(ways: dict[str, str], numbers: dict[int, int], completed: dict[int, list[float]]) -> list[tuple]:
    pick, found = max if [*ways.values()][0] == "max" else min, []
    for place in sorted(completed, key=numbers.get):
        found.append((numbers[place], pick([completed[place][0], *(best for _, best in found[-1:])])))
    return found


def _axis(name: str, texts: dict[int, str | None], logarithmic: bool) -> dict | None:
    """Where the trials lie on the axis of a key, in [0, 1]; None where they all lie at one place.

    Args:
        logarithmic: whether the search has drawn them so.
    """
    given = {place: text for place, text in texts.items() if text is not None}
    numbers = {place: finite(text) for place, text in given.items()}
    if len(set(given.values())) < 2:
        return None
    if None in numbers.values():
        order = sorted(set(given.values()))
        labels = [(index / (len(order) - 1), visible(text)) for index, text in enumerate(order)][
            :: len(order) // ENOUGH + 1
        ]
        return {
            "name": name,
            "labels": labels,
            "at": {place: order.index(text) / (len(order) - 1) for place, text in given.items()},
        }
    scale = scale_of([*numbers.values()], logarithmic)
    along = {place: math.log(one) if scale == "log" else one for place, one in numbers.items()}
    low, high = min(along.values()), max(along.values())
    ends = [min(numbers.values()), max(numbers.values())]
    at = {place: (one - low) / ((high - low) or 1) for place, one in along.items()}
    return {"name": name, "labels": [(0, f"{ends[0]:.4g}"), (1, f"{ends[1]:.4g}")], "at": at}


def importance(board: Board, keys: list[str], completed: dict[int, list[float]]) -> list[tuple[str, float]]:
    """How much of being among the best follows from each key, by PED-ANOVA (Watanabe et al. 2023); the largest first.

    It is empty without the extra `search`, or with too few completed trials.

    Args:
        completed: the values of trials by their places in the ranking.
    """
    if not find_spec("optuna") or len(completed) < FEWEST:
        return []
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    texts = {key: [board.jobs[place]["settings"].get(key) for place in completed] for key in keys}
    ranges = {key: _range({*given} - {None}, key in board.logarithmic) for key, given in texts.items()}
    study = optuna.create_study(directions=[f"{way}imize" for way in board.search["objectives"].values()])
    for place, values in completed.items():
        given = {key: board.jobs[place]["settings"].get(key) for key, found in ranges.items() if found}
        given = {key: text for key, text in given.items() if text is not None}
        params = {key: finite(text) if hasattr(ranges[key], "low") else text for key, text in given.items()}
        distributions = {key: ranges[key] for key in params}
        study.add_trial(optuna.trial.create_trial(values=values, params=params, distributions=distributions))
    sign = -1 if study.directions[0].name == "MAXIMIZE" else 1  # it asks what makes a target low
    warnings.filterwarnings("ignore", "PedAnova", UserWarning)
    try:
        found = optuna.importance.get_param_importances(study, target=lambda trial: sign * trial.values[0])
    except Exception:  # as where all are equally good, or a record has values that no search had
        return []
    return [(key, round(share, 4)) for key, share in found.items()]


def _range(texts: set[str], logarithmic: bool) -> "BaseDistribution | None":
    """What a key was tried with, as Optuna knows it; None for one value."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = [finite(text) for text in texts]
    if len(texts) < 2:
        return None
    if None in numbers:
        return CategoricalDistribution(sorted(texts))
    return FloatDistribution(min(numbers), max(numbers), log=scale_of(numbers, logarithmic) == "log")
