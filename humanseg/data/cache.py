"""The prepared cache: photographs decoded once, at the size that training wants, in a file that all runs share.

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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedWriter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from tqdm import tqdm

from humanseg.data.transforms import IGNORE, PERSON, shrink
from humanseg.processes.hardware import cores
from humanseg.runs.atomic import no_link
from humanseg.runs.locks import wait_for

log = logging.getLogger(__name__)

VERSION = 3  # of how a photograph is prepared; a new version starts a new cache
ENTRY = np.dtype(
    [
        ("key", "<u8"), ("offset", "<i8"), ("height", "<u2"), ("width", "<u2"),
        ("person", "<u4"), ("ignored", "<u4"),  # pixels of the mask
        ("crc", "<u4"),
    ]
)  # fmt: skip
LARGEST = 2**28  # bytes of a table: eight million samples
CHUNK = 64  # photographs that are in memory at once while the cache is filled


class Source(Protocol):
    """What can be cached: samples, each with a key that changes when the sample does."""

    keys: np.ndarray  # uint64, not 0

    def prepared(self, index: int, longest: int) -> tuple[np.ndarray, np.ndarray]: ...


class Shares(NamedTuple):
    """What part of each sample's mask is person, and what part is ignored: float32 in [0, 1], NaN where it isn't known."""

    person: np.ndarray
    ignored: np.ndarray


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
        if size > LARGEST:
            raise ValueError(f"{self.path} has {_size(size)}, and at most {_size(LARGEST)} are read: delete it")
        whole = size // self.record.itemsize
        if whole:
            records = np.fromfile(self.path, self.record, whole)
            records = records[np.argsort(records["key"], kind="stable")]
            place = np.searchsorted(records["key"], keys, side="right") - 1
            hit = (place >= 0) & (records["key"][place] == keys)
            found[hit] = records[place[hit]]
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


class Prepared:
    """The samples of a source with their longer side at most `longest` pixels.

    Indexing gives read-only uint8 HxWx3 RGB and uint8 HxW class ids. They come from the cache, or from the files where
    the cache lacks the sample or its checksum is wrong.
    """

    def __init__(self, source: Source, longest: int, table: Table, pixels: Path):
        self.source, self.longest, self.table, self.path = source, longest, table, pixels
        self.records = _sound_records(table, pixels, source.keys)
        self.verified = torch.zeros(len(self.records), dtype=torch.bool).share_memory_()  # all workers share it
        self._map()

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        record = self.records[index]
        _, offset, height, width, *_, crc = record.item()
        area = height * width
        body = self.pixels[offset : offset + 4 * area]
        if area and not self.verified[index]:
            if _checksum(record, body) == crc:
                self.verified[index] = True
            else:
                self._forget(index)
                area = 0
        if not area:
            return self.source.prepared(index, self.longest)
        return body[: 3 * area].reshape(height, width, 3), body[3 * area :].reshape(height, width)

    def shares(self) -> Shares:
        """Of all samples of the source; no pixel is read, and those that the cache lacks are not known."""
        area = self.records["height"] * self.records["width"].astype(float)
        area[area == 0] = np.nan
        return Shares(*((self.records[kind] / area).astype(np.float32) for kind in ("person", "ignored")))

    def _forget(self, index: int) -> None:
        """Read a damaged sample from its files from now on; the next run puts it into the cache again."""
        log.warning("cache      a sample in %s is damaged and will be prepared anew", self.path)
        grave = np.zeros(1, ENTRY)
        grave["key"] = self.records[index]["key"]
        self.records[index] = grave
        with contextlib.suppress(OSError):  # if the cache can't be written to, each run finds the damage again
            self.table.add(grave)

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


def prepare_cache(source: Source, wanted: np.ndarray, longest: int, folder: Path) -> Prepared:
    """Open the cache of a source. First those of the `wanted` samples that it lacks are added.

    Args:
        wanted: indices.

    Raises:
        ValueError: a photograph can't be read, or the folder can't be written to or has too little space.
    """
    stem = folder / f"prepared_{longest}px_v{VERSION}"
    table, pixels = Table(stem.with_suffix(".index"), ENTRY), stem.with_suffix(".pixels")
    if _missing(table, pixels, source, wanted).size:
        with table.alone():
            missing = _missing(table, pixels, source, wanted)  # another process may have added them meanwhile
            if missing.size:
                _fill(source, missing, longest, table, pixels)
    return Prepared(source, longest, table, pixels)


def _missing(table: Table, pixels: Path, source: Source, wanted: np.ndarray) -> np.ndarray:
    """Indices of the wanted samples without a record, one for each key."""
    keys = source.keys[wanted]
    lacking = np.flatnonzero(_sound_records(table, pixels, keys)["height"] == 0)
    _, first = np.unique(keys[lacking], return_index=True)
    return wanted[lacking[np.sort(first)]]


def _sound_records(table: Table, pixels: Path, keys: np.ndarray) -> np.ndarray:
    """The record of each key, zeros where there is none, or one that can't be: the file of pixels ends before its own."""
    found = table.find(keys)
    end = pixels.stat().st_size if pixels.exists() else 0
    area = found["height"].astype(np.int64) * found["width"]
    counted = found["person"].astype(np.int64) + found["ignored"]
    found[(found["offset"] < 0) | (found["offset"] > end - 4 * area) | (counted > area)] = 0
    return found


def _fill(source: Source, missing: np.ndarray, longest: int, table: Table, pixels: Path) -> None:
    started, chunks = time.perf_counter(), np.array_split(missing, -(-len(missing) // CHUNK))
    whole = pixels.stat().st_size if pixels.exists() else 0
    try:
        with ThreadPoolExecutor(cores(alone=True)) as pool, open(pixels, "ab", opener=no_link) as file:
            for chunk in tqdm(chunks, f"cache at {longest} px", unit_scale=CHUNK, leave=False, disable=None):
                # Decoding runs outside of Python's lock.
                samples = list(pool.map(lambda index: source.prepared(index, longest), chunk.tolist()))
                if chunk is chunks[0]:
                    size = sum(4 * mask.size for _, mask in samples)
                    _refuse_full_disk(size * len(missing) // len(chunk), pixels.parent)
                whole = _add(file, source.keys[chunk], samples, table)
    except OSError:
        with open(pixels, "ab", opener=no_link) as file:
            file.truncate(whole)  # a full disk gets the room of the last chunk back
        raise
    seconds = time.perf_counter() - started
    log.info("cache      %d photographs prepared in %.1f s, %s with all before", len(missing), seconds, _size(whole))


def _add(file: BufferedWriter, keys: np.ndarray, samples: list[tuple[np.ndarray, np.ndarray]], table: Table) -> int:
    """Add samples with their keys; returns the size of the file."""
    records = np.zeros(len(keys), ENTRY)
    records["key"] = keys
    for record, (image, mask) in zip(records, samples, strict=True):
        record["offset"], (record["height"], record["width"]) = file.tell(), mask.shape
        record["person"], record["ignored"] = np.count_nonzero(mask == PERSON), np.count_nonzero(mask == IGNORE)
        body = np.concatenate([image.ravel(), mask.ravel()])
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
