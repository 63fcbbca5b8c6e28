"""``data=unlabelled``: photographs of which nothing is known. All of each is ignored, so that a teacher alone speaks of them."""

import numpy as np

from humanseg.data import folders, listing
from humanseg.data.photographs import Photographs, open_found
from humanseg.data.pictures import Size
from humanseg.data.transforms import IGNORE


def unlabelled(
    root: str | None, cache_dir: str | None = None, on_error: str = "raise"
) -> dict[str, Photographs | None]:
    """A source from a folder of photographs; key ``train``, for there is nothing to validate on.

    Args:
        cache_dir, on_error: as for `open_sources`.

    Raises:
        ValueError: the folder is missing or empty, or photographs can't be read (all listed).
    """
    places = listing.each_side("root", (root, None, None))
    return open_found(
        places, folders.photographs, lambda found: Photographs(found.images, Unknown()), cache_dir, on_error
    )


class Unknown:
    """The labels of photographs of which nothing is known."""

    def stamps(self, start: int, stop: int) -> list[tuple[str, str]]:
        return [("", "unlabelled")] * (stop - start)

    def read(self, index: int, photograph: Size) -> np.ndarray:
        return np.full((photograph.height, photograph.width), IGNORE, np.uint8)

    def check(self, index: int, photograph: Size) -> None:
        return None
