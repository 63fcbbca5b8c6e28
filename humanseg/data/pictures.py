"""Photographs as pixels, for training, scoring and drawing alike: upright, 8 bits, sRGB, whatever the file holds."""

from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from humanseg.data.colour import has_other_colours, hidden, in_srgb, levels, strips, white_of
from humanseg.data.deep import BITS, LARGE, ORIENTATION, has_16_bits, in_8_bits, positive, still_webp
from humanseg.data.opening import with_image
from humanseg.data.profiles import profile_of
from humanseg.data.transforms import resize_image, shrunk_size
from humanseg.processes.hardware import give_memory_back

ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}  # other formats of several pictures, such as MPO, hold one photograph
TURNS_ITSELF = {"TIFF", "HEIF"}  # the decoder follows the orientation

SAMPLES, UNSIGNED = 0x0153, (1,)  # of a TIFF
TURN = Image.Transpose
UPRIGHT = {
    **{2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE},
    **{6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90},
}
ON_ITS_SIDE = {TURN.TRANSPOSE, TURN.ROTATE_270, TURN.TRANSVERSE, TURN.ROTATE_90}  # height and width change places

BACKWARDS = {TURN.FLIP_TOP_BOTTOM, TURN.ROTATE_180, TURN.ROTATE_270, TURN.TRANSVERSE}  # what was above comes last

VERSION = 2  # of how pixels are read; 1 knew no profiles, no alpha, no few bits, and no mattes


class Read(NamedTuple):
    """A photograph, upright.

    `image` is uint8 HxWx3 in sRGB; what is wholly transparent is white. `alpha` is uint8 HxW, or None where nothing is
    transparent. `note` is None or a sentence that the user should read.
    """

    image: np.ndarray
    alpha: np.ndarray | None = None
    note: str | None = None

    def seen(self) -> np.ndarray:
        """uint8 HxWx3: the photograph on white, as the network sees it."""
        return self.image if self.alpha is None else hidden(self.image, self.alpha)


class Size(NamedTuple):
    """Width and height of an image, upright; what has brought it upright; and whether it may be transparent."""

    width: int
    height: int
    turn: Image.Transpose | None
    transparent: bool


class Seen(NamedTuple):
    """A photograph as it is shown, and what its file is.

    `image` is uint8 HxWx3 in sRGB, on white; `size` is the whole photograph's. `format` is Pillow's name. `tables` are a
    JPEG's quantisation tables, 64 integers each. `mended` tells that it opens without its metadata alone.
    """

    image: np.ndarray
    size: Size
    format: str
    tables: dict[int, list[int]]
    mended: bool


def read_image(path: Path | str) -> np.ndarray:
    """uint8 HxWx3 RGB, upright, in sRGB, on white. Grey, palette, 16-bit, CMYK and transparent files become RGB.

    Raises:
        ValueError: the file is missing, empty, damaged, no photograph, or too large.
    """
    return read_photograph(path).seen()


def read_shrunk(path: Path | str, longest: int | None) -> tuple[np.ndarray, Size]:
    """As `read_image`, with the longer side at most `longest` pixels, None: any number; and the whole photograph's size."""
    return look(path, longest)[:2]


def look(path: Path | str, longest: int | None) -> Seen:
    """As `read_shrunk`, with what the file is."""

    def work(image: Image.Image, file: BinaryIO, size: tuple[int, int]) -> Seen:
        deep, whole = has_16_bits(image), _size(image, size)  # in this order: EXIF is looked for by decoding a PNG
        format, tables = image.format, getattr(image, "quantization", {})
        pixels = _decoded(image, file, deep).seen()
        if longest:
            pixels = resize_image(pixels, *shrunk_size(whole.height, whole.width, longest))
        return Seen(pixels, whole, format, tables, isinstance(file, BytesIO))

    return with_image(path, work, longest or 0)


def read_photograph(path: Path | str) -> Read:
    """A photograph with its alpha, see `Read`; the note says that it is the first picture of an animation.

    Raises:
        ValueError: as for `read_image`.
    """

    def work(image: Image.Image, file: BinaryIO, size: tuple[int, int]) -> Read:
        moving = image.format in ANIMATED and getattr(image, "is_animated", False)
        read = _decoded(image, file, has_16_bits(image))
        return read._replace(note=f"{path} is animated: its first picture was used" if moving else None)

    return with_image(path, work)


def whole_size(path: Path | str) -> Size:
    """The size of an image; the file is checked to be complete.

    Raises:
        ValueError: the file can't be read, or its end is missing.
    """

    def work(image: Image.Image, file: BinaryIO, size: tuple[int, int]) -> Size:
        whole = _size(image, size)
        if not _ends_well(file, image.format):
            image.load()  # data after the end marker is harmless, so only a full read tells
        return whole

    return with_image(path, work)


