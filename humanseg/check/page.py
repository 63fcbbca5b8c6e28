"""check.html: one page that opens offline: page.html, filled with tables, and with the data that page.js shows.

What people tick there is saved as exclude.txt, which `data.exclude` takes: a path a line, as `Photo.path` has it. A byte of
a name that is no UTF-8 stands in the path as Python has it, as ``\\udc80``, and in the file as the byte. A name with a line
break can't stand in a list.

All that others wrote (names, sources, words of decoders) becomes HTML in `markup.html`, or text that page.js sets as text.
"""

import base64
import json
import os
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from humanseg import terminal
from humanseg.check.findings import SEVERITIES
from humanseg.check.record import firsts
from humanseg.data.opening import is_photograph
from humanseg.markup import html, joined
from humanseg.offline_page import filled, script_data
from humanseg.runs.atomic import write_text

HERE = Path(__file__).parent
LARGEST = 20_000_000  # bytes of photographs and cards: a page that any browser opens, however large the data set is
SENTENCES = 100  # findings without a photograph that are listed
WORDS = 400  # characters of a sentence
JUDGED = ("unlabelled", "nobody", "edge")  # kinds that show label, prediction and difference beside each other


@dataclass(frozen=True)
class Photo:
    """A photograph on the page.

    Args:
        path: its file, by which `data.exclude` knows it; it may hold any character. source, split: where it belongs.
        width, height: its own, upright, in pixels.
        jpeg: the thumbnail, empty where the photograph can't be read. mask: the label at its size, a grey PNG: 255 person,
            128 ignored, 0 background.
        predicted: what the network sees, as `mask`; empty without a checkpoint.
        numbers: what was measured, by the names of `record.QUANTITIES` and others.
    """

    path: str
    source: str
    split: str
    width: int
    height: int
    jpeg: bytes
    mask: bytes
    predicted: bytes = b""
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sheet:
    """A contact sheet.

    Args:
        name: ``random``, ``extreme/QUANTITY``, ``disagreement/KIND``, or a kind of finding; title: for its head. words: one sentence below it.
        cards: the photographs of each card, one or the two of a pair, by what `write` knows them by.
        findings: for each card its index in the record's findings; None where it shows none.
    """

    name: str
    title: str
    words: str
    cards: list[tuple[Hashable, ...]]
    findings: list[int | None]


def write(folder: Path, check: dict, sheets: Sequence[Sheet], photos: Mapping[Hashable, Photo]) -> Path:
    """Write ``check.html`` into a folder; returns its path.

    The sheets' cards take turns until the page is full, so that each sheet has its first ones.

    Args:
        check: as check.json has it, see `record`. sheets: in their order. photos: all that the sheets name.

    Raises:
        NotWritten: it can't be written.
    """
    samples = sum(sum(own["samples"].values()) for own in check["sources"].values())
    page = filled(
        HERE / "page.html",
        local=True,
        title=html("{} photographs", f"{samples:,}"),
        facts=_facts(check),
        findings=_findings(check, {sheet.name for sheet in sheets}),
        sources=_sources(check["sources"]),
        data=script_data({"distributions": check["distributions"]} | _gallery(folder, check, sheets, photos)),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
    )
    write_text(folder / "check.html", page)
    return folder / "check.html"


def _facts(check: dict) -> Markup:
    """How much was found of each severity, when, and by which command."""
    counts = Counter()
    for kind in check["kinds"].values():
        counts[kind["severity"]] += kind["count"]
    form = '<span class="{}">{} {}{}</span>'
    parts = [html(form, one, f"{counts[one]:,}", one, "s" * (counts[one] > 1)) for one in SEVERITIES if counts[one]]
    facts = {"Findings": html(", ").join(parts) or "none", "Written": check["written"].replace("T", " ")}
    if check["checkpoint"]:
        facts["Checkpoint"] = html("<code>{}</code>", check["checkpoint"])
    facts["Command"] = html("<code>{}</code>", check["command"])
    return joined(html("<div><dt>{}</dt><dd>{}</dd></div>", *fact) for fact in facts.items())


def _findings(check: dict, shown: set[str]) -> Markup:
    """A row for each kind, which leads to its sheet where it has one; then those that have no photograph."""
    if not check["kinds"]:
        return html("<p>{}</p>", "Nothing was found.")
    first = firsts(check)
    form = '<tr><td class="{}">{}</td><td class="number">{}</td><td>{}</td><td>{}</td><td class="words">{}</td></tr>'
    rows = []
    for name, kind in check["kinds"].items():
        link = html('<a href="#sheets" data-kind="{}">{}</a>', name, kind["title"]) if name in shown else kind["title"]
        told = first[name]["words"]
        files = dict.fromkeys(os.path.basename(path) for path in first[name]["paths"] if path not in told)
        words = terminal.cut(f"{' and '.join(files)}: {told}".removeprefix(": "), WORDS)
        rows.append(html(form, kind["severity"], kind["severity"], f"{kind['count']:,}", link, kind["advice"], words))
    heads = ("", "count", "what", "what to do", "the first of them")
    whole = takewhile(lambda one: not one["paths"], check["findings"])  # what is refused stands before all others
    return _table(heads, rows) + _sentences([one["words"] for one in whole])


