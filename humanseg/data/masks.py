"""Masks: what a file holds, and the rule that makes classes of it."""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image

from humanseg.data.colour import to_uint8
from humanseg.data.deep import has_16_bits, opencv_values
from humanseg.data.opening import with_image
from humanseg.data.pictures import Size, turn_of
from humanseg.data.transforms import IGNORE

Rule = str | int | list[int]

ACCEPTED = "nonzero, half, inverted, alpha, from:N, the value of a person (15), or a list with the value of each class"
LOSSY = {"JPEG", "MPO", "AVIF", "HEIF"}
LABELS = 16  # a mask with more values than these may be a matte
OPAQUE, CLEAR = 230, 25  # of 255: a matte has more pixels from OPAQUE on than between the two
AMBIGUOUS = 0.01  # share of pixels on which two readings of a mask differ, and one has to be named


class Mask(NamedTuple):
    """What a mask's file holds, upright.

    `values` is HxW as the file has them: a palette gives its indices, a colour its brightest channel. `alpha` is uint8
    HxW, or None where the file has none. `labels` tells that the values are numbers whatever they look like: a palette's
    indices, or two greys beside an alpha. `lossy` tells that the file's format changes values a little. `flat` tells that
    the values are all the same, but the colours are not, and no alpha varies. `turned` tells that EXIF has turned it.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    labels: bool
    lossy: bool
    flat: bool = False
    turned: bool = False

    def read_by_alpha(self, rule: Rule) -> bool:
        """Whether the alpha is the mask: where it is asked for, or varies under a rule that doesn't name values."""
        varies = self.alpha is not None and self.alpha.min() != self.alpha.max()
        return rule == "alpha" or (varies and rule in ("nonzero", "half", "inverted"))

    def soft(self) -> bool:
        """Whether the values are shares of a person instead of numbers: those of a lossy file or of a matte."""
        return self.lossy or (not self.labels and _is_matte(self.values))


def upright(classes: np.ndarray, photograph: Size) -> np.ndarray:
    """Class ids, turned as EXIF turns the photograph where they were drawn on its pixels as they lie in its file.

    This is recognised where the sizes show it.

    Args:
        classes: uint8 HxW.
    """
    size = photograph.height, photograph.width
    if photograph.turn is None or fits(classes.shape, size) or not fits(classes.shape[::-1], size):
        return classes
    return np.asarray(Image.fromarray(classes).transpose(photograph.turn))


