"""One person of a photograph, cut out to stand elsewhere: where the edge is, what the frame cuts, colours along the edge."""

from dataclasses import dataclass

import cv2
import numpy as np

from humanseg.data.transforms import IGNORE, PERSON

DRAWN_AT = 280  # pixels: the longer side of a photograph for which the lengths below hold
OFF = 1  # pixels that a drawn edge is off; so many are taken away, as they may show the old background
BAND = 5  # pixels: ignored ones that are so near to a person and to what is not one are the person's unsure edge
INNER = 3  # pixels: from how far inside an edge gets its colours
TALL, AREA = 0.1, 0.006  # a person is at least so much of the longer side, and of the photograph: others are specks
NEAR = 2  # pixels: a person that ends so near to the frame goes on outside
FLAT = {"top": 0.06, "bottom": 0.1, "left": 0.06, "right": 0.06}  # share of the person's side that the frame cuts
BROAD = 1.6  # a person less tall than so many of its widths is broad
LOWEST = 0.04  # share of the height: a person's lowest part
ENDS = 0.45  # a broad person who fills so much of that part ends there without feet
SURE, HALF = 250, 128  # of 255: such a share of a pixel is person alone, and makes its class
OTHER_WAY = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Cutout:
    """A person as the photograph shows it.

    Args:
        image: uint8 HxWx3 RGB around the person.
        share: uint8 HxW, how much of a pixel is person: 255 is all of it.
        unsure: bool HxW, ignored pixels that belong to the person's edge; None without any.
        cut: the sides, of `FLAT`, at which the photograph's frame cuts the person.
        cast: float64 3, the colour of the photograph's light: its mean, relative to its brightness.
        answer: uint8 HxW, what a teacher says; None without one.
    """

    image: np.ndarray
    share: np.ndarray
    unsure: np.ndarray | None
    cut: frozenset[str]
    cast: np.ndarray
    answer: np.ndarray | None = None

    def box(self) -> tuple[int, int, int, int]:
        """Where the person is in the picture: left, top, width, height; of no size where all of it is too thin."""
        return cv2.boundingRect(cv2.threshold(self.share, HALF - 1, 1, cv2.THRESH_BINARY)[1])


def cut_out(
    image: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
    band: int = 0,
    answer: np.ndarray | None = None,
) -> Cutout | None:
    """One of the people of a photograph; those that touch are one. None where all are specks.

    Args:
        image: uint8 HxWx3 RGB. mask: uint8 HxW of class ids. band: as of `Composer`. answer: a teacher's, uint8 HxW.
    """
    people = (mask == PERSON).view(np.uint8)
    outlines, _ = cv2.findContours(people, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)  # five times as fast as components
    large = [
        outline
        for outline in outlines
        if np.ptp(outline[..., 1]) >= TALL * max(mask.shape) and cv2.contourArea(outline) >= AREA * mask.size
    ]
    if not large:
        return None
    outline = large[int(rng.integers(len(large)))]
    left, top, width, height = cv2.boundingRect(outline)
    unit = max(mask.shape) / DRAWN_AT
    edge = max(BAND, 2 * band / unit)
    margin = round((edge + 1) * unit)
    above, before = max(top - margin, 0), max(left - margin, 0)
    around = np.s_[above : top + height + margin, before : left + width + margin]
    person = np.zeros_like(people[around])
    cv2.drawContours(person, [outline], 0, 1, cv2.FILLED, offset=(-before, -above))
    person &= people[around]
    unsure = _unsure_edge(person, mask[around], _square(edge * unit))
    whole = person if unsure is None else person | unsure
    share = cv2.erode(whole, _square(OFF * unit)) * np.uint8(255)
    if unsure is not None:
        unsure = (unsure & whole).view(bool)
        share[unsure] //= 2
    inside = person[top - above : top - above + height, left - before : left - before + width]
    cut, cast = _cut_sides(inside, top, left, mask.shape), light(image)[1]
    return Cutout(image[around], share, unsure, cut, cast, None if answer is None else answer[around])


