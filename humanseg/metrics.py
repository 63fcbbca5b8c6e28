"""Metrics of a data set: counts are summed over all photographs, then divided once.

A metric is a function of `Counts`. A user's own metric is named by its dotted path in the config's `metrics`. Class 1
is the person. Pixels that are IGNORE in the target count nowhere. An empty prediction on an empty mask scores 1.
"""

import functools
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from humanseg import terminal
from humanseg.data.transforms import IGNORE

LEVELS = 256  # of the person's probability, for precision-recall curves
BOUNDARY_SHARE = 0.02  # of the photograph's diagonal, as in Cheng et al. 2021


def predictions(logits: Tensor) -> Tensor:
    """Logits NxCxHxW -> class ids NxHxW: above 0 for one channel, the largest of several."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def person_probability(logits: Tensor) -> Tensor:
    """Logits NxCxHxW -> probability of the person NxHxW in [0, 1]: sigmoid of one channel, softmax of several."""
    return logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, 1]


@dataclass
class Counts:
    """Sums over photographs, of a fixed size: they can be added, saved and gathered from several processes."""

    confusion: Tensor  # int64 KxK: rows truth, columns prediction; pixels
    images: Tensor  # int64
    image_iou: Tensor  # float64: sum of each photograph's IoU of the person
    boundary: Tensor  # int64 2: intersection and union of the person's boundary, pixels
    image_boundary_iou: Tensor  # float64: sum of each photograph's IoU of the boundary
    scores: Tensor  # int64 2xLEVELS: pixels by probability of the person; row 0: truth is no person, row 1: it is

    @classmethod
    def zeros(cls, channels: int, device: torch.device | str = "cpu") -> "Counts":
        """Nothing counted yet, for logits of `channels`."""
        classes = max(channels, 2)
        real = torch.float32 if torch.device(device).type == "mps" else torch.float64
        return cls(
            torch.zeros(classes, classes, dtype=torch.int64, device=device),
            torch.zeros((), dtype=torch.int64, device=device),
            torch.zeros((), dtype=real, device=device),
            torch.zeros(2, dtype=torch.int64, device=device),
            torch.zeros((), dtype=real, device=device),
            torch.zeros(2, LEVELS, dtype=torch.int64, device=device),
        )

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def to(self, device: torch.device | str) -> "Counts":
        return Counts(*(value.to(device) for value in vars(self).values()))

    def add(self, logits: Tensor, target: Tensor, boundary: bool = False, scores: bool = False) -> Tensor:
        """Count a batch. Without `boundary` nothing here waits for a GPU.

        Args:
            logits: float NxCxHxW. target: class ids NxHxW, 255 ignored.

        Returns:
            Each photograph's IoU of the person, float N.
        """
        found, truth, valid = predictions(logits), target.long(), target != IGNORE
        classes, count = len(self.confusion), len(truth)
        cell = torch.where(valid, truth * classes + found, classes**2)  # ignored pixels go to an extra cell
        by_image = _histogram(cell.flatten(1), classes**2 + 1)[:, :-1].view(count, classes, classes)
        self.confusion += by_image.sum(0)
        self.images += (counted := valid.flatten(1).any(1)).sum()
        hits = by_image[:, 1, 1]
        unions = by_image[:, 1].sum(1) + by_image[:, :, 1].sum(1) - hits
        ious = _each_iou(hits, unions)
        self.image_iou += (ious * counted).sum()  # a photograph of which all is ignored counts nowhere
        if boundary:
            areas = boundary_counts(found == 1, target)
            self.boundary += areas.sum(0)
            self.image_boundary_iou += (_each_iou(*areas.T) * counted).sum()
        if scores:
            level = (person_probability(logits) * (LEVELS - 1)).round().long()
            cell = torch.where(valid, (truth == 1) * LEVELS + level, 2 * LEVELS)
            self.scores += _histogram(cell.flatten()[None], 2 * LEVELS + 1)[0, :-1].view(2, LEVELS)
        return ious


def _each_iou(hits: Tensor, unions: Tensor) -> Tensor:
    """Each photograph's IoU from pixels N and N: float N; 1 where nothing is in either."""
    return torch.where(unions > 0, hits / unions.clamp(min=1), 1.0)


