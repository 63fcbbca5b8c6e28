"""check.html: one page that opens offline.

What people tick there is saved as exclude.txt, which `data.exclude` takes: a path a line, as `Photo.path` has it. A byte of
a name that is no UTF-8 stands in the path as Python has it, as ``\\udc80``, and in the file as the byte. A name with a line
break can't stand in a list.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from humanseg.markup import html
from humanseg.runs.atomic import write_text


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
        cards: the photographs of each card, by path: one, or the two of a pair.
        findings: for each card its index in the record's findings; None where it shows none.
    """

    name: str
    title: str
    words: str
    cards: list[tuple[str, ...]]
    findings: list[int | None]


def write(folder: Path, check: dict, sheets: Sequence[Sheet], photos: Mapping[str, Photo]) -> Path:
    """Write ``check.html`` into a folder; returns its path.

    Args:
        check: as check.json has it, see `record`. sheets: in their order. photos: all that the sheets name, by path.

    Raises:
        NotWritten: it can't be written.
    """
    rows = [
        html("<tr><td>{}</td><td>{}</td><td>{}</td></tr>", one["kind"], ", ".join(one["paths"]), one["words"])
        for one in check["findings"]
    ]
    pictures = [
        html(
            '<img alt="{}" src="data:image/jpeg;base64,{}">', photos[path].path, base64.b64encode(photos[path].jpeg).decode()
        )
        for sheet in sheets for card in sheet.cards for path in card
    ]  # fmt: skip
    body = html("<!doctype html><title>check</title><table>{}</table>{}", html("").join(rows), html("").join(pictures))
    write_text(folder / "check.html", str(body))
    return folder / "check.html"
