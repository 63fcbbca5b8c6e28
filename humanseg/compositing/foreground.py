"""The person's own colours along a soft edge, where a photograph shows them mixed with what was behind the person."""

from collections.abc import Iterator

import cv2
import numpy as np

from humanseg.compositing.rows import Rows, shrunk

COARSE = 160  # pixels: longest side of the small copy in which colours are looked for at first
WIDE = 13  # pixels of that copy: side of the window, wider than a soft edge
NARROW = 3  # pixels of the photograph: side of the second pass' window
TILE = 64  # pixels: side of the squares that are worked on, where an edge goes through them
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
        shares, found = share(around), image[around].copy()
        for tile, inner in _tiles(shares):
            part, whole = _planes(shares[tile]), image[around][tile].astype(np.float32)
            place = around.start + tile[0].start, tile[1].start
            near = (_enlarged(colours, place, part.shape, size) for colours in wide)
            near = _means(*_mixing(whole, part, *near), part, NARROW)
            found[tile][inner] = np.rint(_mixing(whole, part, *near)[0][inner])
        return found[rows.start - around.start : rows.stop - around.start]

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


def _tiles(share: np.ndarray) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Boxes around the edge, one in each square that it goes through, with a margin for the window; where in it they are."""
    soft, margin = ((share > 0) & (share < 1)).astype(np.uint8), NARROW // 2
    for top in range(0, len(soft), TILE):
        for left in range(0, soft.shape[1], TILE):
            across, down, width, height = cv2.boundingRect(soft[top : top + TILE, left : left + TILE])
            if width:
                rows, columns = slice(top + down, top + down + height), slice(left + across, left + across + width)
                above, before = min(rows.start, margin), min(columns.start, margin)
                tile = np.s_[rows.start - above : rows.stop + margin, columns.start - before : columns.stop + margin]
                yield tile, np.s_[above : above + height, before : before + width]


def _enlarged(coarse: np.ndarray, place: tuple[int, int], shape: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    """What a small picture is at a tile of this shape, whose top left corner lies there in the large one of this size."""
    down, across = (small / side for small, side in zip(coarse.shape, size, strict=False))
    top, left = place
    where = np.float32([[across, 0, (left + 0.5) * across - 0.5], [0, down, (top + 0.5) * down - 0.5]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(coarse, where, shape[1::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
