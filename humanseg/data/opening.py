"""Opening photographs: by which decoders, of what size, and how many at once.

Only pixels decide whether a photograph opens; its metadata never does. Whatever a decoder raises becomes one sentence
with the file's name.
"""

import contextlib
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from threading import Condition
from typing import BinaryIO, TypeVar

import cv2
from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401  register

from humanseg import terminal
from humanseg.data.deep import BITS, HEIGHT, LARGE, ORIENTATION, WIDTH, by_strips, has_16_bits
from humanseg.data.kinds import kind_not_read
from humanseg.processes.hardware import cores
from humanseg.runs.atomic import regular

ALL_HEIC = {".heic", ".heif", ".hif"}
NEEDS_HEIC = 'pip install -e ".[heic]" reads it'
try:
    from pillow_heif import HeifImagePlugin  # noqa: F401  registers its decoder

    HEIC = ALL_HEIC
except ImportError:
    HEIC = set()

T = TypeVar("T")

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"),
    *(".tif", ".tiff", ".gif", ".avif"),
    *HEIC,
}
# What a photograph may be, whatever its name says. Pillow would start Ghostscript for a PostScript file. A phone's MPO
# is opened by JPEG's.
DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", *(["HEIF"] if HEIC else []))

MOST_PIXELS = 200_000_000
IN_FLIGHT = max(MOST_PIXELS, 16_000_000 * cores())  # pixels that are decoded at once; each takes 12 bytes at most

PNG = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}  # the chunks that pixels and orientation need
NO_TEXT = ("transparency", "interlace", "gamma", "chromaticity", "srgb", "icc_profile", "exif")  # of what Pillow tells
TRANSPARENCY = {0: {2}, 2: {6}, 3: range(1, 257)}  # lengths of tRNS by the type of colours
JPEG, START_OF_SCAN, ADOBE, APPLICATION = b"\xff\xd8", 0xDA, 0xEE, {*range(0xE0, 0xF0), 0xFE}  # with comments
END_OF_JPEG, OTHER_PIXELS = b"\xff\xd9", b"\x55" * 64
PLANES, SEPARATE = 0x011C, 2  # of a TIFF
TIFFS = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}

Image.MAX_IMAGE_PIXELS = None  # `MOST_PIXELS` decides
PngImagePlugin.MAX_TEXT_CHUNK = 16_000_000  # bytes: an embedded profile may be large
warnings.filterwarnings("ignore", module=r"PIL\.")  # they are about metadata
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # an error says what is wrong with a file, once


class Budget:
    """Pixels that threads have in memory at once. Whoever asks for more than all of them waits to be alone."""

    def __init__(self, pixels: int):
        self.pixels, self.taken, self.changed = pixels, 0, Condition()

    @contextlib.contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: not self.taken or self.taken + pixels <= self.pixels)
            self.taken += pixels
        try:
            yield
        finally:
            with self.changed:
                self.taken -= pixels
                self.changed.notify_all()


budget = Budget(IN_FLIGHT)


