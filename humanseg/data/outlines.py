"""Outlines that are not to be trusted: in training a band around them is ignored."""

from dataclasses import replace

import cv2
import numpy as np

from humanseg.data.prepared import Prepared, Shares, Shrunk
from humanseg.data.splits.parts import Split
from humanseg.data.transforms import IGNORE


class Banded:
    """Prepared samples of a source, with a band of ignored pixels around the outlines of their masks.

    Args:
        band: pixels to each side of an outline.
    """

    def __init__(self, prepared: Prepared | Shrunk, band: int):
        self.prepared, self.band = prepared, band

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self.prepared[index]
        return image, without_outlines(mask, self.band)

    def shares(self) -> Shares:
        """Of the masks as they are on disk."""
        return self.prepared.shares()


def banded(prepared: Split) -> Split:
    """Training samples, of which each source has the band that it asks for."""
    parts = [replace(part, source=Banded(part.source, part.band)) if part.band else part for part in prepared.parts]
    return Split(parts)


def without_outlines(mask: np.ndarray, band: int) -> np.ndarray:
    """Ignore the pixels from which another class is at most `band` pixels away, in any direction.

    Ignored pixels are no class: they have no outline. Nor has the frame.

    Args:
        mask: uint8 HxW of class ids.
    """
    square = np.ones((2 * band + 1, 2 * band + 1), np.uint8)
    lowest = cv2.erode(mask, square)  # IGNORE is above all classes
    highest = cv2.dilate(np.where(mask == IGNORE, np.uint8(0), mask), square)
    return np.where(highest > lowest, np.uint8(IGNORE), mask)
