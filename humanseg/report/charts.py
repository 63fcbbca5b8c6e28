"""The numbers behind a page's charts; page.js draws them."""

import math
import statistics
from pathlib import Path

from humanseg.report.axes import finite, scale_of
from humanseg.report.board import Board, value
from humanseg.report.searching import search_data
from humanseg.runs.reading import read_table
from humanseg.runs.summary import FINISHED
from humanseg.terminal import visible

POINTS = 200  # epochs of a learning curve that are drawn
LABELLED = 8  # up to so many different values of a hyperparameter get a tick each
APART = 0.08  # share of the axis that must lie between ticks


def chart_data(board: Board) -> dict:
    """Names, learning curves and hyperparameters of all runs, as plain JSON. Adds to the board's problems.

    Returns:
        `monitor`; `jobs`: their names; `curves`: for each chart its `name`, the `range` of its y axis and `jobs`, for
        each a pair of epochs and values; `parameters`: see `_parameter`; `search`: see `searching.search_data`.
    """
    names = list(dict.fromkeys([*filter(None, [board.monitor]), *board.by_source, "train/loss", "val/loss"]))
    logs = [_curves(board, job["folder"] / "metrics.csv", names) for job in board.jobs]
    curves = [{"name": name, "jobs": [log[name] for log in logs]} for name in names]
    keys = [key for key in board.keys if key != "name"]
    return {
        "monitor": board.monitor and visible(board.monitor),
        "jobs": [visible(job["job"]) for job in board.jobs],
        "curves": [
            curve | {"name": visible(curve["name"]), "range": _range(board, curve["name"], ys)}
            for curve in curves
            if (ys := _values(curve))
        ],
        "parameters": [found for key in keys if (found := _parameter(board, key))],
        "search": search_data(board, keys) if board.search else None,
    }


def _curves(board: Board, file: Path, names: list[str]) -> dict[str, tuple[list, list]]:
    """Epochs and values of some columns of a metrics.csv; empty lists where it has none."""
    points = {name: [] for name in names}
    try:
        for row in read_table(file) if file.exists() else ():  # a test's run has none
            epoch = finite(row.get("epoch"))
            for name, found in points.items():
                y = finite(row.get(name))
                if epoch is not None and y is not None:
                    found.append((int(epoch), float(f"{y:.5g}")))
    except ValueError as error:
        board.problems.append(str(error))
    return {name: _thinned(found) for name, found in points.items()}


def _thinned(points: list[tuple]) -> tuple[list, list]:
    kept = points[:: -(len(points) // POINTS + 1)][::-1]  # counted from the last one, so that it is kept
    return [epoch for epoch, _ in kept], [y for _, y in kept]


def _values(curve: dict) -> list[float]:
    return [y for _, ys in curve["jobs"] for y in ys]


def _range(board: Board, name: str, values: list[float]) -> tuple[float, float]:
    """The range of the better nine tenths of all values. The first epochs or a run that diverged would flatten it."""
    values, worst = sorted(values), len(values) // 10
    more_is_better = name in (board.monitor, *board.by_source) and board.jobs[0]["monitor_mode"] == "max"
    low, high = (values[worst], values[-1]) if more_is_better else (values[0], values[-1 - worst])
    margin = 0.05 * (high - low) or 0.01
    return low - margin, high + margin


def _parameter(board: Board, key: str) -> dict | None:
    """A hyperparameter against the metric; None where the finished runs don't differ in it.

    Returns:
        `key`; `scale`: log, linear or category; `jobs`: the points' places in the ranking; `pruned`: whether a run was
        stopped, for each of them; `x` (a category's number), `y` and the `range` of its axis; `ticks` and `labels` of the x axis (empty: plotly's own); `medians`: pairs of
        x and y.
    """
    finished = {place: job for place, job in enumerate(board.jobs) if job["status"] in FINISHED}
    y = {place: value(board, job) for place, job in finished.items() if value(board, job) is not None}
    texts = {place: finished[place]["settings"].get(key, "not set") for place in y}
    if len(set(texts.values())) < 2:
        return None
    numbers = {place: finite(text) for place, text in texts.items()}
    if None in numbers.values():
        labels = sorted(set(texts.values()))
        x, scale, ticks = {place: labels.index(text) for place, text in texts.items()}, "category", range(len(labels))
    else:
        x, scale = numbers, scale_of([*numbers.values()], key in board.logarithmic)
        ticks = _ticks(sorted(set(numbers.values())), scale)
        labels = [f"{tick:g}" for tick in ticks]
    full = {place: one for place, one in x.items() if finished[place]["status"] == "completed"}
    medians = [(one, statistics.median(y[at] for at in full if x[at] == one)) for one in sorted(set(full.values()))]
    return {
        "key": visible(key),
        "scale": scale,
        "jobs": list(x),
        "pruned": [place not in full for place in x],
        "x": list(x.values()),
        "y": list(y.values()),
        "range": _range(board, board.monitor, list(y.values())),
        "ticks": list(ticks),
        "labels": list(map(visible, labels)),
        "medians": medians,
    }


def _ticks(numbers: list[float], scale: str) -> list[float]:
    """The values themselves where they are few and far enough apart for labels, else none."""
    along = [math.log(one) for one in numbers] if scale == "log" else numbers
    gaps = [after - before for before, after in zip(along, along[1:], strict=False)]
    readable = len(numbers) <= LABELLED and min(gaps, default=0) >= APART * (along[-1] - along[0])
    return numbers if readable else []
