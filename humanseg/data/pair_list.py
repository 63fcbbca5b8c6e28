"""A text file of pairs: lines ``image, mask``, or lines below one that names their columns."""

import csv
import io
import math
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from humanseg.data.listing import LENGTH, SIDES, Found, decoded, listed, spelled, unreadable
from humanseg.runs.reading import read_list
from humanseg.value_rules import WEIGHT

PATHS = ("image", "mask")
OTHERS = ("split", "group", "weight")
NAME = r"[\w./-]+\.\w+"  # with a suffix, which no column's name has
ODD = re.compile(rf"\n(?!{NAME}, *{NAME}\r?(?:\n|\Z)|\Z)", re.ASCII)  # before a line that `_plain` can't read


class Pairs(NamedTuple):
    """Pairs, and what the other columns say of each of them: texts by the column's name."""

    found: Found
    columns: dict[str, list[str]]


def read(key: str, path: str) -> Pairs:
    """The pairs that a file lists, and what is wrong with its lines."""
    file = Path(spelled(path) or path)
    if not file.is_file():
        return Pairs(Found([], [], [f"{key}={path}: no such file"]), {})
    text, folder = read_list(file, decoded), str(file.parent)
    if text and not ODD.search(f"\n{text}"):
        return Pairs(_plain(text, folder), {})
    rows = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    filled = ([cell.strip() for cell in row] for row in rows if row)
    images, masks, problems, columns, names = [], [], [], {}, PATHS
    try:
        first = next(filled, [])
        header = _header(first)
        names = header or PATHS
        columns = {name: [] for name in names if name in OTHERS}
        for cells in filled if header or not first else chain([first], filled):
            try:
                image, mask = _line(cells, names, folder)
            except ValueError as error:
                problems.append(f"{file}, line {rows.line_num}: {error}")
                continue
            images.append(image)
            masks.append(mask)
            for name, texts in columns.items():
                texts.append(cells[names.index(name)])
    except (csv.Error, ValueError) as error:
        problems.append(f"{file}, line {rows.line_num}: {error}")
    if not images and not problems:
        problems = [f"{key}={file} holds no line `{', '.join(names)}`"]
    return Pairs(Found(images, masks, problems), columns)


def _plain(text: str, folder: str) -> Found:
    """The pairs of a list without an odd line: what `csv` and `listed` make of it, in a third of the time."""
    names = text.replace(",", " ").split()
    paths = [name if name[0] == "/" else f"{folder}/{name}" for name in names]
    return Found(paths[::2], paths[1::2], [])


def _header(cells: list[str]) -> tuple[str, ...]:
    """The columns that a first line names; none where it is a pair.

    Raises:
        ValueError: it names others than there are, one twice, or not both paths.
    """
    names = tuple(cell.lower() for cell in cells)
    if not {*names} & {*PATHS}:
        return ()
    if len({*names}) < len(names) or not {*PATHS} <= {*names} <= {*PATHS, *OTHERS}:
        raise ValueError(
            f"the columns are {', '.join(cells)[:LENGTH]}: name image and mask, and of {', '.join(OTHERS)} what there is"
        )
    return names


def _line(cells: list[str], names: Sequence[str], folder: str) -> tuple[str, str]:
    """The image and the mask that a line names, relative to a folder. Its other columns are checked.

    Raises:
        ValueError: it has more columns or less, or one that can't be read.
    """
    if len(cells) != len(names):
        raise ValueError(f"expected `{', '.join(names)}`, got {str(cells)[:LENGTH]}")
    typed_image, typed_mask = cells[names.index("image")], cells[names.index("mask")]
    image, mask = listed(typed_image, folder), listed(typed_mask, folder)
    if image is None or mask is None:
        raise ValueError(unreadable(typed_image if image is None else typed_mask))
    if len(names) == len(PATHS):  # lists of a million pairs have no more
        return image, mask
    for name, text in zip(names, cells, strict=True):
        if name == "split" and text not in SIDES:
            raise ValueError(f"the split {text[:LENGTH]!r} is none of {', '.join(SIDES)}")
        if name == "group" and not text:
            raise ValueError("it has no group")
        if name == "weight" and not WEIGHT.holds(_number(text)):
            raise ValueError(f"the weight {text[:LENGTH]!r} is not {WEIGHT.words}")
    return image, mask


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def by_side(lists: dict[str, Pairs]) -> dict[str, Pairs]:
    """Lists by side; that of ``train`` is divided by its column ``split``, where it has one.

    Raises:
        ValueError: another list has such a column, two lists are for one side, or all training weights are 0.
    """
    divided = {}
    for side, one in lists.items():
        if "split" in one.columns and side != "train":
            raise ValueError(f"data.{side}_pairs has a column split, which only data.pairs may have")
        parts = {part: _only(one, part) for part in dict.fromkeys(one.columns.get("split", []))} or {side: one}
        if twice := divided.keys() & parts.keys():
            raise ValueError(
                f"data.pairs has a column split with {min(twice)}, and there is data.{side}_pairs: leave one out"
            )
        divided |= parts
    weights = divided["train"].columns.get("weight") if "train" in divided else None
    if weights and not any(map(float, weights)):
        raise ValueError("the weights of data.pairs are all 0: nothing would train")
    return divided


def _only(pairs: Pairs, side: str) -> Pairs:
    """The pairs of one side."""
    chosen = [index for index, text in enumerate(pairs.columns["split"]) if text == side]
    images, masks, *others = (
        [texts[index] for index in chosen] for texts in (*pairs.found[:2], *pairs.columns.values())
    )
    return Pairs(Found(images, masks, pairs.found.problems), dict(zip(pairs.columns, others, strict=True)))
