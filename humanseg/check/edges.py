"""Whether the outline of a mask lies on edges of the photograph, or would do so if it were moved."""

from typing import NamedTuple

import cv2
import numpy as np

from humanseg.data.transforms import IGNORE, PERSON, resize_image, shrunk_size

LONGEST = 256  # pixels: at this size both are compared
REACH = 15  # pixels at that size: so far the outline is moved, 6 % of the longer side
RIM = 3  # pixels at the frame, where an outline is no person's
WIDE = 7  # pixels: ignored regions from this width on are no unsure edge
SHORTEST = 150  # pixels of outline without which nothing is known
FAINT = 60  # of the gradient, which Scharr's kernel makes 32 times as large as the step: weaker ones are noise


class Fit(NamedTuple):
    """How well an outline follows the edges of its photograph.

    `here` is how much better it lies where it is than elsewhere within REACH, in standard deviations of all places: about 0
    for the outline of something else, 3 to 8 for a careful one. `best` is that of the best place, and `right` and `down` say
    where it is, as shares of the longer side. All are NaN where there is too little outline.
    """

    here: float
    best: float
    right: float
    down: float


UNKNOWN = Fit(*[float("nan")] * 4)


def fit(image: np.ndarray, mask: np.ndarray) -> Fit:
    """Compare the outline of people with the edges of a photograph, which should run in the same direction.

    Args:
        image: uint8 HxWx3 RGB. mask: uint8 HxW of class ids.
    """
    size = shrunk_size(*mask.shape, LONGEST)
    normals = _normals(mask, size)
    if normals is None:
        return UNKNOWN
    padded = cv2.copyMakeBorder(_directions(resize_image(image, *size)), *[REACH] * 4, cv2.BORDER_REFLECT)
    score = cv2.matchTemplate(padded, normals, cv2.TM_CCORR)  # of each place, down by right, 2 REACH + 1 each
    score = (score - np.median(score)) / max(float(score.std()), 1e-9)
    down, right = np.unravel_index(score.argmax(), score.shape)
    here = score[REACH - 1 : REACH + 2, REACH - 1 : REACH + 2].max()
    moved = (right - REACH + _summit(score[down], right), down - REACH + _summit(score[:, right], down))
    return Fit(float(here), float(score.max()), *(part / max(size) for part in moved))


def _directions(image: np.ndarray) -> np.ndarray:
    """Direction and strength of the edges, float32 HxWx3: xx, yy and xy of a structure tensor, relative to what is around."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 0.8)
    across, along = cv2.Scharr(grey, cv2.CV_32F, 1, 0), cv2.Scharr(grey, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(across, along)
    around = cv2.boxFilter(strength, -1, (2 * REACH + 1, 2 * REACH + 1)) + FAINT
    scale = 1 / (strength * around + 1e-3)
    return cv2.merge([across * across * scale, along * along * scale, 2 * across * along * scale])


def _normals(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """xx, yy and xy of the outline's normals, float32 HxWx3, zero elsewhere; None where there is too little outline."""
    person = cv2.resize((mask == PERSON).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    ignored = cv2.resize((mask == IGNORE).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(person + ignored / 2, (0, 0), 1)  # the outline runs in the middle of an unsure edge
    across, along = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    length, inside, near = cv2.magnitude(across, along), (soft > 0.5).view(np.uint8), np.ones((3, 3), np.uint8)
    outline = (cv2.dilate(inside, near) != cv2.erode(inside, near)) & (length > 0.05)
    if ignored.any():
        wide = cv2.morphologyEx(ignored, cv2.MORPH_OPEN, np.ones((WIDE, WIDE), np.uint8))
        outline &= cv2.dilate(wide, near) == 0
    outline[:RIM] = outline[-RIM:] = outline[:, :RIM] = outline[:, -RIM:] = False
    if np.count_nonzero(outline) < SHORTEST:
        return None
    scale = outline / np.maximum(length, 1e-6)
    across, along = across * scale, along * scale
    return cv2.merge([across * across, along * along, across * along])


def _summit(line: np.ndarray, place: int) -> float:
    """How far from the largest of some values their parabola has its summit, at most half a step."""
    if not 0 < place < len(line) - 1:
        return 0.0
    before, top, after = line[place - 1 : place + 2].tolist()
    bend = before - 2 * top + after
    return min(max((before - after) / (2 * bend), -0.5), 0.5) if bend else 0.0
