"""Augmentation that albumentations does not have."""

import math
from statistics import NormalDist

import albumentations as A
import cv2
import numpy as np

from humanseg.data.transforms import IGNORE

HALVED_BELOW = 0.6  # a warp reads four pixels for each that it writes, too few to make a picture much smaller

RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])

QUANTILES = np.array([NormalDist().inv_cdf((level + 0.5) / 256) for level in range(256)])  # a byte -> a normal number


class Reframe(A.DualTransform):
    """Another view of the photograph in the network's square: flip, letterbox, zoom, shift and rotation in one warp.

    Args:
        size: side of the square, pixels.
        zoom: smallest and largest, drawn evenly on a logarithmic scale; 1 is the plain letterbox.
        shift: the largest, as a share of the square, up or down and left or right.
        rotate: the largest, degrees either way.
        flip: probability that left becomes right.
        mirror: probability that the photograph's mirror image, people included, fills the rest of the square. Otherwise
            the rest is `pad_value` and ignored.
    """

    def __init__(
        self,
        size: int,
        zoom: tuple[float, float] = (0.5, 2.0),
        shift: float = 0.15,
        rotate: float = 20.0,
        flip: float = 0.0,
        mirror: float = 0.5,
        pad_value: int = 0,
        p: float = 1.0,
    ):
        super().__init__(p=p)
        self.size, self.zoom, self.shift, self.rotate = size, zoom, shift, rotate
        self.flip, self.mirror, self.pad_value = flip, mirror, pad_value

    def get_params(self) -> dict:
        draw = self.py_random
        return {
            "zoom": math.exp(draw.uniform(*map(math.log, self.zoom))),
            "across": draw.uniform(-self.shift, self.shift),
            "down": draw.uniform(-self.shift, self.shift),
            "angle": draw.uniform(-self.rotate, self.rotate),
            "flipped": draw.random() < self.flip,
            "mirrored": draw.random() < self.mirror,
        }

    def apply(self, img: np.ndarray, **params) -> np.ndarray:
        four = cv2.cvtColor(img, cv2.COLOR_RGB2RGBA)  # OpenCV warps four channels in less than half the time of three
        view = self._view(four, cv2.INTER_AREA, cv2.INTER_LINEAR, (self.pad_value,) * 4, **params)
        return cv2.cvtColor(view, cv2.COLOR_RGBA2RGB)

    def apply_to_mask(self, mask: np.ndarray, **params) -> np.ndarray:
        return self._view(mask, cv2.INTER_NEAREST_EXACT, cv2.INTER_NEAREST, IGNORE, **params)

    def _view(
        self, plane, shrinking, sampling, outside, *, zoom, across, down, angle, flipped, mirrored, **_
    ) -> np.ndarray:
        scale = zoom * self.size / max(plane.shape[:2])
        while scale < HALVED_BELOW and min(plane.shape[:2]) > 1:
            height, width = (side // 2 for side in plane.shape[:2])
            plane = cv2.resize(plane[: 2 * height, : 2 * width], (width, height), interpolation=shrinking)
            scale *= 2
        height, width = plane.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
        matrix[:, 2] += self.size * (0.5 + across) - width / 2, self.size * (0.5 + down) - height / 2
        if flipped:
            matrix[:, 2] += matrix[:, 0] * (width - 1)
            matrix[:, 0] *= -1
        if mirrored:
            plane, matrix = self._mirrored(plane, matrix)
        return cv2.warpAffine(plane, matrix, (self.size, self.size), flags=sampling, borderValue=outside)

    def _mirrored(self, plane: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The plane with its mirror image around it, as far as the square shows it, and the warp from there.

        A warp that has to mirror pixel by pixel takes twice the time.
        """
        corners = np.array([[0, 0, 1], [0, self.size, 1], [self.size, 0, 1], [self.size, self.size, 1]], float)
        seen = corners @ cv2.invertAffineTransform(matrix).T
        sides = plane.shape[1::-1]
        left, top = (max(0, math.ceil(1 - edge)) for edge in seen.min(0))
        right, bottom = (max(0, math.ceil(edge + 2 - side)) for edge, side in zip(seen.max(0), sides, strict=True))
        if not any((left, top, right, bottom)):
            return plane, matrix
        matrix = matrix.copy()
        matrix[:, 2] -= matrix[:, :2] @ (left, top)
        return cv2.copyMakeBorder(plane, top, bottom, left, right, cv2.BORDER_REFLECT_101), matrix


class Tint(A.ImageOnlyTransform):
    """Brightness, contrast, saturation and hue as one matrix on the colours. They commute, so their order is fixed.

    Args:
        brightness, contrast, saturation: smallest and largest factor.
        hue: the largest turn of the colours either way, as a share of the full circle.
    """

    def __init__(
        self,
        brightness: tuple[float, float],
        contrast: tuple[float, float],
        saturation: tuple[float, float],
        hue: float,
        p: float = 0.5,
    ):
        super().__init__(p=p)
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def get_params(self) -> dict:
        ranges = {"brightness": self.brightness, "contrast": self.contrast, "saturation": self.saturation}
        drawn = {name: self.py_random.uniform(*ends) for name, ends in ranges.items()}
        return drawn | {"turn": 2 * math.pi * self.py_random.uniform(-self.hue, self.hue)}

    def apply(self, img: np.ndarray, brightness, contrast, saturation, turn, **params) -> np.ndarray:
        across, along = saturation * math.sin(turn), saturation * math.cos(turn)
        chroma = np.array([[1, 0, 0], [0, along, -across], [0, across, along]])
        matrix = brightness * contrast * np.linalg.inv(RGB_TO_YIQ) @ chroma @ RGB_TO_YIQ
        grey = (1 - contrast) * brightness * (RGB_TO_YIQ[0] @ cv2.mean(img)[:3])
        return cv2.transform(img, np.column_stack([matrix, [grey] * 3]))


class Grain(A.ImageOnlyTransform):
    """A sensor's noise: normal, and independent for each pixel and colour.

    Args:
        std: smallest and largest standard deviation, as a share of white.
    """

    def __init__(self, std: tuple[float, float], p: float = 0.5):
        super().__init__(p=p)
        self.std = std

    def get_params(self) -> dict:
        return {"std": 255 * self.py_random.uniform(*self.std)}

    def apply(self, img: np.ndarray, std: float, **params) -> np.ndarray:
        drawn = np.frombuffer(self.random_generator.bytes(img.size), np.uint8).reshape(img.shape)
        noise = cv2.LUT(drawn, np.rint(std * QUANTILES).astype(np.int16))
        return cv2.add(img, noise, dtype=cv2.CV_8U)


class SquareCrop(A.DualTransform):
    """A square at a random place. Its side is a random share of the photograph's shorter side.

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