def _sentences(told: list[str]) -> Markup:
    if not told:
        return Markup()
    items = [html("<li>{}</li>", terminal.cut(words, WORDS)) for words in told[:SENTENCES]]
    if len(told) > SENTENCES:
        items.append(html("<li>and {} more in findings.csv</li>", f"{len(told) - SENTENCES:,}"))
    return html('<ul class="sentences">{}</ul>', joined(items))


def _sources(sources: dict[str, dict]) -> Markup:
    """A row a source: how many samples each split has, how many are broken, and the kinds of their files."""
    rows = []
    for name, own in sources.items():
        counts = [f"{own['samples'].get(split, 0):,}" for split in ("train", "val", "test", "")]
        cells = joined(html('<td class="number">{}</td>', count) for count in (*counts, f"{own['broken']:,}"))
        kinds = ", ".join(f"{count:,} {kind or 'others'}" for kind, count in own["formats"].items())
        rows.append(html("<tr><td>{}</td>{}<td>{}</td></tr>", name or "samples", cells, kinds))
    return _table(("source", "train", "val", "test", "unused", "broken", "files"), rows)


def _table(heads: tuple[str, ...], rows: list[Markup]) -> Markup:
    head = joined(html('<th scope="col">{}</th>', one) for one in heads)
    form = '<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    return html(form, head, joined(rows))


def _gallery(folder: Path, check: dict, sheets: Sequence[Sheet], photos: Mapping[Hashable, Photo]) -> dict:
    """The photographs and the sheets' cards for page.js, as many as fit."""
    shown: dict[Hashable, tuple[int, dict]] = {}  # the number of each on the page
    cards: list[list[dict]] = [[] for _ in sheets]
    left = LARGEST
    for sheet, place in _in_turns(sheets):
        several = sheets[sheet].cards[place]
        new = {one: _photo(photos[one], folder) for one in dict.fromkeys(several) if one not in shown}
        card = _card(check, sheets[sheet].findings[place])
        left -= sum(len(json.dumps(one)) for one in [*new.values(), card])
        if left < 0:
            break
        shown |= {one: (number, told) for number, (one, told) in enumerate(new.items(), len(shown))}
        cards[sheet].append({"photos": [shown[one][0] for one in several]} | card)
    return {
        "photos": [one for _, one in shown.values()],
        "sheets": [_sheet(check, *pair) for pair in zip(sheets, cards, strict=True)],
    }


def _in_turns(sheets: Sequence[Sheet]) -> list[tuple[int, int]]:
    """Pairs of a sheet's number and a card's: the first cards of all sheets, then the second ones, and so on."""
    pairs = [(place, number) for number, sheet in enumerate(sheets) for place in range(len(sheet.cards))]
    return [(number, place) for place, number in sorted(pairs)]


def _sheet(check: dict, sheet: Sheet, cards: list[dict]) -> dict:
    kind = check["kinds"].get(sheet.name, {})
    group, _, own = sheet.name.rpartition("/")
    told = {"name": sheet.name, "title": sheet.title, "words": sheet.words, "severity": kind.get("severity", "")}
    told |= {"count": kind.get("count", len(sheet.cards)), "judged": own in JUDGED}
    told["quantity"] = own if group else ""  # what it is sorted by, which stands below each photograph
    return told | {"cards": cards}


def _card(check: dict, number: int | None) -> dict:
    return {"words": "" if number is None else terminal.cut(check["findings"][number]["words"], WORDS)}


def _photo(photo: Photo, folder: Path) -> dict:
    """What page.js knows of a photograph. `path` is what a list has, empty where none can; `name` is what is shown."""
    link = os.path.relpath(photo.path, folder.resolve()) if is_photograph(os.path.basename(photo.path)) else ""
    pictures = {"jpeg": photo.jpeg, "mask": photo.mask, "network": photo.predicted}
    return {
        "path": "" if re.search(r"[\r\n]", photo.path) else photo.path,
        "name": terminal.visible(photo.path),
        "link": quote(os.fsencode(link)),
        **{"source": photo.source, "split": photo.split, "width": photo.width, "height": photo.height},
        **{name: base64.b64encode(picture).decode() for name, picture in pictures.items()},
        "numbers": photo.numbers,
    }
