"""``data=coco``: photographs with an instances file of COCO's, or of a tool that writes such files."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType

import numpy as np

from humanseg.data import listing
from humanseg.data.formats import figures
from humanseg.data.formats.instances import Chosen, Index, open_index
from humanseg.data.masks import upright
from humanseg.data.names import Names
from humanseg.data.opening import budget
from humanseg.data.photographs import FINE, Photographs, compare, open_places, refuse_more_classes
from humanseg.data.pictures import Size
from humanseg.data.transforms import IGNORE, PERSON

BY_ITSELF = ("instances.json", "annotations/instances_train*.json", "annotations/instances*.json", "*.json")


def coco(
    root: str | None = None,
    annotations: str | None = None,
    images: str | None = None,
    val_annotations: str | None = None,
    val_images: str | None = None,
    test_annotations: str | None = None,
    test_images: str | None = None,
    categories: str | int | Sequence[str | int] = "person",
    min_area: float = 0,
    empty: str = "keep",
    classes: int = 1,
    cache_dir: str | None = None,
    on_error: str = "raise",
) -> dict[str, Photographs | None]:
    """Sources from instances files; keys ``train``, ``val``, ``test``.

    Crowds and annotations that are too small are ignored in loss and metrics, unless another annotation has a person there.

    Args:
        root: a folder with ``instances.json`` and ``images/``, or COCO's own with ``annotations/instances_train2017.json`` and
            ``train2017/``. Other paths are relative to it, or to here.
        annotations, val_annotations, test_annotations: instances files.
        images, val_images, test_images: the folders of their photographs, where they have other names than COCO gives them.
        categories: names or ids of people.
        min_area: in square pixels, as the annotations' `area` has it.
        empty: ``keep`` or ``drop`` photographs without any annotation of the categories.
        cache_dir, on_error: as for `open_sources`. What was read of an instances file lies there too.

    Raises:
        ValueError: pycocotools or a file is missing; or entries, photographs or labels are wrong or don't fit (all listed).
    """
    pycocotools()
    refuse_more_classes(classes)
    chosen = Chosen(tuple(figures.several(categories)), min_area, empty == "keep")
    typed = {
        "train": ("data.annotations", annotations, "data.images", images),
        "val": ("data.val_annotations", val_annotations, "data.val_images", val_images),
        "test": ("data.test_annotations", test_annotations, "data.test_images", test_images),
    }
    there = {side: paths if paths[1] or (side == "train" and root) else None for side, paths in typed.items()}
    return open_places(there, partial(_opened, root, chosen, cache_dir), cache_dir, on_error)


def pycocotools() -> ModuleType:
    """The package's module of masks.

    Raises:
        ValueError: it isn't installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ValueError('data=coco needs pycocotools: pip install -e ".[coco]"') from error
    return mask


def _places(
    root: str | None, key: str, file: str | None, images_key: str, images: str | None
) -> tuple[Path, list[Path]]:
    """The instances file and the folders in which its photographs may be, the likeliest first.

    Raises:
        ValueError: there is none; the sentence names the key.
    """
    file = _typed(key, root, file) if file else _by_itself(root)
    if not file.is_file():
        raise ValueError(f"{key}={file}: no such file")
    if images:
        folder = _typed(images_key, root, images)
        if not folder.is_dir():
            raise ValueError(f"{images_key}={folder}: no such folder")
        return file, [folder]
    name = file.stem.removeprefix("instances_")
    bases = [listing.on_disk(root)] if root else [file.parent, file.parent.parent]
    likely = [base / part for base in bases for part in (name, f"images/{name}", "images", "")]
    return file, [folder for folder in [*likely, file.parent] if folder.is_dir()]


def _typed(key: str, root: str | None, typed: str) -> Path:
    """A typed path, relative to the root or to here."""
    if not isinstance(typed, str):
        raise ValueError(f"{key}={typed}: give one path")
    below = listing.on_disk(listing.on_disk(root) / Path(typed).expanduser()) if root else None
    return below if below and below.exists() else listing.on_disk(typed)


def _by_itself(root: str) -> Path:
    """The instances file of a folder, for training.

    Raises:
        ValueError: there is none, or more than one.
    """
    folder = listing.on_disk(root)
    found = next(filter(None, (sorted(folder.glob(pattern)) for pattern in BY_ITSELF)), [])
    if len(found) != 1:
        have = f"has {', '.join(file.name for file in found)}" if found else f"has no {' and no '.join(BY_ITSELF[:2])}"
        raise ValueError(f"data.root={folder} {have}: name the instances file by data.annotations")
    return found[0]


