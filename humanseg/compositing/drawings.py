"""Which drawings are made of a photograph, and what stands behind its person, both as the user typed it."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from humanseg.compositing import composite, foreground
from humanseg.compositing.rows import Rows
from humanseg.data.pictures import read_image
from humanseg.media import images, video_reader

NAMES = ("mask", "matting", "cutout", "overlay", "background", "probability")
ELSEWHERE = {"matting", "cutout", "background"}  # they show the person without what was behind

Color = tuple[int, int, int]
Behind = Callable[[np.ndarray, Rows], Callable[[slice], np.ndarray | Color]]  # what is behind an image and its alpha


@dataclass(frozen=True)
class Drawings:
    """The drawings of `draw`, with the options of conf/mode/predict.yaml.

    Args:
        names: of NAMES. threshold: in (0, 1). colors: the person's and the background's tint, RGB. opacity: of both.
        bits: 8 or 16, of a probability. keep_largest, fill_holes: see `composite.tidied`.
        foreground: ``estimate`` the person's own colours along the edge, or ``keep`` the photograph's.
    """

    names: list[str]
    threshold: float
    colors: list[Color]
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
        everything = slice(0, len(image))
        values = self._tidied(image, values.__getitem__)(everything)
        share = composite.alpha(values, self.threshold)
        return self._in_rows(image, values.__getitem__, share.__getitem__, behind, own)(everything)

    def in_rows(
        self, image: np.ndarray, values: Rows, behind: Behind | None = None, own: np.ndarray | None = None
    ) -> Callable[[slice], dict[str, np.ndarray]]:
        """As a call, for some rows of a large photograph at a time."""
        values = self._tidied(image, values)
        return self._in_rows(image, values, lambda rows: composite.alpha(values(rows), self.threshold), behind, own)

    def _tidied(self, image: np.ndarray, values: Rows) -> Rows:
        return composite.tidied(values, *image.shape[:2], self.threshold, self.keep_largest, self.fill_holes)

    def _in_rows(
        self, image: np.ndarray, values: Rows, share: Rows, behind: Behind | None, own: np.ndarray | None
    ) -> Callable[[slice], dict[str, np.ndarray]]:
        estimates = self.foreground == "estimate" and ELSEWHERE & {*self.names}
        person = foreground.estimated(image, share) if estimates else image.__getitem__
        backdrop = behind(image, share) if "background" in self.names else None

        def drawn(rows: slice) -> dict[str, np.ndarray]:
            seen, ours, value, part = image[rows], person(rows), values(rows), share(rows)
            if own is not None:
                value, part = (plane * (own[rows] / np.float32(255)) for plane in (value, part))
            draw = {
                "mask": lambda: composite.mask(value, self.threshold),
                "matting": lambda: composite.matting(ours, part),
                "cutout": lambda: composite.cutout(ours, part),
                "overlay": lambda: composite.overlay(seen, part, self.colors, self.opacity),
                "background": lambda: composite.blend(ours, backdrop(rows), part),
                "probability": lambda: composite.probability(value, self.bits),
            }
            return {name: draw[name]() for name in self.names}

        return drawn


def color(typed: object) -> Color:
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
        return itertools.repeat(lambda image, share: lambda rows: plain)
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

    return lambda image, share: covering(*image.shape[:2]).__getitem__