def fits(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio, to 1 %."""
    return abs(other[1] * one[0] - other[0] * one[1]) <= 0.01 * other[1] * one[0]


def read_mask(path: Path | str) -> Mask:
    """What a mask's file holds, see `Mask`.

    Raises:
        ValueError: the file can't be read.
    """

    def work(image: Image.Image, file: BinaryIO, size: tuple[int, int]) -> Mask:
        deep = has_16_bits(image)
        image.load()
        lossy, alpha = _is_lossy(image, file), None
        if (turn := turn_of(image)) is not None:
            image = image.transpose(turn)
        if image.has_transparency_data and image.mode[0] not in "IF":
            alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if image.mode in ("RGBA", "LA", "PA"):
            image = image.convert("RGB")  # transparent pixels keep their colour
        labels = image.mode == "P" or (alpha is not None and len(image.convert("RGB").getcolors(2) or ()) == 2)
        colours = np.asarray(image)
        values = colours.max(axis=2) if colours.ndim == 3 else colours
        mask = Mask(_deep_values(file, turn) if deep else values, alpha, labels, lossy, turned=turn is not None)
        return mask._replace(flat=not mask.read_by_alpha("half") and _is_flat(mask.values, colours))

    return with_image(path, work)


def _deep_values(file: BinaryIO, turn: Image.Transpose | None) -> np.ndarray:
    """HxW of a file with several channels of 16 bits, of which Pillow keeps the upper 8: 1 would be 0."""
    file.seek(0)
    values = opencv_values(file.read())
    values = values[..., :3].max(axis=2)
    return values if turn is None else np.asarray(Image.fromarray(values).transpose(turn))


def _is_flat(values: np.ndarray, colours: np.ndarray) -> bool:
    """Whether the brightest channel is the same everywhere, but the colours are not."""
    return colours.ndim == 3 and values.min() == values.max() and bool(np.ptp(colours, axis=(0, 1)).any())


def _is_lossy(image: Image.Image, file: BinaryIO) -> bool:
    if image.format == "WEBP":
        return _is_lossy_webp(file)
    return image.format in LOSSY or image.info.get("compression") == "jpeg"


def _is_lossy_webp(file: BinaryIO) -> bool:
    file.seek(12)
    while len(head := file.read(8)) == 8 and head[:4] not in (b"VP8 ", b"VP8L"):
        length = 16 if head[:4] == b"ANMF" else int.from_bytes(head[4:], "little")  # a frame holds chunks of its own
        file.seek(length + length % 2, 1)
    return head[:4] == b"VP8 "


def _is_matte(values: np.ndarray) -> bool:
    """Whether values are shares of a person, most of them all or nothing, and not the numbers of classes or people."""
    if values.dtype == bool:
        return False
    some = to_uint8(values[::4])  # rows enough for all shades, in little time
    if ((some == 0) | (some == some.max())).all():  # as most masks; it takes a fifth of the time of counting shades
        return False
    shades = cv2.calcHist([some], [0], None, [256], [0, 256]).ravel()
    return np.count_nonzero(shades) > LABELS and shades[OPAQUE:].sum() > shades[CLEAR:OPAQUE].sum()


def classes_of(mask: Mask, rule: Rule, path: Path | str) -> np.ndarray:
    """The classes of a mask, uint8 HxW. Alpha that varies is the mask, under the rules that don't name values.

    Raises:
        ValueError: as for `to_classes`; a mask without alpha, which the rule asks for; or alpha and colours that are two
            different masks.
    """
    if isinstance(rule, int) and mask.lossy:
        raise ValueError(f"{path} is lossy, so its values are no ids as data.mask={rule}: half or from:N reads it")
    if rule == "alpha" and mask.alpha is None:
        raise ValueError(f"{path} has no transparency, which data.mask=alpha asks for")
    if not mask.read_by_alpha(rule):
        return _by_values(mask, rule, path)
    found = (mask.alpha >= 128).astype(np.uint8)
    if rule == "inverted":
        found = 1 - found
    if rule != "alpha" and mask.labels and (_by_values(mask, rule, path) != found).mean() > AMBIGUOUS:
        raise ValueError(
            f"{path} has a mask in its alpha and another one in its colours: data.mask=alpha takes the alpha, "
            "and data.mask=from:N the colours from the value N on"
        )
    return found


def _by_values(mask: Mask, rule: Rule, path: Path | str) -> np.ndarray:
    return to_classes(mask.values, rule, path, mask.soft() if rule in ("nonzero", "inverted") else mask.lossy)


def to_classes(values: np.ndarray, rule: Rule, path: Path | str = "mask", soft: bool = False) -> np.ndarray:
    """Mask values HxW -> class ids, uint8 HxW.

    Args:
        rule: ``nonzero``: any value above 0 is person, and where values are `soft`, half of the range and more.
            ``inverted``: what is no person under ``nonzero``. ``half``: any value from the middle of the range (128 of
            255) on is person. ``from:N``: any value from N on. An id: this value is person, 255 is ignored. A list of
            ids: the value of class 0, of class 1, ...; 255 is ignored unless the list has it.

    Raises:
        ValueError: a value that the list doesn't name.
    """
    if rule == "inverted":
        return 1 - to_classes(values, "nonzero", path, soft)
    if rule == "half" or (rule == "nonzero" and soft):
        return (to_uint8(values) >= 128).view(np.uint8)
    if rule == "nonzero":
        return (values > 0).view(np.uint8)
    if isinstance(rule, str):
        return ((to_uint8(values) if values.dtype == bool else values) >= threshold(rule)).astype(np.uint8)
    if values.dtype == bool and 1 not in ([rule] if isinstance(rule, int) else rule):
        values = to_uint8(values)  # one bit is 0 and 255, as it is shown, unless the rule has it as 0 and 1
    if isinstance(rule, int):
        return np.where(values == rule, 1, np.where(values == IGNORE, IGNORE, 0)).astype(np.uint8)
    classes = np.full(values.shape, IGNORE, np.uint8)
    known = values == IGNORE
    for index, value in enumerate(rule):
        chosen = values == value
        classes[chosen] = index
        known |= chosen
    if not known.all():
        strange = sorted(np.unique(values[~known]).tolist())[:8]
        hint = " (a lossy file: data.mask=half reads it)" if soft else _fitting(np.unique(values).tolist(), rule)
        raise ValueError(f"{path} holds the values {strange}, which data.mask={list(rule)} does not name{hint}")
    return classes


def _fitting(values: list[int], rule: list[int]) -> str:
    """The list that a mask of two values needs, as a part of a sentence, where a list of two was typed."""
    if len(values) != 2 or len(rule) != 2:
        return ""
    return f": data.mask=[{values[0]},{values[1]}] fits where {values[1]} is a person"


def threshold(rule: str) -> int | None:
    """The N of ``from:N``; None for another text."""
    start, _, number = rule.partition(":")
    return int(number) if start == "from" and number.isascii() and number.isdigit() and int(number) > 0 else None


def refuse_unknown_rule(rule: Rule, classes: int) -> None:
    """Refuse what is no rule for a network of so many classes.

    Raises:
        ValueError: it is none.
    """
    wanted = max(classes, 2)
    if isinstance(rule, str):
        known = rule in ("nonzero", "half", "inverted", "alpha") or threshold(rule) is not None
    elif isinstance(rule, list):
        known = len(rule) == wanted and all(type(value) is int for value in rule)
    else:
        known = type(rule) is int and rule >= 0
    if not known:
        raise ValueError(f"data.mask={rule}: give {ACCEPTED}, which are {wanted} with model.classes={classes}")
