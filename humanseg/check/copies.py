"""Photographs that are there more than once, by their bytes or by how they look, and groups on both sides of a split."""

from collections.abc import Iterator

import cv2
import numpy as np

from humanseg.check.findings import Finding
from humanseg.check.measures import UNKNOWN
from humanseg.check.scan import Scanned, Together
from humanseg.data.splits.alike import first_alike
from humanseg.data.splits.groups import NONE, Samples

ORDER = ("test", "val", "train", "")  # a photograph is compared with those before it: with what is held back first
SAME = 0.8  # IoU of the masks of a photograph that is there twice, below which they contradict each other
EQUAL = 2  # bits of the hash that another JPEG of the same photograph may have otherwise; one more is another shot
ASPECT = 1.05  # photographs whose ratios of width to height differ by more are not copies of each other


def findings(scanned: list[Scanned]) -> Iterator[Finding]:
    """For each photograph the first other one that looks the same; those between training and test come first."""
    known = Together(scanned)
    order = np.concatenate([np.flatnonzero(known.split == side) for side in ORDER])
    facts = known.facts[order]
    first, aspect = first_alike(facts["phash"], facts["content"]), facts["width"] / facts["height"]
    for place in np.flatnonzero(first >= 0).tolist():
        other = int(first[place])
        same = bool(facts["content"][place] == facts["content"][other])
        if same or 1 / ASPECT < aspect[place] / aspect[other] < ASPECT:
            yield _pair(known.at(order[place]), known.at(order[other]), same)


def _pair(later: tuple[Scanned, int], before: tuple[Scanned, int], same: bool) -> Finding:
    """The finding of a pair. `before` is the one that is held back, where one of both is."""
    (one, index), (other, number) = later, before
    sides = str(one.split[index]), str(other.split[number])
    across = sides[0] == "train" and sides[1] in ("val", "test")
    bits = int(np.bitwise_count(one.facts["phash"][index] ^ other.facts["phash"][number]))
    agree = _agreement(later, before)
    words = "equal byte for byte" if same else f"they look the same: {bits} of 64 bits of the hash differ"
    kind = ("copy" if same else "near") + "_across" * across
    if agree < SAME and bits <= EQUAL and not across:
        kind = "contradiction"
    words += f", {sides[0]} and {sides[1]}" * (sides[0] != sides[1])
    words += f"; their masks have an IoU of {agree:.2f}" * (agree < SAME and bits <= EQUAL)
    paths, numbers = (one.path(index), other.path(number)), {"bits": bits, "mask_iou": round(agree, 4)}
    if not across:
        paths = paths[::-1]
    return Finding(kind, one.name, sides[0], paths, words, numbers, -bits + 100 * (sides[1] == "test") - agree)


def _agreement(first: tuple[Scanned, int], second: tuple[Scanned, int]) -> float:
    """The IoU of both thumbnails' people, where neither ignores anything; 1 where none is there."""
    masks = [
        cv2.imdecode(np.frombuffer(one.store.pictures(one.facts[index])[1] or b"\0", np.uint8), 0)
        for one, index in (first, second)
    ]
    if any(mask is None for mask in masks):
        return 1.0
    one, other = (cv2.resize(mask, masks[0].shape[::-1], interpolation=cv2.INTER_NEAREST) for mask in masks)
    known = (one != UNKNOWN) & (other != UNKNOWN)
    union = np.count_nonzero(known & ((one == 255) | (other == 255)))
    return float(np.count_nonzero((one == 255) & (other == 255)) / union) if union else 1.0


def groups(several: list[tuple[Scanned, Samples]]) -> Iterator[Finding]:
    """Groups, as `data.group_by` or a list has them, that stand on more than one side: each side may have a source of its own.

    Args:
        several: what was scanned of one source of the config, with what is known of its samples.
    """
    sizes: dict[int, dict[str, list]] = {}
    for one, samples in several:
        try:
            marks = samples.groups
        except ValueError:  # the split has said so
            return
        for index in np.flatnonzero(marks != NONE).tolist() if marks is not None else ():
            sizes.setdefault(int(marks[index]), {}).setdefault(str(one.split[index]), []).append((one, index))
    for sides in sizes.values():
        used = {side: sides[side] for side in reversed(ORDER) if side and side in sides}
        if len(used) > 1:
            (one, _), count = next(iter(used.values()))[0], sum(map(len, used.values()))
            paths = tuple(members[0][0].path(members[0][1]) for members in used.values())
            words = f"{count} photographs of one group are on the sides {', '.join(used)}"
            yield Finding("group_across", one.name, next(iter(used)), paths[:2], words, {"size": count}, count)
