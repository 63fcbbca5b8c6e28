"""Photographs that look the same, by the perceptual hash of each."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from humanseg.data.cache import Table
from humanseg.data.pictures import read_shrunk
from humanseg.data.transforms import resize_image, shrunk_size
from humanseg.processes.hardware import cores

NEAR = 8  # of 64 bits: photographs that differ in no more look the same. Of 3,911 all such pairs did; at 10 one of three did not
FLAT = 6  # grey levels: a photograph that deviates less from its mean has no look of its own
HASHED_AT = 128  # pixels: the longer side of what is hashed
ROWS, COLUMNS = 32, 16384  # hashes that are compared at once
HASHED = np.dtype([("key", "<u8"), ("hash", "<u8")])
HASHED_NAME = "looks_v1.index"  # another version of HASHED, or of the hash, begins another file


def perceptual_hash(image: np.ndarray) -> int:
    """64 bits of which similar photographs share nearly all, by imagehash's phash; 0 for one that has no look of its own.

    Args:
        image: uint8 HxWx3 RGB.
    """
    import imagehash  # it takes a tenth of a second, which only those who compare photographs have to wait
    from PIL import Image

    image = resize_image(image, *shrunk_size(*image.shape[:2], HASHED_AT))
    if image.std() < FLAT:
        return 0
    return int.from_bytes(np.packbits(imagehash.phash(Image.fromarray(image)).hash).tobytes())


def hashes(source: object, wanted: np.ndarray, folder: Path | None) -> np.ndarray:
    """The hash of each of some samples, uint64; 0 for those that can't be read.

    Args:
        wanted: their indices. folder: what it knows is not hashed again; None: nothing is known.
    """
    keys = getattr(source, "keys", None)
    table = Table(folder / HASHED_NAME, HASHED) if folder is not None and keys is not None else None
    known = table.find(keys[wanted]) if table else np.zeros(len(wanted), HASHED)
    left = np.flatnonzero(known["key"] == 0)
    if len(left):
        with ThreadPoolExecutor(cores(alone=True)) as pool:
            found = pool.map(lambda index: _hash(source, index), wanted[left].tolist())
            bar = tqdm(found, "looks", len(left), unit=" photographs", leave=False, disable=None)
            known["hash"][left] = np.fromiter(bar, np.uint64, len(left))
        if table:
            known["key"][left] = keys[wanted[left]]
            note(table, known[left])
    return known["hash"]


def note(table: Table, records: np.ndarray) -> None:
    """Keep hashes."""
    with table.alone():
        table.add(records[records["key"] != 0])


def _hash(source: object, index: int) -> int:
    try:
        image = read_shrunk(source.names[index], HASHED_AT)[0] if hasattr(source, "keys") else source[index][0]
    except ValueError:
        return 0
    return perceptual_hash(image)


def first_alike(looks: np.ndarray, content: np.ndarray) -> np.ndarray:
    """For each photograph the place of the first one before it that looks the same, or has the same content; else -1.

    Args:
        looks: perceptual hashes, uint64, 0 for unknown. content: a number for each, which equal files share; 0 for unknown.
    """
    found = np.full(len(looks), len(looks), np.int64)
    _, first, group = np.unique(content, return_index=True, return_inverse=True)
    found = np.where((first[group] < np.arange(len(looks))) & (content != 0), first[group], found)
    known = np.flatnonzero(looks)
    with ThreadPoolExecutor(cores(alone=True)) as pool:
        parts = list(pool.map(partial(_first_near, looks[known]), range(0, len(known), COLUMNS)))
    nearest = np.concatenate([np.zeros(0, np.int64), *parts])
    near = nearest < len(known)
    found[known[near]] = np.minimum(found[known[near]], known[nearest[near]])
    return np.where(found < len(looks), found, -1)


def _first_near(looks: np.ndarray, start: int) -> np.ndarray:
    """For COLUMNS hashes from `start` on the place of the first one before each that is near; else how many there are."""
    columns, found = looks[start : start + COLUMNS], np.full(len(looks[start : start + COLUMNS]), len(looks))
    places = start + np.arange(len(columns))
    for row in range(0, start + len(columns), ROWS):
        rows = looks[row : row + ROWS]
        near = np.bitwise_count(rows[:, None] ^ columns) <= NEAR
        if near.any():
            near &= (row + np.arange(len(rows)))[:, None] < places
            found = np.where(near.any(0), np.minimum(found, row + near.argmax(0)), found)
    return found
