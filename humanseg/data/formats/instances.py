"""An instances file of COCO's as arrays. It is read once, and the arrays lie in the cache from then on."""

import contextlib
import json
import math
import os
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from humanseg.data import listing
from humanseg.data.cache import writable
from humanseg.data.formats import figures
from humanseg.runs.atomic import replacing
from humanseg.runs.reading import read_bytes

VERSION = 2  # of the arrays; a new version reads files anew
MOST_BYTES = 2**32  # of a file; COCO's own have an eighth of it
MOST_NESTED = 5 * 10**7  # objects and lists in it: each takes 50 bytes of memory and more
MOST_SIDE = 10**6  # pixels

PHOTOGRAPH = np.dtype([("end", "<i8"), ("digest", "<u8"), ("width", "<i4"), ("height", "<i4")])
SHAPE = np.dtype([("start", "<i8"), ("end", "<i8"), ("annotation", "<i8"), ("rle", "?"), ("ignored", "?")])

NEEDED = (
    "data=coco needs an instances file, as instances_train2017.json: with images, categories, and annotations that have "
    "a segmentation each"
)
OTHERS = {"keypoints": "keypoints", "segments_info": "panoptic segments"}  # what annotations of COCO's other files have


class Chosen(NamedTuple):
    """Which annotations count.

    `categories` are names and ids. Annotations of an area below `min_area`, square pixels, are ignored like crowds.
    `empty` tells that photographs stay in which nobody is.
    """

    categories: tuple[str | int, ...]
    min_area: float
    empty: bool


class Index(NamedTuple):
    """The chosen annotations of an instances file.

    `names` are the photographs' files in UTF-8, NUL between them, uint8. `photographs` has a PHOTOGRAPH each: behind which
    of the shapes its own end, a number that changes where its annotations do, and its size in pixels. `shapes` has a
    SHAPE for each polygon and RLE: where it lies in `numbers`, and its annotation's id. `numbers` is float64: x, y, x, y,
    ... of a polygon, and height, width and the lengths of the runs of an RLE.
    """

    names: np.ndarray
    photographs: np.ndarray
    shapes: np.ndarray
    numbers: np.ndarray


KINDS = Index(np.dtype(np.uint8), PHOTOGRAPH, SHAPE, np.dtype(np.float64))  # of its arrays


def open_index(path: str, chosen: Chosen, cache_dir: str | None) -> tuple[Index, list[str]]:
    """The index of an instances file, and what is wrong with entries of the file, in one sentence each.

    Args:
        cache_dir: where the index lies from the first time on that nothing is wrong. It is opened there without reading it.

    Raises:
        ValueError: the file can't be read, is another one of COCO's, or lacks a category; or cache_dir can't be written to.
    """
    if not cache_dir:
        return _read(path, chosen)
    try:
        found = os.stat(path)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    state = f"{os.path.abspath(path)}\0{found.st_size}\0{found.st_mtime_ns}\0{chosen}\0{VERSION}"
    key = blake2b(state.encode(errors="surrogateescape"), digest_size=16).hexdigest()
    files = [Path(cache_dir, f"instances_{key}_{part}.npy") for part in Index._fields]
    if stored := _stored(files):
        return stored, []
    index, problems = _read(path, chosen)
    if not problems:
        with writable(Path(cache_dir)):
            for file, part in zip(files, index, strict=True):
                with replacing(file) as temporary, temporary.open("wb") as opened:
                    np.save(opened, part, allow_pickle=False)
    return index, problems


def _stored(files: Sequence[Path]) -> Index | None:
    """An index that lies in the cache; None where there is none, or what is there is something else."""
    if not all(file.is_file() and not file.is_symlink() for file in files):
        return None
    with contextlib.suppress(OSError, ValueError, EOFError):
        index = Index(*(np.lib.format.open_memmap(file, mode="r") for file in files))
        return index if _fit_together(index) else None


def _fit_together(index: Index) -> bool:
    """Whether arrays may be those of an index: of its types, and as long as they say of each other."""
    if any(part.ndim != 1 or part.dtype != kind for part, kind in zip(index, KINDS, strict=True)):
        return False
    named = np.count_nonzero(index.names == 0) + 1 if len(index.names) else 0
    start, end, last = index.shapes["start"], index.shapes["end"], max(index.photographs["end"][-1:], default=0)
    sound = (start >= 0) & (start <= end) & (end <= len(index.numbers))
    return named == len(index.photographs) and last == len(index.shapes) and bool(sound.all())


