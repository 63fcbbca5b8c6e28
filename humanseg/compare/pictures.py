"""What a photograph of a comparison looks like: itself, the truth, what both networks found, and where they differ."""

import base64

import cv2
import numpy as np

from humanseg.data.transforms import IGNORE, resize_image, resize_mask, shrunk_size
from humanseg.pictures import painted

SIDE = 320  # pixels of a panel's longer side
ONLY_FIRST, ONLY_SECOND, NEITHER = (232, 119, 34), (46, 134, 222), (150, 150, 150)  # who is right there


def panels(image: np.ndarray, truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """Five pictures, uint8 HxWx3: photograph, truth, both predictions, and who is right where they differ from it.

    Args:
        image: uint8 HxWx3. truth, first, second: class ids HxW.
    """
    size = shrunk_size(*truth.shape, SIDE)
    image = resize_image(image, *size)
    truth, first, second = (resize_mask(one, *size) for one in (truth, first, second))
    valid = truth != IGNORE
    differing = (image * 0.4).astype(np.uint8)
    for colour, right in ((ONLY_FIRST, (True, False)), (ONLY_SECOND, (False, True)), (NEITHER, (False, False))):
        differing[valid & ((first == truth) == right[0]) & ((second == truth) == right[1])] = colour
    return [image, *(painted(image, one, valid) for one in (truth, first, second)), differing]


def embedded(picture: np.ndarray) -> str:
    """uint8 HxWx3 as a JPEG in a data URI."""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
