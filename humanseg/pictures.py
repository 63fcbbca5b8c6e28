"""Pictures of samples and of what a network makes of them: panels for TensorBoard and for run folders.

A photograph is uint8 HxWx3 RGB, a mask holds class ids, uint8 HxW.
"""

from itertools import product

import cv2
import numpy as np

from humanseg.data.transforms import IGNORE, letterbox

RED, BLUE, GREEN, GREY = (230, 60, 60), (60, 110, 230), (0, 255, 120), (110, 110, 110)
CLASSES = np.array([(0, 90, 60), (255, 255, 255), (220, 160, 40), (120, 80, 200), (40, 170, 200)], np.float32)


def png(picture: np.ndarray) -> bytes:
    """uint8 HxWx3 RGB as the content of a PNG file."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    return encoded.tobytes()


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A sample as training gets it: people outlined, ignored pixels hatched."""
    image, person = image.copy(), ((mask > 0) & (mask != IGNORE)).astype(np.uint8)
    contours, _ = cv2.findContours(person, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, GREEN, max(1, mask.shape[0] // 160))
    rows, columns = np.indices(mask.shape)
    image[(mask == IGNORE) & ((rows + columns) % 8 == 0)] = GREY
    return image


def preview_row(image: np.ndarray, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Photograph, truth, prediction and error map side by side: uint8 Hx4Wx3.

    In the error map red pixels were called person and are none; blue pixels are a person that was missed.
    """
    valid = truth != IGNORE
    errors = (image * 0.4).astype(np.uint8)
    errors[valid & (found > 0) & (truth == 0)] = RED
    errors[valid & (found == 0) & (truth > 0)] = BLUE
    return np.concatenate([image, painted(image, truth, valid), painted(image, found, valid), errors], axis=1)


def painted(image: np.ndarray, classes: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Each class in its colour over the darkened photograph, uint8 HxWx3. The person and what is not `valid` stay as they are."""
    shade = CLASSES[classes % len(CLASSES)]
    mixed = np.where((classes == 1)[..., None], image, image * 0.3 + shade * 0.7)
    return np.where(valid[..., None], mixed, image).astype(np.uint8)


def titled_row(image: np.ndarray, truth: np.ndarray, found: np.ndarray, side: int, title: str) -> np.ndarray:
    """As `preview_row`, with a height of `side` pixels and a title."""
    square, labels = letterbox(image, truth, side, pad_value=0)
    row = preview_row(square, labels, letterbox(image, found, side, pad_value=0)[1])
    around = [place for place in product((-1, 0, 1), repeat=2) if any(place)]
    for right, down, colour in [*((*place, (0, 0, 0)) for place in around), (0, 0, (255, 255, 255))]:
        # An outline of thicker letters would not lie behind them: they are wider in OpenCV 5.
        cv2.putText(row, title, (6 + right, 18 + down), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return row


def extremes(scores: list[float], most: int) -> list[int]:
    """The samples with the best scores and those with the worst, in turn: at most `most` of each.

    A score of exactly 1 is nearly always a photograph of nobody. Such a sample is the last to be chosen as one of the best.
    """
    count = min(most, len(scores) // 2) or 1
    worst = sorted(range(len(scores)), key=scores.__getitem__)[:count]
    others = set(range(len(scores))) - set(worst) or worst
    best = sorted(others, key=lambda index: (scores[index] == 1, -scores[index]))[:count]
    return [index for pair in zip(best, worst, strict=True) for index in pair]


def contact_sheet(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    """Tiles of one size, uint8 HxWx3, in rows of `columns`; the last row is filled with black."""
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)
