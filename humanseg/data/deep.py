"""Pictures of more than 8 bits a channel as 8-bit images, in few bytes a pixel.

Pillow keeps the upper 8 bits of colours, or has no mode for them. OpenCV reads them, but holds a picture twice.
"""

import sys
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import product
from types import MappingProxyType
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from humanseg.data.colour import levels, strips, white_of
from humanseg.data.kinds import refuse_deep_grey_with_alpha, tiff_not_read

# Tags of a TIFF
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x0112
STRIPS, ROWS, SIZES = 0x0111, 0x0116, 0x0117
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES = 0x0142, 0x0143, 0x0144, 0x0145
# What decides the pixels of a strip: also fill order, channels, predictor, palette, alpha, format, JPEG's tables and YCbCr
OF_A_STRIP = (BITS, COMPRESSION, PHOTOMETRIC, 0x010A, 0x0115, 0x0124, 0x013D, 0x0140, 0x0152, 0x0153, 0x015B)
OF_A_STRIP += (0x0211, 0x0212, 0x0213, 0x0214)
RAW, WHITE_IS_ZERO, YCBCR = 1, 0, 6

LARGE = 50_000_000  # pixels from which a picture takes at most 12 bytes a pixel
PIECE = LARGE // 4  # pixels of such a picture that OpenCV may decode at once, in 24 bytes each
COLOURS, ALPHA = slice(0, 3), slice(3, 4)
OTHER_HALF = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def has_16_bits(image: Image.Image) -> bool:
    """Whether an image that is not loaded has 16 bits for each of several colours, of which Pillow keeps 8.

    A fourth channel that Pillow knows to be no alpha, or to be multiplied into the colours, is left to Pillow.
    """
    if image.format not in ("PNG", "TIFF") or image.mode not in ("RGB", "RGBA", "LA"):
        return False
    tiles = str(image.tile)
    return ";16" in tiles and "X;16" not in tiles and "a;16" not in tiles


def in_8_bits(upper: Image.Image, file: BinaryIO) -> Image.Image:
    """An image of which `has_16_bits` was true, with 8 bits by the value that is white.

    Args:
        upper: the image as Pillow has loaded it, with the upper 8 bits. It is changed.
    """
    lower, clear = _with_lower_bits(upper, file), upper.info.get("transparency")

    def values(part: slice) -> np.ndarray:
        box = (0, part.start, upper.width, part.stop)
        found = np.asarray(lower.crop(box))
        if lower.info["both"]:
            return found.view(">u2")[..., [0, 0, 0, 1]]
        return np.asarray(upper.crop(box)) * np.uint16(256) + found

    rows, channels = list(strips(upper.height, 4 * upper.width)), (COLOURS, ALPHA)[: len(upper.getbands()) - 2]
    whites = [white_of(values(part)[..., channel] for part in rows) for channel in channels]
    alpha = None if clear is None else np.empty(upper.size[::-1], np.uint8)
    for part in rows:
        found = values(part)
        if clear is not None:
            alpha[part] = 255 * (found != np.uint16(clear)).any(axis=2)
        planes = [levels(found[..., channel], white) for channel, white in zip(channels, whites, strict=True)]
        upper.paste(Image.fromarray(np.concatenate(planes, axis=2)), (0, part.start))
    if alpha is not None:
        del lower
        upper.putalpha(Image.fromarray(alpha))
    return upper


def _with_lower_bits(upper: Image.Image, file: BinaryIO) -> Image.Image:
    """The lower 8 bits, by taking each number's bytes in the other order; of grey with alpha, both in turn."""
    file.seek(0)
    lower = Image.open(file, formats=[upper.format])
    both = "LA;16" in str(lower.tile)
    lower.tile = [tile._replace(args=_of_other_half(tile.args)) for tile in lower.tile]
    lower.load()
    lower.info["both"] = both
    return lower


def _of_other_half(args: str | tuple) -> str | tuple:
    if isinstance(args, tuple):
        return _of_other_half(args[0]), *args[1:]
    return "RGBA" if args == "LA;16B" else args[:-1] + OTHER_HALF[args[-1]]


def by_strips(file: BinaryIO, table: Mapping) -> Image.Image:
    """A TIFF of colours that Pillow has no mode for, such as floating ones, by its table.

    Raises:
        ValueError: OpenCV can't read it, its transparency would be left out, or a strip of it is too large.
    """
    refuse_deep_grey_with_alpha(table)
    count = next(_pieces(file, table))[1].shape[2]
    channels = (COLOURS, ALPHA) if count == 4 else (COLOURS,)
    whites = [white_of(values[..., channel] for _, values in _pieces(file, table)) for channel in channels]
    picture = np.empty((table[HEIGHT], table[WIDTH], count), np.uint8)
    for place, values in _pieces(file, table):
        for channel, white in zip(channels, whites, strict=True):
            picture[place][..., channel] = levels(values[..., channel], white)
    image = Image.fromarray(picture if count > 1 else picture[..., 0])
    image.getexif()[ORIENTATION] = table.get(ORIENTATION)
    return image


