"""``data=voc``: photographs and class masks as PASCAL VOC lays them out."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from humanseg.data import folders, listing
from humanseg.data.files import MaskFiles
from humanseg.data.listing import Found
from humanseg.data.masks import Mask
from humanseg.data.photographs import Photographs, open_found, refuse_more_classes
from humanseg.data.pictures import Size
from humanseg.data.transforms import IGNORE
from humanseg.runs.reading import read_list

PERSON, LAST = 15, 20  # of VOC's ids; 0 is background and 255 void
SETS = "ImageSets/Segmentation"


def voc(
    root: str | None,
    image_set: str = "trainval",
    val_image_set: str | None = None,
    test_image_set: str | None = None,
    classes: int = 1,
    cache_dir: str | None = None,
    on_error: str = "raise",
) -> dict[str, Photographs | None]:
    """Sources from a folder with ``ImageSets/Segmentation``, ``JPEGImages`` and ``SegmentationClass``.

    Args:
        image_set, val_image_set, test_image_set: the names of its lists, as ``train``.
        cache_dir, on_error: as for `open_sources`.

    Raises:
        ValueError: a folder or list is missing, or photographs or masks are missing, can't be read, don't fit or have ids
            that VOC doesn't have (all listed).
    """
    refuse_more_classes(classes)
    image_sets = (image_set, val_image_set, test_image_set) if root else (None, None, None)

    def make(found: Found) -> Photographs:
        return Photographs(found.images, ClassMasks(found.masks, PERSON))

    places = listing.each_side("image_set", image_sets)
    return open_found(places, partial(_listed, root), make, cache_dir, on_error)


def _listed(root: str, key: str, image_set: str) -> Found:
    """The photographs of a list, and their masks."""
    root = listing.spelled(root) or root
    places = [f"{root}/JPEGImages", f"{root}/SegmentationClass"]
    if missing := [f"data.root: {folder} does not exist" for folder in places if not os.path.isdir(folder)]:
        return Found([], [], missing)
    file = Path(root, SETS, f"{image_set}.txt")
    if not file.is_file():
        there = ", ".join(sorted(one.stem for one in file.parent.glob("*.txt")))
        return Found([], [], [f"{key}={image_set}: {file} does not exist; the lists there are {there or 'none'}"])
    names = [line.strip() for line in read_list(file, listing.decoded).splitlines() if line.strip()]
    (images, _), (masks, _) = map(folders.by_stem, places)
    problems = [f"{file} names {name}, which {places[0]} does not have" for name in names if name not in images]
    problems += [f"{file} names {name}, which {places[1]} does not have" for name in names if name not in masks]
    names = [name for name in names if name in images and name in masks]
    if not names and not problems:
        problems = [f"{key}={image_set}: {file} names no photograph"]
    return Found([images[name] for name in names], [masks[name] for name in names], problems)


class ClassMasks(MaskFiles):
    """Masks with the ids of VOC's classes, of which one is the person."""

    def unfit(self, index: int, photograph: Size, mask: Mask) -> str | None:
        """As for `MaskFiles`; VOC has no other ids."""
        values = np.unique(mask.values)
        if strange := values[(values > LAST) & (values != IGNORE)].tolist():
            return (
                f"{self.names[index]} holds the values {strange[:8]}, and VOC's are 0 to {LAST}, and {IGNORE} for void"
            )
        return super().unfit(index, photograph, mask)

    def check(self, index: int, photograph: Size) -> str | None:
        """As for `Labels`. Masks are read whole."""
        return self.unfit(index, photograph, self.raw(index))
