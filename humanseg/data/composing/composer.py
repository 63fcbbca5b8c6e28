"""Composed people: people of the training photographs stand on other photographs, one of them or a crowd."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
from tqdm import tqdm

from humanseg import config_rules
from humanseg.data.composing.cutouts import DRAWN_AT, Cutout, cut_out
from humanseg.data.composing.pasting import Canvas, Shadow
from humanseg.data.composing.placing import Ground, Placed
from humanseg.data.splits.parts import Split
from humanseg.data.transforms import PERSON
from humanseg.value_rules import Rule, number, whole

log = logging.getLogger(__name__)

TRIES = 3  # for each person so many are looked at: some are specks, others can't stand at this distance
STREAM = 0xC0305E  # composing draws from a stream of its own, so that samples which it leaves alone stay as they were
CLOSE = 0.5  # of the photograph's height: people of at least so much are in focus, and what is behind them may be not

HEIGHTS = Rule(
    lambda value: (
        isinstance(value, list) and len(value) == 2 and all(map(number(0.05, 3).holds, value)) and value[0] <= value[1]
    ),
    "the smallest and the largest share of a photograph's height, from 0.05 to 3, as [0.1,1.2]",
)
RULES = {
    **dict.fromkeys(("p", "moved", "brightness", "cast", "shadow", "soft"), number(0, 1)),
    "floor": number(0.001, 1),
    **{"ramp": whole(0), "least": whole(1, 64), "most": whole(1, 64), "height": HEIGHTS},
}


@dataclass(frozen=True)
class ComposeConfig:
    """How people are composed; the keys are those of conf/augment/composed.yaml, where each is explained."""

    p: float = 0.5
    ramp: int = 0
    floor: float = 0.02
    moved: float = 0.5
    least: int = 1
    most: int = 8
    height: tuple[float, float] = (0.1, 1.2)
    brightness: float = 0.4
    cast: float = 0.8
    shadow: float = 0.4
    soft: float = 0.3

    @classmethod
    def of(cls, node: dict, where: str = "augment.compose") -> "ComposeConfig":
        """From the node of a config.

        Args:
            where: the node's place, for sentences.

        Raises:
            ValueError: a key that is not one of these, or values of another kind or out of range (all listed).
        """
        if not isinstance(node, dict):
            raise ValueError(f"{where}={node}: give its keys, which are {', '.join(RULES)}, or null")
        if unknown := [name for name in node if name not in RULES]:
            raise ValueError(f"{where}.{unknown[0]} is no key: there are {', '.join(RULES)}")
        rules = {f"{where}.{name}": rule for name, rule in RULES.items()}
        config_rules.refuse_wrong_values({where: node}, complete=False, rules=rules)
        config = cls(**node)
        if config.least > config.most:
            raise ValueError(f"{where}.least={config.least} is more than {where}.most={config.most}")
        return config

    def share(self, number: int) -> float:
        """The share of a pass' samples that is composed; it grows from 0 over `ramp` passes."""
        return self.p * (min(number / self.ramp, 1) if self.ramp else 1)


def apart(augment: dict | None) -> tuple[dict | None, ComposeConfig | None]:
    """An `augment` config without `compose`, which is not albumentations', and that."""
    compose = (augment or {}).get("compose")
    rest = augment and {key: value for key, value in augment.items() if key != "compose"}
    return rest, ComposeConfig.of(compose) if compose else None


