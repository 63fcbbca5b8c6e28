"""A board as text: leaderboard.csv, seeds.csv and the tables for the terminal."""

import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from humanseg import terminal
from humanseg.report.board import Board, epoch, remarks, repeated_keys, repetition, speed, tags, value
from humanseg.report.repeats import Gap
from humanseg.runs.atomic import write_table

SHOWN = 20  # rows of a table in the terminal, and files that can't be read
OTHERS = 3  # metrics beside those that rank, at most
WIDTH = 120  # characters of a line there, unless a job's name is too long for it
CELL = 28  # characters of an override's value there
FIRST = ("rank", "job", "status", "epoch")
GAP = ("difference", "low", "high", "paired by")  # from the first experiment
LAST = ("seconds", "images_per_second", "tags", "error", "overrides")


def write_leaderboard(board: Board, into: Path) -> Path:
    """A row a run: its metrics, its time, and each override that differs; all overrides last."""
    metrics = [*filter(None, [board.monitor]), *board.by_source, *board.metrics]
    names = {key: f"override {key}" if key in (*FIRST, *LAST, *metrics) else key for key in board.keys}
    rows = []
    for place, job in enumerate(board.jobs, 1):
        row = {name: job["values"].get(name) for name in metrics}
        row |= {name: job["settings"].get(key) for key, name in names.items()}
        row |= {name: job.get(name) for name in ("job", "status", "seconds", "error")}
        row |= {"rank": place, "epoch": epoch(job), "images_per_second": speed(job), "tags": tags(job)}
        rows.append(row | {"overrides": shlex.join(job["overrides"])})
    write_table(into / "leaderboard.csv", [*FIRST, *metrics, *LAST[:-2], *names.values(), *LAST[-2:]], rows)
    return into / "leaderboard.csv"


def write_seeds(board: Board, into: Path) -> Path:
    """A row an experiment, over all its seeds and folds."""
    keys, rows = repeated_keys(board), []
    for place, group in enumerate(board.groups, 1):
        row = {"rank": place, "n": group["n"], "jobs": " ".join(group["jobs"])}
        for name, (mean, std) in group["spreads"].items():
            row |= {f"{name} mean": mean, f"{name} std": std}
        if one := group["gap"]:
            row |= dict(zip(GAP, (one.difference, one.low, one.high, one.by), strict=True))
        rows.append(row | {key: group["settings"].get(key) for key in keys})
    measured = [f"{name} {what}" for name in (board.monitor, *board.by_source) for what in ("mean", "std")]
    write_table(into / "seeds.csv", ["rank", "n", *measured, *GAP, *keys, "jobs"], rows)
    return into / "seeds.csv"


def for_terminal(board: Board) -> list[str]:
    """The best runs, the experiments over seeds and folds, and how many runs of what status there are, as lines."""
    aims = [name for name in board.metrics if board.search and name in board.search["objectives"]]
    others = [name for name in board.metrics if name not in aims][:OTHERS]
    lines = _as_wide_as_fits(lambda some: _ranking(board, [*aims, *some]), [*board.by_source, *others])
    states = ", ".join(f"{count} {status}" for status, count in board.states.most_common())
    more = f"; {len(board.jobs) - SHOWN} more rows in leaderboard.csv" if len(board.jobs) > SHOWN else ""
    problems = [f"note:  {problem}" for problem in board.problems[:SHOWN]]
    problems += [f"note:  {len(board.problems) - SHOWN} more files can't be read"] * (len(board.problems) > SHOWN)
    notes = [*problems, *remarks(board)]
    return [*lines, *_over_seeds(board), "", *notes, f"runs:  {states}{more}"]


def _as_wide_as_fits(draw: Callable[[list[str]], list[str]], columns: list[str]) -> list[str]:
    """The lines of a table that has as many of its further columns as there is room for."""
    for count in range(len(columns), -1, -1):
        lines = draw(columns[:count])
        if max(map(len, lines)) <= WIDTH:
            break
    return lines


def _ranking(board: Board, others: list[str]) -> list[str]:
    last = [key.rpartition(".")[2] for key in board.keys]
    heads = [name if Counter(last)[name] == 1 else key for key, name in zip(board.keys, last, strict=True)]
    tagged = any(map(tags, board.jobs))
    table = [["rank", board.monitor or "metric", *others, "epoch", "time", "images/s", "status"]]
    table[0] += ["tags"] * tagged + heads + ["job"]
    for place, job in enumerate(board.jobs[:SHOWN], 1):
        measured = [number(value(board, job)), *(number(job["values"].get(name)) for name in others)]
        row = [str(place), *measured, str(epoch(job) or ""), duration(job.get("seconds")), rate(speed(job))]
        row += [job["status"]] + [_cell(tags(job))] * tagged
        table.append(row + [_cell(job["settings"].get(key, "")) for key in board.keys] + [job["job"]])
    return terminal.aligned(table)


def _over_seeds(board: Board) -> list[str]:
    if not board.groups:
        return []
    return ["", *_as_wide_as_fits(lambda others: _experiments(board, others), board.by_source)]


def _experiments(board: Board, others: list[str]) -> list[str]:
    keys = repeated_keys(board)
    compared = ["against the first"] * (len(board.groups) > 1)
    table = [["rank", f"{board.monitor} over {repetition(board)}", *others, "n", *compared, *keys]]
    for place, group in enumerate(board.groups[:SHOWN], 1):
        measured = [spread(group, name) for name in (board.monitor, *others)]
        told = [away(group["gap"])] * len(compared)
        own = [_cell(group["settings"].get(key, "")) for key in keys]
        table.append([str(place), *measured, str(group["n"]), *told, *own])
    return terminal.aligned(table)


def spread(group: dict, name: str) -> str:
    """Mean and standard deviation of one of an experiment's values as text; empty where not all of its runs have it."""
    mean, std = group["spreads"].get(name, (None, None))
    return number(mean) + (f" ± {std:.4f}" if std is not None else "")


def away(gap: Gap | None) -> str:
    """A difference with its interval, and what pairs it; empty where there is none."""
    if gap is None:
        return ""
    by = f", by {gap.by}" * bool(gap.by)
    interval = "" if gap.low is None else f" ({_signed(gap.low)} to {_signed(gap.high)}{by})"
    return f"{_signed(gap.difference)}{interval}"


def _signed(value: float) -> str:
    return f"{value:+.4f}" if abs(value) < 100 else f"{value:+.3g}"


def number(value: float | None) -> str:
    """Four decimals, or three digits of a very large or small number."""
    if value is None:
        return ""
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 100 else f"{value:.3g}"


def rate(value: float | None) -> str:
    """Images per second."""
    return "" if value is None else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """Seconds as text: in seconds, minutes or hours."""
    if seconds is None or seconds < 60:
        return "" if seconds is None else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


def _cell(text: str) -> str:
    """An override's value; only the end of a long one, which may be a path."""
    return text if len(text) <= CELL else "…" + text[1 - CELL :]
