"""What annotation tools write for a photograph: polygons and bitmaps, held against it and drawn as class ids."""

import base64
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from humanseg import terminal
from humanseg.data.masks import upright
from humanseg.data.names import Names
from humanseg.data.opening import MOST_PIXELS, PNG
from humanseg.data.photographs import compare
from humanseg.data.pictures import Size
from humanseg.data.transforms import IGNORE
from humanseg.runs.reading import load_json

MOST_BYTES = 100_000_000  # of a photograph's record: labelme writes the photograph itself into it
SHOWN = 3  # problems of one photograph in its sentence
LONGEST = 10**7  # pixels along a polygon's outline: to fill it takes up to a second, and pycocotools 100 bytes for each
NAMES, LENGTH = 100, 60  # labels in a sentence, and characters of one


class Annotations:
    """The labels of photographs that have an annotation's file each.

    Args:
        paths: the files; empty where a photograph has none, as nobody is in it.
        draw: makes class ids, uint8 HxW, of a file and of its photograph's size. Any picklable function that raises
            ValueError.
        rule: what else the labels depend on.
    """

    def __init__(self, paths: Sequence[str], draw: Callable[[str, Size], np.ndarray], rule: str):
        self.names, self.draw, self.rule = Names(paths), draw, rule

    def stamps(self, start: int, stop: int) -> list[tuple[str, str]]:
        return [(path, self.rule) for path in self.names.part(start, stop)]

    def read(self, index: int, photograph: Size) -> np.ndarray:
        return upright(self._drawn(index, photograph), photograph)

    def check(self, index: int, photograph: Size) -> str | None:
        """As for `Labels`. Everything is drawn once."""
        height, width = self._drawn(index, photograph).shape
        return compare(self.names[index], (width, height), photograph, turned=True)

    def _drawn(self, index: int, photograph: Size) -> np.ndarray:
        path = self.names[index]
        return self.draw(path, photograph) if path else np.zeros((photograph.height, photograph.width), np.uint8)


def refuse_absent(asked: list, labels_of: Callable[[str], Collection], paths: Iterable[str]) -> None:
    """Refuse labels that no figure has. Files are read until all were seen.

    What is wrong with a file is told when it is drawn; where none can be read, nothing is refused here.

    Args:
        asked: `data.labels`. labels_of: the labels in a file; it may raise ValueError. paths: the files.

    Raises:
        ValueError: some are nowhere; the sentence has those that are.
    """
    seen, broken = set(), False
    for path in paths:
        try:
            seen |= {*labels_of(path)}
        except ValueError:
            broken = True
        if seen.issuperset(asked):
            return
    if broken and not seen:
        return
    missing = ", ".join(str(one) for one in asked if one not in seen)
    raise ValueError(
        f"data.labels={asked}: nothing is labelled {missing}; the labels are {listed(sorted(map(str, seen)))}"
    )


def shown(value: object) -> str:
    """A value of a record for a sentence."""
    return terminal.cut(value, LENGTH)


def listed(values: Sequence[object]) -> str:
    """The first of some labels for a sentence that tells what is there."""
    return terminal.some(values, NAMES, LENGTH) or "none"


def values_of(labels: Sequence, ignored: Sequence) -> dict:
    """The class id of each label that is drawn: 1 for people, 255 for what counts in no loss and no metric."""
    return dict.fromkeys(ignored, IGNORE) | dict.fromkeys(labels, 1)


def several(labels: str | int | Sequence) -> list:
    """`data.labels`, or `data.categories`, which may be a single one, as a list."""
    return [labels] if isinstance(labels, str | int) else list(labels)


def record_of(path: str) -> dict:
    """A photograph's record in JSON, as plain data.

    Raises:
        ValueError: it can't be read, or is none.
    """
    try:
        return load_json(Path(path), MOST_BYTES, follow=True)
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error


def size_of(path: str, width: object, height: object, photograph: Size) -> tuple[int, int]:
    """The height and width that a record was made for, as it says; the photograph's where it says nothing.

    Raises:
        ValueError: they are no size, or too large.
    """
    if width is None and height is None:
        return photograph.height, photograph.width
    if type(width) is not int or type(height) is not int or min(width, height) < 1 or width * height > MOST_PIXELS:
        raise ValueError(f"{path} is for {shown(width)} x {shown(height)} pixels, and no photograph has such a size")
    return height, width


