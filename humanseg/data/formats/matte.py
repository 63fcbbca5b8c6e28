"""``data=matte``: photographs with alpha, beside them or in themselves."""

import os
from collections.abc import Sequence

import numpy as np

from humanseg.data import folders, listing
from humanseg.data.colour import to_uint8
from humanseg.data.listing import Found
from humanseg.data.masks import read_mask, upright
from humanseg.data.names import Names
from humanseg.data.photographs import Photographs, compare, open_found, refuse_more_classes
from humanseg.data.pictures import Size
from humanseg.data.transforms import IGNORE


def matte(
    root: str | None,
    val_root: str | None = None,
    test_root: str | None = None,
    alpha: str | None = None,
    mask_suffix: str = "",
    ignore: Sequence[float] | None = (0.1, 0.9),
    classes: int = 1,
    cache_dir: str | None = None,
    on_error: str = "raise",
) -> dict[str, Photographs | None]:
    """Sources from folders of photographs with alpha; keys ``train``, ``val``, ``test``. Above one half is person.

    Args:
        alpha: the folder of grey files in each root, matched with the photographs of ``images/`` as masks are. By default
            ``alpha`` where it is there, and otherwise the fourth channel of the photographs themselves.
        mask_suffix: as for `folder`.
        ignore: between these two, in [0, 1], alpha is unsure and ignored in loss and metrics; None: nowhere.
        cache_dir, on_error: as for `open_sources`.

    Raises:
        ValueError: a folder is missing or empty, or photographs or alpha can't be read or don't fit (all listed).
    """
    refuse_more_classes(classes)

    def find(key: str, path: str) -> Found:
        if alpha or os.path.isdir(os.path.join(path, "alpha")):
            return folders.matched(key, path, mask_suffix, ("images", alpha or "alpha"))
        return folders.photographs(key, path)

    def make(found: Found) -> Photographs:
        return Photographs(found.images, Mattes(found.masks or found.images, not found.masks, ignore))

    places = listing.each_side("root", (root, val_root, test_root))
    return open_found(places, find, make, cache_dir, on_error)


class Mattes:
    """The labels of photographs with alpha.

    Args:
        paths: the files that have it.
        own: whether it is their fourth channel, and not their grey.
        ignore: as for `matte`.
    """

    def __init__(self, paths: Sequence[str], own: bool, ignore: Sequence[float] | None):
        self.names, self.own, self.ignore = Names(paths), own, ignore

    def stamps(self, start: int, stop: int) -> list[tuple[str, str]]:
        rule = f"matte {self.own} {self.ignore and list(self.ignore)}"
        return [(path, rule) for path in self.names.part(start, stop)]

    def read(self, index: int, photograph: Size) -> np.ndarray:
        alpha = self._alpha(index)
        classes = (alpha >= 128).astype(np.uint8)
        if self.ignore:
            low, high = (255 * end for end in self.ignore)
            classes[(alpha > low) & (alpha < high)] = IGNORE
        return upright(classes, photograph)

    def check(self, index: int, photograph: Size) -> str | None:
        """As for `Labels`. Alpha is read whole."""
        height, width = self._alpha(index).shape
        return compare(self.names[index], (width, height), photograph, turned=self.own)

    def _alpha(self, index: int) -> np.ndarray:
        """uint8 HxW.

        Raises:
            ValueError: the file can't be read, or has no alpha.
        """
        path = self.names[index]
        mask = read_mask(path)
        if self.own:
            if mask.alpha is None:
                raise ValueError(
                    f"{path} has no transparency: data.alpha names the folder of grey files, where there are some"
                )
            return mask.alpha
        if mask.read_by_alpha("half"):
            return mask.alpha
        if (mask.labels and mask.alpha is None) or (mask.values.dtype.kind in "iu" and mask.values.max() == 1):
            raise ValueError(
                f"{path} holds numbers of classes, and no grey from 0 to 255 (or 65535): data=folder reads it"
            )
        return to_uint8(mask.values)
