"""Augmentation that albumentations does not have."""

import math

import albumentations as A
import cv2
import numpy as np

from humanseg.data.transforms import IGNORE


class Reframe(A.DualTransform):
    """Another view of the photograph in the network's square: letterbox, zoom, shift and rotation in one warp.

    Args:
        size: side of the square, pixels.
        zoom: smallest and largest, drawn evenly on a logarithmic scale; 1 is the plain letterbox.
        shift: the largest, as a share of the square, up or down and left or right.
        rotate: the largest, degrees either way.
        mirror: probability that the photograph goes on as its own mirror image, people included; where it does not, the
            rest of the square is `pad_value` and ignored.
    """

    def __init__(
        self,
        size: int,
        zoom: tuple[float, float] = (0.5, 2.0),
        shift: float = 0.15,
        rotate: float = 20.0,
        mirror: float = 0.5,
        pad_value: int = 0,
        p: float = 1.0,
    ):
        super().__init__(p=p)
        self.size, self.zoom, self.shift, self.rotate = size, zoom, shift, rotate
        self.mirror, self.pad_value = mirror, pad_value

    def get_params(self) -> dict:
        draw = self.py_random
        return {
            "zoom": math.exp(draw.uniform(*map(math.log, self.zoom))),
            "across": draw.uniform(-self.shift, self.shift),
            "down": draw.uniform(-self.shift, self.shift),
            "angle": draw.uniform(-self.rotate, self.rotate),
            "border": cv2.BORDER_REFLECT_101 if draw.random() < self.mirror else cv2.BORDER_CONSTANT,
        }

    def apply(self, img: np.ndarray, **params) -> np.ndarray:
        return self._view(img, cv2.INTER_AREA, cv2.INTER_LINEAR, (self.pad_value,) * 3, **params)

    def apply_to_mask(self, mask: np.ndarray, **params) -> np.ndarray:
        return self._view(mask, cv2.INTER_NEAREST_EXACT, cv2.INTER_NEAREST, IGNORE, **params)

    def _view(self, plane, shrinking, sampling, outside, *, zoom, across, down, angle, border, **_) -> np.ndarray:
        scale = zoom * self.size / max(plane.shape[:2])
        if scale < 1:  # a warp reads four pixels for each it writes, so it can't make a picture much smaller
            plane = cv2.resize(plane, None, fx=scale, fy=scale, interpolation=shrinking)
        height, width = plane.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, max(scale, 1.0))
        matrix[:, 2] += self.size * (0.5 + across) - width / 2, self.size * (0.5 + down) - height / 2
        square = (self.size, self.size)
        return cv2.warpAffine(plane, matrix, square, flags=sampling, borderMode=border, borderValue=outside)


class SquareCrop(A.DualTransform):
    """A square at a random place, its side a random share of the photograph's shorter side.

    Args:
        scale: smallest and largest share, in (0, 1].
    """

    def __init__(self, scale: tuple[float, float] = (0.9, 1.0), p: float = 1.0):
        super().__init__(p=p)
        self.scale = scale

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        height, width = params["shape"][:2]
        side = max(1, round(self.py_random.uniform(*self.scale) * min(height, width)))
        return {
            "top": self.py_random.randint(0, height - side),
            "left": self.py_random.randint(0, width - side),
            "side": side,
        }

    def apply(self, img: np.ndarray, top: int, left: int, side: int, **params) -> np.ndarray:
        return np.ascontiguousarray(img[top : top + side, left : left + side])

    def apply_to_mask(self, mask: np.ndarray, **params) -> np.ndarray:
        return self.apply(mask, **params)


def compose(transforms: list, rotate: float) -> A.Compose:
    """The classic recipe; `rotate` is read by its YAML, where the transform that it concerns stands."""
    return A.Compose(transforms)
