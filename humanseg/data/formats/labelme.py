"""``data=labelme``: photographs with labelme's JSON beside them."""

import logging
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import PureWindowsPath

import numpy as np
from PIL import Image, ImageDraw

from humanseg.data import listing
from humanseg.data.formats import figures
from humanseg.data.formats.figures import Annotations
from humanseg.data.listing import Found
from humanseg.data.opening import budget, is_photograph
from humanseg.data.photographs import Photographs, open_found, refuse_more_classes
from humanseg.data.pictures import Size

log = logging.getLogger(__name__)

LEAST = {  # points of each kind of shape
    **{"polygon": 3, "rectangle": 2, "oriented_rectangle": 3, "circle": 2},
    **{"line": 2, "linestrip": 2, "point": 1, "mask": 2},
}
LINE_WIDTH, POINT_RADIUS = 10, 5  # pixels, as in labelme's own export
BACKGROUND = "_background_"  # labelme's own label: drawn over a person it cuts a hole


def labelme(
    root: str | None,
    val_root: str | None = None,
    test_root: str | None = None,
    labels: str | Sequence[str] = ("person",),
    ignored: Sequence[str] = ("__ignore__",),
    classes: int = 1,
    cache_dir: str | None = None,
    on_error: str = "raise",
) -> dict[str, Photographs | None]:
    """Sources from folders of photographs with labelme's records; keys ``train``, ``val``, ``test``.

    A photograph without a record is passed over: nobody has looked at it.

    Args:
        labels: of people. ignored: of what counts in no loss and no metric. Shapes with other labels are background.
        classes: of the network. cache_dir, on_error: as for `open_sources`.

    Raises:
        ValueError: a folder is missing or empty, no shape has one of the labels, or files can't be read (all listed).
    """
    refuse_more_classes(classes)
    labels = figures.several(labels)
    values = {BACKGROUND: 0} | figures.values_of(labels, ignored)
    draw = partial(drawn, values=values)

    def make(found: Found) -> Photographs:
        return Photographs(found.images, Annotations(found.masks, draw, str(values)))

    sources = open_found(listing.each_side("root", (root, val_root, test_root)), _found, make, cache_dir, on_error)
    if records := [path for one in sources.values() if one for path in one.labels.names]:
        figures.refuse_absent(labels, _labels, records)
    return sources


def _found(key: str, root: str) -> Found:
    """The photographs below a folder that have a record: one of the same name beside them, or one that names them."""
    root = listing.typed_folder(key, root)
    names, photographs, records, problems, others = list(listing.below(root)), {}, {}, [], []
    for name in filter(is_photograph, names):
        photographs.setdefault(os.path.splitext(name)[0], []).append(name)
    for name in (name for name in names if name.lower().endswith(".json")):
        beside = photographs.get(os.path.splitext(name)[0], [])
        try:
            image = f"{root}/{beside[0]}" if len(beside) == 1 else _named(root, name)
        except ValueError as error:
            problems.append(str(error))
            continue
        if image is None:
            others.append(name)
        elif image in records:
            problems.append(f"{root}/{name} and {records[image]} are for the same photograph")
        else:
            records[image] = f"{root}/{name}"
    if others:
        log.info("data       %s: passed over %d .json files that are no records of labelme's", root, len(others))
    if bare := sum(map(len, photographs.values())) - len(records):
        log.info("data       %s: passed over %d photographs without a record", root, bare)
    if not records and not problems:
        problems = [f"{key}: {root} holds no photograph with labelme's .json beside it"]
    return Found([*records], [*records.values()], problems)


def _named(root: str, name: str) -> str | None:
    """The photograph that a record names; None where the file is no record of labelme's.

    Raises:
        ValueError: it can't be read, or names no photograph below the folder.
    """
    record = figures.record_of(f"{root}/{name}")
    if "shapes" not in record:
        return None
    try:
        if not isinstance(record.get("imagePath"), str):
            raise ValueError("names no photograph (imagePath)")
        return listing.inside(root, PureWindowsPath(record["imagePath"]).as_posix(), os.path.dirname(name))
    except ValueError as error:
        raise ValueError(f"{root}/{name} {error}") from error


def _labels(path: str) -> set[str]:
    found = [shape.get("label") for shape in _record(path)["shapes"] if isinstance(shape, dict)]
    return {label for label in found if isinstance(label, str)}


def _record(path: str) -> dict:
    """A record, which has a list of shapes.

    Raises:
        ValueError: it can't be read, or is no record of labelme's.
    """
    record = figures.record_of(path)
    if not isinstance(record.get("shapes"), list):
        raise ValueError(f"{path} is no record of labelme's: it has no shapes")
    return record


def drawn(path: str, photograph: Size, values: dict[str, int]) -> np.ndarray:
    """The class ids of a record, uint8 HxW, as labelme's own export draws its shapes: each over those before it.

    Labelme turns a photograph by its EXIF before it shows it, so shapes are upright.

    Args:
        values: the class id of each label that is drawn.

    Raises:
        ValueError: it is no record of labelme's, or has shapes that can't be drawn.
    """
    record = _record(path)
    height, width = figures.size_of(path, record.get("imageWidth"), record.get("imageHeight"), photograph)
    with budget.take(height * width):
        canvas = Image.new("L", (width, height))
        figures.draw_each(path, record["shapes"], partial(_draw, canvas, ImageDraw.Draw(canvas), values))
        return np.asarray(canvas)


def _draw(canvas: Image.Image, draw: ImageDraw.ImageDraw, values: dict[str, int], shape: dict) -> None:
    label, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    if not isinstance(label, str):
        raise ValueError("has no label")
    if label not in values:
        return
    if not isinstance(kind, str) or kind not in LEAST:
        raise ValueError(f"({label}) is a {figures.shown(kind)}, and these are read: {', '.join(LEAST)}")
    value, size = values[label], canvas.size[::-1]
    points = figures.points_of(shape.get("points"), size, LEAST[kind])
    if kind == "mask":
        left, top = (math.floor(side + 0.5) for side in points[0].tolist())
        patch = figures.bitmap_of(shape.get("mask"), (left, top), size, slack=1)  # its corner was rounded
        canvas.paste(value, (left, top), Image.fromarray(patch))
    elif kind in ("circle", "point"):
        radius = POINT_RADIUS if kind == "point" else math.dist(*points[:2].tolist())
        draw.ellipse([*(points[0] - radius), *(points[0] + radius)], fill=value, outline=value)
    elif kind in ("line", "linestrip"):
        draw.line(points.ravel().tolist(), fill=value, width=LINE_WIDTH, joint="curve")
    elif kind == "rectangle":
        draw.rectangle([*points.min(axis=0), *points.max(axis=0)], fill=value, outline=value)
    else:
        draw.polygon(points.ravel().tolist(), fill=value, outline=value)
