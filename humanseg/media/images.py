"""Photographs are found here, and pictures written; here it is decided what ``input=`` names.

Photographs are read in `data.pictures`. Videos are in `video_reader` and `video_writer`, cameras in `camera`.
"""

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from glob import has_magic
from itertools import chain, count
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image, features

from humanseg.data import listing
from humanseg.data.colour import hidden, strips
from humanseg.data.deep import LARGE
from humanseg.data.opening import MOST_PIXELS, SUFFIXES, passed_over
from humanseg.runs.atomic import replacing, write_bytes

log = logging.getLogger(__name__)

VIDEOS = {
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"),
}
BY_PILLOW = {".tif": "TIFF", ".tiff": "TIFF"} | ({".avif": "AVIF"} if features.check("avif") else {})
WRITTEN = {".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", *BY_PILLOW}
WITH_ALPHA = {".png", ".webp", *BY_PILLOW}
WITH_16_BITS = {".png", ".tif", ".tiff"}
LONGEST = {".webp": 16383, ".avif": 65536, **dict.fromkeys((".jpg", ".jpeg", ".jpe"), 65500)}  # pixels of a side
GREEDY = {".webp", ".avif"}  # their encoders take some 30 bytes a pixel
ROOM = 2**20  # bytes that a full disk does not have

LOSSLESS = 101  # OpenCV writes WebP without loss from this quality on
QUALITY = {".jpg": (cv2.IMWRITE_JPEG_QUALITY, 95), ".jpeg": (cv2.IMWRITE_JPEG_QUALITY, 95)}


class Photograph(NamedTuple):
    """A file, and the place below the output of what is made of it.

    `place` has no suffix, and each photograph of a call has its own. Its name may hold dots (``a.b``), so add to it as
    to a string: ``f"{place}.png"``.
    """

    path: Path
    place: Path


def kind(
    typed: str | int | list, left_out: Callable[[Path], bool] = lambda path: False
) -> Literal["photographs", "videos", "camera"]:
    """What ``input=`` names. A number or a stream's URL that is no file is a camera; suffixes tell
    what files are.

    Where photographs and videos lie in one folder it is the photographs: a pattern, as ``"DIR/*.mp4"``, names the others.

    Args:
        left_out: as for `find_photographs`.

    Raises:
        ValueError: there is no such file, or photographs and videos are named one by one.
    """
    if not isinstance(typed, (list, tuple)):
        is_stream = re.match(r"[a-z][a-z0-9+.-]*://", str(typed), re.IGNORECASE)
        if (is_stream or str(typed).isdigit()) and not listing.on_disk(typed).exists():
            return "camera"
    items = _items(typed)
    if not all(left_out(path) for item in items for path in _named_by(item, SUFFIXES)[1]):
        if films := [item for item in items if _is(item, VIDEOS) and item.is_file()]:
            raise ValueError(f"input= names photographs and videos, as {films[0]}: they are drawn in two calls")
        return "photographs"
    return "videos" if any(_named_by(item, VIDEOS)[1] for item in items) else "photographs"


def find_photographs(typed: str | list[str], left_out: Callable[[Path], bool] | None = None) -> list[Photograph]:
    """Photographs of an image, a folder with all below it, a glob, a list file, or several of these.

    A list file (.txt) has a path a line, relative to the file. A result's place is the photograph's path below the
    folder that holds them all: the typed folder, the fixed part of the glob, else the deepest folder that they share.
    In folders and globs, names that start with a dot are skipped. A missing photograph of a list file is kept: reading
    reports it, and the others are used.

    Args:
        left_out: tells files that are no photographs, such as earlier results.

    Raises:
        ValueError: something typed does not exist, or no photograph was found.
    """
    return _find(typed, left_out, SUFFIXES, "photograph")


def find_videos(typed: str | list[str], left_out: Callable[[Path], bool] | None = None) -> list[Photograph]:
    """Videos, named and placed as photographs are by `find_photographs`."""
    return _find(typed, left_out, VIDEOS, "video")


def _find(
    typed: str | list[str], left_out: Callable[[Path], bool] | None, suffixes: set[str], what: str
) -> list[Photograph]:
    paths, roots, others = [], [], []
    for item in _items(typed):
        root, files, passed = _named_by(item, suffixes)
        others += passed
        paths += files
        roots.append(os.path.abspath(root))
    if others:
        log.info("input      passed over %s", passed_over(others))
    if not paths:
        accepted = " ".join(sorted(suffix[1:] for suffix in suffixes))
        raise ValueError(f"input={typed} names no {what}; these are read: {accepted}")
    return list(_placed([path for path in paths if not (left_out and left_out(path))], os.path.commonpath(roots)))


def _items(typed: str | list[str]) -> list[Path]:
    """The files, folders and globs that ``input=`` names, those in list files included."""
    items = list(typed) if isinstance(typed, (list, tuple)) else [str(typed)]
    absent = [str(item) for item in items if not (listing.on_disk(item).exists() or has_magic(str(item)))]
    if absent or not all(map(str, items)):
        raise ValueError(_absent(absent))
    return list(chain.from_iterable(map(listing.items, items)))


def _absent(items: list[str]) -> str:
    return (
        f"input={', '.join(items)} does not exist; it takes an image, a folder, a glob, a list file (.txt), a video, "
        "a camera's number or a stream's URL"
    )


