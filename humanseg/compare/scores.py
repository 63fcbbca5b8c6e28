"""The scores of each photograph, as per_image.csv has them: what a test writes and a comparison reads.

The columns ``confusion/TRUTH/PREDICTION`` and ``boundary/...`` are pixels. ``truth/...`` tells whether another table is of
the same photographs with the same masks.
"""

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from humanseg import terminal
from humanseg.metrics import OF_BOUNDARIES, OF_SUMS, Counts
from humanseg.runs.reading import read_table
from humanseg.runs.summary import UTMOST

LARGEST = 64_000_000  # bytes of a table
CONFUSION = "confusion/"
BOUNDARY = ("boundary/intersection", "boundary/union")
TRUTH = ("truth/height", "truth/width", "truth/sha256")
MOST_CLASSES, MOST_OWN = 255, 100  # classes; metrics that are no functions of the counts
WHOLE, HASH = re.compile(r"\d{1,9}", re.ASCII), re.compile(r"[0-9a-f]{16}")  # pixels, or those of a side
NAMED = 4  # photographs in a sentence


def facts(counts: Counts, target: Tensor, boundary: bool) -> dict[str, int | str]:
    """What a row says of one photograph beside its metrics.

    Args:
        target: class ids 1xHxW, uint8. boundary: whether it was counted.
    """
    found = {
        f"{CONFUSION}{truth}/{seen}": pixels
        for truth, row in enumerate(counts.confusion.tolist())
        for seen, pixels in enumerate(row)
    }
    found |= dict(zip(BOUNDARY, counts.boundary.tolist(), strict=True)) if boundary else {}
    return found | dict(zip(TRUTH, mark(target[0].cpu().numpy()), strict=True))


