"""Edges from the photograph: the network's small output is enlarged along the photograph's own outlines."""

from itertools import combinations_with_replacement

import cv2
import numpy as np

from humanseg.data.transforms import resize_image, shrunk_size

# The window in which an edge is looked for has this radius, times the person's area by the length of their outline.
RADIUS = 0.7
LEAST, MOST = 1 / 128, 3 / 128  # of the radius, as shares of the network's square
SMOOTH = 1e-3  # variance of colours in [0, 1]: what varies less is no edge
FINEST = 3  # pixels of the photograph, at most, to one of the network's: finer edges are not looked for
GRAIN = 5  # pixels of the median that takes texture and noise out of the photograph: they would fray the outline
REACH = 3  # of the network's pixels: what is further from an edge of the network's stays as the network has it
CONTRAST = 2  # times the distance from one half: a fit draws values towards the mean of their window


def refined(coarse: np.ndarray, image: np.ndarray, size: int) -> np.ndarray:
    """The person's probability along the photograph's outlines, by a guided filter.

    In each window of the network's picture a linear function of the colour is fitted to the probability. These functions
    are enlarged instead of the probability, and applied to the photograph's own colours (He and Sun 2015, "Fast Guided
    Filter"; with colours He et al. 2013, "Guided Image Filtering"). `tests/bench/refining.py` measures it.

    The window is wide for large people, whose edges the network draws a few pixels off. A wide one would take small
    people for a part of what is behind them.

    Where person and background have the same colours, as dark hair before a dark wall, a fit gives both the same value,
    about one half. So each value stays between the least and the most that the network says close by.

    Args:
        coarse: float32 in [0, 1] hxw, the network's probability without the letterbox. image: uint8 HxWx3 RGB.
        size: side of the network's square.

    Returns:
        float32 in [0, 1], at the photograph's size, or smaller: a large photograph's is to be enlarged.
    """
    height, width = shrunk_size(*image.shape[:2], FINEST * size)
    smooth = cv2.medianBlur(resize_image(image, height, width), GRAIN)
    side = max(round(height / len(coarse)), 1)
    guide = cv2.resize(cv2.blur(smooth, (side, side)), coarse.shape[::-1])  # a quarter of the time of INTER_AREA
    *slopes, found = (cv2.resize(plane, (width, height)) for plane in _fitted(coarse, _colours(guide), size))
    for slope, colour in zip(slopes, _colours(smooth), strict=True):
        found += slope * colour
    return within_reach(0.5 + CONTRAST * (found - 0.5), coarse)


def within_reach(found: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Values HxW, each between the least and the most that the network says within REACH; `coarse` as for `refined`."""
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1,) * 2)
    least, most = (cv2.resize(extreme(coarse, near), found.shape[::-1]) for extreme in (cv2.erode, cv2.dilate))
    return found.clip(least, most)


def window_radius(coarse: np.ndarray, size: int) -> int:
    """A share of the width of the people, in pixels of the network; arguments as for `refined`."""
    outline = sum(np.abs(np.diff(coarse, axis=axis)).sum() for axis in (0, 1))
    wanted = RADIUS * coarse.sum() / max(outline, 1)
    return max(round(min(max(wanted, LEAST * size), MOST * size)), 1)


def enlarged_rows(plane: np.ndarray, height: int, width: int, rows: slice) -> np.ndarray:
    """Some rows of a plane, or of a picture, that is enlarged to height x width, bilinear, as float32."""
    places = ((np.arange(rows.start, rows.stop) + 0.5) * len(plane) / height - 0.5).clip(0, len(plane) - 1)
    above = places.astype(int)
    below, share = np.minimum(above + 1, len(plane) - 1), (places - above).astype(np.float32)
    share = share.reshape(-1, *[1] * (plane.ndim - 1))
    return cv2.resize(plane[above] * (1 - share) + plane[below] * share, (width, len(places)))


def _colours(image: np.ndarray) -> list[np.ndarray]:
    """uint8 HxWx3 -> three planes, float32 HxW in [0, 1]."""
    return [plane * np.float32(1 / 255) for plane in cv2.split(image)]


def _fitted(coarse: np.ndarray, colours: list[np.ndarray], size: int) -> list[np.ndarray]:
    """Three slopes and an offset of the function of each window, at the network's scale."""
    side = 2 * window_radius(coarse, size) + 1

    def mean(plane: np.ndarray) -> np.ndarray:
        return cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT)

    mean_coarse, means = mean(coarse), [mean(colour) for colour in colours]
    shared = [mean(colour * coarse) - own * mean_coarse for colour, own in zip(colours, means, strict=True)]
    spread = {}
    for one, other in combinations_with_replacement(range(3), 2):
        spread[one, other] = mean(colours[one] * colours[other]) - means[one] * means[other] + SMOOTH * (one == other)
    slopes = _solved(spread, shared)
    offset = mean_coarse - sum(slope * own for slope, own in zip(slopes, means, strict=True))
    return [mean(plane) for plane in (*slopes, offset)]


def _solved(matrix: dict[tuple[int, int], np.ndarray], right: list[np.ndarray]) -> list[np.ndarray]:
    """A symmetric linear system for every pixel, all at once: it takes a tenth of the time of numpy's solver.

    Gaussian elimination without pivots, as covariances need none. Of the matrix it has the upper half. It changes its
    arguments.
    """
    unknowns = range(len(right))
    for done in unknowns:
        for row in unknowns[done + 1 :]:
            share = matrix[done, row] / matrix[done, done]
            right[row] -= share * right[done]
            for column in unknowns[row:]:
                matrix[row, column] -= share * matrix[done, column]
    found = {}
    for row in reversed(unknowns):
        known = sum(matrix[row, column] * value for column, value in found.items())
        found[row] = (right[row] - known) / matrix[row, row]
    return [found[row] for row in unknowns]