def _read(path: str, chosen: Chosen) -> tuple[Index, list[str]]:
    images, annotations, categories = _sections(path)
    wanted = _ids(path, categories, chosen.categories)
    places, names, sizes, problems = _photographs(path, images)
    shapes = _Shapes(path, chosen.min_area)
    for number, annotation in enumerate(annotations):
        category = _ident(annotation.get("category_id")) if isinstance(annotation, dict) else None
        if category is None:
            problems.append(f"{path}: annotation {number} has no category_id")
        elif category in wanted and (image := _ident(annotation.get("image_id"))) in places:
            # People leave out images, and the annotations stay.
            shapes.add(annotation, places[image], names[places[image]])
    return _index(names, sizes, shapes, chosen.empty), problems + shapes.problems


def _sections(path: str) -> tuple[list, list, list]:
    """The images, annotations and categories of a file.

    Raises:
        ValueError: it can't be read, or is no instances file.
    """
    try:
        data = read_bytes(Path(path), MOST_BYTES)
        if data.count(b"[") + data.count(b"{") > MOST_NESTED:
            raise ValueError(f"it holds more than {MOST_NESTED} objects and lists")
        found = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    sections = [found.get(name) for name in ("images", "annotations", "categories")] if isinstance(found, dict) else []
    annotations = sections[1] if sections else found
    entries = (one for one in annotations if isinstance(one, dict)) if isinstance(annotations, list) else ()
    if other := next((what for one in entries for name, what in OTHERS.items() if one.get(name)), None):
        raise ValueError(f"{path} has {other}: {NEEDED}")
    if not sections or not all(isinstance(section, list) for section in sections):
        raise ValueError(f"{path} is no instances file: {NEEDED}")
    return tuple(sections)


def _ids(path: str, categories: list, asked: Sequence[str | int]) -> set[str]:
    """The ids of categories that are asked for by name or id.

    Raises:
        ValueError: some are not there; the sentence has those that are.
    """
    texts = {*map(str, asked)}
    known = [(_ident(one.get("id")), str(one.get("name"))) for one in categories if isinstance(one, dict)]
    known = [one for one in known if one[0]]
    ids = {ident for ident, name in known if {ident, name} & texts}
    if missing := sorted(texts.difference(*known)):
        named = figures.listed([f"{name} ({ident})" for ident, name in known])
        raise ValueError(f"data.categories: {path} has no {', '.join(missing)}; it has {named}")
    return ids


def _photographs(path: str, images: list) -> tuple[dict, list[str], list[tuple[int, int]], list[str]]:
    """The place of each image by its id; names; widths and heights; and what is wrong."""
    places, names, sizes, problems, seen = {}, [], [], [], set()
    for number, image in enumerate(images):
        image = image if isinstance(image, dict) else {}
        ident, name, size = _ident(image.get("id")), image.get("file_name"), (image.get("width"), image.get("height"))
        if not (ident and isinstance(name, str) and name and all(map(_is_side, size))):
            problems.append(f"{path}: image {number} needs an id, a file_name, a width and a height")
            continue
        name = name.replace("\\", "/")  # Windows' own
        if not listing.lies_below(name):
            problems.append(
                f"{path} names {name[: listing.LENGTH]}, which lies outside of the folder of its photographs"
            )
        elif ident in places or name in seen:
            problems.append(f"{path} has {name[: listing.LENGTH]}, or its id {figures.shown(ident)}, twice")
        else:
            places[ident] = len(names)
            seen.add(name)
            names.append(name)
            sizes.append((int(size[0]), int(size[1])))
    return places, names, sizes, problems


