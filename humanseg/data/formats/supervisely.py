"""``data=supervisely``: projects in Supervisely's layout, as its data set of people is."""

import os
from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np

from humanseg.data import listing
from humanseg.data.formats import figures
from humanseg.data.formats.figures import Annotations
from humanseg.data.listing import Found
from humanseg.data.opening import budget, is_photograph
from humanseg.data.photographs import Photographs, open_places, refuse_more_classes
from humanseg.data.pictures import Size
from humanseg.data.transforms import IGNORE

KINDS = ("bitmap", "polygon", "rectangle")


def supervisely(
    root: str | None,
    val_root: str | None = None,
    test_root: str | None = None,
    labels: str | Sequence[str] = ("person_bmp", "person_poly"),
    ignored: Sequence[str] = ("neutral",),
    unlabelled_tags: Sequence[str] = ("not-marked-people",),
    classes: int = 1,
    cache_dir: str | None = None,
    on_error: str = "raise",
) -> dict[str, Photographs | None]:
    """Sources from projects: ``meta.json``, and data sets with ``img/`` and ``ann/``; keys ``train``, ``val``, ``test``.

    Args:
        labels: classes of people. ignored: classes that count in no loss and no metric. Other classes are background.
        unlabelled_tags: a photograph with one of these tags shows people who are not labelled: what is no person counts
            in no loss and no metric.
        classes: of the network. cache_dir, on_error: as for `open_sources`.

    Raises:
        ValueError: a project is missing or empty, meta.json lacks a class, or files don't match, can't be read or don't
            fit (all listed).
    """
    refuse_more_classes(classes)
    labels, tags = figures.several(labels), tuple(unlabelled_tags)
    values = figures.values_of(labels, ignored)

    def project(side: str, key: str, path: str) -> tuple[dict[str, Photographs], list[str]]:
        """The source of a project, and what is wrong with its files."""
        folder = listing.typed_folder(key, path)
        draw = partial(drawn, kinds=_kinds(f"{folder}/meta.json", labels), values=values, tags=tags)
        found = _found(key, folder)
        annotations = Annotations(found.masks, draw, f"{values} {sorted(tags)}")
        return {side: Photographs(found.images, annotations)}, found.problems

    places = listing.each_side("root", (root, val_root, test_root))
    return open_places(places, project, cache_dir, on_error)


def _kinds(path: str, labels: Sequence[str]) -> dict[str, str]:
    """The kind of figure of each class of a project, by the class' name.

    Raises:
        ValueError: meta.json can't be read, or lacks one of the labels.
    """
    listed = figures.record_of(path).get("classes")
    if not isinstance(listed, list) or not all(
        isinstance(one, dict) and isinstance(one.get("title"), str) for one in listed
    ):
        raise ValueError(f"{path} is no meta.json of Supervisely's: it has no classes with titles")
    classes = {one["title"]: one.get("shape") for one in listed}
    if missing := [label for label in labels if label not in classes]:
        raise ValueError(
            f"data.labels={labels}: {path} has no class {', '.join(map(str, missing))}; "
            f"it has {figures.listed([*classes])}"
        )
    return classes


def _found(key: str, root: str) -> Found:
    """The photographs in img/ of each data set, and their records in ann/: NAME.jpg.json or, in older projects, NAME.json."""
    names = [name for name in listing.below(root) if "/" in name]
    records = {name for name in names if name.split("/")[-2] == "ann" and name.lower().endswith(".json")}
    images, masks, problems = [], [], []
    for name in (name for name in names if name.split("/")[-2] == "img" and is_photograph(name)):
        place = "/".join([*name.split("/")[:-2], "ann", os.path.basename(name)])
        record = next((one for one in (f"{place}.json", f"{os.path.splitext(place)[0]}.json") if one in records), None)
        if record is None:
            problems.append(f"{root}/{name} has no annotation {root}/{place}.json")
        else:
            records.remove(record)
            images.append(f"{root}/{name}")
            masks.append(f"{root}/{record}")
    problems += [f"{root}/{name} has no image" for name in sorted(records)]
    if not images and not problems:
        problems = [f"{key}: {root} holds no photograph in a folder img/, with its record in ann/ beside it"]
    return Found(images, masks, problems)


def drawn(
    path: str, photograph: Size, kinds: dict[str, str], values: dict[str, int], tags: tuple[str, ...]
) -> np.ndarray:
    """The class ids of a record, uint8 HxW, as Supervisely's own library draws its objects: each over those before it.

    That library reads photographs upright, so figures are upright.

    Args:
        kinds: of figure, by class. values: the class id of each class that is drawn.
        tags: those under which the background is ignored.

    Raises:
        ValueError: it is no record of Supervisely's, or has objects that can't be drawn.
    """
    record = figures.record_of(path)
    objects, size, tagged = record.get("objects"), record.get("size") or {}, record.get("tags") or []
    if not isinstance(objects, list) or not isinstance(size, dict) or not isinstance(tagged, list):
        raise ValueError(f"{path} is no record of Supervisely's: it has no objects")
    tagged = [tag.get("name") if isinstance(tag, dict) else tag for tag in tagged]  # older records have names alone
    height, width = figures.size_of(path, size.get("width"), size.get("height"), photograph)
    with budget.take(height * width):
        canvas = np.zeros((height, width), np.uint8)
        figures.draw_each(path, objects, partial(_draw, canvas, kinds, values))
        if any(tag in tags for tag in tagged):
            canvas[canvas == 0] = IGNORE
    return canvas


def _draw(canvas: np.ndarray, kinds: dict[str, str], values: dict[str, int], figure: dict) -> None:
    title = figure.get("classTitle")
    if not isinstance(title, str) or title not in kinds:
        raise ValueError(f"has the class {figures.shown(title)}, which meta.json does not name")
    if title not in values:
        return
    kind, value, size = figure.get("geometryType") or kinds[title], values[title], canvas.shape
    if kind not in KINDS:
        raise ValueError(f"({title}) is a {figures.shown(kind)}, and these are read: {', '.join(KINDS)}")
    if kind == "bitmap":
        bitmap = _part(figure, "bitmap")
        left, top = _rounded([bitmap.get("origin")], size, 1)[0].tolist()
        patch = figures.bitmap_of(bitmap.get("data"), (left, top), size)
        canvas[top : top + patch.shape[0], left : left + patch.shape[1]][patch] = value
        return
    rings = _part(figure, "points")
    outer = _rounded(rings.get("exterior"), size, 3 if kind == "polygon" else 2)
    if kind == "rectangle":
        cv2.rectangle(canvas, outer[0].tolist(), outer[1].tolist(), value, cv2.FILLED)
        return
    holes = rings.get("interior") or []
    if not isinstance(holes, list):
        raise ValueError("has interior rings that are no list")
    filled = cv2.fillPoly(np.zeros_like(canvas), [outer], 1)
    if holes:
        cv2.fillPoly(filled, [_rounded(ring, size, 3) for ring in holes], 0)
    canvas[filled > 0] = value


def _part(figure: dict, name: str) -> dict:
    if not isinstance(figure.get(name), dict):
        raise ValueError(f"has no {name}")
    return figure[name]


def _rounded(points: object, size: tuple[int, int], least: int) -> np.ndarray:
    return np.rint(figures.points_of(points, size, least)).astype(np.int32)