def _histogram(cells: Tensor, size: int) -> Tensor:
    """Row by row, how often each of 0 .. size - 1 occurs: int64 NxP -> Nxsize. torch.bincount would wait for a GPU."""
    rows = torch.arange(len(cells), device=cells.device)[:, None] * size
    places = (cells + rows).flatten()  # one dimension: CUDA has no deterministic scatter_add_ in two
    zeros = torch.zeros(len(cells) * size, dtype=torch.int64, device=cells.device)
    return zeros.scatter_add_(0, places, torch.ones_like(places)).view(len(cells), size)


def boundary_counts(found: Tensor, target: Tensor) -> Tensor:
    """Intersection and union of the boundaries of prediction and truth of each photograph, in pixels: int64 Nx2.

    The boundary is the part of the person that is at most 2 % of the photograph's diagonal away from the outside (Cheng
    et al. 2021, "Boundary IoU").

    Args:
        found: bool NxHxW, where a person is predicted. target: class ids NxHxW; 255 is outside of the photograph.
    """
    valid = target != IGNORE
    truth, seen, valid = (planes.cpu().numpy() for planes in (target == 1, found & valid, valid))
    areas = np.zeros((len(target), 2), np.int64)
    for area, person, true, inside in zip(areas, seen, truth, valid, strict=True):
        reach = max(1, round(BOUNDARY_SHARE * math.hypot(inside.any(1).sum(), inside.any(0).sum())))
        ours, theirs = _boundary(person, reach), _boundary(true, reach)
        area += np.count_nonzero(ours & theirs), np.count_nonzero(ours | theirs)
    return torch.from_numpy(areas).to(target.device)


def _boundary(mask: np.ndarray, reach: int) -> np.ndarray:
    """The bool mask HxW minus its erosion by a square of side 2 * reach + 1; beyond the picture is background."""
    square, plane = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8), mask.view(np.uint8)
    return mask & (cv2.erode(plane, square, borderType=cv2.BORDER_CONSTANT, borderValue=0) == 0)


def of_sums(metric: Callable[[Counts], Tensor]) -> Callable[[Counts], float | Tensor]:
    """A metric that is a function of sums: a number for one `Counts`, a tensor for many, whose tensors have more dimensions.

    It is smooth, and the same for twice the sums: `compare` takes its gradient.
    """

    @functools.wraps(metric)
    def measured(counts: Counts) -> float | Tensor:
        value = metric(counts)
        return value if value.ndim else value.item()

    return measured


@of_sums
def iou(counts: Counts) -> Tensor:
    """The person's intersection over union."""
    return _ious(counts)[..., 1]


@of_sums
def miou(counts: Counts) -> Tensor:
    """Mean IoU over the classes that truth or prediction shows; 1 where no pixel counts."""
    shown = counts.confusion.cpu().sum(-1) + counts.confusion.cpu().sum(-2) > 0
    return _share((_ious(counts) * shown).sum(-1), shown.sum(-1))


@of_sums
def iou_per_image(counts: Counts) -> Tensor:
    """Mean over the photographs of the person's IoU."""
    return (counts.image_iou / counts.images.clamp(min=1)).cpu()


@of_sums
def dice(counts: Counts) -> Tensor:
    """The person's Dice coefficient, which is the F1 score."""
    hits, false_alarms, misses = _person(counts)
    return _share(2 * hits, 2 * hits + false_alarms + misses)


@of_sums
def accuracy(counts: Counts) -> Tensor:
    """Share of pixels with the right class."""
    pixels = counts.confusion.cpu().double()
    return _share(pixels.diagonal(dim1=-2, dim2=-1).sum(-1), pixels.sum((-2, -1)))


