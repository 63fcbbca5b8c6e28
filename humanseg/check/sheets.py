"""What the page shows: a random sheet, the extremes of each quantity, and a sheet for each kind of finding."""

import math
from itertools import islice

import numpy as np

from humanseg.check.disagree import Judged
from humanseg.check.findings import KINDS, Finding
from humanseg.check.page import Photo, Sheet
from humanseg.check.record import QUANTITIES
from humanseg.check.scan import Sample, Scanned, Together

DISAGREEMENTS = {
    "unlabelled": "where the network sees most people without a label",
    "nobody": "where the network sees least of the labelled people",
    "edge": "where the network's edge is most off the label's",
}
RANDOM, EXTREME = 48, 12  # photographs on the random sheet, and of each end of a quantity


def sheets(scanned: list[Scanned], judged: dict[int, Judged], findings: list[Finding], most: int) -> list[Sheet]:
    """The contact sheets.

    Args:
        judged: by the id of each of `scanned` what a network says. findings: in their order.
        most: cards of each kind of finding and of disagreement.
    """
    found = []
    for kind, told in KINDS.items():
        numbers = (number for number, one in enumerate(findings) if one.kind == kind and one.samples)
        if shown := [*islice(numbers, most)]:
            found.append(Sheet(kind, told.title, told.advice, [findings[number].samples for number in shown], shown))
    known = Together(scanned)
    if not len(known):
        return found
    for name, title in DISAGREEMENTS.items() if judged else ():
        values = known.values(lambda one, name=name: judged[id(one)].records[name])
        order = np.argsort(-values, kind="stable")[:most]
        found.append(_sheet(f"disagreement/{name}", title, known, order[values[order] > 0].tolist()))
    chosen = np.random.default_rng(0).permutation(len(known))[:RANDOM].tolist()
    found.append(_sheet("random", "any photographs", known, chosen))
    for name, quantity in QUANTITIES.items():
        values = known.values(lambda one, quantity=quantity: quantity.of(one.facts))
        order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]
        if ends := [*dict.fromkeys([*order[:EXTREME].tolist(), *order[-EXTREME:].tolist()])]:
            found.append(_sheet(f"extreme/{name}", f"lowest and highest: {quantity.title}", known, ends))
    return found


def _sheet(name: str, title: str, known: Together, places: list[int]) -> Sheet:
    """A sheet of single photographs."""
    return Sheet(name, title, "", [(known[place],) for place in places], [None] * len(places))


def photos(judged: dict[int, Judged], wanted: list[Sheet]) -> dict[Sample, Photo]:
    """The photographs that the sheets name.

    Args:
        judged: by the id of each `Scanned` what a network says.
    """
    samples = dict.fromkeys(sample for sheet in wanted for card in sheet.cards for sample in card)
    return {one: _photo(one, judged.get(id(one.scanned))) for one in samples}


def _photo(one: Sample, judged: Judged | None) -> Photo:
    facts, index, jpeg, mask, predicted, numbers = one.facts, one.index, b"", b"", b"", {}
    if facts["height"]:
        jpeg, mask = one.scanned.store.pictures(facts)
        measured = {name: round(float(quantity.of(facts)), 3) for name, quantity in QUANTITIES.items()}
        numbers = {name: value for name, value in measured.items() if not math.isnan(value)}
    if judged and judged.records["lengths"][index].any():
        predicted, _ = judged.store.pictures(judged.records[index])
        seen = {"disagreement": judged.records["score"][index]}
        seen |= {name: judged.records[name][index] for name in DISAGREEMENTS}
        numbers |= {name: round(float(value), 4) for name, value in seen.items()}
    size = int(facts["width"]), int(facts["height"])
    return Photo(one.path, one.source, one.split, *size, jpeg, mask, predicted, numbers)
