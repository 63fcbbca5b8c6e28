"""A board as one page that opens offline: page.html, filled with tables, pictures, numbers for charts, and plotly.js.

All that a user chose (names, overrides, tags, errors) is escaped here; page.html's policy lets nothing be loaded.
"""

import base64
import json
import os
import re
import shlex
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from urllib.parse import quote

from humanseg.report.board import Board, epoch, other_monitors, repeated_keys, speed, sweep_command, tags, value
from humanseg.report.charts import chart_data
from humanseg.report.tables import duration, number, rate, spread

HERE = Path(__file__).parent
PICTURED = 3  # best runs whose photographs are shown
PICTURES = ("best_and_worst.png", "contact_sheet.png", "test/contact_sheet.png")
PICTURE_WIDTH = 1400  # pixels, to which wider ones are shrunk
OTHERS = 4  # metrics in the table beside the one that ranks; leaderboard.csv has all


def draw(board: Board, into: Path, plotly: str) -> str:
    """The page's HTML.

    Args:
        into: the folder that the page will lie in; its links are relative to it.
        plotly: the source of plotly.js.
    """
    several = len(board.sources) > 1
    data = json.dumps(chart_data(board), separators=(",", ":"))
    parts = {
        "title": "Several folders" if several else escape("/".join(board.sources[0].resolve().parts[-2:])),
        "facts": _facts(board),
        "remark": _paragraph(other_monitors(board)),
        "table": _table(board, into),
        "errors": _errors(board, into),
        "seeds": _seeds(board),
        "pictures": _pictures(board, into),
        "data": data.replace("<", "\\u003c"),  # a name must not end the script that holds it
        "plotly": plotly,
        "script": (HERE / "page.js").read_text(encoding="utf-8"),
    }
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)  # in one pass: a name may hold {{data}}


def _facts(board: Board) -> str:
    """The best run, how many runs, where they are, when this was written, their code and command."""
    sources = "<br>".join(f"<code>{escape(str(source))}</code>" for source in board.sources)
    states = ", ".join(f"{count} {_state(status)}" for status, count in board.states.most_common())
    best = board.jobs[0]
    commits = sorted({_commit(job) for job in board.jobs} - {""})
    facts = {
        "Runs": f"<b>{len(board.jobs)}</b> &ensp; {states}",
        "Folder" if len(board.sources) == 1 else "Folders": sources,
        "Written": time.strftime("%Y-%m-%d %H:%M"),
        "Commit": escape(", ".join(commits)) or "unknown",
    }
    if (top := value(board, best)) is not None:
        named = f"<b>{number(top)}</b> {escape(board.monitor)}, {escape(best['job'])}"
        facts = {"Best": named} | facts
    if command := sweep_command(board):
        facts["Command"] = _copied(command)
    return "".join(f"<div><dt>{name}</dt><dd>{fact}</dd></div>" for name, fact in facts.items())


def _table(board: Board, into: Path) -> str:
    """A row a run. Results come first, and last what it takes to repeat the run."""
    jobs = board.jobs
    metrics = [_numbers(name, [(job["values"].get(name), number) for job in jobs]) for name in board.metrics[:OTHERS]]
    columns = [
        _numbers("rank", [(place, str) for place in range(1, len(jobs) + 1)]),
        _texts("run", [_link(job, into) for job in jobs]),
        _numbers(board.monitor or "metric", [(value(board, job), number) for job in jobs]),
        *[_texts(key, [escape(job["settings"].get(key, "")) for job in jobs]) for key in board.keys],
        _texts("status", [_state(job["status"]) for job in jobs]),
        _numbers("epoch", [(epoch(job), str) for job in jobs]),
        _numbers("time", [(job.get("seconds"), duration) for job in jobs]),
        _numbers("images/s", [(speed(job), rate) for job in jobs]),
        _texts("tags", [escape(tags(job)) for job in jobs]),
        *metrics,
        _texts("commit", [_code(job, into) for job in jobs]),
        _texts("command", [_copied(shlex.join(["python", "run.py", *job["overrides"]])) for job in jobs]),
    ]
    return _sortable(columns, "job")


def _errors(board: Board, into: Path) -> str:
    wrong = [job for job in board.jobs if job.get("error")]
    items = "".join(f"<li>{_link(job, into)}<br>{escape(job['error'])}</li>" for job in wrong)
    return f'<section><h2>What failed</h2><ul class="errors">{items}</ul></section>' if wrong else ""


