"""The results of many runs: a ranked table for the terminal, leaderboard.csv, seeds.csv and report.html."""

import shlex
from pathlib import Path

from humanseg import terminal
from humanseg.report import page, tables
from humanseg.report import paper as paper_table
from humanseg.report.board import Board, read
from humanseg.runs.atomic import write_text
from humanseg.runs.conf import command
from humanseg.runs.summary import is_sweep

WITHOUT_PAGE = 'report.html needs the extra: pip install -e ".[report]"'


def write(sources: list[Path], into: Path, paper: dict | None = None) -> str:
    """Write leaderboard.csv, seeds.csv where seeds repeat, and report.html; returns the tables for the terminal.

    Args:
        sources: sweeps, or any folders with runs somewhere below them. Runs may still go on or be broken.
        into: an existing folder.
        paper: metrics, over, baseline and form of the table of a paper, see `paper.write`; None: none is written.

    Raises:
        ValueError: there is no run below the sources.
        OSError: `into` can't be written to.
    """
    board = read(sources)
    written = [f"table: {tables.write_leaderboard(board, into)}"]
    if board.groups:
        written.append(f"seeds: {tables.write_seeds(board, into)}")
    written.append(_write_page(board, into))  # adds to the board's problems
    table = paper_table.write(board, **paper, into=into) if paper else []
    if len(sources) == 1 and is_sweep(sources[0]) and board.jobs[0].get("mode") == "train":
        written.append(f"next:  {command()} mode=test ckpt={shlex.quote(str(sources[0]))}")
    return terminal.lines([*tables.for_terminal(board), *[""] * bool(table), *table, *written])


def _write_page(board: Board, into: Path) -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return WITHOUT_PAGE
    write_text(into / "report.html", page.draw(board, into, get_plotlyjs()))
    return f"page:  {into / 'report.html'}"
