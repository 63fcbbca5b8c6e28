"""Pictures of which some rows are made at a time, so that a large one takes few bytes a pixel."""

from collections.abc import Callable

import cv2
import numpy as np

from humanseg.data.colour import strips

Rows = Callable[[slice], np.ndarray]  # some rows of a picture; the slice has a start and a stop


def assembled(made: Rows, height: int, width: int, dtype: type) -> np.ndarray:
    """The whole HxW plane of which `made` makes some rows."""
    plane = np.empty((height, width), dtype)
    for rows in strips(height, width):
        plane[rows] = made(rows)
    return plane


def shrunk(made: Rows, size: tuple[int, int], small: tuple[int, int], part: slice | None = None) -> np.ndarray:
    """Some rows, or all, of a picture that is shrunk to the means of its areas.

    Args:
        made: float32 HxW or HxWxC. size, small: height and width before and after. part: rows of the small picture.
    """
    height, width = size
    down, across = small
    first, last = (part.start, part.stop) if part else (0, down)
    found = []
    for rows in strips(last - first, width * -(-height // down)):
        edges = (first + rows.start, first + rows.stop)
        above, below = (round(edge * height / down) for edge in edges)
        whole = made(slice(above, below))
        found.append(cv2.resize(whole, (across, edges[1] - edges[0]), interpolation=cv2.INTER_AREA))
    return np.concatenate(found)
