"""The table of a paper: a row for each experiment, mean and deviation of the metrics, and how it differs from a baseline."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from humanseg import terminal
from humanseg.report.board import Board
from humanseg.report.repeats import REPEATED, Gap, experiments, gap, setting
from humanseg.report.tables import GAP
from humanseg.runs.atomic import write_table, write_text
from humanseg.runs.value_names import metric_of

SUFFIXES = {"markdown": ".md", "latex": ".tex", "csv": ".csv"}
LIGATURES = re.compile(r"(?<=[-'`?!])(?=[-'`])")  # -- would become a dash, ?` a mark of Spanish
DECIMALS = 4  # where no deviation says how many hold
OF_LATEX = {one: f"\\{one}" for one in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",  # after the end of a row it would begin an argument, and so would a star
    "*": "{*}",
}


@dataclass(frozen=True)
class Style:
    """How a table is written: `text` makes a text one that is shown as it is, the others are forms for numbers."""

    text: Callable[[str], str]
    value: str
    spread: str
    bold: str
    interval: str


MARKDOWN = Style(
    lambda text: re.sub(r"([\\`*_{}\[\]<>|~&$^])", r"\\\1", terminal.visible(text)),
    "{}",
    "{} ± {}",
    "**{}**",
    "{} [{}, {}]",
)
LATEX = Style(
    lambda text: LIGATURES.sub("{}", "".join(OF_LATEX.get(one, one) for one in terminal.visible(text))),
    "${}$",
    r"${} \pm {}$",
    r"\textbf{{\boldmath {}}}",
    "${}$ $[{}, {}]$",
)


def write(board: Board, metrics: list[str], over: list[str], baseline: list[str], form: str, into: Path) -> list[str]:
    """Write the table as table.md, table.tex or table.csv, and return its lines and where it is.

    Args:
        metrics: names of values, as test/iou; none: what ranks the runs. over: keys whose values repeat an experiment.
        baseline: KEY:VALUE of the experiment that the others are compared with; none: the best one.
        form: markdown, latex or csv.

    Raises:
        ValueError: no run has such a metric, key or baseline.
    """
    metrics = metrics or [board.monitor or "metric"]
    jobs = [_with_monitored(job) for job in board.jobs if job["status"] == "completed"]
    _refuse_unknown(jobs, metrics, over)
    groups = experiments(jobs, metrics, tuple(over))
    groups.sort(key=lambda group: _rank(group, metrics[0]))
    if baseline:
        base = _baseline(groups, baseline)
        groups.sort(key=lambda group: group is not base)
    table, file = _Table(groups, metrics, _keys(groups)), into / f"table{SUFFIXES[form]}"
    if form == "csv":
        rows = table.plain()
        write_table(file, list(rows[0]), rows)
    else:
        write_text(file, "\n".join([*(table.markdown() if form == "markdown" else table.latex()), ""]))
    return [*file.read_text().splitlines(), f"table: {file}"]


def _with_monitored(job: dict) -> dict:
    own = {job["monitor"]: job["monitored"]} if job.get("monitored") is not None else {}
    return job | {"values": own | job["values"]}


def _refuse_unknown(jobs: list[dict], metrics: list[str], over: list[str]) -> None:
    named = dict.fromkeys(name for job in jobs for name in job["values"])
    known = sorted(named, key=lambda name: not name.startswith(("test", "val")))
    for name in metrics:
        if name not in known:
            near = terminal.did_you_mean(name, known)
            has = terminal.some(known, 12, 60) or "nothing"
            raise ValueError(f"metrics: no completed run has {name}{near}; they have {has}")
    keys = {*REPEATED, *(key for job in jobs for key in job["settings"])}
    for key in over:
        if key not in keys:
            raise ValueError(
                f"over={key}: no run has such an override{terminal.did_you_mean(key, keys)}; they have {', '.join(sorted(keys))}"
            )


def _rank(group: dict, metric: str) -> tuple:
    mean = group["spreads"].get(metric, (None,))[0]
    return (mean is None, 0 if mean is None else mean if _less_is_better(group, metric) else -mean)


def _less_is_better(group: dict, metric: str) -> bool:
    job = group["members"][0]
    return job["monitor_mode"] == "min" if job["monitor"] == metric else metric_of(metric).startswith("loss")


def _baseline(groups: list[dict], wanted: list[str]) -> dict:
    pairs = [one.partition(":")[::2] for one in wanted]
    found = [group for group in groups if all(setting(group["members"][0], key) == value for key, value in pairs)]
    if len(found) != 1:
        keys = _keys(groups) or ["loss"]
        there = (",".join(f"{key}:{group['settings'].get(key, '')}" for key in keys) for group in groups)
        raise ValueError(
            f"baseline={','.join(wanted)}: {len(found)} experiments are so; name one by KEY:VALUE of {terminal.some(there, 8, 80)}"
        )
    return found[0]


def _keys(groups: list[dict]) -> list[str]:
    """The keys that tell the experiments apart."""
    keys = dict.fromkeys(key for group in groups for key in group["settings"])
    return [key for key in keys if len({group["settings"].get(key) for group in groups}) > 1]


class _Table:
    """Experiments as rows, the baseline first."""

    def __init__(self, groups: list[dict], metrics: list[str], keys: list[str]):
        self.groups, self.metrics, self.keys = groups, metrics, keys
        self.digits = {name: _digits([group["spreads"].get(name) for group in groups]) for name in metrics}
        self.gaps = {name: [gap(groups[0], group, name) for group in groups[1:]] for name in metrics}

    def markdown(self) -> list[str]:
        rows = self._rows(MARKDOWN)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]
        lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
        return [*lines, "", self._caption()]

    def latex(self) -> list[str]:
        rows, named = self._rows(LATEX), max(len(self.keys), 1)
        head, *body = (" & ".join(row) + r" \\" for row in rows)
        columns = "l" * named + "r" * (len(rows[0]) - named)
        begin = [
            f"% {self._caption()} It needs \\usepackage{{booktabs}}.",
            f"\\begin{{tabular}}{{{columns}}}",
            r"\toprule",
        ]
        return [*begin, head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]

    def plain(self) -> list[dict]:
        """The rows of a CSV: all digits."""
        rows = []
        for place, group in enumerate(self.groups):
            row = {key: group["settings"].get(key) for key in self.keys} | {"n": group["n"]}
            for metric in self.metrics:
                mean, std = group["spreads"].get(metric, (None, None))
                row |= {f"{metric} mean": mean, f"{metric} std": std}
                one = self.gaps[metric][place - 1] if place else None
                told = (one.difference, one.low, one.high, one.by) if one else (None,) * len(GAP)
                row |= {f"{metric} {name}": value for name, value in zip(GAP, told, strict=True)}
            rows.append(row)
        return rows

    def _rows(self, style: Style) -> list[list[str]]:
        compared = len(self.groups) > 1
        heads = [name for metric in self.metrics for name in (metric, *["difference"] * compared)]
        rows = [[*map(style.text, self.keys or ["experiment"]), "n", *map(style.text, heads)]]
        for place, group in enumerate(self.groups):
            row = [style.text(group["settings"].get(key, "")) for key in self.keys] or [style.text(group["jobs"][0])]
            row.append(str(group["n"]))
            for metric in self.metrics:
                row.append(self._value(group, metric, style))
                if compared:
                    one = self.gaps[metric][place - 1] if place else None
                    row.append(_gap(one, self.digits[metric], style))
            rows.append(row)
        return rows

    def _value(self, group: dict, metric: str, style: Style) -> str:
        if metric not in group["spreads"]:
            return ""
        digits, (mean, std) = self.digits[metric], group["spreads"][metric]
        shown = f"{mean:.{digits}f}"
        means = [f"{one['spreads'][metric][0]:.{digits}f}" for one in self.groups if metric in one["spreads"]]
        best = (min if _less_is_better(group, metric) else max)(means, key=float)
        text = style.value.format(shown) if std is None else style.spread.format(shown, f"{std:.{digits}f}")
        return style.bold.format(text) if shown == best and len(self.groups) > 1 else text

    def _caption(self) -> str:
        """What the numbers are."""
        by = dict.fromkeys(one.by for gaps in self.gaps.values() for one in gaps if one and one.low is not None)
        pairs = " and ".join(one or "no pairs" for one in by)
        against = f" Differences are from the first row, with 95 % intervals, by {pairs}." if by else ""
        return f"Mean ± sample standard deviation of n runs.{against}"


def _digits(spreads: list[tuple[float, float | None] | None]) -> int:
    """Decimals that show two digits of the largest deviation."""
    largest = max((spread[1] for spread in spreads if spread and spread[1]), default=0)
    return min(max(1 - math.floor(math.log10(largest)), 0), 6) if largest else DECIMALS


def _gap(one: Gap | None, digits: int, style: Style) -> str:
    if one is None:
        return ""
    numbers = [f"{value:+.{digits}f}" for value in (one.difference, one.low, one.high) if value is not None]
    return (style.interval if len(numbers) == 3 else style.value).format(*numbers)