def light(image: np.ndarray) -> tuple[float, np.ndarray]:
    """The brightness of a photograph, 0 to 255, and the colour of its light, float64 3 around 1: its mean."""
    mean = np.array(cv2.mean(image)[:3])
    brightness = float(mean.mean())
    return brightness, (mean + 1) / (brightness + 1)


def _unsure_edge(person: np.ndarray, mask: np.ndarray, reach: np.ndarray) -> np.ndarray | None:
    """Ignored pixels between the person and what is not this person, uint8 0 or 1; wide ignored regions are no edge.

    Args:
        reach: the kernel that both lie in.
    """
    ignored = (mask == IGNORE).view(np.uint8)
    if not ignored.any():
        return None
    unsure = ignored & cv2.dilate(person, reach) & cv2.dilate((ignored | person) ^ 1, reach)
    return unsure if unsure.any() else None


def _cut_sides(inside: np.ndarray, top: int, left: int, frame: tuple[int, int]) -> frozenset[str]:
    """At which sides the frame, of this height and width, cuts the person that fills its box as `inside` says.

    A broad person with a broad lower end is cut at the bottom in any place: by a table, or by a mask that ends early.
    """
    height, width = inside.shape
    touched = {
        "top": (top, inside[:NEAR].any(0)),
        "bottom": (frame[0] - top - height, inside[-NEAR:].any(0)),
        "left": (left, inside[:, :NEAR].any(1)),
        "right": (frame[1] - left - width, inside[:, -NEAR:].any(1)),
    }
    cut = {side for side, (gap, line) in touched.items() if gap < NEAR and line.mean() > FLAT[side]}
    if height < BROAD * width and inside[-max(round(LOWEST * height), 1) :].mean() > ENDS:
        cut.add("bottom")
    return frozenset(cut)


def _square(reach: float) -> np.ndarray:
    """The kernel that reaches so many pixels to each side, one at least."""
    side = 2 * max(round(reach), 1) + 1
    return np.ones((side, side), np.uint8)


def scaled(cutout: Cutout, scale: float, flipped: bool) -> Cutout:
    """The person at another size, with colours of its own along its edge.

    There the photograph shows the person mixed with the old background. The edge takes the mean of the person's sure
    pixels near it instead. That leaves no halo, also where the edge was drawn a pixel too far outside.
    """
    four = cv2.cvtColor(cutout.image, cv2.COLOR_RGB2RGBA)
    four[..., 3] = cutout.share
    size = [max(round(side * scale), 1) for side in cutout.share.shape[::-1]]
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    four = cv2.resize(four, size, interpolation=smooth)
    unsure, answer = cutout.unsure, cutout.answer
    if answer is not None:
        answer = cv2.resize(answer, size, interpolation=smooth)
    if unsure is not None:
        unsure = cv2.resize(unsure.view(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).view(bool)
    cut = cutout.cut
    if flipped:
        four, unsure = cv2.flip(four, 1), unsure if unsure is None else unsure[:, ::-1]
        answer = answer if answer is None else answer[:, ::-1]
        cut = frozenset(OTHER_WAY.get(side, side) for side in cut)
    share = cv2.extractChannel(four, 3)
    if scale > 0.6:  # where a mask is made smaller its edge is soft already
        share = cv2.GaussianBlur(share, (3, 3), 0)
    return Cutout(_own_colours(four, share), share, unsure, cut, cutout.cast, answer)


def _own_colours(four: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The RGB of an RGBA picture, with the colours of sure pixels near by where the share is neither all nor nothing."""
    sure = cv2.threshold(share, SURE - 1, 255, cv2.THRESH_BINARY)[1]
    edge = np.nonzero(sure ^ cv2.threshold(share, 0, 255, cv2.THRESH_BINARY)[1])
    image = cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)
    four[..., 3] = sure
    side = 2 * INNER + 1
    only = cv2.bitwise_and(four, four, mask=sure)
    sums = cv2.boxFilter(only, cv2.CV_32F, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)[edge]
    found = sums[:, 3] > 0
    image[edge[0][found], edge[1][found]] = np.rint(255 * sums[found, :3] / sums[found, 3:])
    return image
