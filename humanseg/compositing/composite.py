"""Drawings of people: a photograph and the person's probability in, a picture out.

An image is uint8 HxWx3 RGB, a probability or an alpha float32 HxW in [0, 1].
"""

import cv2
import numpy as np

from humanseg.data.colour import strips

SOFT = 0.25  # alpha rises from 0 at the threshold minus this to 1 at the threshold plus this
HELD = 0.5  # a part is what is connected above this share of the threshold
BLURRED_AT = 4.0  # pixels: a wider blur is made on a smaller picture, where it has this width


def alpha(probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """How much of each pixel is person, with an edge that is soft where the network is not sure."""
    return np.clip((probability - (threshold - SOFT)) / (2 * SOFT), 0, 1)


def blend(front: np.ndarray, behind: np.ndarray | tuple[int, int, int], share: np.ndarray) -> np.ndarray:
    """Mix `share` (float32 HxW) of the front with 1 - `share` of what is behind, a picture or a colour."""
    behind = np.broadcast_to(np.array(behind, np.uint8), front.shape)
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


def blurred(image: np.ndarray, share: np.ndarray, width: float) -> np.ndarray:
    """The background out of focus, without the person's colours in it, at the photograph's size.

    Args:
        width: the blur's standard deviation, pixels.
    """
    height, across = image.shape[:2]
    scale = max(width / BLURRED_AT, 1)
    small = (max(round(across / scale), 1), max(round(height / scale), 1))
    weighted = np.zeros((small[1], small[0], 4), np.float32)
    for rows in strips(height, across):
        weight = 1 - share[rows] + 1e-3  # far inside a person there is no background, and weights must not add up to 0
        planes = np.dstack([image[rows] * weight[..., None], weight])
        top, bottom = (round(row * small[1] / height) for row in (rows.start, rows.stop))
        if top < bottom:
            weighted[top:bottom] = cv2.resize(planes, (small[0], bottom - top), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(weighted, (0, 0), width / scale)
    return cv2.resize(np.rint(smooth[..., :3] / smooth[..., 3:]).astype(np.uint8), (across, height))


def covering(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture of any size as a background: it is scaled to cover height x width, and its middle is cut out."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    across, down = max(round(picture.shape[1] * scale), width), max(round(picture.shape[0] * scale), height)
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(picture, (across, down), interpolation=smooth)
    top, left = (down - height) // 2, (across - width) // 2
    return scaled[top : top + height, left : left + width]


def tidy(values: np.ndarray, threshold: float, keep_largest: bool, fill_holes: bool) -> np.ndarray:
    """A probability without the parts beside the largest person, and without holes in people, as asked for."""
    if keep_largest:
        count, parts = cv2.connectedComponents((values >= HELD * threshold).astype(np.uint8))
        if count > 2:
            sizes = np.bincount(parts[values >= threshold], minlength=count)
            values = np.where(parts == sizes.argmax(), values, np.float32(0))
    if fill_holes:
        outside = cv2.copyMakeBorder((values < threshold).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
        _, parts = cv2.connectedComponents(outside, connectivity=4)
        parts = parts[1:-1, 1:-1]
        hole = (parts > 0) & (parts != 1)  # part 1 is what touches the border: the corner is the first pixel
        values = np.where(hole, np.float32(1), values)
    return values