def _seeds(board: Board) -> str:
    """A row an experiment, over all its seeds; nothing where none was repeated."""
    if not board.groups:
        return ""
    keys, groups = repeated_keys(board), board.groups
    columns = [
        _numbers("rank", [(place, str) for place in range(1, len(groups) + 1)]),
        _numbers(board.monitor, [(group["monitored"], lambda _, group=group: spread(group)) for group in groups]),
        _numbers("n", [(group["n"], str) for group in groups]),
        *[_texts(key, [escape(group["settings"].get(key, "")) for group in groups]) for key in keys],
    ]
    note = "Completed runs that differ by their seed alone: mean ± sample standard deviation."
    return f"<section><h2>Over seeds</h2>{_paragraph(note)}{_sortable(columns, 'experiment')}</section>"


def _sortable(columns: list[list[str]], row: str) -> str:
    """A table of columns with their heads. At first it is sorted by the first column; page.js sorts it anew."""
    columns[0][0] = columns[0][0].replace("<th", '<th aria-sort="ascending"', 1)
    head, *cells = ("".join(cells) for cells in zip(*columns, strict=True))
    rows = "".join(f'<tr data-{row}="{place}">{cells}</tr>' for place, cells in enumerate(cells))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _numbers(head: str, cells: list[tuple[float | None, Callable]]) -> list[str]:
    """A column of numbers, each with the function that shows it; the table is sorted by the number."""
    start = f'<th scope="col" class="number"><button type="button">{escape(head)}</button></th>'
    values = [("", "") if one is None else (one, show(one)) for one, show in cells]
    return [start, *(f'<td class="number" data-value="{one}">{shown}</td>' for one, shown in values)]


def _texts(head: str, cells: list[str]) -> list[str]:
    """A column of HTML; the table is sorted by its text."""
    start = f'<th scope="col"><button type="button">{escape(head)}</button></th>'
    return [start, *(f"<td>{cell}</td>" for cell in cells)]


def _link(job: dict, into: Path) -> str:
    name = f'<span class="run" title="{escape(job["job"])}">{escape(job["job"])}</span>'
    return f'<a href="{_url(job["folder"], into)}/">{name}</a>' if job["folder"].is_dir() else name


def _url(path: Path, into: Path) -> str:
    return quote(os.path.relpath(path, into.resolve()))


def _state(status: str) -> str:
    return f'<span class="state {escape(status)}">{escape(status)}</span>'


def _code(job: dict, into: Path) -> str:
    """The commit, and what was changed on top of it."""
    patch = job["folder"] / "code.patch"
    changed = f' <a href="{_url(patch, into)}">+ patch</a>' if patch.is_file() else ""
    return f"<code>{escape(_commit(job))}</code>{changed}"


def _commit(job: dict) -> str:
    return ((job.get("environment") or {}).get("commit") or "")[:9]


def _copied(command: str) -> str:
    return (
        f'<span class="command"><button type="button" class="copy">Copy</button><code>{escape(command)}</code></span>'
    )


def _paragraph(sentence: str) -> str:
    return f"<p>{escape(sentence)}</p>" if sentence else ""


def _pictures(board: Board, into: Path) -> str:
    """The best runs' pictures; a sentence where none has any."""
    figures = []
    for place, job in enumerate(board.jobs[:PICTURED], 1):
        for file in (job["folder"] / name for name in PICTURES):
            if (source := _embedded(file)) and value(board, job) is not None:
                told = f"{place}. {escape(job['job'])} &ensp; {escape(board.monitor)} {number(value(board, job))}"
                image = f'<a href="{_url(file, into)}"><img src="{source}" alt="{escape(file.stem)}"></a>'
                figures.append(f"<figure><figcaption>{told}</figcaption>{image}</figure>")
    return "".join(figures) or _paragraph("None of the best runs has left pictures of its best and worst photographs.")


def _embedded(file: Path) -> str:
    """A picture as a JPEG in a data URI; empty where no picture can be read."""
    import cv2  # imported here: ranking runs at a sweep's start must not load it

    picture = cv2.imread(str(file)) if file.is_file() else None
    if picture is None:
        return ""
    height, width = picture.shape[:2]
    if width > PICTURE_WIDTH:
        smaller = (PICTURE_WIDTH, max(round(height * PICTURE_WIDTH / width), 1))
        picture = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()
