"""Photographs and masks on disk: ``data=folder`` and ``data=pairs``."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from humanseg.data import folders, listing, pair_list
from humanseg.data.mask_check import read_otherwise, refuse_unfit_rule
from humanseg.data.masks import Mask, Rule, classes_of, read_mask, refuse_unknown_rule, upright
from humanseg.data.names import Names
from humanseg.data.photographs import Photographs, compare, open_found, open_sources
from humanseg.data.pictures import Size, whole_size


class MaskFiles:
    """The labels of photographs that have a mask's file each.

    Args:
        paths: the masks' files.
        rule: makes classes of a mask's values, see `masks.to_classes`.
    """

    def __init__(self, paths: Sequence[str], rule: Rule):
        self.names, self.rule = Names(paths), rule

    def stamps(self, start: int, stop: int) -> list[tuple[str, str]]:
        return [(path, str(self.rule)) for path in self.names.part(start, stop)]

    def read(self, index: int, photograph: Size) -> np.ndarray:
        """The classes of a mask. One that was drawn on the photograph as it lies in its file is turned like it.

        Raises:
            ValueError: it can't be read, or has a value that the rule doesn't name.
        """
        return self.classes(index, photograph, self.raw(index))

    def raw(self, index: int) -> Mask:
        """What a mask's file holds; errors as for `read`."""
        return read_mask(self.names[index])

    def classes(self, index: int, photograph: Size, mask: Mask) -> np.ndarray:
        """As `read`, of a mask that was read already."""
        return upright(classes_of(mask, self.rule, self.names[index]), photograph)

    def unfit(self, index: int, photograph: Size, mask: Mask) -> str | None:
        """As `check`, of a mask that was read already; `classes` refuses its values."""
        return compare(self.names[index], mask.values.shape[::-1], photograph, mask.turned)

    def check(self, index: int, photograph: Size) -> str | None:
        """As for `Labels`. Only headers and ends of files are read, but masks with ids are read whole."""
        path = self.names[index]
        drawn = whole_size(path)
        if isinstance(self.rule, list) or self.rule == "alpha" or drawn.transparent:
            classes_of(read_mask(path), self.rule, path)
        return compare(path, drawn[:2], photograph, drawn.turn is not None)


class FilePairs(Photographs):
    """Photographs and their masks.

    Args:
        images, masks: their paths.
        mask: the rule that makes classes of a mask's values, see `masks.to_classes`.
    """

    def __init__(self, images: list[str], masks: list[str], mask: Rule):
        super().__init__(images, MaskFiles(masks, mask))

    @property
    def paths(self) -> list[tuple[Path, Path]]:
        """(image, mask) for each sample."""
        return [(Path(image), Path(mask)) for image, mask in zip(self.names, self.labels.names, strict=True)]

    def read_otherwise(self, indices: Sequence[int]) -> str:
        """A part of a sentence about the samples whose pixels version 1 of reading read otherwise; empty without any."""
        pairs_ = [(self.names[index], self.labels.names[index]) for index in indices]
        return read_otherwise(pairs_, self.labels.rule)


def folder(
    root: str | None,
    val_root: str | None = None,
    test_root: str | None = None,
    mask: Rule = "nonzero",
    classes: int = 1,
    cache_dir: str | None = None,
    mask_suffix: str = "",
    on_error: str = "raise",
) -> dict[str, FilePairs | None]:
    """Sources from folders with ``images/`` and ``masks/``; keys ``train``, ``val``, ``test``.

    A mask has its photograph's name and, in sub-folders, its path, whatever their suffixes are.

    Args:
        mask_suffix: what a mask's name has more, as ``_mask`` in ``NAME_mask.png``.
        cache_dir: where the files that were fine are recorded. They are not opened again until they change.
        on_error: as for `open_sources`.

    Raises:
        ValueError: a folder is missing or empty, or files don't match, can't be read or don't fit (all listed).
    """
    refuse_unknown_rule(mask, classes)
    places = listing.each_side("root", (root, val_root, test_root))
    find = partial(folders.matched, mask_suffix=mask_suffix)
    sources = open_found(places, find, lambda found: FilePairs(found.images, found.masks, mask), cache_dir, on_error)
    return _tried(sources, mask, on_error)


def pairs(
    pairs: str | None,
    val_pairs: str | None = None,
    test_pairs: str | None = None,
    mask: Rule = "nonzero",
    classes: int = 1,
    cache_dir: str | None = None,
    on_error: str = "raise",
) -> dict[str, FilePairs | None]:
    """Sources from text files of ``image, mask`` lines; keys ``train``, ``val``, ``test``.

    A first line may name columns: image, mask and, where there are such, split (train, val or test), group (samples of one
    stay on one side) and weight (how often a pass has the sample).

    Args:
        cache_dir, on_error: as for `folder`.

    Raises:
        ValueError: a file is missing or empty, has other columns or values, or files it names are missing, can't be read
            or don't fit (all listed).
    """
    refuse_unknown_rule(mask, classes)
    places = listing.each_side("pairs", (pairs, val_pairs, test_pairs))
    lists = pair_list.by_side({side: pair_list.read(*place) for side, place in places.items() if place})
    problems = [problem for one in lists.values() for problem in one.found.problems]
    opened = {side: FilePairs(one.found.images, one.found.masks, mask) for side, one in lists.items()}
    sources = open_sources(dict.fromkeys(places) | opened, problems, cache_dir, on_error)
    sources = _tried(sources, mask, on_error)
    for side, one in lists.items():
        if "group" in one.columns:
            sources[side].groups = Names(one.columns["group"])
        if "weight" in one.columns:
            sources[side].weights = np.array(one.columns["weight"], np.float64)
    return sources


def _tried(sources: dict[str, FilePairs | None], mask: Rule, on_error: str) -> dict[str, FilePairs | None]:
    """The sources, on some masks of which the rule was tried.

    Args:
        on_error: as for `open_sources`.

    Raises:
        ValueError: it does not fit.
    """
    for name, source in sources.items():
        if source:
            sound = source.labels.names
            if source.broken:
                sound = [path for index, path in enumerate(sound) if index not in source.broken]
            try:
                refuse_unfit_rule(sound, mask, name)
            except ValueError as error:
                if on_error != "note":
                    raise
                source.problems.append(str(error))
    return sources
