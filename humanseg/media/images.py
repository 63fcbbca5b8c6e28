"""Photographs are found and read here, and pictures written; here it is decided what ``input=`` names.

Videos are in `video_reader` and `video_writer`, cameras in `camera`.
"""

import io
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
from PIL import Image, ImageOps, features

from humanseg.data import listing
from humanseg.data.listing import SUFFIXES
from humanseg.data.pictures import DECODERS, read_image
from humanseg.runs.atomic import write_bytes

PHOTOGRAPHS = SUFFIXES | {".gif"}
VIDEOS = {
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"),
}
BY_PILLOW = {".tif": "TIFF", ".tiff": "TIFF"} | ({".avif": "AVIF"} if features.check("avif") else {})
WRITTEN = {".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", *BY_PILLOW}
WITH_ALPHA = {".png", ".webp", *BY_PILLOW}
WITH_16_BITS = {".png", ".tif", ".tiff"}
MOST_DECODED = 500_000_000  # pixels: 2 GB as RGBA; a file of a few KB may claim a thousand times as many
ANIMATED = {"GIF", "WEBP", "PNG"}  # other formats of several pictures, such as a phone's MPO, hold one photograph

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
    if not all(left_out(path) for item in items for path in _named_by(item, PHOTOGRAPHS)[1]):
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
    return _find(typed, left_out, PHOTOGRAPHS, "photograph")


def find_videos(typed: str | list[str], left_out: Callable[[Path], bool] | None = None) -> list[Photograph]:
    """Videos, named and placed as photographs are by `find_photographs`."""
    return _find(typed, left_out, VIDEOS, "video")


def _find(
    typed: str | list[str], left_out: Callable[[Path], bool] | None, suffixes: set[str], what: str
) -> list[Photograph]:
    paths, roots = [], []
    for item in _items(typed):
        root, files = _named_by(item, suffixes)
        paths += files
        roots.append(os.path.abspath(root))
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


def _named_by(item: Path, suffixes: set[str]) -> tuple[Path, list[Path]]:
    """(folder that places are relative to, files of these suffixes) of an image, a video, a folder or a glob.

    A file that is named itself and is no video is read as an image, whatever its suffix is.
    """
    folder, files = listing.named(item)
    if files != [item]:
        return folder, sorted(path for path in files if _is(path, suffixes))
    return folder, files if _is(item, VIDEOS) == (suffixes is VIDEOS) else []


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


def read_photograph(path: Path | str, most_pixels: int = 50_000_000) -> tuple[np.ndarray, str | None]:
    """uint8 HxWx3 RGB, upright, and None or a sentence that the user should read.

    The sentence says that the photograph was scaled down, or that it is the first picture of an animation.

    Args:
        most_pixels: a larger photograph is scaled down to so many.

    Raises:
        ValueError: the file is missing, empty, truncated, no image, or too large to be decoded at all.
    """
    try:
        if os.path.getsize(path) == 0:
            raise ValueError(f"{path} is empty")
        with Image.open(path, formats=DECODERS) as image:
            width, height = image.size
            moving = image.format in ANIMATED and getattr(image, "is_animated", False)
        if width * height > MOST_DECODED:
            raise ValueError(
                f"{path} has {width}x{height} pixels and at most {MOST_DECODED // 10**6} million can be read"
            )
        if width * height <= most_pixels:
            return read_image(path), f"{path} is animated: its first picture was used" if moving else None
        image = _read_smaller(path, most_pixels)
        size = f"{image.shape[1]}x{image.shape[0]}"
        return image, f"{path} was scaled down from {width}x{height} to {size} pixels to spare memory"
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"{path} can't be read: {reason}") from error


def _read_smaller(path: Path | str, most_pixels: int) -> np.ndarray:
    """As `read_image`, with at most `most_pixels`. A JPEG is decoded at a reduced scale."""
    with Image.open(path, formats=DECODERS) as image:
        scale = (most_pixels / (image.width * image.height)) ** 0.5
        size = max(int(image.width * scale), 1), max(int(image.height * scale), 1)
        image.draft("RGB", size)  # a JPEG is decoded at a half, a quarter or an eighth, no smaller than asked for
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))  # 16 bits
        elif image.mode not in ("L", "RGB"):
            image = image.convert("RGB")  # indices of a palette can't be averaged
        image.thumbnail(size, Image.Resampling.BOX)
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def on_white(image: np.ndarray) -> np.ndarray:
    """uint8 HxWx4 RGBA -> the picture on white, uint8 HxWx3."""
    colours, alpha = image[..., :3].astype(np.uint16), image[..., 3:].astype(np.uint16)
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def write_image(path: Path | str, array: np.ndarray) -> None:
    """Write a picture whole or not at all, in the format that the suffix names; folders are made.

    Args:
        array: uint8 HxW, HxWx3 RGB or HxWx4 RGBA, or uint16 HxW (png and tif). In formats without transparency, RGBA
            is put on white. A WebP or AVIF without colours is lossless: it is a mask or a probability.

    Raises:
        ValueError: the suffix is unknown, or the file can't be written.
    """
    path = Path(path)
    data = _encoded(path, array)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    except OSError as error:
        raise ValueError(f"{path} can't be written: {error.strerror or error}") from error


def _encoded(path: Path, array: np.ndarray) -> memoryview:
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise ValueError(f"{path} can't be written: an image's name ends in {', '.join(sorted(WRITTEN))}")
    if array.dtype == np.uint16 and suffix not in WITH_16_BITS:
        raise ValueError(f"{path} can't be written: 16 bits need a .png or .tif")
    if array.ndim == 3 and array.shape[2] == 4 and suffix not in WITH_ALPHA:
        array = on_white(array)
    if suffix in BY_PILLOW:  # OpenCV's TIFF doesn't say that its fourth channel is alpha
        return _by_pillow(path, array, BY_PILLOW[suffix])
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGBA2BGRA if array.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    quality = {**QUALITY, ".webp": (cv2.IMWRITE_WEBP_QUALITY, LOSSLESS if array.ndim == 2 else 90)}
    try:
        written, data = cv2.imencode(suffix, array, quality.get(suffix, ()))  # PNG's own defaults are the fastest
    except cv2.error as error:  # for example a WebP of more than 16383 pixels a side
        raise ValueError(f"{path} can't be written: {array.shape[1]}x{array.shape[0]} pixels: {error.err}") from error
    if not written:
        raise ValueError(f"{path} can't be written: {array.shape[1]}x{array.shape[0]} pixels are too many for {suffix}")
    return data.data


def _by_pillow(path: Path, array: np.ndarray, format: str) -> memoryview:
    how = {"compression": "tiff_lzw"} if format == "TIFF" else {"quality": 100 if array.ndim == 2 else 90}
    data = io.BytesIO()
    try:
        Image.fromarray(array).save(data, format, **how)
    except (OSError, ValueError) as error:  # for example an AVIF of more than 65536 pixels a side
        raise ValueError(f"{path} can't be written: {array.shape[1]}x{array.shape[0]} pixels: {error}") from error
    return data.getbuffer()