def draw_each(path: str, figures: Sequence, draw: Callable[[dict], None]) -> None:
    """Draw each figure of a record.

    Raises:
        ValueError: figures can't be drawn; the sentence names the first of them.
    """
    problems = []
    for number, figure in enumerate(figures, 1):
        try:
            if not isinstance(figure, dict):
                raise ValueError("is no record")
            draw(figure)
        except ValueError as error:
            problems.append(f"figure {number} {error}")
    refuse(path, problems)


def refuse(path: str, problems: Sequence[str]) -> None:
    """Raise ValueError with the first problems of a photograph's annotation, where there are some."""
    if problems:
        more = f"; and {len(problems) - SHOWN} more" * (len(problems) > SHOWN)
        raise ValueError(f"{path}: {'; '.join(problems[:SHOWN])}{more}")


def points_of(points: object, size: tuple[int, int], least: int) -> np.ndarray:
    """The points of a figure, float64 Nx2: x and y in pixels.

    Args:
        size: the height and width of what it is drawn on. least: how many points its kind needs.

    Raises:
        ValueError: they are too few, no finite numbers, or farther outside than the photograph is large.
    """
    try:
        found = np.array(points, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("has points that are no pairs of numbers") from error
    if found.size and (found.ndim != 2 or found.shape[1] != 2):
        raise ValueError("has points that are no pairs of numbers")
    found = found.reshape(-1, 2)
    refuse_unfit(found, size, least)
    return found


def refuse_unfit(points: np.ndarray, size: tuple[int, int], least: int) -> None:
    """Hold the points of a figure, float64 Nx2, against what it is drawn on.

    Args:
        size, least: as for `points_of`.

    Raises:
        ValueError: they are too few, no finite numbers, or farther outside than the photograph is large; or `refuse_long`
            raises it.
    """
    if len(points) < least:
        raise ValueError(f"has {len(points)} points, and needs {least}")
    if not np.isfinite(points).all():
        raise ValueError("has a point that is no number (NaN)")
    side = np.array(size[::-1])
    if (outside := ((points < -side) | (points > 2 * side)).any(axis=1)).any():
        x, y = points[outside][0]
        raise ValueError(f"has a point at {x:g}, {y:g}, far outside of {size[1]}x{size[0]} pixels")
    refuse_long(points, size)


def refuse_long(points: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse a polygon, float64 Nx2 in pixels, that runs to and fro: each crossing of a row takes time.

    Args:
        size: the height and width of what it is drawn on, from which its points are not farther than it is large.

    Raises:
        ValueError: its outline is too long.
    """
    if len(points) * max(size) > LONGEST / 3:  # else it can't be
        outline = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()
        if outline > LONGEST:
            raise ValueError(f"has an outline of {outline:.0f} pixels, and {LONGEST} are drawn at most")


def bitmap_of(text: object, corner: tuple[int, int], size: tuple[int, int], slack: int = 0) -> np.ndarray:
    """The bitmap of a figure, bool HxW: what is not transparent or, without transparency, not black.

    Args:
        text: a PNG in base64, compressed by zlib or not.
        corner: its left and top in pixels. size: the height and width of what it is drawn on.
        slack: how many pixels it may leave that by.

    Raises:
        ValueError: it can't be read, or leaves what it is drawn on.
    """
    try:
        data = base64.b64decode(text)
        if not data.startswith(PNG):  # a bomb of zlib ends where no bitmap of this size needs more
            data = zlib.decompressobj().decompress(data, 8 * size[0] * size[1] + 2**16)
        image = Image.open(BytesIO(data), formats=["PNG"])
    except Exception as error:  # decoders raise exceptions of all kinds
        raise ValueError(f"has a bitmap that can't be read: {_reason(error)}") from error
    ends = np.add(corner, image.size)
    if min(corner) < -slack or (ends > np.array(size[::-1]) + slack).any():
        raise ValueError(
            f"has a bitmap of {image.width}x{image.height} pixels at {corner[0]}, {corner[1]}, "
            f"which leaves the photograph's {size[1]}x{size[0]}"
        )
    try:
        if image.has_transparency_data:
            return np.asarray(image.convert("RGBA").getchannel("A")) > 0
        return np.asarray(image.convert("RGB")).any(axis=2)
    except Exception as error:
        raise ValueError(f"has a bitmap that can't be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no PNG"
    return terminal.reason(error)
