"""Augmentation that albumentations does not have."""

import albumentations as A
import numpy as np


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