class Composer:
    """Puts people of some photographs onto others.

    Args:
        photographs: [position] -> uint8 HxWx3 RGB, uint8 HxW class ids, and where there is a teacher its answer, uint8 HxW.
        people, places: the positions of photographs with people, and of those without.
        band: pixels to each side of outlines that are ignored at most.
    """

    def __init__(
        self, config: ComposeConfig, photographs: Split, people: np.ndarray, places: np.ndarray, band: int = 0
    ):
        self.config, self.photographs, self.people, self.places = config, photographs, people, places
        self.band = band

    @classmethod
    def of_training(cls, config: ComposeConfig, photographs: Split, whole: Split) -> "Composer":
        """With people and places of the training photographs.

        Args:
            whole: the same with all of their masks. A band of ignored pixels may hide a small person.

        Raises:
            ValueError: none of them shows people.
        """
        people, places = people_and_places(whole, config.floor)
        if not len(people):
            raise ValueError(
                f"augment.compose: no training photograph shows people on {config.floor} of its area "
                "(augment.compose.floor), so that nobody can be composed: give a source with people, or augment=portrait"
            )
        log.info("compose    %g of the samples, with people of %d photographs, and %d places without people",
                 config.p, len(people), len(places))  # fmt: skip
        return cls(config, photographs, people, places, max(part.band for part in photographs.parts))

    def sample(
        self, image: np.ndarray, mask: np.ndarray, number: int, seed: list[int], *answers: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """A sample of pass `number`, composed where its stream says so, else as it is.

        Args:
            seed: what tells this sample in this pass from all others. answers: a teacher's, where there is one.
        """
        rng = np.random.default_rng([*seed, STREAM])
        if rng.random() < self.config.share(number):
            return self(image, mask, rng, *answers)
        return image, mask, *answers

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, *answers: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The photograph with more people on it, or its person among others at a place without people; with the mask.

        A teacher's answer takes the same way: where a person stands, it is what was said of that person.
        """
        config, own, placed = self.config, None, []
        if len(self.places) and (mask == PERSON).any() and rng.random() < config.moved:
            own = cut_out(image, mask, rng, self.band, *answers)
            image, mask, *answers = self.photographs[int(rng.choice(self.places))]
        count = int(math.exp(rng.uniform(math.log(config.least), math.log(config.most + 1))))
        ground = Ground.drawn(mask.shape, count, config.height, rng)
        for _ in range(TRIES * count):
            person = own or self._somebody(rng)
            own = None
            if person and (one := ground.place(person, rng)):
                placed.append(one)
                if len(placed) == count:
                    break
        if not placed:
            return image, mask, *answers
        return _joined(image, mask, answers, placed, ground, config, rng)

    def _somebody(self, rng: np.random.Generator) -> Cutout | None:
        image, mask, *answers = self.photographs[int(rng.choice(self.people))]
        return cut_out(image, mask, rng, self.band, *answers)


def _joined(
    image: np.ndarray,
    mask: np.ndarray,
    answers: Sequence[np.ndarray],
    placed: list[Placed],
    ground: Ground,
    config: ComposeConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, ...]:
    """A photograph with people on it, those in front last; with its mask, and a teacher's answer where there is one."""
    before = cv2.compare(mask, PERSON, cv2.CMP_EQ)
    stood = np.flatnonzero(before.any(1))  # rows
    soft = rng.uniform(0.5, 1.0) * max(mask.shape) / DRAWN_AT if rng.random() < config.soft else 0
    close = ground.tall >= CLOSE * ground.height
    canvas = Canvas(_blurred(image, 2 * soft * close), mask.copy(), before, [answer.copy() for answer in answers])
    shadow = None
    if rng.random() < config.shadow:
        shadow = Shadow(rng.uniform(0.25, 0.6), rng.uniform(-0.5, 0.5), rng.uniform(0.15, 0.5))
    for one in sorted(placed, key=lambda one: one.front):
        one = canvas.lit(one, rng.uniform(0, config.brightness), rng.uniform(0, config.cast))
        behind = bool(len(stood)) and one.front < stood[-1] + 1
        if shadow and "bottom" not in one.person.cut:
            canvas.cast(shadow, one, behind)
        canvas.paste(_softened(one, soft * (not close)), behind)
    return canvas.image, canvas.mask, *canvas.answers


def _softened(placed: Placed, sigma: float) -> Placed:
    """A person who is out of focus."""
    person = placed.person
    image, share = _blurred(person.image, sigma), _blurred(person.share, sigma)
    return placed._replace(person=replace(person, image=image, share=share))


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """A copy, out of focus by so many pixels."""
    return cv2.GaussianBlur(picture, (0, 0), sigma) if sigma else picture.copy()


def people_and_places(photographs: Split, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """The positions of photographs of which people fill a share of at least `floor`, and of those without anybody.

    The prepared cache knows the shares. Photographs that are not in it are read once.
    """
    shares = [part.source.shares().person[np.asarray(part.indices)] for part in photographs.parts]
    shares = np.concatenate([np.zeros(0, np.float32), *shares])

    def share(position: int) -> float:
        _, mask = photographs[position]
        return np.count_nonzero(mask == PERSON) / mask.size

    unknown = np.flatnonzero(np.isnan(shares))
    with ThreadPoolExecutor() as pool:
        found = pool.map(share, unknown.tolist())
        shares[unknown] = list(tqdm(found, "where people are", len(unknown), leave=False, disable=None))
    return np.flatnonzero(shares >= floor), np.flatnonzero(shares == 0)
