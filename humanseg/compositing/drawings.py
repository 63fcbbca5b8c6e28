"""Which drawings are made of a photograph, and what stands behind its person, both as the user typed it."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from humanseg.compositing import composite, foreground
from humanseg.data.pictures import read_image
from humanseg.media import images, video_reader

NAMES = ("mask", "matting", "cutout", "overlay", "background", "probability")
ELSEWHERE = {"matting", "cutout", "background"}  # they show the person without what was behind

Behind = Callable[[np.ndarray, np.ndarray], np.ndarray | tuple[int, int, int]]  # (image, alpha) -> what is behind it


@dataclass(frozen=True)
class Drawings:
    """The drawings of `draw`, with the options of conf/mode/predict.yaml.

    Args:
        names: of NAMES. threshold: in (0, 1). colors: the person's and the background's tint, RGB. opacity: of both.
        bits: 8 or 16, of a probability. keep_largest, fill_holes: see `composite.tidy`.
        foreground: ``estimate`` the person's own colours along the edge, or ``keep`` the photograph's.
    """

    names: list[str]
    threshold: float
    colors: list[tuple[int, int, int]]
    opacity: float
    bits: int
    keep_largest: bool
    fill_holes: bool
    foreground: str = "estimate"

    def __call__(
        self, image: np.ndarray, values: np.ndarray, behind: Behind | None = None, own: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """uint8 HxWx3 and the person's probability HxW -> the pictures by name.

        Args:
            own: the photograph's own alpha, uint8 HxW: what it hides is no person.
        """
        values = composite.tidy(values, self.threshold, self.keep_largest, self.fill_holes)
        share = composite.alpha(values, self.threshold)
        estimates = self.foreground == "estimate" and ELSEWHERE & {*self.names}
        person = foreground.estimated(image, share) if estimates else image
        if own is not None:
            values, share = (plane * (own / np.float32(255)) for plane in (values, share))
        draw = {
            "mask": lambda: composite.mask(values, self.threshold),
            "matting": lambda: composite.matting(person, share),
            "cutout": lambda: composite.cutout(person, share),
            "overlay": lambda: composite.overlay(image, share, self.colors, self.opacity),
            "background": lambda: composite.blend(person, behind(image, share), share),
            "probability": lambda: composite.probability(values, self.bits),
        }
        return {name: draw[name]() for name in self.names}


def color(typed: object) -> tuple[int, int, int]:
    """RGB of six hexadecimal digits.

    Raises:
        ValueError: the text is something else.
    """
    text = str(typed).lstrip("#")
    if not re.fullmatch("[0-9a-fA-F]{6}", text):
        raise ValueError(
            f"{typed} is no colour: give six hexadecimal digits, as 00b140 (in quotes where all are digits)"
        )
    return tuple(bytes.fromhex(text))


def backdrops(typed: str | None) -> Iterator[Behind | None]:
    """What stands behind each picture in turn: a photograph, the frames of a video, a colour or a blur.

    Raises:
        ValueError: it is none of these.
    """
    if not typed:
        return itertools.repeat(None)
    kind, _, value = str(typed).partition(":")
    if kind == "color":
        plain = color(value)
        return itertools.repeat(lambda image, share: plain)
    if kind == "blur":
        if not re.fullmatch(r"\d+(\.\d+)?", value) or not float(value) > 0:
            raise ValueError(f"background={typed}: give the blur's width in pixels, as blur:25")
        return itertools.repeat(lambda image, share: composite.blurred(image, share, float(value)))
    if not Path(typed).is_file():
        raise ValueError(f"background={typed}: no such file; give a photograph, a video, color:00b140 or blur:25")
    if Path(typed).suffix.lower() in images.VIDEOS:
        return (_still(frame) for frame in video_reader.looped(typed))
    return itertools.repeat(_still(read_image(typed)))


def _still(picture: np.ndarray) -> Behind:
    @lru_cache(1)
    def covering(height: int, width: int) -> np.ndarray:
        return composite.covering(picture, height, width)

    return lambda image, share: covering(*image.shape[:2])
