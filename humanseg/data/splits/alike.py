"""Photographs that look the same, or are each other's mirror image, by the perceptual hashes of each."""

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
ROWS, COLUMNS = 64, 8192  # hashes that are compared at once
HASHED = np.dtype([("key", "<u8"), ("hash", "<u8"), ("mirrored", "<u8")])
HASHED_NAME = "looks_v2.index"  # another version of HASHED, or of the hash, begins another file


def perceptual_hashes(image: np.ndarray) -> tuple[int, int]:
    """64 bits of which similar photographs share nearly all, by imagehash's phash, and those of its mirror image.

    Both are 0 for one that has no look of its own.

    Args:
        image: uint8 HxWx3 RGB.
    """
    import imagehash  # it takes a tenth of a second, which only those who compare photographs have to wait
    from PIL import Image

    image = resize_image(image, *shrunk_size(*image.shape[:2], HASHED_AT))
    if image.std() < FLAT:
        return 0, 0
    shown = Image.fromarray(image)
    bits = [imagehash.phash(one).hash for one in (shown, shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT))]
    return tuple(int.from_bytes(np.packbits(one).tobytes()) for one in bits)


def hashes(source: object, wanted: np.ndarray, folder: Path | None) -> np.ndarray:
    """The hashes of each of some samples, records of HASHED; 0 for those that can't be read.

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
            known["hash"][left], known["mirrored"][left] = np.array([*bar], np.uint64).T
        if table:
            known["key"][left] = keys[wanted[left]]
            note(table, known[left])
    return known


def note(table: Table, records: np.ndarray) -> None:
    """Keep hashes."""
    with table.alone():
        table.add(records[records["key"] != 0])


def _hash(source: object, index: int) -> tuple[int, int]:
    try:
        image = read_shrunk(source.names[index], HASHED_AT)[0] if hasattr(source, "keys") else source[index][0]
    except ValueError:
        return 0, 0
    return perceptual_hashes(image)


def first_alike(looks: np.ndarray, content: np.ndarray) -> np.ndarray:
    """For each photograph the place of the first one before it that looks the same, or mirrored, or has the same content; else -1.

    Args:
        looks: records of HASHED. content: a number for each, which equal files share; 0 for unknown.
    """
    count, equal = len(looks), first_equal(content)
    found = np.where(equal >= 0, equal, count)
    known = np.flatnonzero(looks["hash"])
    with ThreadPoolExecutor(cores(alone=True)) as pool:
        for sought in ("hash", "mirrored"):
            hashes, wanted = (np.ascontiguousarray(looks[name]) for name in ("hash", sought))
            for band in range(NEAR + 1):  # of so many bands two that differ in NEAR bits have one in common
                rows, columns = (_by_band(some[known], band) for some in (hashes, wanted))
                both = rows.keys() & columns.keys()  # no column is in two of them
                pairs = ([known[places[value]] for value in both] for places in (rows, columns))
                list(pool.map(partial(_look_before, hashes, wanted, found), *pairs))
    return np.where(found < count, found, -1)


def first_equal(content: np.ndarray) -> np.ndarray:
    """For each photograph the place of the first one, if it lies before it, that has the same content; else -1."""
    _, first, group = np.unique(content, return_index=True, return_inverse=True)
    return np.where((first[group] < np.arange(len(content))) & (content != 0), first[group], -1)


def _by_band(hashes: np.ndarray, band: int) -> dict[int, np.ndarray]:
    """The places of hashes, in ascending order, by what they have in some of their bits."""
    start, stop = (64 * edge // (NEAR + 1) for edge in (band, band + 1))
    values = hashes >> np.uint64(start) & np.uint64((1 << stop - start) - 1)
    order = np.argsort(values, kind="stable")
    numbers, starts = np.unique(values[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def _look_before(
    hashes: np.ndarray, wanted: np.ndarray, found: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> None:
    """Note in `found` for each column the first row before it whose hash is near the one that it wants."""
    for part in np.array_split(columns, -(-len(columns) // COLUMNS)):
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            part = part[np.minimum(part, found[part]) > some[0]]  # the others lie before, or have found an earlier one
            if not len(part):
                break
            near = np.bitwise_count(hashes[some][:, None] ^ wanted[part]) <= NEAR
            near &= some[:, None] < part
            first = np.where(near.any(0), some[near.argmax(0)], len(found))
            found[part] = np.minimum(found[part], first)
