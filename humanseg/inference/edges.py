"""Edges from the photograph: the network's small output is enlarged along the photograph's own outlines."""

from collections.abc import Callable

import cv2
import numpy as np

RADIUS = 1 / 64  # share of the network's square: radius of the window in which an edge is looked for
SMOOTH = 1e-3  # variance of grey values in [0, 1]: what varies less is no edge


def refined(coarse: np.ndarray, image: np.ndarray, size: int) -> np.ndarray:
    """The person's probability at the photograph's size, by a guided filter (He and Sun 2015, "Fast Guided Filter").

    In each window of the network's picture a linear function of the grey value is fitted to the probability. These
    functions are enlarged instead of the probability, and applied to the photograph's own grey values.

    Args:
        coarse: float32 in [0, 1] hxw, the network's probability without the letterbox. image: uint8 HxWx3 RGB.
        size: side of the network's square.

    Returns:
        float32 HxW in [0, 1].
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    shrinks = coarse.size < grey.size
    guide = cv2.resize(grey, coarse.shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    slope, offset = (cv2.resize(plane, image.shape[1::-1]) for plane in _fitted(coarse, guide, size))
    return np.clip(slope * grey + offset, 0, 1)


def refined_rows(coarse: np.ndarray, image: np.ndarray, size: int) -> Callable[[slice], np.ndarray]:
    """As `refined`, for some rows of a large photograph at a time."""
    guide = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    guide = cv2.resize(guide, coarse.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    planes = _fitted(coarse, guide, size)

    def values(rows: slice) -> np.ndarray:
        slope, offset = (enlarged_rows(plane, *image.shape[:2], rows) for plane in planes)
        grey = cv2.cvtColor(image[rows], cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        return np.clip(slope * grey + offset, 0, 1)

    return values


def enlarged_rows(plane: np.ndarray, height: int, width: int, rows: slice) -> np.ndarray:
    """Some rows of a plane, or of a picture, that is enlarged to height x width, bilinear, as float32."""
    places = ((np.arange(rows.start, rows.stop) + 0.5) * len(plane) / height - 0.5).clip(0, len(plane) - 1)
    above = places.astype(int)
    below, share = np.minimum(above + 1, len(plane) - 1), (places - above).astype(np.float32)
    share = share.reshape(-1, *[1] * (plane.ndim - 1))
    return cv2.resize(plane[above] * (1 - share) + plane[below] * share, (width, len(places)))


def _fitted(coarse: np.ndarray, guide: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset of the function of each window, at the network's scale."""
    side = 2 * max(round(RADIUS * size), 1) + 1

    def mean(plane: np.ndarray) -> np.ndarray:
        return cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_coarse = mean(guide), mean(coarse)
    slope = (mean(guide * coarse) - mean_guide * mean_coarse) / (mean(guide * guide) - mean_guide**2 + SMOOTH)
    offset = mean_coarse - slope * mean_guide
    return mean(slope), mean(offset)
