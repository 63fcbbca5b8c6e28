"""Drawings of people: a photograph and the person's probability in, a picture out.

An image is uint8 HxWx3 RGB, a probability or an alpha float32 HxW in [0, 1].
"""

import math

import cv2
import numpy as np

from humanseg.compositing.rows import Rows, assembled, shrunk
from humanseg.data.colour import strips
from humanseg.inference.edges import enlarged_rows

SOFT = 0.25  # alpha rises from 0 at the threshold minus this to 1 at the threshold plus this
HELD = 0.5  # a part is what is connected above this share of the threshold
BLURRED_AT = 4.0  # pixels: a wider blur is made on a smaller picture, where it has this width
REACH = 4  # standard deviations that OpenCV's blur of floating values looks around itself


def alpha(probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """How much of each pixel is person, with an edge that is soft where the network is not sure."""
    return np.clip((probability - (threshold - SOFT)) / (2 * SOFT), 0, 1)


def blend(front: np.ndarray, behind: np.ndarray | tuple[int, int, int], share: np.ndarray) -> np.ndarray:
    """Mix `share` (float32 HxW) of the front with 1 - `share` of what is behind, a picture or a colour."""
    if isinstance(behind, tuple):
        row = np.full_like(front[:1], behind)
        behind = np.repeat(row, len(front), axis=0)  # a fifth of the time of filling all of it with three values
    return cv2.blendLinear(front, np.ascontiguousarray(behind), np.float32(share), np.float32(1 - share))


def mask(probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """uint8 HxW: 255 where the person is, else 0."""
    return np.where(probability >= threshold, np.uint8(255), np.uint8(0))


def probability(values: np.ndarray, bits: int = 8) -> np.ndarray:
    """A probability as uint8 or uint16 HxW, scaled to the full range."""
    return np.rint(values * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def matting(image: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The person on white."""
    return blend(image, (255, 255, 255), share)


def cutout(image: np.ndarray, share: np.ndarray) -> np.ndarray:
    """uint8 HxWx4 RGBA. What is no person is transparent, and black, which halves the size of a PNG."""
    cut = np.dstack([image, probability(share)])
    cut[share == 0] = 0
    return cut


def overlay(image: np.ndarray, share: np.ndarray, colors: list[tuple[int, int, int]], opacity: float) -> np.ndarray:
    """Person and background tinted.

    Args:
        colors: the person's and the background's. opacity: of both, in [0, 1].
    """
    person, background = (np.full_like(image, color) for color in colors)
    tint = blend(person, background, share)
    return cv2.addWeighted(tint, opacity, image, 1 - opacity, 0)


def blurred(image: np.ndarray, share: Rows, width: float) -> Rows:
    """The background out of focus, without the person's colours in it, at the photograph's size.

    Args:
        share: of the person, rows of float32 HxW. width: the blur's standard deviation, pixels.
    """
    height, across = image.shape[:2]
    scale = max(width / BLURRED_AT, 1)
    down, beside = small = max(round(height / scale), 1), max(round(across / scale), 1)
    reach = math.ceil(REACH * width / scale)

    def weighted(rows: slice) -> np.ndarray:
        weight = 1 - share(rows) + 1e-3  # far inside a person there is no background, and weights must not add up to 0
        return np.dstack([image[rows] * weight[..., None], weight])

    smooth = np.empty((down, beside, 3), np.uint8)
    for part in strips(down, beside):
        around = slice(max(part.start - reach, 0), min(part.stop + reach, down))
        planes = cv2.GaussianBlur(shrunk(weighted, (height, across), small, around), (0, 0), width / scale)
        planes = planes[part.start - around.start : part.stop - around.start]
        smooth[part] = np.rint(planes[..., :3] / planes[..., 3:])
    return lambda rows: np.rint(enlarged_rows(smooth, height, across, rows)).astype(np.uint8)


def covering(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture of any size as a background: its middle is cut out, as large as height x width fits in, and scaled."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    down, across = max(round(height / scale), 1), max(round(width / scale), 1)
    top, left = (picture.shape[0] - down) // 2, (picture.shape[1] - across) // 2
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(picture[top : top + down, left : left + across], (width, height), interpolation=smooth)


def tidied(values: Rows, height: int, width: int, threshold: float, keep_largest: bool, fill_holes: bool) -> Rows:
    """A probability without the parts beside the largest person, and without holes in people, as asked for."""
    if keep_largest:
        values = _replaced(values, _beside_the_largest(values, height, width, threshold), 0)
    if fill_holes:
        values = _replaced(values, _holes(values, height, width, threshold), 1)
    return values


def _replaced(values: Rows, where: np.ndarray, value: float) -> Rows:
    return lambda rows: np.where(where[rows], np.float32(value), values(rows))


def _beside_the_largest(values: Rows, height: int, width: int, threshold: float) -> np.ndarray:
    """bool HxW: what is not connected to the largest person."""
    held = assembled(lambda rows: values(rows) >= HELD * threshold, height, width, np.uint8)
    count, parts = cv2.connectedComponents(held)
    if count <= 2:
        return np.zeros((height, width), bool)
    sizes = np.zeros(count, int)
    for rows in strips(height, width):
        sizes += np.bincount(parts[rows][values(rows) >= threshold], minlength=count)
    return assembled(lambda rows: parts[rows] != sizes.argmax(), height, width, bool)


def _holes(values: Rows, height: int, width: int, threshold: float) -> np.ndarray:
    """bool HxW: what is no person and doesn't reach the border."""
    outside = np.ones((height + 2, width + 2), np.uint8)
    for rows in strips(height, width):
        outside[1:-1, 1:-1][rows] = values(rows) < threshold
    _, parts = cv2.connectedComponents(outside, connectivity=4)
    parts = parts[1:-1, 1:-1]
    return assembled(lambda rows: parts[rows] > 1, height, width, bool)  # part 1 has the first pixel, at the border
