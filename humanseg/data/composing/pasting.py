"""A cut-out person becomes part of a photograph: its light, its shadow, its edge, and its mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from humanseg.data.composing.cutouts import HALF, light
from humanseg.data.composing.placing import Placed
from humanseg.data.transforms import IGNORE, PERSON

BRIGHTER, TINTED = (0.6, 1.6), (0.85, 1.18)  # the most that a person's light changes; more looks painted
FLOOR = 20  # grey levels: black clothes are no dark place


@dataclass(frozen=True)
class Shadow:
    """The shadow that all people of a scene cast on the ground.

    Args:
        dark: in [0, 1], how much light it takes away. across, length: how far it reaches to the right and away from the
            camera, as a share of the person's height.
    """

    dark: float
    across: float
    length: float


@dataclass(frozen=True)
class Canvas:
    """A photograph that people are put onto: uint8 HxWx3 RGB and uint8 HxW class ids, which change.

    Args:
        before: uint8 HxW, 255 where people were there at first. answers: uint8 HxW, a teacher's, which change too.
    """

    image: np.ndarray
    mask: np.ndarray
    before: np.ndarray
    answers: Sequence[np.ndarray] = ()

    def paste(self, placed: Placed, behind: bool) -> None:
        """Put a person onto the photograph, `behind` those who were there at first or in front of them."""
        person, top, left, _ = placed
        there, here = _overlap(self.mask.shape, person.share.shape, top, left)
        share = person.share[here]
        if not share.size:
            return
        if behind:
            share = cv2.multiply(share, 255 - self.before[there], scale=1 / 255)
        part = share.astype(np.float32) / 255
        _blend(self.image[there], person.image[here], part)
        for answer in self.answers:
            _blend(answer[there], person.answer[here], part)
        labels = self.mask[there]
        labels[share >= HALF] = PERSON
        if person.unsure is not None:
            labels[person.unsure[here] & (share > 0)] = IGNORE

    def cast(self, shadow: Shadow, placed: Placed, behind: bool) -> None:
        """Darken the ground behind a person's feet."""
        person, top, left, _ = placed
        x, y, wide, tall = person.box()
        feet, flat = y + tall, shadow.length
        reach = round(0.02 * tall) + 1
        first = left + x + min(shadow.across * tall, 0) - reach, top + feet - flat * tall - reach
        size = wide + abs(shadow.across) * tall + 2 * reach, flat * tall + 2 * reach
        corner, (width, height) = np.round(first).astype(int), np.round(size).astype(int) + 1
        lean = -shadow.across  # to the right for each pixel of the person's height
        matrix = np.float64([[1, lean, left - lean * feet], [0, flat, top + feet * (1 - flat)]])
        matrix[:, 2] -= corner
        plane = cv2.blur(cv2.warpAffine(person.share, matrix, (int(width), int(height))), (2 * reach + 1,) * 2)
        there, here = _overlap(self.mask.shape, plane.shape, int(corner[1]), int(corner[0]))
        dark = plane[here]
        if not dark.size:
            return
        if behind:
            dark = cv2.multiply(dark, 255 - self.before[there], scale=1 / 255)
        _blend(self.image[there], np.zeros((*dark.shape, 3), np.uint8), dark.astype(np.float32) * (shadow.dark / 255))

    def lit(self, placed: Placed, brightness: float, cast: float) -> Placed:
        """The person in a light that is nearer to that of the photograph around it.

        Args:
            brightness, cast: how near, in [0, 1]: 0 changes nothing, 1 gives the person the mean of its surroundings.
        """
        person, top, left, _ = placed
        there, _ = _overlap(self.mask.shape, person.share.shape, top, left)
        if not self.image[there].size:
            return placed
        around, (whole, colour) = light(self.image[there])[0], light(self.image)
        own = np.mean(cv2.mean(person.image, person.share)[:3])
        gain = (((around + whole) / 2 + FLOOR) / (own + FLOOR)) ** brightness
        tint = (colour / person.cast) ** cast
        matrix = np.diag(np.clip(gain, *BRIGHTER) * np.clip(tint, *TINTED))
        return placed._replace(person=replace(person, image=cv2.transform(person.image, matrix)))


def _blend(below: np.ndarray, picture: np.ndarray, share: np.ndarray) -> None:
    """Put a picture, of which a pixel has this share, onto a part of another, which changes."""
    below[:] = cv2.blendLinear(np.ascontiguousarray(picture), np.ascontiguousarray(below), share, 1 - share)


def _overlap(
    frame: tuple[int, int], picture: tuple[int, int], top: int, left: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of a frame that a picture covers, and the part of the picture that the frame shows."""
    there, here = zip(*map(_covered, frame, picture, (top, left)), strict=True)
    return there, here


def _covered(frame: int, length: int, start: int) -> tuple[slice, slice]:
    first, last = max(start, 0), max(min(start + length, frame), start, 0)
    return slice(first, last), slice(first - start, last - start)