@of_sums
def precision(counts: Counts) -> Tensor:
    """Share of the pixels called person that are person; 1 where no pixel is called so and no person is missed."""
    hits, false_alarms, misses = _person(counts)
    return _share(hits, hits + false_alarms, empty=(misses == 0).double())


@of_sums
def recall(counts: Counts) -> Tensor:
    """Share of the person's pixels that were found; 1 where there is no person."""
    hits, _, misses = _person(counts)
    return _share(hits, hits + misses)


@of_sums
def boundary_iou(counts: Counts) -> Tensor:
    """IoU of the boundaries (Cheng et al. 2021); validation and test count it, training does not."""
    intersection, union = counts.boundary.cpu().double().unbind(-1)
    return _share(intersection, union)


@of_sums
def boundary_iou_per_image(counts: Counts) -> Tensor:
    """Mean over the photographs of the IoU of the boundaries; validation and test count it."""
    return (counts.image_boundary_iou / counts.images.clamp(min=1)).cpu()


def average_precision(counts: Counts) -> float:
    """Area under the person's precision-recall curve over 256 levels of probability; validation and test count it."""
    negative, positive = counts.scores.double().cpu().flip(1).cumsum(1)
    if not positive[-1]:
        return 1.0
    gained = torch.diff(positive / positive[-1], prepend=torch.zeros(1))
    return float((gained * positive / (positive + negative).clamp(min=1)).sum())


OF_SUMS = {
    function.__name__: function
    for function in (
        *(iou, miou, iou_per_image, dice, accuracy, precision, recall),
        *(boundary_iou, boundary_iou_per_image),
    )
}
BUILT_IN = OF_SUMS | {"average_precision": average_precision}  # in all of them higher is better
OF_BOUNDARIES = ("boundary_iou", "boundary_iou_per_image")
EVALUATION_ONLY = (*OF_BOUNDARIES, "average_precision")  # too slow for every training step


def find(names: list[str]) -> dict[str, Callable[[Counts], float]]:
    """Metric functions by name: those of this module, or a user's own by dotted path, called by its last part.

    Raises:
        ValueError: there is no such function, or no name.
    """
    found = {}
    for name in names:
        module, _, function = name.rpartition(".")
        if not module and name not in BUILT_IN:
            hint = terminal.did_you_mean(name, BUILT_IN)
            raise ValueError(f"metrics: there is no {name}{hint}; there are {', '.join(BUILT_IN)}, or a dotted path")
        try:
            own = module and getattr(importlib.import_module(module), function)
            found[function] = _as_a_number(name, own) if module else BUILT_IN[name]
        except (ImportError, AttributeError) as error:
            raise ValueError(f"metrics: {name} can't be imported: {error}") from error
    if not found:
        raise ValueError(f"metrics is empty: give some of {', '.join(BUILT_IN)}")
    return found


def _as_a_number(name: str, metric: Callable[[Counts], Any]) -> Callable[[Counts], float]:
    """A user's own metric, which may give a tensor of one number.

    Raises:
        ValueError: when it is called and gives anything else.
    """

    def measured(counts: Counts) -> float:
        value = metric(counts)
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:  # torch raises the last
            raise ValueError(f"metrics: {name} gives {str(value)[:100]}, and a metric gives one number") from error

    return measured


def _ious(counts: Counts) -> Tensor:
    """The IoU of each class, 1 where it is nowhere."""
    pixels = counts.confusion.cpu().double()
    hits = pixels.diagonal(dim1=-2, dim2=-1)
    return _share(hits, pixels.sum(-2) + pixels.sum(-1) - hits)


def _person(counts: Counts) -> tuple[Tensor, Tensor, Tensor]:
    """The person's hits, false alarms and misses, in pixels."""
    pixels = counts.confusion.cpu().double()
    hits = pixels[..., 1, 1]
    return hits, pixels[..., 1].sum(-1) - hits, pixels[..., 1, :].sum(-1) - hits


def _share(part: Tensor, whole: Tensor, empty: float | Tensor = 1.0) -> Tensor:
    there = whole > 0
    return torch.where(there, part / torch.where(there, whole, 1), empty)