def _size(image: Image.Image, size: tuple[int, int]) -> Size:
    """The size of an image that was opened, of the width and height that its header tells."""
    width, height = size[::-1] if turn_of(image) in ON_ITS_SIDE else size
    return Size(width, height, _orientation(image), image.has_transparency_data)


def reads_otherwise(path: Path | str) -> bool:
    """Whether version 1 of reading gave other pixels: it knew no profile, no alpha and no few bits."""

    def work(image: Image.Image, file: BinaryIO, size: tuple[int, int]) -> bool:
        return has_16_bits(image) or image.mode[0] in "IF" or has_other_colours(profile_of(image, file))

    return with_image(path, work) or read_photograph(path).alpha is not None


def _decoded(image: Image.Image, file: BinaryIO, deep: bool) -> Read:
    """An image upright and in sRGB; `deep`: what `has_16_bits` said of it.

    Pillow holds a WebP four times.
    """
    large = image.width * image.height > LARGE
    large_webp = large and image.format == "WEBP" and not image.is_animated
    if not large_webp:
        image.load()
    turn, info = turn_of(image), {"icc_profile": profile_of(image, file)}
    image.info |= info
    if deep or large_webp:
        image = in_8_bits(image, file) if deep else still_webp(file)
        image.info = info
    elif image.mode[0] in "IF":
        image = _grey(image)
    if large:
        give_memory_back()  # what decoding took
    return _upright(image, turn)


def _grey(image: Image.Image) -> Image.Image:
    """16- and 32-bit and floating grey as 8 bits, with its profile and the grey that stands for transparency."""

    def values(part: slice) -> np.ndarray:
        found = np.asarray(_rows(image, part))
        if image.format != "TIFF":
            return found
        signed = image.tag_v2.get(SAMPLES, UNSIGNED) != UNSIGNED
        if found.dtype == np.int32:  # Pillow has no mode for either
            found = found.view(np.uint32) if not signed else found.astype(np.int16) if _has_16(image) else found
        return positive(found, image.tag_v2)

    clear, parts = image.info.get("transparency"), list(strips(image.height, image.width))
    white = white_of(map(values, parts))
    grey = Image.new("LA" if isinstance(clear, int) else "L", image.size)
    for part in parts:
        found = values(part)
        strip = Image.fromarray(levels(found, white))
        if grey.mode == "LA":
            strip = Image.merge("LA", (strip, Image.fromarray(np.uint8(255) * (found != clear))))
        grey.paste(strip, (0, part.start))
    grey.info["icc_profile"] = image.info.get("icc_profile")
    return grey


def _has_16(image: Image.Image) -> bool:
    return {*image.tag_v2.get(BITS, ())} == {16}


def _rows(image: Image.Image, part: slice) -> Image.Image:
    return image if part == slice(0, image.height) else image.crop((0, part.start, image.width, part.stop))


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What brings an image upright that its decoder hands out as it lies in the file."""
    return None if image.format in TURNS_ITSELF else _orientation(image)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """What its EXIF orientation asks for: an integer from 1 to 8, or it says nothing."""
    try:
        heif = image.format == "HEIF"  # its decoder takes the orientation out of EXIF
        value = image.info["original_orientation"] if heif else image.getexif().get(ORIENTATION)
    except Exception:  # metadata never decides whether a photograph opens
        return None
    return UPRIGHT.get(value) if type(value) is int else None


def _upright(image: Image.Image, turn: Image.Transpose | None) -> Read:
    """Some rows at a time: all at once would take twice the memory."""
    parts = list(strips(*image.size[::-1]))
    if len(parts) == 1:
        return _turned(image, turn)
    height, size = image.height, image.size if turn in ON_ITS_SIDE else image.size[::-1]
    colours, alpha = np.empty((*size, 3), np.uint8), None
    if image.has_transparency_data:
        alpha = np.full(size, 255, np.uint8)
    for part in parts:
        strip = _turned(_rows(image, part), turn)
        place = slice(height - part.stop, height - part.start) if turn in BACKWARDS else part
        place = (slice(None), place) if turn in ON_ITS_SIDE else place
        colours[place] = strip.image
        if strip.alpha is not None:
            alpha[place] = strip.alpha
    return Read(colours, None if alpha is None or alpha.min() == 255 else alpha)


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Read:
    """An image in sRGB, turned; what is wholly transparent is hidden."""
    colours, alpha = in_srgb(image)
    if turn is not None:
        colours, alpha = colours.transpose(turn), alpha and alpha.transpose(turn)
    if alpha is None:
        return Read(np.asarray(colours))
    image, opacity = np.require(np.asarray(colours), requirements="W"), np.asarray(alpha)
    image[opacity == 0] = 255
    return Read(image, opacity)


def _ends_well(file: BinaryIO, format: str) -> bool:
    endings = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
    if format not in endings:
        return False
    where, end = file.tell(), file.seek(0, 2)
    file.seek(-min(end, 64), 2)
    last = file.read()
    file.seek(where)
    return endings[format] in last
