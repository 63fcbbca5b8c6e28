"""Photographs as pixels, for training, scoring and drawing alike: upright, 8 bits, sRGB, whatever the file holds."""

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from humanseg.data.colour import has_other_colours, hidden, in_srgb, strips, to_uint8
from humanseg.data.opening import ORIENTATION, by_opencv, positive, with_image
from humanseg.data.profiles import profile_of
from humanseg.data.transforms import resize_image, shrunk_size

ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}  # other formats of several pictures, such as MPO, hold one photograph
TURNS_ITSELF = {"TIFF", "HEIF"}  # the decoder follows the orientation

SAMPLES, UNSIGNED = 0x0153, (1,)  # of a TIFF
TURN = Image.Transpose
UPRIGHT = {
    **{2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE},
    **{6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90},
}
ON_ITS_SIDE = {TURN.TRANSPOSE, TURN.ROTATE_270, TURN.TRANSVERSE, TURN.ROTATE_90}  # height and width change places

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


def read_image(path: Path | str) -> np.ndarray:
    """uint8 HxWx3 RGB, upright, in sRGB, on white. Grey, palette, 16-bit, CMYK and transparent files become RGB.

    Raises:
        ValueError: the file is missing, empty, damaged, no photograph, or too large.
    """
    return read_photograph(path).seen()


def read_shrunk(path: Path | str, longest: int | None) -> tuple[np.ndarray, Size]:
    """As `read_image`, with the longer side at most `longest` pixels, None: any number; and the whole photograph's size."""

    def work(image: Image.Image, file: BinaryIO, size: tuple[int, int]) -> tuple[np.ndarray, Size]:
        deep, whole = has_16_bits(image), _size(image, size)  # in this order: EXIF is looked for by decoding a PNG
        image = _arrays(*_decoded(image, file, deep)).seen()
        if longest:
            image = resize_image(image, *shrunk_size(whole.height, whole.width, longest))
        return image, whole

    return with_image(path, work, longest or 0)


def read_photograph(path: Path | str) -> Read:
    """A photograph with its alpha, see `Read`; the note says that it is the first picture of an animation.

    Raises:
        ValueError: as for `read_image`.
    """

    def work(image: Image.Image, file: BinaryIO, size: tuple[int, int]) -> Read:
        moving = image.format in ANIMATED and getattr(image, "is_animated", False)
        read = _arrays(*_decoded(image, file, has_16_bits(image)))
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


def has_16_bits(image: Image.Image) -> bool:
    """Whether an image has 16 bits for each of several colours, of which Pillow keeps 8.

    OpenCV would take a fourth channel for alpha that Pillow knows to be none, or to be multiplied into the colours.
    """
    if image.format not in ("PNG", "TIFF") or image.mode not in ("RGB", "RGBA", "LA"):
        return False
    tiles = str(image.tile)
    return ";16" in tiles and "X;16" not in tiles and "a;16" not in tiles


def _decoded(image: Image.Image, file: BinaryIO, deep: bool) -> tuple[Image.Image, Image.Image | None]:
    """The colours, RGB in sRGB, and the alpha of an image, both upright; `deep`: what `has_16_bits` said of it."""
    image.load()
    turn, info = turn_of(image), {"icc_profile": profile_of(image, file)}
    image.info |= info
    if deep:
        file.seek(0)
        data = file.read()
        image.close()  # the caller holds the object; its pixels are not needed any more
        image = by_opencv(data)
        image.info = info
    elif image.mode[0] in "IF":
        image = _grey(image)
    colours, alpha = in_srgb(image)
    if turn is not None:
        colours, alpha = colours.transpose(turn), alpha and alpha.transpose(turn)
    return colours, alpha


def _grey(image: Image.Image) -> Image.Image:
    """16- and 32-bit and floating grey as 8 bits, with its profile and the grey that stands for transparency."""
    values = np.asarray(image)
    if image.format == "TIFF":
        if values.dtype == np.int32 and image.tag_v2.get(SAMPLES, UNSIGNED) == UNSIGNED:
            values = values.view(np.uint32)  # for which Pillow has no mode
        values = positive(values, image.tag_v2)
    grey = Image.fromarray(to_uint8(values))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey = Image.merge("LA", (grey, Image.fromarray(np.uint8(255) * (values != clear))))
    grey.info["icc_profile"] = image.info.get("icc_profile")
    return grey


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


def _arrays(colours: Image.Image, alpha: Image.Image | None) -> Read:
    """What is transparent is hidden."""
    image, opacity = _array(colours), None
    if alpha:
        image, opacity = np.require(image, requirements="W"), _array(alpha)
        for part in strips(*opacity.shape):
            image[part][opacity[part] == 0] = 255
    return Read(image, opacity)


def _array(image: Image.Image) -> np.ndarray:
    parts = list(strips(image.height, image.width))
    if len(parts) == 1:
        return np.asarray(image)
    found = np.empty((image.height, image.width, *[3] * (image.mode == "RGB")), np.uint8)
    for part in parts:  # at once Pillow would need twice the memory
        found[part] = np.asarray(image.crop((0, part.start, image.width, part.stop)))
    return found


def _ends_well(file: BinaryIO, format: str) -> bool:
    endings = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
    if format not in endings:
        return False
    where, end = file.tell(), file.seek(0, 2)
    file.seek(-min(end, 64), 2)
    last = file.read()
    file.seek(where)
    return endings[format] in last
