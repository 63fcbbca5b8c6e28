"""The cache: what takes long to make of a photograph is made once, in a file that all runs share.

A cache is two files that only grow: the pixels, and a table that gives the place of each key's pixels. A key stands for
a pair of files as they are on disk (path, size, modification time) and for how the mask is read. A changed photograph
gets another key, so what is in the cache stays valid. A checksum shows damage when a sample is read.
"""

import contextlib
import logging
import mmap
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedWriter
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from humanseg.data.transforms import IGNORE, PERSON
from humanseg.processes.hardware import cores
from humanseg.runs.atomic import no_link
from humanseg.runs.locks import wait_for

log = logging.getLogger(__name__)

ENTRY = np.dtype(
    [
        ("key", "<u8"), ("offset", "<i8"), ("height", "<u2"), ("width", "<u2"),
        ("person", "<u4"), ("ignored", "<u4"),  # pixels of the mask
        ("crc", "<u4"),
    ]
)  # fmt: skip
MOST = 2**23  # records of a table
CHUNK = 64  # photographs that are in memory at once while the cache is filled

Make = Callable[[int], tuple[np.ndarray, ...]]  # a sample's index -> its planes


class Table:
    """Records on disk, found by their `key`. Of several records with one key the last one counts."""

    def __init__(self, path: Path, record: np.dtype):
        self.path, self.record = path, record

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The record of each key, zeros where there is none.

        Raises:
            ValueError: the table is larger than any that this suite writes.
        """
        found = np.zeros(len(keys), self.record)
        size = self.path.stat().st_size if self.path.exists() else 0
        whole = size // self.record.itemsize
        if whole > MOST:
            raise ValueError(f"{self.path} has {whole:,} records, and at most {MOST:,} are read: delete it")
        if whole:
            records = np.fromfile(self.path, self.record, whole)
            known = np.ascontiguousarray(records["key"])
            order, wanted = np.argsort(known, kind="stable"), np.argsort(keys)
            there, sought = known[order], keys[wanted]  # in order a million are found in a tenth of the time
            place = np.searchsorted(there, sought, side="right") - 1
            hit = (place >= 0) & (there[place] == sought)
            found[wanted[hit]] = records[order[place[hit]]]
        return found

    def add(self, records: np.ndarray) -> None:
        with open(self.path, "ab", opener=no_link) as file:
            file.write(records.tobytes())

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """In the context no other process adds records. Where another one is adding some, wait and say so.

        Raises:
            ValueError: the folder can't be written to, or is full.
        """
        lock_path = self.path.with_suffix(".lock")
        with writable(self.path.parent), open(lock_path, "a", opener=no_link) as lock:
            wait_for(lock, lambda: log.info("cache      waits for another process that fills %s", self.path))
            with open(self.path, "ab", opener=no_link) as file:  # half a record, left by a kill, would shift all others
                file.truncate(file.tell() // self.record.itemsize * self.record.itemsize)
            yield


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """In the context files are written to a folder of the cache, which is made where it is missing.

    Raises:
        ValueError: the folder can't be written to, or is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ValueError(
            f"data.cache_dir={folder} can't be written to ({error.strerror}): "
            "give another data.cache_dir, or data.cache=false"
        ) from error


class Store:
    """The two files of a cache: `pixels`, and the `table` that says where those of each key are.

    Args:
        stem: their path without an ending. depth: bytes that a pixel takes.
    """

    def __init__(self, stem: Path, depth: int):
        self.table, self.pixels = Table(stem.with_suffix(".index"), ENTRY), stem.with_suffix(".pixels")
        self.depth = depth

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The record of each key, zeros where there is none, or one that can't be: the file of pixels ends before its own."""
        found = self.table.find(keys)
        end = self.pixels.stat().st_size if self.pixels.exists() else 0
        area = found["height"].astype(np.int64) * found["width"]
        counted = found["person"].astype(np.int64) + found["ignored"]
        found[(found["offset"] < 0) | (found["offset"] > end - self.depth * area) | (counted > area)] = 0
        return found

    def missing(self, keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Indices of the wanted samples without a record, one for each key."""
        keys = keys[wanted]
        lacking = np.flatnonzero(self.find(keys)["height"] == 0)
        _, first = np.unique(keys[lacking], return_index=True)
        return wanted[lacking[np.sort(first)]]


class Kept:
    """What a store has of each sample, by its index. A checksum shows damage when it is read."""

    def __init__(self, keys: np.ndarray, store: Store):
        self.store = store
        self.records = store.find(keys)
        self.verified = torch.zeros(len(self.records), dtype=torch.bool).share_memory_()  # all workers share it
        self._map()

    @property
    def path(self) -> Path:
        """The file of pixels."""
        return self.store.pixels

    def read(self, index: int) -> tuple[np.ndarray, int, int]:
        """A sample's bytes, read-only, with its height and width; no bytes where the store lacks it or it is damaged."""
        record = self.records[index]
        _, offset, height, width, *_, crc = record.item()
        body = self.pixels[offset : offset + self.store.depth * height * width]
        if body.size and not self.verified[index]:
            if _checksum(record, body) == crc:
                self.verified[index] = True
            else:
                self._forget(index)
                body = body[:0]
        return body, height, width

    def _forget(self, index: int) -> None:
        """Take a damaged sample for missing from now on; the next run puts it into the cache again."""
        log.warning("cache      a sample in %s is damaged and will be prepared anew", self.path)
        grave = np.zeros(1, ENTRY)
        grave["key"] = self.records[index]["key"]
        self.records[index] = grave
        with contextlib.suppress(OSError):  # if the cache can't be written to, each run finds the damage again
            self.store.table.add(grave)

    def _map(self) -> None:
        self.pixels = np.zeros(0, np.uint8)
        if self.records["height"].any():
            with self.path.open("rb") as file:
                self.pixels = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "pixels"}  # each worker maps them itself

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._map()


