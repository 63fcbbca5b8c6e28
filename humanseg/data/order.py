"""The order in which training sees its samples."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from humanseg.data.splits.parts import Split
from humanseg.processes.distributed import Share


@dataclass(frozen=True)
class BatchNumbers:
    """Batches number `start` to `stop` - 1 of an endless stream that shuffles the samples anew in each pass.

    Yields lists of (pass, position, repeat). Each batch follows from its number and the seed alone, so training can begin
    anywhere. Of several processes each gets its part of every batch. `factors` are as of `Split.drawn`.
    """

    split: Split
    batch_size: int
    seed: int
    start: int
    stop: int
    share: Share = Share()
    factors: np.ndarray | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        part = self.batch_size // self.share.world_size
        per_pass = self.split.per_pass // self.batch_size
        shuffled, positions, repeats = None, None, None
        for number in range(self.start, self.stop):
            number_of_pass, place = divmod(number, per_pass)
            if number_of_pass != shuffled:
                shuffled = number_of_pass
                positions, repeats = self.split.drawn(self.seed, number_of_pass, self.factors)
            first = place * self.batch_size + self.share.rank * part
            own = slice(first, first + part)
            drawn = zip(positions[own].tolist(), repeats[own].tolist(), strict=True)
            yield [(number_of_pass, position, repeat) for position, repeat in drawn]