def _named_by(item: Path, suffixes: set[str]) -> tuple[Path, list[Path], list[str]]:
    """Of an image, a video, a folder or a glob: the folder that places are relative to, files of these suffixes, others' names.

    A file that is named itself and is no video is read as an image, whatever its suffix is.
    """
    folder, files = listing.named(item)
    if files != [item]:
        others = [path.name for path in files if not _is(path, suffixes)]
        return folder, sorted(path for path in files if _is(path, suffixes)), others
    return folder, files if _is(item, VIDEOS) == (suffixes is VIDEOS) else [], []


def _is(path: Path | str, suffixes: set[str]) -> bool:
    return os.path.splitext(path)[1].lower() in suffixes


def _placed(paths: Iterable[Path], root: str) -> Iterator[Photograph]:
    """Each file once, at a place of its own: its name without the suffix, or with it where others have the same.

    Names that differ in case or in the form of their accents count as the same: some systems can't hold both.
    """
    files = {}
    for path in paths:
        files.setdefault(os.path.abspath(path), path)
    names = {file: os.path.relpath(file, root) for file in files}
    places = {file: os.path.splitext(name)[0] for file, name in names.items()}
    while True:
        claims = Counter(map(_folded, places.values()))
        crowded = [file for file, place in places.items() if claims[_folded(place)] > 1 and place != names[file]]
        if not crowded:
            break
        places |= {file: names[file] for file in crowded}
    taken = set()
    for file, path in files.items():
        choices = chain([places[file]], (f"{places[file]}_{number}" for number in count(2)))
        place = next(choice for choice in choices if _folded(choice) not in taken)
        taken.add(_folded(place))
        yield Photograph(path, Path(place))


def _folded(name: str) -> str:
    """The same for names that a file system may take for the same."""
    return unicodedata.normalize("NFC", name.lower())


def write_image(path: Path | str, array: np.ndarray, keep: bool = True) -> None:
    """Write a picture whole or not at all, in the format that the suffix names; folders are made.

    Args:
        array: uint8 HxW, HxWx3 RGB or HxWx4 RGBA, or uint16 HxW (png and tif). In formats without transparency, RGBA
            is put on white. A WebP or AVIF without colours is lossless: it is a mask or a probability.
        keep: leave the array as it is. Otherwise its channels change places in it, which spares memory.

    Raises:
        ValueError: the suffix is unknown, the picture is too large for it, or the file can't be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise ValueError(f"{path} can't be written: an image's name ends in {', '.join(sorted(WRITTEN))}")
    if array.dtype == np.uint16 and suffix not in WITH_16_BITS:
        raise ValueError(f"{path} can't be written: 16 bits need a .png or .tif")
    refuse_size(path, *array.shape[:2])
    if array.ndim == 3 and array.shape[2] == 4 and suffix not in WITH_ALPHA:
        array, keep = hidden(array[..., :3], array[..., 3]), False
    data = None if suffix in BY_PILLOW else _encoded(path, array, keep)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:  # OpenCV's TIFF doesn't say that its fourth channel is alpha
            _save_by_pillow(path, array, BY_PILLOW[suffix])
        else:
            write_bytes(path, data)
    except OSError as error:
        raise ValueError(f"{path} can't be written: {error.strerror or error}") from error


def refuse_size(path: Path, height: int, width: int) -> None:
    """Refuse a picture that is too large for the format of its name, or for that format's encoder.

    Raises:
        ValueError: it is.
    """
    suffix = path.suffix.lower()
    side, pixels = LONGEST.get(suffix, MOST_PIXELS), LARGE if suffix in GREEDY else MOST_PIXELS
    if max(height, width) > side or height * width > pixels:
        limits = f"at most {pixels // 10**6} million pixels" + f" and {side} a side" * (suffix in LONGEST)
        raise ValueError(
            f"{path} can't be written: {width}x{height} pixels, and a {suffix} has {limits}: give .png or .tif"
        )


def _encoded(path: Path, array: np.ndarray, keep: bool) -> memoryview:
    suffix = path.suffix.lower()
    if array.ndim == 3:
        target = np.empty_like(array) if keep else array
        for part in strips(*array.shape[:2]):
            target[part] = cv2.cvtColor(array[part], cv2.COLOR_RGBA2BGRA if array.shape[2] == 4 else cv2.COLOR_RGB2BGR)
        array = target
    quality = {**QUALITY, ".webp": (cv2.IMWRITE_WEBP_QUALITY, LOSSLESS if array.ndim == 2 else 90)}
    try:
        written, data = cv2.imencode(suffix, array, quality.get(suffix, ()))  # PNG's own defaults are the fastest
    except cv2.error as error:
        raise ValueError(f"{path} can't be written: {array.shape[1]}x{array.shape[0]} pixels: {error.err}") from error
    if not written:
        raise ValueError(f"{path} can't be written: {array.shape[1]}x{array.shape[0]} pixels are too many for {suffix}")
    return data.data


def _save_by_pillow(path: Path, array: np.ndarray, format: str) -> None:
    """Straight into the file: in memory libtiff would hold it twice.

    Raises:
        OSError: it can't be written.
    """
    how = {"compression": "tiff_lzw"} if format == "TIFF" else {"quality": 100 if array.ndim == 2 else 90}
    with replacing(path) as temporary:
        try:
            Image.fromarray(array).save(temporary, format, **how)
        except OSError:  # libtiff gives no reason; where the disk is full, the system does
            with temporary.open("ab") as file:
                file.write(bytes(ROOM))
            raise
