"""From pictures to drawings: the network runs on batches of them, in several views, and its output is drawn."""

import itertools
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from humanseg import terminal
from humanseg.compositing.drawings import Behind, Drawings
from humanseg.compositing.flow import Clock, in_order
from humanseg.compositing.results import Results
from humanseg.compositing.rows import Rows
from humanseg.data.colour import hidden, strips
from humanseg.data.deep import LARGE
from humanseg.media.images import Photograph
from humanseg.predictor import Predictor, resized, scaled_side
from humanseg.processes import distributed
from humanseg.processes.hardware import cores, give_memory_back

log = logging.getLogger(__name__)

SHOWN = 20  # files that failed, in the closing sentence


@dataclass
class Picture:
    """A photograph or a frame, with what the stages have made of it so far."""

    image: np.ndarray | None = None
    alpha: np.ndarray | None = None  # the photograph's own, uint8 HxW
    square: Tensor | None = None  # the network's input
    logits: Tensor | None = None  # the network's output
    behind: Behind | None = None
    source: Photograph | None = None
    targets: dict[str, Path] = field(default_factory=dict)  # files, by drawing
    results: Results | None = None  # where they are noted
    fingerprint: dict | None = None  # of the photograph, for them
    trouble: str | None = None


@dataclass
class Studio:
    """The stages that a picture goes through between its file and its drawings.

    Args:
        scales: the network sees each picture at all of these; 1 is its own. flip: it also sees it mirrored.
        batch: pictures at once.
    """

    predictor: Predictor
    drawings: Drawings
    scales: list[float]
    flip: bool
    batch: int
    clock: Clock

    def pool(self) -> ThreadPoolExecutor:
        """A pool for the stages, with a thread for each core, in which torch does not start threads of its own.

        Where another runtime has the network there is one more: a thread that asks it waits for the runtime's own.
        """
        count = cores() + (self.predictor.engine.backend != "torch")
        return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    def prepare(self, picture: Picture) -> Picture:
        """Give a picture the square that the network gets."""
        picture.square = self.predictor.squares([_seen(picture)], max(map(self._side, self.scales)))[0]
        return picture

    def infer(self, pictures: Iterator[Picture], pool: Executor) -> Iterator[Picture]:
        """Give pictures their logits, a batch at a time; a picture in trouble passes through without.

        Where batches may run at the same time, they do so in the pool.
        """
        groups, streams = _batched(pictures, self.batch), self.predictor.engine.streams
        found = in_order(pool, self.see, groups, streams) if streams > 1 else map(self.see, groups)
        for group in found:
            yield from group

    def see(self, pictures: list[Picture]) -> list[Picture]:
        """As `infer`, for one batch."""
        fine = [picture for picture in pictures if not picture.trouble]
        if fine:
            with self.clock("network"):
                found = self.logits(torch.stack([picture.square for picture in fine]))
                if self.predictor.closer:
                    found = self.predictor.look_closer(found, [_seen(picture) for picture in fine])
            for picture, logits in zip(fine, found, strict=True):
                picture.logits = logits
        return pictures

    def logits(self, squares: Tensor) -> Tensor:
        """uint8 NxSxSx3 -> float32 NxCxSxS on the CPU: the mean over the views that `tta` asks for.

        S is the side of the largest view. At a smaller one's size the mean would lose what the largest shows.
        """
        views = [self._view(squares, scale, flip) for scale in self.scales for flip in {False, self.flip}]
        return torch.stack(views).mean(0)

    def _view(self, squares: Tensor, scale: float, flip: bool) -> Tensor:
        size, side = squares.shape[1], self._side(scale)
        seen = squares.flip(2) if flip else squares
        if side != size:
            seen = resized(seen.permute(0, 3, 1, 2).float(), side).round().byte().permute(0, 2, 3, 1).contiguous()
        logits = self.predictor.on_squares(seen).float().cpu()
        logits = resized(logits, size) if side != size else logits
        return logits.flip(3) if flip else logits

    def _side(self, scale: float) -> int:
        return scaled_side(self.predictor.size, scale)

    def say_speed(self, count: int, what: str) -> None:
        """Pictures a second, what each stage took of one (the stages overlap), and how busy the cores were."""
        if count:
            clock = self.clock
            parts = ", ".join(f"{stage} {1000 * seconds / count:.1f}" for stage, seconds in clock.seconds.items())
            rate, busy = count / clock.elapsed(), 100 * clock.busy() / cores()
            each = " each" if distributed.world_size() > 1 else ""
            log.info("speed      %.1f %ss/s, %.0f%% of %d cores busy%s", rate, what, busy, cores(), each)
            log.info("           ms a %s: %s", what, parts)

    def draw(self, picture: Picture) -> dict[str, np.ndarray]:
        """The drawings of a picture that has its logits."""
        with self.clock("draw"):
            values = self.predictor.probability(picture.logits, picture.image)
            return self.drawings(picture.image, values, picture.behind, picture.alpha)

    def drawn(self, picture: Picture) -> Iterator[tuple[str, np.ndarray]]:
        """As `draw`; of a picture of more than LARGE pixels one drawing after the other, in strips. It has no image afterwards."""
        if picture.image.size <= 3 * LARGE:
            yield from self.draw(picture).items()
            return
        give_memory_back()  # what decoding took
        values = self.predictor.probability_rows(picture.logits, picture.image)
        for name in self.drawings.names:
            with self.clock("draw"):
                drawing = self._in_strips(name, picture, values)
            if name == self.drawings.names[-1]:
                picture.image = picture.alpha = values = None  # before it is written
            yield name, drawing

    def _in_strips(self, name: str, picture: Picture, values: Rows) -> np.ndarray:
        height, width = picture.image.shape[:2]
        drawn = replace(self.drawings, names=[name]).in_rows(picture.image, values, picture.behind, picture.alpha)
        drawing = None
        for rows in strips(height, width):
            strip = drawn(rows)[name]
            if drawing is None:
                drawing = np.empty((height, *strip.shape[1:]), strip.dtype)
            drawing[rows] = strip
        return drawing


def _seen(picture: Picture) -> np.ndarray:
    """What the network gets of a picture: what its alpha hides is not for it."""
    return picture.image if picture.alpha is None else hidden(picture.image, picture.alpha)


def refuse_failed(troubles: list[str], count: int, what: str) -> None:
    """Say which of `count` files could not be drawn, once the others are.

    Raises:
        ValueError: there are some.
    """
    if troubles:
        head = f"{len(troubles)} of {count} {what}s failed, the others are drawn:"
        raise ValueError(terminal.listed(head, troubles, SHOWN))


def _batched(pictures: Iterable[Picture], count: int) -> Iterator[list[Picture]]:
    pictures = iter(pictures)
    while group := list(itertools.islice(pictures, count)):
        yield group
