"""A network beside each of some others: their differences over all photographs and by source, as plain values."""

from dataclasses import dataclass
from pathlib import Path

import torch

from humanseg import terminal
from humanseg.compare.scores import Scores
from humanseg.compare.statistics import ALIKE, LEVEL, Difference, differences
from humanseg.runs.atomic import write_json, write_table

WHOLE = ""  # the name of all sources together
SHOWN_ROWS = 10  # of the terminal's table
SHOWN_PHOTOGRAPHS = 2  # wins and losses each there


@dataclass(frozen=True)
class Side:
    """One of the networks.

    Args:
        label: a, or b, or b1, b2, ... of several. path: its file, or the folder of its test. told: where its scores are from.
    """

    label: str
    path: Path
    told: str
    scores: Scores


@dataclass(frozen=True)
class Pair:
    """The first network and one of the others.

    Args:
        found: the differences by source, each by metric; `WHOLE` is all of them.
        gains: second - first of each photograph, by the first metric.
        judged_by: the metric that says of a photograph whether it is a win: where it shows nobody, the accuracy, for one wrong
            pixel takes other metrics from 1 to 0. weights: second - first by that.
    """

    first: Side
    second: Side
    found: dict[str, dict[str, Difference]]
    gains: list[float]
    judged_by: list[str]
    weights: list[float]

    def wins(self, count: int) -> list[int]:
        """The photographs in which the second one gains most, at most so many."""
        return [place for place in self.order()[:count] if self.weights[place] > ALIKE]

    def losses(self, count: int) -> list[int]:
        """The photographs in which it loses most."""
        return [place for place in self.order()[: -count - 1 : -1] if self.weights[place] < -ALIKE]

    def order(self) -> list[int]:
        """All photographs, the largest win first."""
        return sorted(range(len(self.weights)), key=lambda place: -self.weights[place])


def compared(first: Side, second: Side, metrics: list[str], draws: int, seed: int) -> Pair:
    """Two networks whose scores are of the same photographs in the same order."""
    found = {WHOLE: differences(first.scores, second.scores, metrics, draws, seed)}
    sources = list(dict.fromkeys(first.scores.sources))
    for source in sources if len(sources) > 1 else ():
        places = [place for place, own in enumerate(first.scores.sources) if own == source]
        found[source] = differences(first.scores.at(places), second.scores.at(places), metrics, draws, seed)
    gains, exact = (second.scores.values(name) - first.scores.values(name) for name in (metrics[0], "accuracy"))
    nobody = first.scores.counts.confusion[:, 1:].sum((1, 2)) == 0
    judged_by = ["accuracy" if empty else metrics[0] for empty in nobody]
    return Pair(first, second, found, gains.tolist(), judged_by, torch.where(nobody, exact, gains).tolist())


def rows(pair: Pair) -> list[dict]:
    """A row for each metric and source."""
    return [
        {
            "second": pair.second.label,
            "source": source,
            "metric": metric,
            "a": one.first,
            "b": one.second,
            "difference": one.difference,
            "low": one.low,
            "high": one.high,
            "better": one.better,
            "equal": one.equal,
            "photographs": one.photographs,
        }
        for source, own in pair.found.items()
        for metric, one in own.items()
    ]


def write(pairs: list[Pair], metric: str, folder: Path, facts: dict) -> None:
    """Write compare.json, compare.csv, and photographs.csv with each photograph's `metric`, the largest win first."""
    first, table = pairs[0].first, [row for pair in pairs for row in rows(pair)]
    sides = [first, *(pair.second for pair in pairs)]
    told = {side.label: {"path": str(side.path), "scores": side.told} for side in sides}
    interval = {"level": LEVEL, "interval": "symmetric bootstrap-t over photographs"}
    write_json(folder / "compare.json", facts | interval | {"sides": told, "differences": table})
    write_table(folder / "compare.csv", list(table[0]), table)
    values = {side.label: side.scores.values(metric).tolist() for side in sides}
    photographs = []
    for place in pairs[0].order():
        row = {"image": first.scores.images[place], "source": first.scores.sources[place]}
        row |= {f"{metric}/{label}": found[place] for label, found in values.items()}
        photographs.append(row | {f"{pair.second.label} - a": pair.gains[place] for pair in pairs})
    write_table(folder / "photographs.csv", list(photographs[0]), photographs)


def for_terminal(pairs: list[Pair], metric: str) -> list[str]:
    """The table, and the largest wins and losses, as at most 16 lines."""
    several, shown = len(pairs) > 1, []
    for pair in pairs:
        own = [(WHOLE, name) for name in pair.found[WHOLE]]
        own += [(source, metric) for source in pair.found if source != WHOLE]
        shown += [(pair, source, name) for source, name in own]
    if several:  # the metric that decides comes first for all of them
        shown.sort(key=lambda one: (one[1] != WHOLE, one[2] != metric))
    heads = ["metric", "a", "b", "b - a", f"{LEVEL:.0%} interval", "b better", "equal"]
    table = [["b"] * several + heads]
    for pair, source, name in shown[:SHOWN_ROWS]:
        named = "/".join(filter(None, (source, name)))
        table.append([pair.second.label] * several + [named, *_cells(pair.found[source][name])])
    more = [f"{len(shown) - SHOWN_ROWS} more rows in compare.csv"] * (len(shown) > SHOWN_ROWS)
    return [*terminal.aligned(table), *more, *_photographs(pairs[0], several)]


def _cells(one: Difference) -> list[str]:
    return [
        number(one.first),
        number(one.second),
        signed(one.difference),
        between(one),
        share(one.better),
        share(one.equal),
    ]


def _photographs(pair: Pair, several: bool) -> list[str]:
    scores, lines, whose = pair.first.scores, [], f"{pair.second.label} " * several
    for what, places in (("wins", pair.wins(SHOWN_PHOTOGRAPHS)), ("losses", pair.losses(SHOWN_PHOTOGRAPHS))):
        for place in places:
            named = " ".join(filter(None, (scores.sources[place], scores.images[place])))
            lines.append(
                f"{what:6}  {whose}{pair.judged_by[place]} {signed(pair.weights[place])}  {terminal.cut(named, 100)}"
            )
    return lines


def number(value: float) -> str:
    """A metric's value."""
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.3g}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.4f}" if abs(value) < 100 else f"{value:+.3g}"


def between(one: Difference) -> str:
    """The interval of a difference as text."""
    return "too few differ" if one.low is None else f"{signed(one.low)} to {signed(one.high)}"


def share(value: float) -> str:
    """A share in percent."""
    return f"{value:.0%}"