def _pieces(file: BinaryIO, table: Mapping) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Where a part of a TIFF lies, and its values, HxWx1 grey, HxWx3 RGB or HxWx4 RGBA."""
    for top, left, width, rows, content in _compressed(file, table):
        values = _decoded(content, width, rows, table)[: table[HEIGHT] - top, : table[WIDTH] - left]
        order = [2, 1, 0, 3][: values.shape[2]] if values.shape[2] > 2 else [0]
        for part in strips(*values.shape[:2]):
            place = slice(top + part.start, top + part.stop), slice(left, left + values.shape[1])
            found = values[part][..., order]
            yield place, positive(found, table) if len(order) == 1 else found


def _compressed(file: BinaryIO, table: Mapping) -> Iterator[tuple[int, int, int, int, bytes]]:
    """The top, left, width, height and content of each strip or tile; a strip that is not compressed comes in parts."""
    width, height, tiled = table.get(WIDTH, 0), table.get(HEIGHT, 0), TILES in table
    down, across = (TILE_HEIGHT, TILE_WIDTH) if tiled else (ROWS, WIDTH)
    down, across = table.get(down, height), table.get(across, 0)
    offsets, sizes = (table.get(tag, ()) for tag in ((TILES, TILE_SIZES) if tiled else (STRIPS, SIZES)))
    bits, sides = table.get(BITS, (1,)), (height, width, down, across)
    whole = all(type(number) is int for number in (*sides, *bits, *offsets, *sizes)) and min(sides) > 0
    if not whole or min(len(offsets), len(sizes)) < -(-height // down) * -(-width // across):
        raise ValueError(f"it is damaged{tiff_not_read(table)}")
    down = down if tiled else min(down, height)
    splits = table.get(COMPRESSION, RAW) == RAW and not tiled and table.get(PHOTOMETRIC) != YCBCR
    if not splits and down * across > (PIECE if height * width > LARGE else LARGE):
        raise ValueError(f"{down * across / 1e6:.0f} million of its pixels are compressed as one: save it in strips")
    a_row = -(-width * sum(bits) // 8)
    places = product(range(0, height, down), range(0, width, across))
    for (top, left), offset, size in zip(places, offsets, sizes, strict=False):
        rows = down if tiled else min(down, height - top)
        for part in strips(rows, width) if splits else [slice(0, rows)]:
            file.seek(offset + part.start * a_row * splits)
            count = part.stop - part.start
            yield top + part.start, left, across, count, file.read(count * a_row if splits else size)


def _decoded(content: bytes, width: int, height: int, table: Mapping) -> np.ndarray:
    """The values of a strip or tile, HxWxC as OpenCV has them: it is decoded as the only strip of a small file."""
    small = TiffImagePlugin.ImageFileDirectory_v2(prefix=table.prefix)
    kept = {tag: table[tag] for tag in OF_A_STRIP if tag in table}
    for tag, value in {**kept, WIDTH: width, HEIGHT: height, ROWS: height, STRIPS: 0, SIZES: len(content)}.items():
        small[tag] = value
    file = BytesIO()
    small.save(file)
    file.write(content)
    return opencv_values(file.getbuffer(), table).reshape(height, width, -1)


def still_webp(file: BinaryIO) -> Image.Image:
    """A WebP that is no animation."""
    file.seek(0)
    values = opencv_values(file.read())
    for part in strips(*values.shape[:2]):
        values[part] = values[part][..., [2, 1, 0, 3][: values.shape[2]]]
    return Image.fromarray(values)


def positive(values: np.ndarray, table: Mapping) -> np.ndarray:
    """The grey of a TIFF by its table: where 0 stands for white it is turned round. Decoders do so for 8 bits alone."""
    if table.get(PHOTOMETRIC) == WHITE_IS_ZERO and values.dtype.kind == "u" and values.itemsize > 1:
        return np.iinfo(values.dtype).max - values
    return values


def opencv_values(data: bytes | memoryview, table: Mapping = MappingProxyType({})) -> np.ndarray:
    """HxW or HxWxC as a PNG or TIFF has them, BGR; `table` is of a TIFF.

    Raises:
        ValueError: OpenCV can't read it.
    """
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError(f"it is damaged{tiff_not_read(table)}")
    return values
