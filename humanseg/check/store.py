"""Records and small pictures on disk, in two files that only grow, so that a check which was stopped goes on where it was."""

import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from humanseg.data.cache import Table, writable
from humanseg.runs.atomic import no_link

LARGEST = 100_000  # bytes of a picture, whose longer side has 320 pixels
PLACE = [("key", "<u8"), ("offset", "<i8"), ("lengths", "<u4", 2), ("crc", "<u4")]  # where the pictures of a record are


def record(fields: list[tuple]) -> np.dtype:
    """A record of a store: its key, the place of its pictures, and these fields."""
    return np.dtype([*PLACE, *fields])


class Store:
    """Records, found by their key, with up to two pictures each.

    Args:
        stem: the path of both files, without their suffixes. kind: of the records, made by `record`.
        possible: tells which of some records may have been written here; the files are like others, and may be a stranger's.
    """

    def __init__(self, stem: Path, kind: np.dtype, possible: Callable[[np.ndarray], np.ndarray]):
        self.table, self.path = Table(stem.with_suffix(".index"), kind), stem.with_suffix(".pictures")
        self.possible = possible

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The record of each key; zeros where there is none, or one that can't be, or can't have pictures. The key 0 has none."""
        found = self.table.find(keys)
        end = self.path.stat().st_size if self.path.exists() else 0
        length = found["lengths"].astype(np.int64).sum(1)
        elsewhere = (found["offset"] < 0) | (found["offset"] > end - length) | (found["lengths"] > LARGEST).any(1)
        found[elsewhere | (keys == 0) | ~self.possible(found)] = 0
        return found

    def add(self, records: np.ndarray, pictures: Sequence[tuple[bytes, ...]]) -> np.ndarray:
        """Keep records with their pictures; returns them with the place where these are.

        Raises:
            ValueError: the folder can't be written to, or is full.
        """
        with writable(self.path.parent), open(self.path, "ab", opener=no_link) as file:
            for one, some in zip(records, pictures, strict=True):
                body = b"".join(some)
                one["offset"], one["crc"] = file.tell(), zlib.crc32(body)
                one["lengths"][: len(some)] = [len(picture) for picture in some]
                file.write(body)
            file.flush()
            os.fsync(file.fileno())  # some file systems say only now that they are full
            self.table.add(records)  # last, so that a record never points to what is not written
        return records

    def pictures(self, one: np.ndarray) -> tuple[bytes, bytes]:
        """The pictures of a record; empty where they are damaged."""
        first, second = one["lengths"].tolist()
        with self.path.open("rb") as file:
            file.seek(int(one["offset"]))
            body = file.read(first + second)
        return (body[:first], body[first:]) if zlib.crc32(body) == one["crc"] else (b"", b"")
