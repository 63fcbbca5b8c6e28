"""A board as one page that opens offline: page.html, filled with tables, pictures, numbers for charts, and plotly.js.

All that a run's folder tells (names, overrides, tags, errors) becomes HTML in `markup.html` alone, which escapes it.
"""

import base64
import io
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from humanseg.markup import html, joined
from humanseg.offline_page import filled, script_data
from humanseg.report.board import (
    Board,
    epoch,
    remarks,
    repeated_keys,
    repetition,
    speed,
    sweep_command,
    tags,
    value,
)
from humanseg.report.charts import chart_data
from humanseg.report.tables import away, duration, number, rate, spread
from humanseg.runs.atomic import no_link
from humanseg.runs.conf import PROGRAM

HERE = Path(__file__).parent
PICTURED = 3  # best runs whose photographs are shown
PICTURES = ("best_and_worst.png", "contact_sheet.png", "test/contact_sheet.png", "val_full_size/contact_sheet.png")
PICTURE_WIDTH = 1400  # pixels, to which wider ones are shrunk
PICTURE_PIXELS = 50_000_000  # of a file that is opened
OTHERS = 4  # metrics in the table beside the one that ranks; leaderboard.csv has all


def draw(board: Board, into: Path, plotly: str) -> str:
    """The page's HTML. Adds to the board's problems.

    Args:
        into: the folder that the page will lie in; its links are relative to it.
        plotly: the source of plotly.js.
    """
    several = len(board.sources) > 1
    return filled(
        HERE / "page.html",
        title=html("{}", "Several folders" if several else "/".join(board.sources[0].resolve().parts[-2:])),
        facts=_facts(board),
        remark=joined(map(_paragraph, remarks(board))),
        table=_table(board, into),
        pictures=_pictures(board, into),  # adds to the problems, which come next
        errors=_errors(board, into),
        seeds=_seeds(board),
        data=script_data(chart_data(board)),
        plotly=plotly,
        script=(HERE / "page.js").read_text(encoding="utf-8"),
    )


def _facts(board: Board) -> Markup:
    """The best run, how many runs, where they are, when this was written, their code and command."""
    best = board.jobs[0]
    states = Markup(", ").join(html("{} {}", count, _state(status)) for status, count in board.states.most_common())
    sources = Markup("<br>").join(html("<code>{}</code>", source) for source in board.sources)
    commits = sorted({_commit(job) for job in board.jobs} - {""})
    facts = {
        "Runs": html("<b>{}</b> &ensp; {}", len(board.jobs), states),
        "Folder" if len(board.sources) == 1 else "Folders": sources,
        "Written": time.strftime("%Y-%m-%d %H:%M"),
        "Commit": ", ".join(commits) or "unknown",
    }
    if (top := value(board, best)) is not None:
        facts = {"Best": html("<b>{}</b> {}, {}", number(top), board.monitor, best["job"])} | facts
    if command := sweep_command(board):
        facts["Command"] = _copied(command)
    return joined(html("<div><dt>{}</dt><dd>{}</dd></div>", name, fact) for name, fact in facts.items())


def _table(board: Board, into: Path) -> Markup:
    """A row a run. Results come first, and last what it takes to repeat the run."""
    jobs = board.jobs
    columns = [
        _numbers("rank", [(place, str) for place in range(1, len(jobs) + 1)]),
        _texts("run", [_link(job, into) for job in jobs]),
        _numbers(board.monitor or "metric", [(value(board, job), number) for job in jobs]),
        *[_texts(key, [job["settings"].get(key, "") for job in jobs]) for key in board.keys],
        *_measured(board.by_source, jobs),
        _texts("status", [_state(job["status"]) for job in jobs]),
        _numbers("epoch", [(epoch(job), str) for job in jobs]),
        _numbers("time", [(job.get("seconds"), duration) for job in jobs]),
        _numbers("images/s", [(speed(job), rate) for job in jobs]),
        _texts("tags", [tags(job) for job in jobs]),
        *_measured(board.metrics[:OTHERS], jobs),
        _texts("commit", [_code(job, into) for job in jobs]),
        _texts("command", [_copied(shlex.join([*PROGRAM.split(), *job["overrides"]])) for job in jobs]),
    ]
    return _sortable(columns, "job")


def _measured(names: list[str], jobs: list[dict]) -> list[list[Markup]]:
    """A column for each of some values."""
    return [_numbers(name, [(job["values"].get(name), number) for job in jobs]) for name in names]


def _errors(board: Board, into: Path) -> Markup:
    items = [html("<li>{}<br>{}</li>", _link(job, into), job["error"]) for job in board.jobs if job["error"]]
    items += [html("<li>{}</li>", problem) for problem in board.problems if problem not in _told(board)]
    form = '<section><h2>What failed</h2><ul class="errors">{}</ul></section>'
    return html(form, joined(items)) if items else Markup()


def _told(board: Board) -> set[str]:
    """The problems that stand beside their run already."""
    return {problem for job in board.jobs for problem in job["problems"]}