class _Shapes:
    """The shapes of annotations as they come, and what is wrong with the rest."""

    def __init__(self, path: str, min_area: float):
        self.path, self.min_area = path, min_area
        self.numbers, self.places, self.shapes, self.problems = array("d"), [], [], []

    def add(self, annotation: dict, place: int, name: str) -> None:
        """Add what an annotation draws on the photograph at a place."""
        ident, start, count = annotation.get("id"), len(self.numbers), len(self.shapes)
        ident = ident if type(ident) is int and abs(ident) < 2**62 else -1
        try:
            ignored = annotation.get("iscrowd") not in (None, 0, "0") or self._is_small(annotation)
            drawn = annotation.get("segmentation")
            for runs in [drawn] if isinstance(drawn, dict) else _polygons(drawn):
                begun = len(self.numbers)
                self.numbers.extend(_runs(runs) if isinstance(drawn, dict) else runs)
                self.shapes.append((begun, len(self.numbers), ident, isinstance(drawn, dict), ignored))
                self.places.append(place)
        except (ValueError, TypeError, OverflowError) as error:
            reason = error if type(error) is ValueError else "has a segmentation of other things than numbers"
            self.problems.append(f"{self.path}: annotation {figures.shown(annotation.get('id'))} ({name}) {reason}")
            del self.numbers[start:], self.shapes[count:], self.places[count:]

    def _is_small(self, annotation: dict) -> bool:
        if not self.min_area:
            return False
        if type(annotation.get("area")) not in (int, float):
            raise ValueError("has no area, which data.min_area asks for")
        return annotation["area"] < self.min_area


def _polygons(drawn: Any) -> list:
    """The polygons of a segmentation; some tools write a single one bare."""
    if not isinstance(drawn, list) or not drawn:
        raise ValueError("has no segmentation: polygons or an RLE are needed")
    return drawn if isinstance(drawn[0], list) else [drawn]


def _runs(rle: dict) -> Sequence[float]:
    """The height and width of an RLE, and the lengths of its runs, which are compressed or not."""
    size, counts = rle.get("size"), rle.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(map(_is_side, size))):
        raise ValueError("has an RLE without a size")
    if isinstance(counts, str):
        counts = decompressed(counts.encode(errors="replace")).tolist()
    if not isinstance(counts, list):
        raise ValueError("has an RLE without counts")
    return [*size, *counts]


def decompressed(text: bytes) -> np.ndarray:
    """The lengths of the runs of a compressed RLE, int64.

    A number has 5 bits in each character, the lowest first; bit 6 tells that more follow. From the fourth on it is the
    difference to the length before the last one. Source: rleFrString in COCO's maskApi.c, which trusts the text.

    Raises:
        ValueError: the text is no such RLE.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    last = codes & 32 == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    if not len(codes) or not last[-1] or codes.min() < 0 or codes.max() > 63 or lengths.max() > 7:
        raise ValueError("has a compressed RLE that is damaged")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << 5 * lengths, 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _index(names: list[str], sizes: list[tuple[int, int]], found: _Shapes, empty: bool) -> Index:
    """The arrays, the shapes in the order of their photographs."""
    numbers = np.array(found.numbers)
    shapes, places = np.array(found.shapes, SHAPE), np.array(found.places, np.int64)
    shapes = shapes[np.argsort(places, kind="stable")]
    counts = np.bincount(places, minlength=len(names))
    kept = np.flatnonzero(counts > 0) if not empty else np.arange(len(names))
    photographs = np.zeros(len(kept), PHOTOGRAPH)
    photographs["end"] = np.cumsum(counts)[kept]
    photographs["width"], photographs["height"] = np.array(sizes, np.int64).reshape(-1, 2)[kept].T
    start, drawn = 0, shapes.tolist()
    for photograph, (end, _, width, height) in zip(photographs, photographs.tolist(), strict=True):
        digest = blake2b(f"{width} {height}".encode(), digest_size=8)
        for begin, stop, _, rle, ignored in drawn[start:end]:
            digest.update(f"{stop - begin} {rle} {ignored}".encode())
            digest.update(numbers[begin:stop])
        photograph["digest"], start = int.from_bytes(digest.digest()), end
    listed = "\0".join(names[place] for place in kept.tolist())
    return Index(np.frombuffer(listed.encode(errors="surrogateescape"), np.uint8), photographs, shapes, numbers)


def _ident(value: Any) -> str | None:
    """An id as a text, as tools write 7, 7.0 and "7"; None for what is none."""
    value = int(value) if type(value) is float and value.is_integer() else value
    return str(value) if type(value) in (int, str) else None


def _is_side(value: Any) -> bool:
    return type(value) in (int, float) and 1 <= value <= MOST_SIDE and value == math.floor(value)
