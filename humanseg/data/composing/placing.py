"""Where people stand in a photograph: on a plane, so that those who are farther away are smaller and higher up."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from humanseg.data.composing.cutouts import Cutout, scaled

ENLARGED = 1.3  # a person that is enlarged further is blurred beside its surroundings
SMALLEST = 8  # pixels: a person of less height is a dot
DEPTH = 0.3  # people differ in height by so much (standard deviation of the logarithm), which is their distance
BUST = (0.45, 1.1)  # of the photograph's height: from and to; people whom the frame cut at the bottom are close
LEAST_BUST = 0.25  # of the photograph's height: the least for them, where they have too few pixels for more
HANGING = 0.8  # of the photograph's height: so far down reach people whom the frame cut at the top, or farther
ANYWHERE = 0.05  # share of people who jump, climb or sit: at any height
HIDDEN = 0.35  # share of a person that a side of the frame may cut off


class Placed(NamedTuple):
    """A person at its size, with the place of its picture's corner; `front` is larger for those nearer to the camera."""

    person: Cutout
    top: int
    left: int
    front: float


@dataclass(frozen=True)
class Ground:
    """The plane on which people stand in a photograph of this height and width, in pixels.

    Args:
        tall: the height of a typical person. feet: where its feet are. horizon: where people would vanish.
    """

    height: int
    width: int
    tall: float
    feet: float
    horizon: float

    @classmethod
    def drawn(
        cls, size: tuple[int, int], people: int, heights: tuple[float, float], rng: np.random.Generator
    ) -> "Ground":
        """A camera's view. Crowds are farther away than one or two people.

        Args:
            heights: smallest and largest height of a typical person, as a share of the photograph's.
        """
        height, width = size
        low, high = heights
        high = max(low, min(high, 1.5 / math.sqrt(max(people, 1))))
        tall = math.exp(rng.uniform(math.log(low), math.log(high)))
        feet = max(rng.uniform(0.65, 1.0), tall * rng.uniform(0.95, 1.15))  # close people are cut at their legs
        horizon = rng.uniform(0.25, 0.5) if tall < 0.6 else rng.uniform(0, 0.3)
        return cls(height, width, tall * height, feet * height, horizon * height)

    def place(self, person: Cutout, rng: np.random.Generator) -> Placed | None:
        """Where one more person stands, or None where it would have a flat edge in the air.

        A side that its own photograph's frame cut off lies at this frame too.
        """
        scale = self._scale(person, rng)
        if scale is None:
            return None
        one = scaled(person, scale, rng.random() < 0.5)
        left, top, wide, tall = one.box()
        if tall < SMALLEST:
            return None
        feet = self.horizon + tall / self.tall * (self.feet - self.horizon)
        if rng.random() < ANYWHERE:
            feet = _between(0.5 * tall, self.height + 0.2 * tall, rng)
        across = _between(-HIDDEN * wide, self.width - (1 - HIDDEN) * wide, rng)
        x = _within_cuts(across, wide, self.width, {"left", "right"} & one.cut, "left", rng)
        y = _within_cuts(feet - tall, tall, self.height, {"top", "bottom"} & one.cut, "top", rng)
        front = self.height + tall if "bottom" in one.cut else y + tall
        return Placed(one, round(y) - top, round(x) - left, front)

    def _scale(self, person: Cutout, rng: np.random.Generator) -> float | None:
        """How much larger the person becomes; None where the sides that are cut would need too much."""
        _, _, wide, tall = person.box()
        if not tall:
            return None
        wanted = self.tall * math.exp(rng.normal(0, DEPTH))
        least = 0.0
        if "bottom" in person.cut:
            wanted = max(wanted, math.exp(rng.uniform(*np.log(BUST))) * self.height)
            least = LEAST_BUST * self.height / tall
        if "top" in person.cut:  # smaller ones would hang from the top
            least = (1 if "bottom" in person.cut else HANGING) * self.height / tall
        if {"left", "right"} <= person.cut:
            least = max(least, self.width / wide)
        return max(min(wanted / tall, ENLARGED), least) if least <= ENLARGED else None


def _between(one: float, other: float, rng: np.random.Generator) -> float:
    """A number between two ends. Those of a person who is larger than the frame are the other way round."""
    return rng.uniform(min(one, other), max(one, other))


def _within_cuts(start: float, length: float, frame: int, cut: set[str], first: str, rng: np.random.Generator) -> float:
    """Where a person begins, who is so long, so that the sides in `cut` lie at the frame's edge or beyond."""
    if len(cut) == 2:
        return rng.uniform(min(frame - length, 0), 0)
    beyond = rng.uniform(0, HIDDEN * length) * (rng.random() < 0.5)
    if not cut:
        return start
    return -beyond if first in cut else frame - length + beyond
