"""``data=yolo``: polygons in text files, as Ultralytics trains on."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PureWindowsPath

import cv2
import numpy as np

from humanseg.data import listing
from humanseg.data.formats import figures
from humanseg.data.formats.figures import Annotations
from humanseg.data.listing import Found
from humanseg.data.opening import is_photograph
from humanseg.data.photographs import Photographs, open_places, refuse_more_classes
from humanseg.data.pictures import Size
from humanseg.runs.reading import read_bytes, read_list, read_yaml

MOST_BYTES = 16_000_000  # of a photograph's polygons
OUTSIDE = 0.01  # share of the photograph's side that a point may lie outside, as for Ultralytics
CLASS = re.compile(r"[0-9]{1,9}(\.0*)?")


def yolo(
    root: str | None,
    val_root: str | None = None,
    test_root: str | None = None,
    labels: str | int | Sequence[str | int] = ("person",),
    classes: int = 1,
    cache_dir: str | None = None,
    on_error: str = "raise",
) -> dict[str, Photographs | None]:
    """Sources from folders with photographs in ``images/`` and text files in ``labels/``; keys ``train``, ``val``, ``test``.

    Where data.yaml says which photographs train, validate and test, they do. A photograph without a text file, or with an
    empty one, shows nobody.

    Args:
        labels: classes of people, by name or number. Other classes are background.
        classes: of the network. cache_dir, on_error: as for `open_sources`.

    Raises:
        ValueError: a folder is missing or empty, a class is not there, or files can't be read or don't fit (all listed).
    """
    refuse_more_classes(classes)
    places = listing.each_side("root", (root, val_root, test_root))
    return open_places(places, partial(_sides, figures.several(labels)), cache_dir, on_error)


def _sides(labels: Sequence, side: str, key: str, path: str) -> tuple[dict[str, Photographs], list[str]]:
    """The sources of a folder, and what is wrong with its files.

    They are all that data.yaml names, or the one of a side that was asked for by a key of its own.

    Raises:
        ValueError: the folder can't be used.
    """
    root = listing.typed_folder(key, path)
    files = list(listing.below(root))
    if not any(map(is_photograph, files)):
        raise ValueError(f"{key}: {root} holds no photograph: images/a.jpg has labels/a.txt")
    file, config = _config(root)
    names = _names(file, config)
    wanted = _wanted(file, names, labels)
    entries = _entries(file, config)
    if side != "train" or not entries:
        entries = {side: entries.get(side, [""])}
    found = {name: _found(root, file, files, places) for name, places in entries.items()}
    problems = [problem for one in found.values() for problem in one.problems]
    texts = [text for one in found.values() for text in one.masks if text]
    if not texts and not problems:
        raise ValueError(f"{key}: {root} has no text file for any photograph: images/a.jpg has labels/a.txt")
    if not names:
        figures.refuse_absent(labels, _numbers, texts)
    draw, rule = partial(drawn, wanted=wanted, names=names), f"yolo {sorted(wanted)}"
    return {name: Photographs(one.images, Annotations(one.masks, draw, rule)) for name, one in found.items()}, problems


def _config(root: str) -> tuple[str, dict]:
    """The data set's YAML and what it says; nothing where the folder has none.

    Raises:
        ValueError: it can't be read.
    """
    there = [name for name in sorted(os.listdir(root)) if name.endswith((".yaml", ".yml"))]
    file = "data.yaml" if "data.yaml" in there or len(there) != 1 else there[0]
    if file not in there:
        return f"{root}/{file}", {}
    config = read_yaml(Path(root, file), keys=(str, int), follow=True)
    if not isinstance(config, dict):
        raise ValueError(f"{root}/{file} is no YAML of Ultralytics: it has no names")
    return f"{root}/{file}", config


def _names(file: str, config: dict) -> dict[int, str]:
    """The classes' names by their numbers; none where there is no YAML.

    Raises:
        ValueError: there are no names in it.
    """
    names = config.get("names", {})
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if (config and not names) or not isinstance(names, dict) or not all(type(number) is int for number in names):
        raise ValueError(f"{file} has no names of classes: give names: [person, ...], or {{0: person, ...}}")
    return {number: str(name) for number, name in names.items()}


def _wanted(file: str, names: dict[int, str], labels: Sequence) -> frozenset[int]:
    """The numbers of the classes of people.

    Raises:
        ValueError: there is no such class.
    """
    if not names:
        if texts := [label for label in labels if type(label) is not int]:
            raise ValueError(
                f"data.labels={labels}: {file} does not exist, which names {texts[0]}: give numbers, as [0]"
            )
        return frozenset(labels)
    if missing := [str(label) for label in labels if label not in names and label not in names.values()]:
        there = figures.listed([f"{number} {name}" for number, name in sorted(names.items())])
        raise ValueError(f"data.labels={labels}: {file} has no class {', '.join(missing)}; it has {there}")
    return frozenset(number for number, name in names.items() if number in labels or name in labels)


def _entries(file: str, config: dict) -> dict[str, list[str]]:
    """The folders and lists of photographs that the YAML names for each side.

    Raises:
        ValueError: it names something else.
    """
    entries = {}
    for side in listing.SIDES:
        if given := config.get(side):
            entries[side] = given if isinstance(given, list) else [given]
            if not all(isinstance(one, str) for one in entries[side]):
                raise ValueError(
                    f"{file}: {side}: give a folder of photographs, a list of them (.txt), or several of these"
                )
    return entries


def _found(root: str, config: str, files: list[str], places: list[str]) -> Found:
    """The photographs in some places of a data set, and their text files: empty where one has none.

    Args:
        config: the YAML. files: all of the data set, by their paths in it. places: folders and lists in it.
    """
    images, problems, there = {}, [], {*files}
    for place in places:
        within = os.path.normpath(PureWindowsPath(place).as_posix())
        while within.startswith("../"):  # as Roboflow writes them, and Ultralytics reads them
            within = within[3:]
        if within in there and within.endswith(".txt"):
            named, wrong = _listed(root, within)
            problems += wrong
        else:
            folder = "" if within == "." else f"{within}/"
            named = [name for name in files if name.startswith(folder) and is_photograph(name)]
            if not named:
                problems.append(f"{config} names {figures.shown(place)}, and {root} has no photograph there")
        images |= dict.fromkeys(named)
    texts = (_text_of(name) for name in images)
    return Found(
        [f"{root}/{name}" for name in images], [f"{root}/{one}" if one in there else "" for one in texts], problems
    )


def _listed(root: str, file: str) -> tuple[list[str], list[str]]:
    """The photographs that a list names, by their paths in the data set, and what is wrong with the list.

    A path that begins with ./ is relative to the list, another one to the data set.
    """
    names, problems = [], []
    try:
        text = read_list(Path(root, file), listing.decoded)
    except ValueError as error:
        return [], [str(error)]
    for number, line in enumerate(text.splitlines(), 1):
        if name := line.strip():
            try:
                found = listing.inside(root, name, os.path.dirname(file) if name.startswith("./") else "")
                names.append(found[len(root) + 1 :])
            except ValueError as error:
                problems.append(f"{root}/{file}, line {number} {error}")
    return names, problems


def _text_of(image: str) -> str:
    """The text file of a photograph: of the last folder ``images`` in its path it has ``labels`` in the place."""
    head, folder, rest = f"/{image}".rpartition("/images/")
    return os.path.splitext(f"{head}/labels/{rest}" if folder else rest)[0].removeprefix("/") + ".txt"


def drawn(path: str, photograph: Size, wanted: frozenset[int], names: dict[int, str]) -> np.ndarray:
    """The class ids of a text file, uint8 HxW. Polygons are filled as Ultralytics does it, which reads photographs upright.

    Args:
        wanted: the numbers of the classes of people. names: those of all classes; any number is one where there are none.

    Raises:
        ValueError: the file can't be read, or has lines that are no polygons.
    """
    classes, problems = np.zeros((photograph.height, photograph.width), np.uint8), []
    for number, line in enumerate(_lines(path), 1):
        if cells := line.split():
            try:
                if _class(cells[0], names) in wanted:
                    points = _polygon(cells[1:]) * photograph[:2]
                    figures.refuse_long(points, classes.shape)
                    cv2.fillPoly(classes, [points.astype(np.int32)], 1)
            except ValueError as error:
                problems.append(f"line {number} {error}")
    figures.refuse(path, problems)
    return classes


def _class(text: str, names: dict[int, str]) -> int:
    """The class at the beginning of a line."""
    label = int(float(text)) if CLASS.fullmatch(text) else None
    if label is None or (names and label not in names):
        known = f"; the classes are {figures.listed(sorted(names))}" if names else ""
        raise ValueError(f"begins with {figures.shown(text)}, which is no class{known}")
    return label


def _polygon(cells: list[str]) -> np.ndarray:
    """The points of a line, float64 Nx2 in shares of the photograph's sides."""
    try:
        points = np.array(cells, np.float64)
    except ValueError as error:
        raise ValueError("holds other things than numbers") from error
    if len(points) % 2 or len(points) < 6:
        raise ValueError(
            f"has {len(points)} numbers after its class, and a polygon has x and y of 3 points or more (a box has 4)"
        )
    if not np.isfinite(points).all():
        raise ValueError("has a point that is no number (NaN)")
    if points.min() < -OUTSIDE or points.max() > 1 + OUTSIDE:
        raise ValueError("has points outside of 0 to 1, which are shares of the photograph's width and height")
    return points.reshape(-1, 2)


def _numbers(path: str) -> set[int]:
    """The classes in a text file, of lines that begin with one."""
    firsts = (line.split()[0] for line in _lines(path) if line.strip())
    return {int(float(first)) for first in firsts if CLASS.fullmatch(first)}


def _lines(path: str) -> list[str]:
    try:
        return read_bytes(Path(path), MOST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
