"""``data=empty``: photographs in which nobody is."""

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
    places = listing.each_side("root", (root, val_root, test_root))
    return open_found(
        places, folders.photographs, lambda found: Photographs(found.images, Nobody()), cache_dir, on_error
    )


class Nobody:
    """The labels of photographs in which nobody is."""

    def stamps(self, start: int, stop: int) -> list[tuple[str, str]]:
        return [("", "empty")] * (stop - start)

    def read(self, index: int, photograph: Size) -> np.ndarray:
        return np.zeros((photograph.height, photograph.width), np.uint8)

    def check(self, index: int, photograph: Size) -> None:
        return None