def _seeds(board: Board) -> Markup:
    """A row an experiment, over all its seeds and folds; nothing where none was repeated."""
    if not board.groups:
        return Markup()
    keys, groups = repeated_keys(board), board.groups
    columns = [
        _numbers("rank", [(place, str) for place in range(1, len(groups) + 1)]),
        *[_spreads(name, groups) for name in (board.monitor, *board.by_source)],
        _numbers("n", [(group["n"], str) for group in groups]),
        *[_texts("against the first", [away(group["gap"]) for group in groups])] * (len(groups) > 1),
        *[_texts(key, [group["settings"].get(key, "") for group in groups]) for key in keys],
    ]
    over = repetition(board)
    note = f"Completed runs that differ by their {over} alone: mean ± sample standard deviation."
    if len(groups) > 1:
        note += " The difference from the first one has a 95 % interval: Student's t over pairs, or a bootstrap over photographs."
    form = "<section><h2>Over {}</h2>{}{}</section>"
    return html(form, over, _paragraph(note), _sortable(columns, "experiment"))


def _spreads(name: str, groups: list[dict]) -> list[Markup]:
    """A column of means and deviations, sorted by the mean."""
    means = [group["spreads"].get(name, (None,))[0] for group in groups]
    texts = [spread(group, name) for group in groups]
    return _numbers(name, [(mean, lambda _, text=text: text) for mean, text in zip(means, texts, strict=True)])


def _sortable(columns: list[list[Markup]], row: str) -> Markup:
    """A table of columns with their heads. At first it is sorted by the first column; page.js sorts it anew."""
    columns[0][0] = columns[0][0].replace(Markup("<th"), Markup('<th aria-sort="ascending"'), 1)
    head, *cells = map(joined, zip(*columns, strict=True))
    rows = joined(html('<tr data-{}="{}">{}</tr>', row, place, one) for place, one in enumerate(cells))
    form = '<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    return html(form, head, rows)


def _numbers(head: str, cells: list[tuple[float | None, Callable]]) -> list[Markup]:
    """A column of numbers, each with the function that shows it; the table is sorted by the number."""
    start = html('<th scope="col" class="number"><button type="button">{}</button></th>', head)
    values = [("", "") if one is None else (one, show(one)) for one, show in cells]
    return [start, *(html('<td class="number" data-value="{}">{}</td>', one, shown) for one, shown in values)]


def _texts(head: str, cells: list[str]) -> list[Markup]:
    """A column of texts or HTML; the table is sorted by its text."""
    start = html('<th scope="col"><button type="button">{}</button></th>', head)
    return [start, *(html("<td>{}</td>", cell) for cell in cells)]


def _link(job: dict, into: Path) -> Markup:
    name = html('<span class="run" title="{}">{}</span>', job["job"], job["job"])
    return html('<a href="{}/">{}</a>', _url(job["folder"], into), name) if job["folder"].is_dir() else name


def _url(path: Path, into: Path) -> str:
    return quote(os.fsencode(os.path.relpath(path, into.resolve())))


def _state(status: str) -> Markup:
    return html('<span class="state {}">{}</span>', status, status)


def _code(job: dict, into: Path) -> Markup:
    """The commit, and what was changed on top of it."""
    patch = job["folder"] / "code.patch"
    changed = html(' <a href="{}">+ patch</a>', _url(patch, into)) if patch.is_file() else ""
    return html("<code>{}</code>{}", _commit(job), changed)


def _commit(job: dict) -> str:
    return ((job.get("environment") or {}).get("commit") or "")[:9]


def _copied(command: str) -> Markup:
    form = '<span class="command"><button type="button" class="copy">Copy</button><code>{}</code></span>'
    return html(form, command)


def _paragraph(sentence: str) -> Markup:
    return html("<p>{}</p>", sentence) if sentence else Markup()


def _pictures(board: Board, into: Path) -> Markup:
    """The best runs' pictures; a sentence where none has any."""
    figures = []
    best = [job for job in board.jobs[:PICTURED] if value(board, job) is not None]
    for place, job in enumerate(best, 1):
        for file in (job["folder"] / name for name in PICTURES):
            if source := _embedded(board, file):
                told = html("{}. {} &ensp; {} {}", place, job["job"], board.monitor, number(value(board, job)))
                image = html('<a href="{}"><img src="{}" alt="{}"></a>', _url(file, into), source, file.stem)
                figures.append(html("<figure><figcaption>{}</figcaption>{}</figure>", told, image))
    nothing = "None of the best runs has left pictures of its best and worst photographs."
    return joined(figures) or _paragraph(nothing)


def _embedded(board: Board, file: Path) -> str:
    """A PNG as a JPEG in a data URI; empty where there is none that can be read."""
    from PIL import Image  # imported here: ranking runs at a sweep's start need not load it

    jpeg = io.BytesIO()
    try:
        with open(file, "rb", opener=no_link) as opened, Image.open(opened, formats=["PNG"]) as picture:
            width, height = picture.size
            if width * height > PICTURE_PIXELS:
                raise ValueError(f"it has {width}x{height} pixels")
            picture = picture.convert("RGB")
            picture.thumbnail((PICTURE_WIDTH, height))
            picture.save(jpeg, "JPEG", quality=85)
    except FileNotFoundError:
        return ""
    except Exception as error:  # whatever a decoder raises is this one file's problem
        board.problems.append(f"{file} can't be read: {error}")
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
