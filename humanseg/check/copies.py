"""Photographs that are there more than once, by their bytes or by how they look, and groups on both sides of a split."""

from collections.abc import Iterator

import cv2
import numpy as np

from humanseg.check.findings import Finding
from humanseg.check.measures import UNKNOWN
from humanseg.check.scan import Sample, Scanned, Together
from humanseg.data.listing import SIDES
from humanseg.data.splits.alike import first_alike, first_equal
from humanseg.data.splits.groups import NONE, Samples

ORDER = ("test", "val", "train", "")  # a photograph is compared with those before it: with what is held back first
LOOKS = ["hash", "mirrored"]
SAME = 0.8  # IoU of the masks of a photograph that is there twice, below which they contradict each other
EQUAL = 2  # bits of the hash that another JPEG of the same photograph may have otherwise; one more is another shot
ASPECT = 1.05  # photographs whose ratios of width to height differ by more are not copies of each other


def findings(scanned: list[Scanned]) -> Iterator[Finding]:
    """For each photograph the first one before it, in ORDER, that looks the same, or one on the same side that is equal."""
    known = Together(scanned)
    if not len(known):
        return
    split = known.values(lambda one: one.split)
    order = np.concatenate([np.flatnonzero(split == side) for side in ORDER])
    looks, content = (known.values(lambda one, names=names: one.facts[names])[order] for names in (LOOKS, "content"))
    first, equal, side = first_alike(looks, content), first_equal(content), split[order]
    first = np.where((equal >= 0) & (side[equal] == side[first]), equal, first)
    for place in np.flatnonzero(first >= 0).tolist():
        later, before = known[order[place]], known[order[first[place]]]
        if content[place] == content[first[place]] != 0 or 1 / ASPECT < _aspect(later) / _aspect(before) < ASPECT:
            yield _pair(later, before)


def _aspect(one: Sample) -> float:
    return int(one.facts["width"]) / int(one.facts["height"])


def _pair(later: Sample, before: Sample) -> Finding:
    """The finding of a pair. `before` is the one that is held back, where one of both is."""
    same = bool(later.facts["content"] == before.facts["content"] != 0)  # what is drawn has no bytes to compare
    across = later.split == "train" and before.split in ("val", "test")
    plain, turned = (int(np.bitwise_count(before.facts["hash"] ^ later.facts[name])) for name in LOOKS)
    bits, mirrored = min(plain, turned), turned < plain and not same
    agree = _agreement(later, before, mirrored)
    contradict = agree < SAME and bits <= EQUAL
    kind = "contradiction" if contradict and not across else ("copy" if same else "near") + "_across" * across
    pair = (later, before) if across else (before, later)
    words = _words(pair, same, bits, mirrored) + f"; their masks have an IoU of {agree:.2f}" * contradict
    numbers = {"bits": bits, "mirrored": int(mirrored), "mask_iou": round(agree, 4)}
    return Finding(kind, pair, words, numbers, -bits + 100 * (before.split == "test") - agree)


def _words(pair: tuple[Sample, Sample], same: bool, bits: int, mirrored: bool) -> str:
    """How far a pair is the same photograph, and on which sides and in which sources it is."""
    one, other = pair
    sides, sources = one.split != other.split, one.source != other.source
    places = [" ".join([each.split or "unused"] * sides + [f"of {each.source}"] * sources) for each in pair]
    where = f", {' and '.join(places)}" * (sides or sources)
    if one.path == other.path:
        return f"the same file{where or ' twice'}"
    if same:
        return f"equal byte for byte{where}"
    look = "one looks like the mirror image of the other" if mirrored else "they look the same"
    return f"{look}: {bits} of 64 bits of the hash differ{where}"


def _agreement(later: Sample, before: Sample, mirrored: bool) -> float:
    """The IoU of both thumbnails' people, where neither ignores anything; 1 where none is there."""
    pictures = [one.scanned.store.pictures(one.facts)[1] for one in (later, before)]
    masks = [cv2.imdecode(np.frombuffer(mask or b"\0", np.uint8), 0) for mask in pictures]
    if any(mask is None for mask in masks):
        return 1.0
    one, other = (cv2.resize(mask, masks[0].shape[::-1], interpolation=cv2.INTER_NEAREST) for mask in masks)
    if mirrored:
        other = other[:, ::-1]
    known = (one != UNKNOWN) & (other != UNKNOWN)
    union = np.count_nonzero(known & ((one == 255) | (other == 255)))
    return float(np.count_nonzero((one == 255) & (other == 255)) / union) if union else 1.0


def groups(several: list[tuple[Scanned, Samples]]) -> Iterator[Finding]:
    """Groups, as `data.group_by` or a list has them, that stand on more than one side: each side may have a source of its own.

    Args:
        several: what was scanned of one source of the config, with what is known of its samples.
    """
    try:
        marks = {one: own for one, samples in several if (own := samples.groups) is not None}
    except ValueError:  # the split has said so
        return
    known = Together([*marks], lambda one: np.flatnonzero((marks[one] != NONE) & (one.split != "")))
    if not len(known):
        return
    group, split = known.values(marks.get), known.values(lambda one: one.split)
    side = np.select([split == name for name in SIDES], range(len(SIDES)))
    order = np.lexsort((side, group))
    starts = np.flatnonzero(np.append(True, group[order[1:]] != group[order[:-1]]))
    ends = np.append(starts[1:], len(order))
    apart = side[order[starts]] != side[order[ends - 1]]
    for start, end in zip(starts[apart].tolist(), ends[apart].tolist(), strict=True):
        members = order[start:end]
        sides, first = np.unique(side[members], return_index=True)
        words = (
            f"{len(members)} photographs of one group are on the sides {', '.join(SIDES[number] for number in sides)}"
        )
        pair = tuple(known[place] for place in members[first[:2]])
        yield Finding("group_across", pair, words, {"size": len(members)}, len(members))