def _opened(
    root: str | None, chosen: Chosen, cache_dir: str | None, side: str, *paths: str | None
) -> tuple[dict[str, Photographs], list[str]]:
    """The photographs of an instances file, and what is wrong with it; arguments as for `_places` and `open_index`."""
    file, folders = _places(root, *paths)
    index, problems = open_index(str(file), chosen, cache_dir)
    names = _names(index)
    folder = str(next((one for one in folders if names and os.path.exists(one / names[0])), folders[0]))
    images = [
        f"{folder}/{name}" if name.isascii() else listing.spelled(name, folder) or f"{folder}/{name}" for name in names
    ]
    if not len(index.shapes) and not problems:
        people = ", ".join(map(str, chosen.categories))
        problems = [f"{file} has no annotation of {people}: data=empty takes photographs in which nobody is"]
    return {side: Photographs(images, Instances(str(file), index))}, problems


class Instances:
    """The labels of the photographs of an instances file.

    Args:
        path: the file's, for sentences.
    """

    def __init__(self, path: str, index: Index):
        self.path, self.index = path, index

    def stamps(self, start: int, stop: int) -> list[tuple[str, str]]:
        return [("", f"coco {digest:x}") for digest in self.index.photographs["digest"][start:stop].tolist()]

    def read(self, index: int, photograph: Size) -> np.ndarray:
        """Class ids, uint8 HxW, as pycocotools draws the annotations. A person on a crowd wins."""
        width, height = self._size(index)
        shapes = list(self._shapes(index))
        with budget.take(height * width):
            classes = np.zeros((height, width), np.uint8)
            for ignored, value in ((True, IGNORE), (False, PERSON)):
                some = [(rle, numbers) for rle, ignores, _, numbers in shapes if ignores == ignored]
                if polygons := [numbers.tolist() for rle, numbers in some if not rle]:
                    classes[_filled(polygons, height, width)] = value
                for numbers in (numbers for rle, numbers in some if rle):
                    classes[_decoded(numbers)] = value
        return upright(classes, photograph)

    def check(self, index: int, photograph: Size) -> str | None:
        """As for `Labels`. All shapes are looked at, and none is drawn."""
        what, problems = f"{self.path}: {self._names[index]}", []
        height, width = figures.size_of(what, *self._size(index), photograph)
        found = compare(what, (width, height), photograph)
        if found in FINE:
            for rle, _, ident, numbers in self._shapes(index):
                try:
                    (_refuse_rle if rle else _refuse_polygon)(numbers, height, width)
                except ValueError as error:
                    problems.append(f"annotation {ident} {error}")
            figures.refuse(what, problems)
        return found

    @cached_property
    def _names(self) -> Names:
        return Names(_names(self.index))

    def _size(self, index: int) -> tuple[int, int]:
        record = self.index.photographs[index]
        return int(record["width"]), int(record["height"])

    def _shapes(self, index: int) -> Iterator[tuple[bool, bool, int, np.ndarray]]:
        """Whether a shape is an RLE, whether it is ignored, its annotation's id, and its numbers."""
        ends = self.index.photographs["end"]
        own = self.index.shapes[ends[index - 1] if index else 0 : ends[index]]
        for start, end, ident, rle, ignored in own.tolist():
            yield rle, ignored, ident, self.index.numbers[start:end]


def _names(index: Index) -> list[str]:
    """The photographs' files, as the instances file names them."""
    return bytes(index.names).decode(errors="surrogateescape").split("\0") if len(index.names) else []


def _filled(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    """What lies in any of the polygons, bool HxW."""
    mask = pycocotools()
    return mask.decode(mask.merge(mask.frPyObjects(polygons, height, width))).astype(bool)


def _decoded(rle: np.ndarray) -> np.ndarray:
    """The region of an RLE, bool HxW: runs go down the columns, the first one is outside."""
    height, width, *counts = rle.astype(np.int64).tolist()
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _refuse_polygon(polygon: np.ndarray, height: int, width: int) -> None:
    """Hold a polygon, float64 x, y, x, y, ..., against its photograph.

    Raises:
        ValueError: it can't be drawn.
    """
    if len(polygon) % 2:
        raise ValueError(f"has a polygon of {len(polygon)} numbers, and each point has two")
    figures.refuse_unfit(polygon.reshape(-1, 2), (height, width), least=3)


def _refuse_rle(rle: np.ndarray, height: int, width: int) -> None:
    """Hold an RLE, float64 height, width and the lengths of its runs, against its photograph.

    Raises:
        ValueError: it can't be drawn.
    """
    if (rle[0], rle[1]) != (height, width):
        raise ValueError(f"has an RLE of {rle[1]:.0f}x{rle[0]:.0f} pixels, where its photograph is {width}x{height}")
    counts = rle[2:]
    if not ((counts >= 0) & (counts <= height * width)).all() or (counts % 1).any() or counts.sum() != height * width:
        raise ValueError(f"has an RLE whose runs don't add up to {width}x{height} pixels")
