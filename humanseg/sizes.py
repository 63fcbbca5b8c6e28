"""Training at several sizes: small squares first (progressive resizing), or one drawn for each step (multi-scale)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MARK = 0x512E  # keeps what is drawn here apart from what else the seed draws


@dataclass(frozen=True)
class Sizes:
    """Shrinks each step's batches to a size that follows from the step alone.

    Args:
        sides: of the squares, the network's own last. Each has an equal part of the run, in their order.
        steps: of the run.
        seed: each step draws one of `sides` by it; None: they have their parts of the run.
    """

    sides: list[int]
    steps: int
    seed: int | None = None

    def at(self, step: int) -> int:
        """The side of a step's squares; steps count from 0."""
        count = len(self.sides)
        if self.seed is None:
            return self.sides[min(step * count // self.steps, count - 1)]
        return self.sides[np.random.default_rng([self.seed, MARK, step]).integers(count)]

    def __call__(self, batch: Sequence[Tensor], step: int) -> Sequence[Tensor]:
        """A batch of a step, see `shrunk`, at its size."""
        return shrunk(batch, self.at(step))


def chosen(sides: list[int] | None, order: str | None, image_size: int, steps: int, seed: int) -> Sizes:
    """Sizes as the config has them.

    Raises:
        ValueError: there are none, one is larger than the network's, or the last is another.
    """
    if sides is None:
        raise ValueError(
            f"trainer.size_order={order} is for trainer.sizes: give some, the last of them {image_size}, or null"
        )
    if sides[-1:] != [image_size] or max(sides) > image_size:
        raise ValueError(f"trainer.sizes={sides}: give sizes up to data.image_size={image_size}, and that one last")
    return Sizes(sides, steps, seed if order == "random" else None)


def shrunk(batch: Sequence[Tensor], side: int) -> Sequence[Tensor]:
    """Squares scaled down to `side`: photographs uint8 NxHxWx3 smoothly, class ids and the like NxHxW by the nearest pixel."""
    images, *masks = batch
    if images.shape[1] == side:
        return batch
    planes = F.interpolate(images.permute(0, 3, 1, 2).float(), (side, side), mode="bilinear", antialias=True)
    middle = (torch.arange(side, device=images.device) * 2 + 1) * images.shape[1] // (2 * side)
    return planes.round().byte().permute(0, 2, 3, 1), *(mask[:, middle[:, None], middle] for mask in masks)
