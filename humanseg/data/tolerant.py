"""Samples of which some can't be read: ``data.on_error=skip``."""

import numpy as np
import torch

from humanseg.data.prepared import Shares
from humanseg.data.splits.left_out import LeftOut
from humanseg.data.splits.parts import Split
from humanseg.data.transforms import IGNORE

SIDE = 32  # pixels of what takes the place of a sample that can't be read


class Tolerant:
    """The samples of a source. One that can't be read is noted, and is all ignored: it counts in no loss and no metric.

    So a batch keeps its size, and all other samples keep their turn. `skipped` is shared with workers: a bool for each sample.
    """

    def __init__(self, source: object, count: int):
        self.source, self.skipped = source, torch.zeros(count, dtype=torch.bool).share_memory_()

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            return self.source[index]
        except ValueError:
            self.skipped[index] = True
            return np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE), IGNORE, np.uint8)

    @property
    def longest(self) -> int:
        """As of `Prepared`."""
        return self.source.longest

    def shares(self) -> Shares:
        """As of `Prepared`."""
        return self.source.shares()


class Tolerance:
    """What a run does with samples that can't be read.

    Args:
        wanted: whether they are skipped.
    """

    def __init__(self, wanted: bool):
        self.wanted, self.known = wanted, {}

    def of(self, source: object, samples: object) -> object:
        """The samples of a source, as they are or prepared, so that those which can't be read are skipped if that is wanted."""
        if not self.wanted:
            return samples
        return self.known.setdefault((id(source), type(samples)), Tolerant(samples, len(source)))

    def skipped(self, splits: dict[str, Split]) -> list[LeftOut]:
        """The samples of some splits that this process and its workers have skipped."""
        found = {}
        for side, split in splits.items():
            for part in split.parts:
                noted = [one.skipped.numpy() for (source, _), one in self.known.items() if source == id(part.source)]
                places = np.flatnonzero(np.any(noted, axis=0)[part.indices]) if noted and len(part) else ()
                found |= {
                    part.name_of(place): LeftOut(part.name, side, part.name_of(place), "broken") for place in places
                }
        return [*found.values()]
