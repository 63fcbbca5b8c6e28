"""The person's own colours along a soft edge, where a photograph shows them mixed with what was behind the person."""

from collections.abc import Iterator

import cv2
import numpy as np

from humanseg.compositing.rows import Rows, shrunk

COARSE = 160  # pixels: longest side of the small copy in which colours are looked for at first
WIDE = 13  # pixels of that copy: side of the window, wider than a soft edge
NARROW = 3  # pixels of the photograph: side of the second pass' window
TILE = 8  # pixels: side of the squares that are worked on, where an edge goes through them
AT_ONCE = 512  # squares: of many small calls each waits for Python's lock, where other threads draw too
NOTHING = 1e-5  # a window with less of a colour than this keeps what it had


def estimated(image: np.ndarray, share: Rows) -> Rows:
    """The photograph with the person's colours alone along the person's soft edge.

    A pixel of the edge mixes two colours: image = share * person + (1 - share) * background. Both are estimated in two
    passes (blur fusion; Forte 2021, "Approximate Fast Foreground Colour Estimation"). A pass takes the means of both
    in a window, weighted by the share and by what is left of it, and then changes them so that they mix to the
    photograph's colour; the paper's own step goes only a part of that way. The first pass has a wide window, in a small
    copy; the second pass has a narrow one.

    Args:
        image: uint8 HxWx3 RGB. share: rows of float32 HxW in [0, 1], how much of a pixel is person.

    Returns:
        rows of uint8 HxWx3 RGB. Where the share is 1 it is the image. Where it is 0 it has no meaning.
    """
    height, width = size = image.shape[:2]
    scale = min(COARSE / max(height, width), 1)
    small = max(round(height * scale), 1), max(round(width * scale), 1)
    coarse = cv2.resize(image, small[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    wide = _means(coarse, coarse, _planes(shrunk(share, size, small)), WIDE)

    def person(rows: slice) -> np.ndarray:
        around = slice(max(rows.start - NARROW, 0), min(rows.stop + NARROW, height))
        shares, colours = share(around), image[around].reshape(-1, 3)
        found = colours.copy()
        for down, across in _tiles(shares):
            place = down * width + across
            part, whole = _planes(shares[down, across]), colours[place].astype(np.float32)
            near = (_enlarged(one, down + around.start, across, size) for one in wide)
            near = _means(*_mixing(whole, part, *near), part, NARROW)
            place, shown, part = map(_inner, (place, _mixing(whole, part, *near)[0], part[..., 0]))
            soft = (part > 0) & (part < 1)
            found[place[soft]] = np.rint(shown[soft])
        return found.reshape(-1, width, 3)[rows.start - around.start : rows.stop - around.start]

    return person


def _planes(share: np.ndarray) -> np.ndarray:
    """HxW -> HxWx3: arithmetic on arrays of one shape is twice as fast."""
    return cv2.merge([share, share, share])


def _means(person: np.ndarray, behind: np.ndarray, share: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Both colours in a window around each pixel."""

    def mean(colours: np.ndarray, weight: np.ndarray) -> np.ndarray:
        summed, weights = (cv2.blur(plane, (side, side)) for plane in (colours * weight, weight))
        return (summed + NOTHING * colours) / (weights + NOTHING)

    return mean(person, share), mean(behind, 1 - share)


def _mixing(
    image: np.ndarray, share: np.ndarray, person: np.ndarray, behind: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The colours nearest to these two that mix to the photograph's, but not further than the photograph's own.

    The bound costs a little where the share is right. Where a network's share is off by some pixels, which is usual, the
    colours would overshoot without it.
    """
    missing = (image - share * person - (1 - share) * behind) / (share**2 + (1 - share) ** 2)
    return _between(person + share * missing, person, image), _between(behind + (1 - share) * missing, behind, image)


def _between(values: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.maximum(np.minimum(values, np.maximum(one, other)), np.minimum(one, other))


def _tiles(share: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The squares that the edge goes through, with a margin for the window, below each other: row and column of each pixel.

    AT_ONCE of them at a time. Beyond the picture they are mirrored.
    """
    (height, width), margin = share.shape, NARROW // 2
    soft = ((share > 0) & (share < 1)) * np.uint8(255)
    soft = cv2.copyMakeBorder(soft, 0, -height % TILE, 0, -width % TILE, cv2.BORDER_CONSTANT)
    soft = cv2.resize(soft, None, fx=1 / TILE, fy=1 / TILE, interpolation=cv2.INTER_AREA)
    rows, columns = (np.pad(np.arange(side), (margin, TILE + margin), "reflect") for side in share.shape)
    corners, inside = TILE * np.argwhere(soft), np.arange(TILE + 2 * margin)
    for first in range(0, len(corners), AT_ONCE):
        top, left = corners[first : first + AT_ONCE, :, None].swapaxes(0, 1)
        places = np.broadcast_arrays(rows[top + inside][:, :, None], columns[left + inside][:, None, :])
        yield tuple(place.reshape(-1, len(inside)) for place in places)


def _inner(column: np.ndarray) -> np.ndarray:
    """Squares below each other -> each without its margin, NxTILExTILE and so on."""
    side, inside = column.shape[1], slice(NARROW // 2, -(NARROW // 2))
    return column.reshape(-1, side, *column.shape[1:])[:, inside, inside]


def _enlarged(coarse: np.ndarray, down: np.ndarray, across: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What a small picture is at these rows and columns of the large one of this size."""
    tall, wide = (small / side for small, side in zip(coarse.shape, size, strict=False))
    where = (np.float32((place + 0.5) * scale - 0.5) for place, scale in ((across, wide), (down, tall)))
    return cv2.remap(coarse, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
