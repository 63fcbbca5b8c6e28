"""``data=unlabelled``: photographs of which nothing is known. All of each is ignored, so that a teacher alone speaks of them."""

from humanseg.data.formats.empty import OneClass, of_one_class
from humanseg.data.photographs import Photographs
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
    return of_one_class((root, None, None), OneClass("unlabelled", IGNORE), cache_dir, on_error)
