"""From pictures to drawings: the network on batches of them, seen in several ways, and what is drawn of its answer."""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from humanseg.device import cores
from humanseg.drawing.drawings import Behind, Drawings
from humanseg.drawing.flow import Clock
from humanseg.media import Photograph
from humanseg.predictor import Predictor

STRIDE = 32  # networks take squares of multiples of it


@dataclass
class Picture:
    """A photograph or a frame on its way through."""

    image: np.ndarray | None = None
    square: Tensor | None = None  # what the network gets
    logits: Tensor | None = None  # what it makes of it
    behind: Behind | None = None
    source: Photograph | None = None
    targets: dict[str, Path] = field(default_factory=dict)  # by drawing
    trouble: str | None = None


@dataclass
class Studio:
    """The stages that a picture goes through between its file and its drawings.

    Args:
        scales: at which the network sees it, 1 its own. flip: mirrored too. batch: pictures at once.
    """

    predictor: Predictor
    drawings: Drawings
    scales: list[float]
    flip: bool
    batch: int
    clock: Clock

    def prepare(self, picture: Picture) -> Picture:
        """Give a picture the square that the network gets."""
        picture.square = self.predictor.squares([picture.image])[0]
        return picture

    def infer(self, pictures: Iterator[Picture]) -> Iterator[Picture]:
        """Give pictures their logits, a batch at a time; those in trouble pass."""
        for group in _batched(pictures, self.batch):
            fine = [picture for picture in group if not picture.trouble]
            if fine:
                with self.clock("network"):
                    found = self.logits(torch.stack([picture.square for picture in fine]))
                for picture, logits in zip(fine, found, strict=True):
                    picture.logits = logits
            yield from group

    def logits(self, squares: Tensor) -> Tensor:
        """uint8 NxSxSx3 -> float32 NxCxSxS on the CPU: the mean over the views that `tta` asks for."""
        views = [self._view(squares, scale, flip) for scale in self.scales for flip in {False, self.flip}]
        return torch.stack(views).mean(0)

    def _view(self, squares: Tensor, scale: float, flip: bool) -> Tensor:
        size = squares.shape[1]
        side = max(round(size * scale / STRIDE), 1) * STRIDE
        seen = squares.flip(2) if flip else squares
        if side != size:
            seen = _resized(seen.permute(0, 3, 1, 2).float(), side).round().byte().permute(0, 2, 3, 1).contiguous()
        logits = self.predictor.on_squares(seen).float().cpu()
        logits = _resized(logits, size) if side != size else logits
        return logits.flip(3) if flip else logits

    def draw(self, picture: Picture) -> dict[str, np.ndarray]:
        """The drawings of a picture that has its logits."""
        with self.clock("draw"):
            values = self.predictor.probability(picture.logits, picture.image)
            return self.drawings(picture.image, values, picture.behind)


def one_thread_each() -> ThreadPoolExecutor:
    """Threads, one a core, whose torch does not start threads of its own."""
    return ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,))


def _batched(pictures: Iterable[Picture], count: int) -> Iterator[list[Picture]]:
    pictures = iter(pictures)
    while group := list(itertools.islice(pictures, count)):
        yield group


def _resized(planes: Tensor, side: int) -> Tensor:
    return F.interpolate(
        planes, size=(side, side), mode="bilinear", align_corners=False, antialias=side < planes.shape[-1]
    )
