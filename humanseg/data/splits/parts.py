"""The samples of a split: parts of one or several sources, and how often each sample comes in a pass."""

import hashlib
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from zlib import crc32

import numpy as np


@dataclass(frozen=True)
class Part:
    """Samples of one source.

    Args:
        source: len(), [i] -> (image, mask), names[i]; content[i], which equal photographs share, and weights[i], where it
            has them.
        indices: which samples of it. 64-bit integers: a worker that reads a Python list copies it, as reference counts
            change.
        name: the source's name among several.
        weight: how often a pass has each sample: 3 is three times, 0.5 in every other pass.
        band: pixels to each side of an outline that training ignores, at the prepared size.
    """

    source: object
    indices: array
    name: str = ""
    weight: float = 1
    band: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    def name_of(self, place: int) -> str:
        """A sample's name for a reader: its file."""
        return self.source.names[self.indices[place]]

    def only(self, wanted: np.ndarray) -> "Part":
        """The samples for which a bool of an array is true."""
        return replace(self, indices=array("q", np.asarray(self.indices)[wanted].tobytes()))

    @property
    def content(self) -> np.ndarray | None:
        """A number for each sample, which equal photographs share; None where the source has none."""
        content = getattr(self.source, "content", None)
        return None if content is None else np.asarray(content)[self.indices]

    @property
    def weights(self) -> np.ndarray:
        """How often a pass has each sample, float64."""
        own = getattr(self.source, "weights", None)
        return self.weight * (np.ones(len(self)) if own is None else np.asarray(own, float)[self.indices])

    def times(self, seed: int, number: int) -> np.ndarray:
        """How often each sample comes in a pass: over all passes as often as its weight says, evenly.

        A seeded half has its turn in the first pass where the weight is 0.5, the other half in the second one.
        """
        if self.weight == 1 and getattr(self.source, "weights", None) is None:
            return np.ones(len(self), np.int64)
        order = np.random.default_rng([seed, crc32(self.name.encode()), 0x7E19]).permutation(len(self))
        begun = (order + 0.5) / max(len(self), 1)
        weights = self.weights
        return (np.floor((number + 1) * weights + begun) - np.floor(number * weights + begun)).astype(np.int64)


@dataclass(frozen=True)
class Split:
    """The samples that train, validate or test, in the order of their parts."""

    parts: Sequence[Part]

    @cached_property
    def ends(self) -> np.ndarray:
        """Behind which position each part ends."""
        return np.cumsum([len(part) for part in self.parts], dtype=np.int64)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        number, place = self.at(position)
        part = self.parts[number]
        return part.source[part.indices[place]]

    def at(self, position: int) -> tuple[int, int]:
        """The number of the part that holds a position, and the place in that part."""
        number = int(np.searchsorted(self.ends, position, side="right"))
        return number, position - (int(self.ends[number - 1]) if number else 0)

    def name(self, position: int) -> str:
        """The sample's name for a reader: its file."""
        number, place = self.at(position)
        return self.parts[number].name_of(place)

    @property
    def sources(self) -> list[str]:
        """The names of several sources; empty where there is one."""
        return [part.name for part in self.parts] if len(self.parts) > 1 else []

    def source_of(self, position: int) -> str:
        """The name of the sample's source; empty where there is one."""
        return self.parts[self.at(position)[0]].name if self.sources else ""

    def in_turn(self, count: int) -> list[int]:
        """Up to `count` positions: the first sample of each part, then the second of each, and so on."""
        starts = [end - len(part) for part, end in zip(self.parts, self.ends.tolist(), strict=True)]
        found = [
            start + turn
            for turn in range(count)
            for start, part in zip(starts, self.parts, strict=True)
            if turn < len(part)
        ]
        return found[:count]

    def key(self, position: int) -> list[int]:
        """What tells the sample from all others of the split: its index, and the source where there are several."""
        number, place = self.at(position)
        part = self.parts[number]
        return [part.indices[place], *([crc32(part.name.encode())] if len(self.parts) > 1 else [])]

    def fingerprint(self) -> str:
        """A hash of the samples' file names and their order. It does not depend on the folder that they lie in."""
        files = []
        for part in self.parts:
            everything = list(part.source.names) if len(part) else []
            names = [everything[index] for index in part.indices]
            source = f"{part.name}/" * (len(self.parts) > 1)
            files += [source + name[name.rfind("/") + 1 :] for name in names]
        return hashlib.sha256("\n".join(files).encode(errors="surrogateescape")).hexdigest()[:16]

    @cached_property
    def per_pass(self) -> int:
        """Samples in a pass over the data, repeats counted."""
        return math.floor(sum(float(part.weights.sum()) for part in self.parts) + 1e-6)

    def drawn(self, seed: int, number: int, factors: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The positions of a pass in their shuffled order, and for each of them which repeat in this pass it is.

        Args:
            factors: of each sample, for a pass of the same length that has it more or less often. With them its times are a
                matter of chance: their mean follows the weight times the factor, and they are less than one away from it.
        """
        if factors is None:
            times = np.concatenate([part.times(seed, number) for part in self.parts])
        else:
            times = self._times_by_chance(seed, number, factors)
        positions = np.repeat(np.arange(len(times)), times)
        repeats = np.arange(len(positions)) - np.repeat(np.cumsum(times) - times, times)
        order = np.random.default_rng([seed, number]).permutation(len(positions))
        order = np.resize(order, self.per_pass)  # weights with many fractions give one pass a little more than another
        return positions[order], repeats[order]

    def _times_by_chance(self, seed: int, number: int, factors: np.ndarray) -> np.ndarray:
        """Systematic sampling (Madow 1949), in a shuffled order: how often each sample comes in a pass."""
        rng = np.random.default_rng([seed, number, 0x4A2D])
        weights = np.concatenate([part.weights for part in self.parts]) * factors
        order, start = rng.permutation(len(weights)), rng.random()
        ends = np.cumsum(weights[order])
        times = np.empty(len(weights), np.int64)
        times[order] = np.diff(np.floor(ends / ends[-1] * self.per_pass + start), prepend=0)
        return times
