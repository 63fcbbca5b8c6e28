"""check.json and findings.csv: all that a check has found, for other programs.

check.json is one object:

    version      1
    command      str, what was typed
    written      str, ISO 8601
    image_size   int, the side of the network's input
    checkpoint   str or null: the checkpoint, or the sweep, that labels were held against
    sources      {name: {"samples": {split: int}, "broken": int, "formats": {str: int}}}; one source alone is called "".
                 A split is "train", "val", "test" or "" for samples that no split uses
    kinds        {kind: {"severity": "error" | "warning" | "note", "title": str, "advice": str, "count": int}}, those that
                 were found, in the order in which they are shown
    distributions  {quantity: {"title": str, "unit": str, "edges": [number, ...], "counts": {source: [int, ...]}}}, one
                 count less than edges; what lies outside is in the first and the last bin. The quantities are QUANTITIES
    findings     list, problems first, within a kind the worst first. Each is {"kind": str, "severity": str, "source": str,
                 "split": str, "paths": [str, ...], "numbers": {name: number}, "words": str}. Two paths are a pair: the one
                 that trains stands first. No path: the data set as a whole is meant

findings.csv has a row for each finding: kind, severity, source, split, path, other, words, and its numbers as k=v.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from humanseg.check.facts import FORMATS
from humanseg.check.findings import KINDS, Finding
from humanseg.check.scan import Scanned
from humanseg.data.listing import SIDES
from humanseg.runs.atomic import write_json_lines, write_table

VERSION = 1


class Quantity(NamedTuple):
    """What is measured on each photograph: its title and unit, the bins' edges, and how it follows from the facts.

    `of` gives NaN for those that have no such quantity, as a PNG has no JPEG quality.
    """

    title: str
    unit: str
    edges: np.ndarray
    of: Callable[[np.ndarray], np.ndarray]


QUANTITIES = {
    "person": Quantity("people's share of the area", "%", np.linspace(0, 100, 21), lambda facts: 100 * facts["person"]),
    "people": Quantity("people (connected parts)", "", np.arange(0, 12), lambda facts: facts["people"]),
    "largest": Quantity("largest person", "% of the area", np.linspace(0, 100, 21), lambda facts: 100 * facts["largest"]),
    "cut": Quantity("sides of the frame that cut people", "", np.arange(0, 6), lambda facts: np.bitwise_count(facts["cut"])),
    "ignored": Quantity("ignored", "% of the area", np.linspace(0, 100, 21), lambda facts: 100 * facts["ignored"]),
    "megapixels": Quantity("resolution", "megapixels", np.round(np.geomspace(0.01, 100, 25), 3),
                           lambda facts: facts["width"] * 1e-6 * facts["height"]),
    "aspect": Quantity("width by height", "", np.round(np.geomspace(0.25, 4, 25), 3),
                       lambda facts: facts["width"] / np.maximum(facts["height"], 1)),
    "brightness": Quantity("brightness", "of 255", np.linspace(0, 256, 17), lambda facts: facts["brightness"]),
    "contrast": Quantity("contrast", "of 255", np.linspace(0, 128, 17), lambda facts: facts["contrast"]),
    "sharpness": Quantity("sharpness (Laplacian)", "", np.round(np.geomspace(1, 20000, 25), 1),
                          lambda facts: facts["sharpness"]),
    "quality": Quantity("JPEG quality", "", np.linspace(0, 100, 21), lambda facts: np.where(facts["quality"], facts["quality"], np.nan)),
}  # fmt: skip


def of(scanned: list[Scanned], findings: list[Finding], facts: dict) -> dict:
    """What check.json holds.

    Args:
        findings: in their order. facts: command, image_size and checkpoint.
    """
    counts = Counter(one.kind for one in findings)
    kinds = {
        name: {"severity": kind.severity, "title": kind.title, "advice": kind.advice, "count": counts[name]}
        for name, kind in KINDS.items()
        if counts[name]
    }
    told = {"version": VERSION, "written": time.strftime("%Y-%m-%dT%H:%M:%S")} | facts
    return told | {
        "sources": _sources(scanned),
        "kinds": kinds,
        "distributions": {name: _distribution(scanned, one) for name, one in QUANTITIES.items()},
        "findings": Told(findings),
    }


def _sources(scanned: list[Scanned]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for one in scanned:
        own = found.setdefault(one.name, {"samples": Counter(), "broken": 0, "formats": Counter()})
        counts = _counts(one.split)
        own["samples"] += {side: counts[side] for side in (*SIDES, "") if side in counts}
        own["broken"] += len(one.broken)
        own["formats"] += {FORMATS[kind]: count for kind, count in _counts(one.facts["format"][one.sound()]).items()}
    return found


def _counts(values: np.ndarray) -> Counter:
    """How often each value is there."""
    different, counts = np.unique(values, return_counts=True)
    return Counter(dict(zip(different.tolist(), counts.tolist(), strict=True)))


class Told(Sequence):
    """Findings as check.json has them. Each is made when it is asked for, as there may be a million."""

    def __init__(self, findings: list[Finding]):
        self.findings = findings

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, number: int) -> dict:
        one = self.findings[number]
        return {
            **{"kind": one.kind, "severity": one.severity, "source": one.source, "split": one.split},
            **{"paths": one.paths, "numbers": one.numbers, "words": one.words},
        }


def firsts(check: dict) -> dict[str, dict]:
    """The first finding of each kind."""
    starts = accumulate((kind["count"] for kind in check["kinds"].values()), initial=0)
    return {name: check["findings"][start] for name, start in zip(check["kinds"], starts, strict=False)}


def _distribution(scanned: list[Scanned], quantity: Quantity) -> dict:
    edges, counts = quantity.edges, {}
    for one in scanned:
        values = quantity.of(one.facts[one.sound()])
        values = np.clip(values[~np.isnan(values)], edges[0], edges[-1])
        counts[one.name] = counts.get(one.name, 0) + np.histogram(values, edges)[0]
    listed = {name: some.tolist() for name, some in counts.items()}
    return {"title": quantity.title, "unit": quantity.unit, "edges": edges.tolist(), "counts": listed}


def write(folder: Path, check: dict) -> None:
    """Write check.json and findings.csv.

    Raises:
        NotWritten: one can't be written.
    """
    findings = check["findings"]
    head = {name: value for name, value in check.items() if name != "findings"}
    write_json_lines(folder / "check.json", head, "findings", findings)
    columns = ["kind", "severity", "source", "split", "path", "other", "words", "numbers"]
    write_table(folder / "findings.csv", columns, map(_row, findings))


def _row(one: dict) -> dict:
    path, other = [*one["paths"], "", ""][:2]
    numbers = " ".join(f"{name}={value:g}" for name, value in one["numbers"].items())
    return one | {"path": path, "other": other, "numbers": numbers}
