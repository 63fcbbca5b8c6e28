"""The person's own colours along a soft edge, where a photograph shows them mixed with what was behind the person."""

from collections.abc import Iterator

import cv2
import numpy as np

COARSE = 160  # pixels: longest side of the small copy in which colours are looked for at first
WIDE = 13  # pixels of that copy: side of the window, wider than a soft edge
NARROW = 3  # pixels of the photograph: side of the second pass' window
TILE = 64  # pixels: side of the squares that are worked on, where an edge goes through them
NOTHING = 1e-5  # a window with less of a colour than this keeps what it had


def estimated(image: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The photograph with the person's colours alone along the person's soft edge.

    A pixel of the edge mixes two colours: image = share * person + (1 - share) * background. Both are estimated in two
    passes (blur fusion; Forte 2021, "Approximate Fast Foreground Colour Estimation"). A pass takes the means of both
    in a window, weighted by the share and by what is left of it, and then changes them so that they mix to the
    photograph's colour; the paper's own step goes only a part of that way. The first pass has a wide window, in a small
    copy; the second pass has a narrow one.

    Args:
        image: uint8 HxWx3 RGB. share: float32 HxW in [0, 1], how much of a pixel is person.

    Returns:
        uint8 HxWx3 RGB. Where the share is 1 it is the image. Where it is 0 it has no meaning.
    """
    height, width = share.shape
    scale = min(COARSE / max(height, width), 1)
    small = max(round(width * scale), 1), max(round(height * scale), 1)
    coarse = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    wide = _means(coarse, coarse, _planes(cv2.resize(share, small, interpolation=cv2.INTER_AREA)), WIDE)
    found = image.copy()
    for tile, inner in _tiles(share):
        part, whole = _planes(share[tile]), image[tile].astype(np.float32)
        near = (_enlarged(colours, tile, share.shape) for colours in wide)
        near = _means(*_mixing(whole, part, *near), part, NARROW)
        person, _ = _mixing(whole, part, *near)
        found[tile][inner] = np.rint(person[inner])
    return found


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
    return np.clip(values, np.minimum(one, other), np.maximum(one, other))


def _tiles(share: np.ndarray) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """The squares that an edge goes through, each with a margin for the window, and where in them the square is."""
    height, width = share.shape
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            square = share[top : top + TILE, left : left + TILE]
            if ((square > 0) & (square < 1)).any():
                above, before = min(top, NARROW), min(left, NARROW)
                tile = np.s_[top - above : top + TILE + NARROW, left - before : left + TILE + NARROW]
                yield tile, np.s_[above : above + TILE, before : before + TILE]


def _enlarged(coarse: np.ndarray, tile: tuple[slice, slice], size: tuple[int, int]) -> np.ndarray:
    """What a small picture is at a tile of the large one, which has this height and width."""
    (top, bottom, _), (left, right, _) = (one.indices(side) for one, side in zip(tile, size, strict=True))
    down, across = (small / side for small, side in zip(coarse.shape, size, strict=False))
    place = np.float32([[across, 0, (left + 0.5) * across - 0.5], [0, down, (top + 0.5) * down - 0.5]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(coarse, place, (right - left, bottom - top), flags=how, borderMode=cv2.BORDER_REPLICATE)
