"""From a photograph to the square that the network sees, and back: the letterbox and its inverse."""

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

PERSON = 1  # the person's class in a mask
IGNORE = 255  # pixels of a mask that count in no loss and no metric

# Training prepares photographs at this multiple of the network's size. The margin is for zooms and crops.
MARGIN = 1.25


def shrink(image: np.ndarray, mask: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale a larger photograph down so that its longer side is `longest` pixels; smaller ones stay.

    Args:
        image: uint8 HxWx3. mask: uint8 HxW.
    """
    return resize(image, mask, *shrunk_size(*mask.shape, longest))


def shrunk_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width of what `shrink` makes of a photograph of this size."""
    scale = min(longest / max(height, width), 1)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def resize(image: np.ndarray, mask: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Bring both to one size: the photograph by area or linear interpolation, the mask by its nearest class."""
    return resize_image(image, height, width), resize_mask(mask, height, width)


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A photograph or another smooth plane at another size, by area or linear interpolation."""
    if image.shape[:2] == (height, width):
        return image
    smooth = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=smooth)


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 HxW of another size, by the nearest pixel."""
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def letterbox_box(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Where a height x width photograph lies in the square of side `size`: top, left, height, width."""
    scale = size / max(height, width)
    inner_height, inner_width = max(round(height * scale), 1), max(round(width * scale), 1)
    return (size - inner_height) // 2, (size - inner_width) // 2, inner_height, inner_width


def letterbox(image: np.ndarray, mask: np.ndarray, size: int, pad_value: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale the longer side to `size`, centre, pad the photograph with `pad_value` and the mask with IGNORE.

    Args:
        image: uint8 HxWx3. mask: uint8 HxW.

    Returns:
        uint8 size x size x 3 and uint8 size x size.
    """
    top, left, height, width = letterbox_box(*mask.shape, size)
    square = np.full((size, size, 3), pad_value, np.uint8)
    square[top : top + height, left : left + width] = resize_image(image, height, width)
    return square, letterbox_mask(mask, size)


def letterbox_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """As `letterbox`, of the mask alone."""
    top, left, height, width = letterbox_box(*mask.shape, size)
    labels = np.full((size, size), IGNORE, np.uint8)
    labels[top : top + height, left : left + width] = resize_mask(mask, height, width)
    return labels


def unletterbox(logits: Tensor, height: int, width: int) -> Tensor:
    """Undo the letterbox of a height x width photograph: C x S x S logits -> C x height x width, bilinear."""
    inner = without_letterbox(logits, height, width)[None]
    return F.interpolate(inner, size=(height, width), mode="bilinear", align_corners=False)[0]


def without_letterbox(planes: Tensor, height: int, width: int) -> Tensor:
    """The part of C x S x S planes that a height x width photograph fills, at the network's scale."""
    top, left, inner_height, inner_width = letterbox_box(height, width, planes.shape[-1])
    return planes[:, top : top + inner_height, left : left + inner_width]
