"""Pictures of kinds that no decoder here reads, so that the user is told that instead of that the file is damaged."""

from collections.abc import Mapping
from typing import BinaryIO

OTHERS = {
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"8BPS": "a Photoshop file",
    b"v/1\x01": "OpenEXR",
    b"%!PS": "PostScript",
    b"%PDF": "a PDF",
    b"<svg": "SVG",
}
JPEG, FRAMES = b"\xff\xd8", {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the markers of a JPEG's size and bits
BITS, CHANNELS, EXTRA, SAMPLES, FLOATING = 0x0102, 0x0115, 0x0152, 0x0153, 3  # of a TIFF
ALPHA = (1, 2)  # of EXTRA


def kind_not_read(file: BinaryIO) -> str | None:
    """The kind of a file by its first bytes, where it is one that is known but not read."""
    file.seek(0)
    start = file.read(8)
    if start.startswith(JPEG):
        return _kind_of_jpeg(file)
    return next((kind for begin, kind in OTHERS.items() if start.startswith(begin)), None)


def _kind_of_jpeg(file: BinaryIO) -> str | None:
    file.seek(len(JPEG))
    while len(head := file.read(5)) == 5 and head[0] == 0xFF:
        if head[1] in FRAMES:
            return f"a JPEG of {head[4]} bits" if head[4] != 8 else None
        file.seek(int.from_bytes(head[2:4]) - 3, 1)
    return None


def tiff_not_read(table: Mapping) -> str:
    """What else may be the matter with a TIFF that can't be decoded, as a part of a sentence, by its table."""
    if not table:
        return ""
    channels, bits = table.get(CHANNELS, 1), max(table.get(BITS, (1,)))
    floating = " floating" * (FLOATING in table.get(SAMPLES, ()))
    return f", or its kind is not read ({channels} channels of {bits}{floating} bits): save it with 3 of 8 or 16 bits"


def refuse_deep_grey_with_alpha(table: Mapping) -> None:
    """Refuse a TIFF whose transparency decoders leave out.

    Raises:
        ValueError: it is one.
    """
    if table.get(CHANNELS) == 2 and table.get(EXTRA, (0,))[0] in ALPHA:
        raise ValueError("its grey of more than 8 bits has an alpha, which is not read: save it in colour")