def is_photograph(name: str) -> bool:
    """Whether a file found in a folder is a photograph, by its suffix. Hidden files, as macOS' ``._a.jpg``, are none."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def passed_over(names: Iterable[str]) -> str:
    """How many files are passed over, by suffix, as a part of a sentence."""
    counts = Counter(os.path.splitext(name)[1].lower() or "without a suffix" for name in names).most_common()
    hint = f" ({NEEDS_HEIC})" if {suffix for suffix, _ in counts} & (ALL_HEIC - HEIC) else ""
    return ", ".join(f"{count} {suffix}" for suffix, count in counts) + hint


def pixels_of(path: Path | str) -> int:
    """How many pixels a photograph has by its header; 0 where it has none that can be read."""
    with contextlib.suppress(ValueError):
        return with_image(path, lambda image, file, size: size[0] * size[1])
    return 0


def with_image(path: Path | str, work: Callable[[Image.Image, BinaryIO, tuple[int, int]], T], longest: int = 0) -> T:
    """What `work` makes of an opened image, its file, and its width and height.

    Args:
        longest: a JPEG may be decoded at a half, a quarter or an eighth, while its longer side keeps so many pixels.

    Raises:
        ValueError: whatever went wrong, in one sentence.
    """
    try:
        with open(path, "rb", opener=regular) as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("it is empty")
            try:
                return _attempt(file, work, longest)
            except Exception:
                if not (bare := _without_metadata(file)):
                    raise
            return _attempt(BytesIO(bare), work, longest)
    except Exception as error:  # decoders raise exceptions of all kinds
        raise ValueError(f"{path} can't be read: {_reason(error, path)}") from error


def _reason(error: Exception, path: Path | str) -> str:
    if isinstance(error, UnidentifiedImageError):
        if os.path.splitext(path)[1].lower() in ALL_HEIC - HEIC:
            return NEEDS_HEIC
        return f"it is no photograph; these are read: {' '.join(sorted(suffix[1:] for suffix in SUFFIXES))}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return terminal.reason(error)


def _attempt(file: BinaryIO, work: Callable, longest: int) -> object:
    image = _opened(file)
    if image.format == "TIFF":
        _refuse_deep_planes(image.tag_v2)
    width, height = image.size
    _refuse_too_many(width, height)
    if longest and image.format in ("JPEG", "MPO"):
        scale = longest / max(width, height)
        image.draft(image.mode, (max(int(width * scale), 1), max(int(height * scale), 1)))
    with budget.take(image.width * image.height):
        found = work(image, file, (width, height))
    if image.format == "PNG" and any(isinstance(image.info.get(name), str) for name in NO_TEXT):
        raise ValueError("a text has the name of what decides pixels")  # so it is read without its metadata
    return found


def _refuse_too_many(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"it has {width}x{height} pixels, and at most {MOST_PIXELS // 10**6} million are read")


def _opened(file: BinaryIO) -> Image.Image:
    file.seek(0)
    try:
        image = Image.open(file, formats=DECODERS)
        if image.format != "TIFF" or not _is_turned_otherwise(image):
            return image
    except UnidentifiedImageError:
        if kind := kind_not_read(file):
            raise ValueError(f"it is {kind}, which is not read: save it as JPEG, PNG or TIFF of 8 bits") from None
        file.seek(0)
        if file.read(4) not in TIFFS:
            raise  # else Pillow has no mode for the colours of this TIFF: floating values, for instance
    file.seek(0)
    head = file.read(8)
    table = TiffImagePlugin.ImageFileDirectory_v2(head + file.read(8 * (head[2:3] == b"+" or head[3:4] == b"+")))
    file.seek(table.next)
    table.load(file)
    _refuse_deep_planes(table)
    width, height = int(table.get(WIDTH, 0)), int(table.get(HEIGHT, 0))
    _refuse_too_many(width, height)
    with budget.take(width * height):
        return by_strips(file, table)


def _refuse_deep_planes(table: Mapping) -> None:
    """Refuse a TIFF with a plane for each colour and more than 8 bits: Pillow and OpenCV would give noise."""
    if table.get(PLANES) == SEPARATE and len(bits := table.get(BITS, ())) > 1 and max(bits) > 8:
        raise ValueError(f"its colours of {max(bits)} bits lie in separate planes: save them pixel by pixel")


def _is_turned_otherwise(image: Image.Image) -> bool:
    """Whether Pillow would turn a TIFF by an orientation that is no integer, or a large one of 16 bits as a whole."""
    value = image.tag_v2.get(ORIENTATION)
    deep = image.width * image.height > LARGE and has_16_bits(image)
    return value in range(2, 9) and (deep or type(value) is not int)


def _without_metadata(file: BinaryIO) -> bytes | None:
    """A PNG or JPEG with nothing but its pixels and orientation, and a JPEG with its end; None for other files."""
    file.seek(0)
    head = file.read(len(PNG))
    if head == PNG:
        return PNG + b"".join(_chunks(file))
    if head.startswith(JPEG):
        file.seek(len(JPEG))
        return _ended(JPEG + b"".join(_segments(file)))
    return None


def _ended(data: bytes) -> bytes:
    """A JPEG with the end marker that it lacks, if nothing else is missing.

    A decoder fills up what is missing without a word. So where all pixels are there, any bytes that follow change none.
    """
    data = data.rstrip(b"\xff")  # half of a marker
    digests = {
        _attempt(BytesIO(data + fill + END_OF_JPEG), lambda image, *_: hash(image.tobytes()), 0)
        for fill in (b"", OTHER_PIXELS)
    }
    return data + END_OF_JPEG if len(digests) == 1 else data


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """The chunks of a PNG that are needed. One with a wrong checksum or length is left out where the format allows it."""
    lengths: Container[int] = ()
    while len(head := file.read(8)) == 8:
        rest = file.read(int.from_bytes(head[:4]) + 4)  # with the checksum
        sound = zlib.crc32(head[4:] + rest[:-4]).to_bytes(4) == rest[-4:]
        if head[4:] == b"IHDR" and len(rest) == 17:
            lengths = TRANSPARENCY.get(rest[9], ())
        if head[4:] == b"tRNS" and len(rest) - 4 not in lengths:
            continue
        if head[4:] in PNG_PIXELS and (sound or head[4:5].isupper()):  # small letters: a decoder may ignore it
            yield head + rest


def _segments(file: BinaryIO) -> Iterator[bytes]:
    """The segments of a JPEG that are needed: of the applications' own, EXIF and Adobe's, which tells CMYK from YCCK."""
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != START_OF_SCAN:
        body = file.read(int.from_bytes(head[2:]) - 2)
        adobe = head[1] == ADOBE and len(body) >= 12
        if head[1] not in APPLICATION or adobe or body.startswith(b"Exif\0\0"):
            yield head + body
    yield head + file.read()
