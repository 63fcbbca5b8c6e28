"""One photograph and its mask: read upright, brought to the size that training wants, or only checked."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, WebPImagePlugin  # noqa: F401  registers those two decoders

from humanseg.data.transforms import IGNORE, resize, shrunk_size

EXIF_ORIENTATION = 0x0112

# What a photograph may be, whatever its name says. Pillow would start Ghostscript for a PostScript file.
DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM")  # a phone's MPO is opened by JPEG's

Image.MAX_IMAGE_PIXELS = None  # training data is the user's own: a large photograph is no attack


def read_pair(
    image_path: Path | str, mask_path: Path | str, rule: str | list[int], longest: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph, uint8 HxWx3 RGB, and its class ids, uint8 HxW.

    Args:
        rule: as for `to_classes`.
        longest: scale a larger photograph down until its longer side has this many pixels.

    Raises:
        ValueError: a file that can't be read, or a mask value that the rule doesn't name.
    """
    image, (height, width) = _read_image(image_path, longest)
    mask = to_classes(read_mask(mask_path), rule, mask_path)
    if longest:
        height, width = shrunk_size(height, width, longest)
    return resize(image, mask, height, width)


def read_image(path: Path | str) -> np.ndarray:
    """uint8 HxWx3 RGB, upright. Grey, palette, 16-bit and RGBA files become RGB."""
    return _read_image(path)[0]


def read_mask(path: Path | str) -> np.ndarray:
    """Upright HxW values as the file has them. A palette gives its indices, a colour its brightest channel."""
    image, _ = _upright(path)
    if image.mode in ("RGBA", "LA", "PA"):
        image = image.convert("RGB")  # alpha says nothing about the class; transparent pixels keep their colour
    values = np.asarray(image)
    return values.max(axis=2) if values.ndim == 3 else values


def to_classes(values: np.ndarray, rule: str | list[int], path: Path | str = "mask") -> np.ndarray:
    """Mask values HxW -> class ids, uint8 HxW.

    Args:
        rule: ``nonzero``: any value above 0 is person. ``half``: any value from the middle of the range (128 of 255) on
            is person. A list of ids: the value of class 0, of class 1, ...; 255 is ignored unless the list has it.

    Raises:
        ValueError: a value that the list doesn't name.
    """
    if rule == "nonzero":
        return (values > 0).astype(np.uint8)
    if rule == "half":
        return (_to_uint8(values) >= 128).astype(np.uint8)
    classes = np.full(values.shape, IGNORE, np.uint8)
    known = values == IGNORE
    for index, value in enumerate(rule):
        chosen = values == value
        classes[chosen] = index
        known |= chosen
    if not known.all():
        strange = sorted(np.unique(values[~known]).tolist())[:8]
        raise ValueError(f"{path} holds the values {strange}, which data.mask={list(rule)} does not name")
    return classes


def whole_size(path: Path | str) -> tuple[int, int]:
    """Width and height of an image, upright; the file is checked to be complete.

    Raises:
        ValueError: the file can't be read, or its end is missing.
    """
    try:
        with Image.open(path, formats=DECODERS) as image:
            width, height = image.size
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            if not _ends_well(path, image.format):
                image.load()  # data after the end marker is harmless, so only a full read tells
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        raise ValueError(f"{path} can't be read: {error}") from error
    return (height, width) if turned else (width, height)


def _ends_well(path: Path | str, format: str) -> bool:
    endings = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
    if format not in endings:
        return False
    with open(path, "rb") as file:
        file.seek(-min(os.fstat(file.fileno()).st_size, 64), 2)
        return endings[format] in file.read()


def _to_uint8(values: np.ndarray) -> np.ndarray:
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint8:
        return values
    return (values // 257 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8)


def _read_image(path: Path | str, longest: int | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """The photograph and its full height and width, upright. It may come smaller, but no smaller than `longest`."""
    image, size = _upright(path, longest)
    if image.mode.startswith("I") or image.mode == "F":
        grey = _to_uint8(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2), size
    return np.asarray(image.convert("RGB")), size


def _upright(path: Path | str, longest: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    try:
        with Image.open(path, formats=DECODERS) as image:
            width, height = image.size
            if longest:  # a JPEG can be decoded at a half, a quarter or an eighth for a fraction of the time
                scale = longest / max(width, height)
                image.draft(image.mode, (max(int(width * scale), 1), max(int(height * scale), 1)))
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            return ImageOps.exif_transpose(image), (width, height) if turned else (height, width)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error}") from error
