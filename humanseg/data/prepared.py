"""Samples at the size that training wants: photographs decoded once, into the cache, or each time anew."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from humanseg.data.cache import Kept, Store, fill
from humanseg.data.transforms import shrink

VERSION = 3  # of how a photograph is prepared; a new version starts a new cache


class Source(Protocol):
    """What can be cached: samples, each with a key that changes when the sample does."""

    keys: np.ndarray  # uint64, not 0

    def prepared(self, index: int, longest: int) -> tuple[np.ndarray, np.ndarray]: ...


class Shares(NamedTuple):
    """What part of each sample's mask is person, and what part is ignored: float32 in [0, 1], NaN where it isn't known."""

    person: np.ndarray
    ignored: np.ndarray


class Prepared(Kept):
    """The samples of a source with their longer side at most `longest` pixels.

    Indexing gives read-only uint8 HxWx3 RGB and uint8 HxW class ids. They come from the cache, or from the files where
    the cache lacks the sample or its checksum is wrong.
    """

    def __init__(self, source: Source, longest: int, store: Store):
        super().__init__(source.keys, store)
        self.source, self.longest = source, longest

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        body, height, width = self.read(index)
        if not body.size:
            return self.source.prepared(index, self.longest)
        colours = 3 * height * width
        return body[:colours].reshape(height, width, 3), body[colours:].reshape(height, width)

    def shares(self) -> Shares:
        """Of all samples of the source; no pixel is read, and those that the cache lacks are not known."""
        area = self.records["height"] * self.records["width"].astype(float)
        area[area == 0] = np.nan
        return Shares(*((self.records[kind] / area).astype(np.float32) for kind in ("person", "ignored")))


class Shrunk:
    """The samples of a source with their longer side at most `longest` pixels, made when asked for."""

    def __init__(self, source: Any, longest: int):
        self.source, self.longest = source, longest

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if hasattr(self.source, "prepared"):
            return self.source.prepared(index, self.longest)
        return shrink(*self.source[index], self.longest)

    def shares(self) -> Shares:
        """As of `Prepared`; no sample's are known."""
        unknown = np.full(len(self.source), np.nan, np.float32)
        return Shares(unknown, unknown)


def prepare_cache(source: Source, wanted: np.ndarray, longest: int, folder: Path, tolerant: bool = False) -> Prepared:
    """Open the cache of a source. First those of the `wanted` samples that it lacks are added.

    Args:
        wanted: indices. tolerant: whether photographs that can't be read are left to whoever asks for them.

    Raises:
        ValueError: a photograph can't be read and must be, or the folder can't be written to or has too little space.
    """
    store = Store(folder / f"prepared_{longest}px_v{VERSION}", 4)
    fill(store, source.keys, wanted, lambda index: source.prepared(index, longest), "photographs prepared", tolerant)
    return Prepared(source, longest, store)