def fill(store: Store, keys: np.ndarray, wanted: np.ndarray, make: Make, words: str, tolerant: bool = False) -> None:
    """Add those of the `wanted` samples that a store lacks.

    Args:
        keys: of all samples. wanted: indices.
        make: a sample's planes, uint8 HxW or HxWxC, together of the store's depth; the last one is HxW.
        words: what is made, for the log. tolerant: whether samples that can't be made are left out.

    Raises:
        ValueError: a sample can't be made and must be, or the folder can't be written to or has too little space.
    """
    if store.missing(keys, wanted).size:
        with store.table.alone():
            missing = store.missing(keys, wanted)  # another process may have added them meanwhile
            if missing.size:
                _fill(store, keys, missing, make, words, tolerant)


def _fill(store: Store, keys: np.ndarray, missing: np.ndarray, make: Make, words: str, tolerant: bool) -> None:
    def made(index: int) -> tuple[np.ndarray, ...] | None:
        try:
            return make(index)
        except ValueError:
            if not tolerant:
                raise
            return None

    started, chunks, pixels = time.perf_counter(), np.array_split(missing, -(-len(missing) // CHUNK)), store.pixels
    whole = pixels.stat().st_size if pixels.exists() else 0
    try:
        with ThreadPoolExecutor(cores(alone=True)) as pool, open(pixels, "ab", opener=no_link) as file:
            for chunk in tqdm(chunks, f"cache: {words}", unit_scale=CHUNK, leave=False, disable=None):
                planes = pool.map(made, chunk.tolist())  # decoding runs outside of Python's lock
                samples = {index: one for index, one in zip(chunk.tolist(), planes, strict=True) if one}
                if chunk is chunks[0]:
                    size = sum(store.depth * one[-1].size for one in samples.values())
                    _refuse_full_disk(size * len(missing) // len(chunk), pixels.parent)
                whole = _add(file, keys[[*samples]], [*samples.values()], store.table)
    except OSError:
        with open(pixels, "ab", opener=no_link) as file:
            file.truncate(whole)  # a full disk gets the room of the last chunk back
        raise
    seconds = time.perf_counter() - started
    log.info("cache      %d %s in %.1f s, %s with all before", len(missing), words, seconds, _size(whole))


def _add(file: BufferedWriter, keys: np.ndarray, samples: list[tuple[np.ndarray, ...]], table: Table) -> int:
    """Add samples with their keys; returns the size of the file."""
    records = np.zeros(len(keys), ENTRY)
    records["key"] = keys
    for record, planes in zip(records, samples, strict=True):
        mask = planes[-1]
        record["offset"], (record["height"], record["width"]) = file.tell(), mask.shape
        record["person"], record["ignored"] = np.count_nonzero(mask == PERSON), np.count_nonzero(mask == IGNORE)
        body = np.concatenate([plane.ravel() for plane in planes])
        record["crc"] = _checksum(record, body)
        file.write(body)
    file.flush()
    os.fsync(file.fileno())  # some file systems say only now that they are full
    table.add(records)  # last, so that a record never points to pixels that are not written
    return file.tell()


def _checksum(record: np.void, body: np.ndarray) -> int:
    """The checksum of the pixels and of their record's key, place and size."""
    return zlib.crc32(body, zlib.crc32(record.tobytes()[: -ENTRY["crc"].itemsize]))


def _refuse_full_disk(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"data.cache_dir={folder} has {_size(free)} left, and the prepared photographs take about {_size(needed)}: "
            "give another data.cache_dir, or data.cache=false"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
