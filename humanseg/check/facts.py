"""The facts of one photograph, measured in one pass over its files."""

import os
from typing import NamedTuple

import cv2
import numpy as np

from humanseg.check import edges, measures
from humanseg.check.store import record
from humanseg.data.colour import to_uint8
from humanseg.data.files import MaskFiles
from humanseg.data.photographs import FINE, RESIZED, UNSURE, Photographs, digest
from humanseg.data.pictures import Seen, look
from humanseg.data.splits.alike import perceptual_hashes
from humanseg.data.transforms import resize_mask, shrink

LONGEST = 512  # pixels: at this size photographs are measured
THUMBNAIL = 320  # pixels: the longer side of a picture on the page
FORMATS = ("", "JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "HEIF")
# Bits of `flags`: metadata was broken and ignored; EXIF turns the photograph; it may be transparent; the mask has another
# size than the photograph; the mask fits it either way up; the mask has values that are shades and no numbers.
MENDED, TURNED, TRANSPARENT, OTHER_SIZE, EITHER_WAY, SOFT = (1 << bit for bit in range(6))

FACTS = record(
    [
        ("content", "<u8"), ("hash", "<u8"), ("mirrored", "<u8"),  # of the photograph's bytes, its look, and that of its mirror image
        ("width", "<u4"), ("height", "<u4"), ("bytes", "<u8"),  # upright, pixels; of the photograph's file
        ("format", "u1"), ("quality", "u1"), ("flags", "u1"),  # an index of FORMATS; of a JPEG, else 0; bits as above
        ("brightness", "<f4"), ("contrast", "<f4"), ("sharpness", "<f4"),  # see `measures`
        ("person", "<f4"), ("ignored", "<f4"),  # shares of the area
        ("people", "<u2"), ("largest", "<f4"), ("smallest", "<f4"),  # connected parts; their shares of the area
        ("cut", "u1"),  # bits of `measures.SIDES`
        ("here", "<f4"), ("best", "<f4"), ("right", "<f4"), ("down", "<f4"),  # see `edges.Fit`
        ("values", "u1", 32),  # a bit for each value from 0 to 255 that the mask's file holds; none where it has no file
    ]
)  # fmt: skip

MOST = {  # that a number of a record may be; the least is 0
    **{"brightness": 255, "contrast": 255, "sharpness": 2**24},
    **dict.fromkeys(("person", "ignored", "largest", "smallest"), 1),
}


def possible(facts: np.ndarray) -> np.ndarray:
    """Which records a measurement can have given."""
    fits = np.isnan(facts["here"]) | np.all([np.isfinite(facts[name]) for name in edges.Fit._fields], axis=0)
    fits &= (facts["width"] > 0) & (facts["height"] > 0) & (facts["format"] < len(FORMATS))
    return fits & np.all([(facts[name] >= 0) & (facts[name] <= most) for name, most in MOST.items()], axis=0)


class Measured(NamedTuple):
    """A record of FACTS, without the place of its thumbnails, and these: a JPEG and a grey PNG."""

    facts: np.ndarray
    photo: bytes
    mask: bytes


def measure(source: object, index: int) -> Measured:
    """The facts of a sample.

    Raises:
        ValueError: the photograph or its label can't be read, or they don't fit each other.
    """
    facts = np.zeros((), FACTS)
    if isinstance(source, Photographs):
        image, mask = _from_files(source, index, facts)
    else:
        image, mask = source[index]
        facts["height"], facts["width"] = mask.shape
        image, mask = shrink(image, mask, LONGEST)
    return _measured(facts, image, mask)


def _from_files(source: Photographs, index: int, facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels, with the longer side at most LONGEST, and what the files say."""
    path, labels = source.names[index], source.labels
    seen = look(path, LONGEST)
    raw = labels.raw(index) if isinstance(labels, MaskFiles) else None
    told = labels.check(index, seen.size) if raw is None else labels.unfit(index, seen.size, raw)
    if told not in FINE:
        raise ValueError(told)
    classes = labels.read(index, seen.size) if raw is None else labels.classes(index, seen.size, raw)
    if raw is not None:
        facts["values"] = _values(raw.values)
    facts["key"], facts["content"], facts["bytes"] = source.keys[index], digest(path), os.path.getsize(path)
    facts["height"], facts["width"] = seen.size.height, seen.size.width
    facts["format"] = FORMATS.index(seen.format) if seen.format in FORMATS else 0
    facts["quality"] = measures.jpeg_quality(seen.tables)
    facts["flags"] = _flags(seen, told, raw is not None and raw.soft())
    return seen.image, resize_mask(classes, *seen.image.shape[:2])


def _values(values: np.ndarray) -> np.ndarray:
    """A bit for each value that a mask holds, uint8 32; larger ones count as 255."""
    if values.dtype.kind == "f":
        values = to_uint8(values)
    values = np.minimum(values, 255).astype(np.uint8)
    counts = cv2.calcHist([np.ascontiguousarray(values)], [0], None, [256], [0, 256])
    return np.packbits(counts.ravel() > 0)


def _flags(seen: Seen, told: str | None, soft: bool) -> int:
    size = seen.size
    marks = {
        **{MENDED: seen.mended, TURNED: size.turn is not None, TRANSPARENT: size.transparent},
        **{OTHER_SIZE: told == RESIZED, EITHER_WAY: told == UNSURE, SOFT: soft},
    }
    return sum(mark for mark, there in marks.items() if there)


def _measured(facts: np.ndarray, image: np.ndarray, mask: np.ndarray) -> Measured:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    facts["hash"], facts["mirrored"] = perceptual_hashes(image)
    facts["brightness"], facts["contrast"] = measures.brightness(grey)
    facts["sharpness"] = measures.sharpness(grey)
    person, facts["ignored"] = measures.shares(mask)
    facts["person"] = person
    if sizes := measures.people(mask, person):
        facts["people"], facts["largest"], facts["smallest"] = min(len(sizes), 65535), sizes[0], sizes[-1]
    facts["cut"] = measures.cut_sides(mask)
    facts["here"], facts["best"], facts["right"], facts["down"] = edges.fit(image, mask)
    return Measured(facts, *measures.thumbnails(image, mask, THUMBNAIL))
