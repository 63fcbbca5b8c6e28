"""``data=empty``: photographs in which nobody is."""

from collections.abc import Sequence

import numpy as np

from humanseg.data import folders, listing
from humanseg.data.photographs import Photographs, open_found
from humanseg.data.pictures import Size


def empty(
    root: str | None,
    val_root: str | None = None,
    test_root: str | None = None,
    cache_dir: str | None = None,
    on_error: str = "raise",
) -> dict[str, Photographs | None]:
    """Sources from folders of photographs; keys ``train``, ``val``, ``test``. All of each photograph is background.

    Args:
        cache_dir, on_error: as for `open_sources`.

    Raises:
        ValueError: a folder is missing or empty, or photographs can't be read (all listed).
    """
    return of_one_class((root, val_root, test_root), OneClass("empty", 0), cache_dir, on_error)


def of_one_class(
    roots: Sequence[str | None], labels: "OneClass", cache_dir: str | None, on_error: str
) -> dict[str, Photographs | None]:
    """Sources from folders of photographs, one for each side, with the same labels.

    Raises:
        ValueError: as of `empty`.
    """
    places = listing.each_side("root", roots)
    return open_found(places, folders.photographs, lambda found: Photographs(found.images, labels), cache_dir, on_error)


class OneClass:
    """The labels of photographs that are all of one class.

    Args:
        word: what the cache knows them by. value: the class id, or 255 for what is ignored.
    """

    def __init__(self, word: str, value: int):
        self.word, self.value = word, value

    def stamps(self, start: int, stop: int) -> list[tuple[str, str]]:
        return [("", self.word)] * (stop - start)

    def read(self, index: int, photograph: Size) -> np.ndarray:
        return np.full((photograph.height, photograph.width), self.value, np.uint8)

    def check(self, index: int, photograph: Size) -> None:
        return None
