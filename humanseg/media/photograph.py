"""What a caller from Python gives as a photograph: an array or a file's path."""

from pathlib import Path

import numpy as np

from humanseg.data.colour import on_white
from humanseg.data.pictures import read_image

Given = np.ndarray | Path | str


def as_photograph(given: Given) -> np.ndarray:
    """A photograph as all else takes it, uint8 HxWx3 RGB in one piece.

    Args:
        given: uint8 HxWx3 RGB, HxWx4 RGBA (shown on white), HxW or HxWx1 grey, or a file's path.

    Raises:
        ValueError: it is none of these, or the file can't be read.
    """
    if isinstance(given, Path | str):
        return read_image(given)
    shape = given.shape if isinstance(given, np.ndarray) and given.dtype == np.uint8 else ()
    if len(shape) == 2:
        given = given[..., None]
    if len(shape) not in (2, 3) or 0 in shape or given.shape[2] not in (1, 3, 4):
        raise ValueError(f"a photograph is uint8 HxWx3 RGB, HxWx4 RGBA or HxW, or a path; this is {_described(given)}")
    channels = given.shape[2]
    if channels == 4:
        given = on_white(given)
    return np.ascontiguousarray(np.repeat(given, 3, axis=2) if channels == 1 else given)


def _described(given: object) -> str:
    if isinstance(given, np.ndarray):
        return f"{given.dtype} {'x'.join(map(str, given.shape)) or 'of no size'}"
    return f"a {type(given).__module__}.{type(given).__name__}"
