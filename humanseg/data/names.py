"""File names by the million, in one buffer. A million strings would be copied into every worker that reads them."""

from collections.abc import Iterable, Sequence

import numpy as np


class Names(Sequence):
    """A sequence of strings, each made when it is asked for. None may hold the character NUL; no file name does."""

    def __init__(self, names: Iterable[str]):
        names = [*names]
        self.buffer = "\0".join(names).encode(errors="surrogateescape")
        self.ends = np.flatnonzero(np.frombuffer(self.buffer + b"\0", np.uint8) == 0)
        if not names:
            self.ends = self.ends[:0]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]  # raises IndexError
        return self._text(index, index + 1)

    def __iter__(self):
        return iter(self.part(0, len(self)))

    def part(self, start: int, stop: int) -> list[str]:
        """The strings from `start` to before `stop`."""
        return self._text(start, stop).split("\0") if start < stop else []

    def _text(self, start: int, stop: int) -> str:
        first = self.ends[start - 1] + 1 if start else 0
        return self.buffer[first : self.ends[stop - 1]].decode(errors="surrogateescape")