def mark(mask: np.ndarray) -> tuple[int, int, str]:
    """Height, width and hash of class ids, uint8 HxW."""
    return *mask.shape, hashlib.sha256(mask.tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Scores:
    """The scores of a split's photographs.

    Args:
        images, sources: names; a source's is empty where there is one.
        truths: height, width and hash of each mask.
        counts: of each photograph: confusion NxKxK, images N, image_iou N, boundary Nx2, image_boundary_iou N; no scores.
        own: the values of other metrics, N each.
        boundary: whether it was counted.
    """

    images: list[str]
    sources: list[str]
    truths: list[tuple]
    counts: Counts
    own: dict[str, Tensor]
    boundary: bool

    def __len__(self) -> int:
        return len(self.images)

    def has(self, metric: str) -> bool:
        """Whether a metric can be computed from these counts, or is there."""
        return metric in self.own or (metric in OF_SUMS and (metric not in OF_BOUNDARIES or self.boundary))

    def at(self, places: list[int]) -> "Scores":
        """The scores of some photographs, in this order."""
        counts = Counts(*(value[places] for value in vars(self.counts).values()))
        own = {name: values[places] for name, values in self.own.items()}
        names = [[given[place] for place in places] for given in (self.images, self.sources, self.truths)]
        return Scores(*names, counts, own, self.boundary)

    def values(self, metric: str) -> Tensor:
        """Each photograph's value of a metric, float64 N."""
        return OF_SUMS[metric](self.counts) if metric in OF_SUMS else self.own[metric]

    def value(self, metric: str) -> float:
        """A metric over all photographs; of one that is no function of sums the mean over the photographs."""
        if metric not in OF_SUMS:
            return self.own[metric].mean().item()
        return OF_SUMS[metric](Counts(*(one.sum(0) for one in vars(self.counts).values())))


def read(file: Path) -> Scores:
    """The scores in a table.

    Raises:
        FileNotFoundError: there is none. ValueError: it can't be read, is an earlier version's without counts, or has counts
            that no photograph has.
    """
    return of_rows(read_table(file, LARGEST), str(file))


def of_rows(rows: Iterable[dict], where: str) -> Scores:
    """The scores in the rows of a table, of which no more is kept than a row at a time.

    Args:
        where: the table, for a sentence.

    Raises:
        ValueError: as for `read`.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{where} has no photographs")
    wanted, own = _columns(first, where)
    classes = math.isqrt(len([name for name in wanted if name.startswith(CONFUSION)]))
    images, sources, truths, pixels, values = [], [], [], [], []
    for row in itertools.chain([first], rows):
        images.append(str(row.get("image")))
        sources.append(str(row.get("source") or ""))
        truths.append(_truth(row, where))
        pixels.append(np.array([_whole(row, name, where) for name in wanted], np.int64))
        values.append([_number(row, name, where) for name in own])
    found = torch.from_numpy(np.stack(pixels))
    confusion, edges = found[:, : classes**2], found[:, classes**2 :]
    whole = torch.tensor([height * width for height, width, _ in truths])
    if (confusion.sum(1) > whole).any() or (edges > whole[:, None]).any() or (edges.diff(dim=1) < 0).any():
        raise ValueError(f"{where} counts more pixels than a photograph has")
    boundary, ones = edges.shape[1] > 0, torch.ones(len(images), dtype=torch.int64)
    counts = Counts(
        confusion.unflatten(1, (classes, classes)),
        ones,
        ones.double(),
        edges if boundary else torch.zeros(len(images), 2, dtype=torch.int64),
        ones.double(),
        torch.zeros(len(images), 0),
    )
    counts.image_iou, counts.image_boundary_iou = OF_SUMS["iou"](counts), OF_SUMS["boundary_iou"](counts)
    columns = torch.tensor(values, dtype=torch.float64).unbind(1)
    return Scores(images, sources, truths, counts, dict(zip(own, columns, strict=True)), boundary)


def _columns(row: dict, where: str) -> tuple[list[str], list[str]]:
    """The columns of pixels, and those of metrics that are no functions of them."""
    cells = [name for name in row if name.startswith(CONFUSION)]
    classes = min(math.isqrt(len(cells)), MOST_CLASSES)
    wanted = [f"{CONFUSION}{truth}/{seen}" for truth in range(classes) for seen in range(classes)]
    if classes < 2 or {*cells} != {*wanted} or not {"image", *TRUTH} <= {*row}:
        raise ValueError(f"{where} has no counts, as those of earlier versions")
    wanted += BOUNDARY if {*BOUNDARY} <= {*row} else ()
    own = [name for name in row if name not in {"image", "source", *TRUTH, *BOUNDARY, *wanted, *OF_SUMS}]
    if len(own) > MOST_OWN:
        raise ValueError(f"{where} has {len(own)} metrics of its own, and at most {MOST_OWN} are read")
    return wanted, own


def _whole(row: dict, name: str, where: str) -> int:
    text = str(row.get(name))
    if not WHOLE.fullmatch(text):
        raise ValueError(f"{where}: {name} is {terminal.cut(text, 40)}, which is no number of pixels")
    return int(text)


def _truth(row: dict, where: str) -> tuple[int, int, str]:
    height, width, mark = (row.get(name) for name in TRUTH)
    if not HASH.fullmatch(str(mark)):
        raise ValueError(f"{where}: truth/sha256 is {terminal.cut(mark, 40)}, which is no hash")
    return _whole(row, TRUTH[0], where), _whole(row, TRUTH[1], where), mark


def _number(row: dict, name: str, where: str) -> float:
    try:
        found = float(row[name])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{where}: {terminal.cut(name, 40)} has values that are no numbers") from error
    if not abs(found) <= UTMOST:
        raise ValueError(f"{where}: {terminal.cut(name, 40)} has values that are not finite")
    return found


def matched(first: Scores, second: Scores, labels: tuple[str, str] = ("a", "b")) -> Scores:
    """The second scores in the order of the first.

    A photograph is the same where source and path below the source's folder are.

    Args:
        labels: what both are called in a sentence.

    Raises:
        ValueError: photographs, sizes or masks differ.
    """
    one, other = _places(first), _places(second)
    alone = [[name for name in mine if name not in theirs] for mine, theirs in ((one, other), (other, one))]
    refuse_alone(dict(zip(labels, alone, strict=True)))
    for what, part in (("sizes", slice(0, 2)), ("masks", slice(0, 3))):
        differ = [name for name in one if first.truths[one[name]][part] != second.truths[other[name]][part]]
        if differ:
            raise ValueError(f"the {what} of {len(differ)} of {len(one)} photographs differ ({_some(differ)})")
    return second.at([other[name] for name in one])


def refuse_alone(alone: dict[str, list[tuple]]) -> None:
    """Refuse photographs that one has and the other lacks, each by source and name.

    Raises:
        ValueError: there are some.
    """
    if told := [f"{len(names)} are in {label} alone ({_some(names)})" for label, names in alone.items() if names]:
        raise ValueError(f"the photographs differ: {', '.join(told)}")


def _places(scores: Scores) -> dict[tuple, int]:
    """Where each photograph stands, by its source, its path below what those of its source share, and how often it came."""
    shared = {source: _folder(scores, source) for source in {*scores.sources}}
    met, found = Counter(), {}
    for place, (source, image) in enumerate(zip(scores.sources, scores.images, strict=True)):
        name = (source, image[len(shared[source]) :])
        found[*name, met[name]] = place
        met[name] += 1
    return found


def _folder(scores: Scores, source: str) -> str:
    """The beginning, up to a slash, of the names of all photographs of a source."""
    names = [image for image, own in zip(scores.images, scores.sources, strict=True) if own == source]
    low, high = min(names), max(names)  # what these two share, all between them share
    same = next((place for place, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), len(low))
    return low[: low.rfind("/", 0, same) + 1]


def _some(names: Iterable[tuple]) -> str:
    return terminal.some((" ".join(filter(None, name[:2])) for name in names), NAMED, 80)
