"""From the values that a file holds to what the network and the drawings use: 8 bits, sRGB."""

import io
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

STRIP = 2_000_000  # pixels that are worked on at once, so that a large photograph takes few bytes a pixel
WHITES = (255, 1023, 4095, 65535)  # the largest values of 8, 10, 12 and 16 bits
SIGNED_WHITES = (255, 1023, 4095, 32767)  # where 16 bits have a sign
FLOAT_WHITE = 16  # floating values up to this have their white at 1; larger ones are integers written as floats
SAME = 2  # levels: a profile that moves no colour by more is sRGB's own
SRGB = ImageCms.createProfile("sRGB")
MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}  # of images, by the colours of a profile


def strips(height: int, width: int) -> Iterator[slice]:
    """Rows of a picture, some STRIP pixels at a time."""
    rows = max(STRIP // max(width, 1), 1)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Values of any range -> uint8 of the same shape; see `white_of`. What is negative or no number is black."""
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint8:
        return values
    rows = list(strips(len(values), values[:1].size))
    white = white_of(values[part] for part in rows)
    scaled = np.empty(values.shape, np.uint8)
    for part in rows:
        scaled[part] = levels(values[part], white)
    return scaled


def white_of(parts: Iterable[np.ndarray]) -> float:
    """The value that is white in a picture, of which these are the parts.

    It is the largest value of 8, 10, 12 or 16 bits: of the fewest that hold all that is there. So a file with 16 bits
    and no value above 4095 is read as one of 12 bits. It is 1 in floating values, unless one is above 16. What is
    larger than 16 bits has its own largest value as white, and 16 bits with a sign have 32767.
    """
    most, kind = 0.0, np.dtype(np.uint16)
    for part in parts:
        highest = np.nanmax(part, initial=0)
        most = max(most, float(highest if np.isfinite(highest) else part[np.isfinite(part)].max(initial=0)))
        kind = part.dtype
    if kind.kind == "f" and most <= FLOAT_WHITE:
        return 1
    whites = SIGNED_WHITES if kind == np.int16 else WHITES
    return next((white for white in whites if most <= white), most)


def levels(values: np.ndarray, white: float) -> np.ndarray:
    """Values -> uint8 of the same shape, by the value that is white."""
    found = np.nan_to_num(values.astype(np.float32) * np.float32(255 / white), nan=0, posinf=255)
    return np.rint(found.clip(0, 255)).astype(np.uint8)


def in_srgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An 8-bit image of any mode as RGB in sRGB, by its embedded profile, and its alpha where some is transparent.

    A profile that is damaged, or belongs to other colours than the image has, is left out.
    """
    alpha = None
    if image.has_transparency_data:
        if image.mode == "RGBa":
            image = image.convert("RGBA")
        alpha = (image if "A" in image.getbands() else image.convert("RGBA")).getchannel("A")
        if alpha.getextrema() == (255, 255):
            alpha = None
    mode, transform = _to_srgb(image.info.get("icc_profile"))
    if image.mode == "LAB" and mode != "LAB":
        mode, transform = "LAB", _plain_lab()
    takes = {"1": ("L", "RGB"), "L": ("L", "RGB"), "LA": ("L", "RGB"), "CMYK": ("CMYK",), "LAB": ("LAB",)}
    if transform and mode in takes.get(image.mode, ("RGB",)):
        image = image if image.mode == mode else image.convert(mode)
        done = ImageCms.applyTransform(image, transform, inPlace=mode == "RGB")
        return done or image, alpha
    return image if image.mode == "RGB" else image.convert("RGB"), alpha


def has_other_colours(profile: bytes | None) -> bool:
    """Whether a profile changes an image's colours."""
    return _to_srgb(profile)[1] is not None


@lru_cache(16)
def _to_srgb(profile: bytes | None) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode of the images that a profile is for, and the way to sRGB; None where there is nothing to change."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = MODES[opened.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(opened, SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError, KeyError):
        return "", None  # metadata never decides whether a photograph opens
    return mode, transform if mode in ("CMYK", "LAB") or _changes(transform, mode) else None


def _changes(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a way to sRGB moves a colour by more than rounding does."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    samples = Image.fromarray(colours).convert(mode)
    moved = np.asarray(ImageCms.applyTransform(samples, transform), np.int16)
    return np.abs(moved - np.asarray(samples.convert("RGB"), np.int16)).max() > SAME


@lru_cache(1)
def _plain_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), SRGB, "LAB", "RGB")


def on_white(image: np.ndarray) -> np.ndarray:
    """uint8 HxWx4 RGBA -> the picture on white, uint8 HxWx3."""
    colours, alpha = image[..., :3].astype(np.uint16), image[..., 3:].astype(np.uint16)
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def hidden(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint8 HxWx3 of a photograph on white, by its own alpha, uint8 HxW."""
    seen = np.empty_like(image)
    for part in strips(*alpha.shape):
        seen[part] = on_white(np.dstack([image[part], alpha[part]]))
    return seen
