"""Sides of a split held against each other: none shares photographs with another, nor a group of them."""

import logging
from itertools import combinations

import numpy as np

from humanseg.data.splits.groups import NONE, Samples
from humanseg.data.splits.parts import Part

log = logging.getLogger(__name__)


def refuse(splits: dict[str, Part], known: dict[str, Samples], duplicates: str) -> None:
    """Refuse sides that share what has to stay together.

    Args:
        known: what is known of the samples of each source, by the side that it is for; ``train`` may be divided.
        duplicates: ``ignore`` lets copies be, which is said; ``dropped``: they are taken out of training later.

    Raises:
        ValueError: photographs of equal content stand on two sides, or photographs of one group.
    """
    copies, kin = [], []
    for (name, part), (later, other) in combinations(splits.items(), 2):
        drawn = part.source is other.source  # and so apart, but for copies that may be
        if duplicates == "ignore" or not (drawn or duplicates == "dropped"):
            found = _shared(part.content, other.content)
            copies += _told(part, other, found, f"{later} photographs are {name} photographs too")
        if not drawn:
            here, there = (
                _groups(one, known.get(side, known["train"])) for side, one in ((name, part), (later, other))
            )
            found = _shared(here, there, besides=NONE)
            kin += _told(part, other, found, f"{later} photographs are of a group of {name} photographs")
    if copies and duplicates == "ignore":
        log.warning("split      %s (data.duplicates=ignore)", "; ".join(copies))
        copies = []
    if copies or kin:
        ways = ["let data.drop_duplicates=true do so", "let them count by data.duplicates=ignore"] * bool(copies) + [
            "name other groups"
        ] * bool(kin)
        raise ValueError(
            f"{'; '.join(copies + kin)}: take them out of one side (data.val_root, data.val_pairs and their like), or "
            + ", or ".join(ways)
        )


def _groups(part: Part, samples: Samples) -> np.ndarray | None:
    return None if samples.groups is None else samples.groups[part.indices]


def _shared(here: np.ndarray | None, there: np.ndarray | None, besides: int | None = None) -> tuple[int, int, int]:
    """How many marks there are marks here too, and where the first of them stands, here and there."""
    if here is None or there is None:
        return 0, 0, 0
    again = np.flatnonzero(np.isin(there, here if besides is None else here[here != besides]))
    first = again[0] if len(again) else 0
    return len(again), int(np.argmax(here == there[first])) if len(again) else 0, int(first)


def _told(part: Part, other: Part, found: tuple[int, int, int], what: str) -> list[str]:
    count, here, there = found
    pair = " and ".join(dict.fromkeys((part.name_of(here), other.name_of(there)))) if count else ""
    return [f"{count} of the {len(other)} {what}, as {pair}"] * bool(count)


def refuse_parted(named: dict[str, np.ndarray], samples: Samples) -> None:
    """Refuse lists that part what has to stay together.

    Args:
        named: by side the indices that its list names.

    Raises:
        ValueError: two lists name a sample, or one names a sample and leaves out a copy of it, or another one of its group.
    """
    for (side, here), (later, there) in combinations(named.items(), 2):
        if len(both := np.intersect1d(here, there)):
            raise ValueError(
                f"data.{side}_split and data.{later}_split both name {samples.names[both[0]]} ({len(both)} such): take it "
                "out of one of the lists"
            )
    for side, indices in named.items():
        if samples.units is None:
            continue
        left = np.setdiff1d(np.flatnonzero(np.isin(samples.units, samples.units[indices])), indices)
        if len(left):
            beside = indices[samples.units[indices] == samples.units[left[0]]][0]
            raise ValueError(
                f"data.{side}_split names {samples.names[beside]} but not {samples.names[left[0]]}, a copy of it or one of "
                f"its group ({len(left)} such): name all that belong together; data.duplicates=ignore lets copies be"
            )
