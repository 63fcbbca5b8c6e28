"""Photographs as cameras, phones and editors write them: only pixels decide whether one opens, and their colours are sRGB."""

import os
import struct
import subprocess
import sys
import threading
import zlib
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import HEIC
from PIL import Image, ImageCms, PngImagePlugin

from humanseg.data import opening
from humanseg.data.opening import Budget, is_photograph, passed_over
from humanseg.data.pictures import read_image, read_photograph, read_shrunk, whole_size
from humanseg.media.images import find_photographs

CASES = Path(__file__).parents[3] / "shared" / "cases"
TURNS = {
    **{2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM},
    **{5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE},
    8: Image.Transpose.ROTATE_90,
}


def photograph(height: int = 48, width: int = 64) -> np.ndarray:
    """Red grows downwards, green to the right, and one corner is marked."""
    rows, columns = np.indices((height, width))
    image = np.stack([rows * 4, columns * 3, np.full_like(rows, 90)], axis=2).astype(np.uint8)
    image[:16, :16] = 255
    return image


def near(image: np.ndarray, expected: np.ndarray) -> bool:
    return image.shape == expected.shape and np.abs(image.astype(int) - expected.astype(int)).max() <= 1


def save(path: Path, image: np.ndarray | None = None, **how) -> Path:
    Image.fromarray(photograph() if image is None else image).save(path, **how)
    return path


def tiff(path: Path, values: np.ndarray, sample_format: int, orientation: int = 1, kind: int = 3) -> Path:
    """An uncompressed TIFF of three channels in any type, which Pillow does not write."""
    (height, width, channels), bits, tags = values.shape, values.dtype.itemsize * 8, 11
    after = 8 + 2 + tags * 12 + 4
    entries = [
        *[(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, after), (259, 3, 1, 1), (262, 3, 1, 2)],
        *[(273, 4, 1, after + 12), (274, kind, 1, orientation), (277, 3, 1, channels), (278, 3, 1, height)],
        *[(279, 4, 1, values.nbytes), (339, 3, channels, after + 6)],
    ]
    head = b"II*\0" + struct.pack("<IH", 8, tags) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    path.write_bytes(head + bytes(4) + struct.pack("<3H3H", *[bits] * 3, *[sample_format] * 3) + values.tobytes())
    return path


# Metadata


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif", HEIC])
def test_all_eight_orientations_are_brought_upright_once(tmp_path, suffix):
    lying = photograph(64, 128)
    for value in range(1, 9):
        block = Image.Exif()
        block[0x0112] = value
        path = save(tmp_path / f"a.{suffix}", lying, exif=block.tobytes(), quality=95)
        turned = Image.fromarray(lying)
        expected = np.asarray(turned.transpose(TURNS[value]) if value > 1 else turned)
        image = read_image(path)
        assert image.shape == expected.shape and np.abs(image.astype(int) - expected).mean() < 3
        assert whole_size(path)[:2] == image.shape[1::-1]
        small, size = read_shrunk(path, 32)
        assert size[:2] == image.shape[1::-1] and max(small.shape) == 32


def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")


def exif(*fields: bytes) -> bytes:
    """A block of EXIF with these fields, and nothing where they point to."""
    count = struct.pack("<H", len(fields))
    return b"Exif\0\0II*\0\x08\0\0\0" + count + b"".join(sorted(fields)) + b"\0\0\0\0" + b"\xff" * 8


@pytest.mark.parametrize(
    "field",
    [(3, 1, b"\0\0"), (3, 1, b"\x09\0"), (2, 2, b"6\0"), (1, 1, b"\x06"), (6, 1, b"\xfa"),
     (7, 1, b"\x06"), (11, 1, struct.pack("<f", 6)), (9, 1, b"\xff\xff\xff\xff"), (3, 0, b"\x06\0"), (5, 1, b"\x26\0\0\0")],
    ids=str,
)  # fmt: skip
def test_an_orientation_that_is_no_integer_from_1_to_8_says_nothing(tmp_path, field):
    for name in ("a.jpg", "a.png", "a.webp"):
        path = save(tmp_path / name, exif=exif(entry(0x0112, *field)))
        assert read_image(path).shape == (48, 64, 3) and whole_size(path)[:2] == (64, 48)


def test_a_tiff_is_not_turned_by_an_orientation_that_is_a_fraction(tmp_path):
    six = int.from_bytes(struct.pack("<f", 6), "little")
    path = tiff(tmp_path / "a.tif", photograph(), 1, six, kind=11)
    np.testing.assert_array_equal(read_image(path), photograph())
    assert whole_size(path)[:2] == (64, 48)


def test_fields_of_the_wrong_kind_leave_the_orientation_and_the_file_alone(tmp_path):
    orientation = entry(0x0112, 3, 1, b"\x06\0")
    fields = {
        "a signed rational": entry(0x011A, 10, 1, struct.pack("<I", 38)),
        "text for a number": entry(0x011A, 2, 4, b"abc\0"),
        "a rational for text": entry(0x010F, 5, 1, struct.pack("<I", 38)),
        "a place far outside": entry(0x011A, 5, 1, struct.pack("<I", 2**31)),
        "an unknown kind": entry(0x9999, 77, 3, b"\xff\xff\xff\xff"),
        "a block that is cut": entry(0x8769, 4, 1, struct.pack("<I", 2**30)),
    }
    for name, field in fields.items():
        path = save(tmp_path / "a.jpg", exif=exif(orientation, field))
        before = path.read_bytes()
        assert read_image(path).shape == (64, 48, 3), name
        assert whole_size(path)[:2] == (48, 64) and path.read_bytes() == before


def chunk(kind: bytes, data: bytes, sound: bool = True) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + (zlib.crc32(kind + data) ^ (not sound)).to_bytes(4)


METADATA = {
    "a large profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(os.urandom(1_300_000))),
    "a huge profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(40_000_000))),
    "a profile that is no profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile")),
    "a profile that is cut": chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(4000))[:9]),
    "an unknown compression": chunk(b"iCCP", b"x\0\x07abc"),
    "a profile without an end of its name": chunk(b"iCCP", b"x"),
    "a huge comment": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(40_000_000))),
    "many comments": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(15_000_000))) * 90,
    "cut chromaticities": chunk(b"cHRM", b"\0\0\x7a"),
    "a cut gamma": chunk(b"gAMA", b"\0"),
    "an empty sRGB": chunk(b"sRGB", b""),
    "a cut transparency": chunk(b"tRNS", b"\0"),
    "a cut resolution": chunk(b"pHYs", b"\0\0"),
    "a wrong checksum": chunk(b"tEXt", b"Comment\0hello", sound=False),
}


@pytest.mark.parametrize("name", METADATA)
def test_whatever_a_png_says_of_itself_its_pixels_are_read(tmp_path, name):
    whole = save(tmp_path / "a.png").read_bytes()
    end_of_header = 8 + 25
    (tmp_path / "a.png").write_bytes(whole[:end_of_header] + METADATA[name] + whole[end_of_header:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photograph())
    assert whole_size(tmp_path / "a.png")[:2] == (64, 48)


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


@pytest.mark.parametrize(
    "metadata",
    [segment(0xE0, b"JFIF\0\1"), segment(0xE2, b"ICC_PROFILE\0"), segment(0xE2, b"ICC_PROFILE\0\x02\x01abc"),
     segment(0xED, b"Photoshop 3.0\x008BIM\x04"), segment(0xE2, b"MPF\0II*\0\xff"), segment(0xE1, b"Exif\0\0abc"),
     segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='x'>"), segment(0xFE, bytes(60_000)) * 20],
    ids=lambda data: data[4:20],
)  # fmt: skip
def test_whatever_a_jpeg_says_of_itself_its_pixels_are_read_and_turned(tmp_path, metadata):
    turned = entry(0x0112, 3, 1, b"\x06\0")
    path = save(tmp_path / "a.jpg", exif=exif(turned), quality=95)
    expected, whole = read_image(path), path.read_bytes()
    after_exif = 4 + int.from_bytes(whole[22:24]) + 18 if whole[2:4] == b"\xff\xe0" else 4 + int.from_bytes(whole[4:6])
    path.write_bytes(whole[:after_exif] + metadata + whole[after_exif:])
    np.testing.assert_array_equal(read_image(path), expected)
    assert whole_size(path)[:2] == (48, 64)


# Colour


def profile(name: str) -> bytes:
    """A profile with the primaries and the gamma of a wider space than sRGB."""
    primaries = {
        "Display P3": [(0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)],
        "Adobe RGB": [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)],
    }[name]
    fixed = lambda value: struct.pack(">i", round(value * 65536))  # noqa: E731
    tags = {b"wtpt": b"XYZ \0\0\0\0" + b"".join(map(fixed, (0.9642, 1, 0.8249)))}
    for letter, colour in zip(b"rgb", primaries, strict=True):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + b"".join(map(fixed, colour))
        tags[bytes([letter]) + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    table, data, place = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        table += key + struct.pack(">II", place + len(data), len(value))
        data += value
    head = struct.pack(">I4sI4s4s4s", place + len(data), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(fixed, (0.9642, 1, 0.8249)))
    return head.ljust(128, b"\0") + table + data


def colour(values: tuple, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (16, 16), values)


@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif", HEIC])
def test_an_embedded_profile_is_brought_to_srgb(tmp_path, name, suffix):
    expected = {"Display P3": (213, 116, 82), "Adobe RGB": (223, 120, 87)}[name]
    how = {"lossless": True} if suffix == "webp" else {"quality": 98}
    colour((200, 120, 90)).save(tmp_path / f"a.{suffix}", icc_profile=profile(name), **how)
    seen = read_image(tmp_path / f"a.{suffix}").reshape(-1, 3).mean(0)
    assert np.abs(seen - expected).max() < 5, seen
    assert np.abs(read_shrunk(tmp_path / f"a.{suffix}", 8)[0] - seen).max() < 4


CHRM = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))  # Display P3's


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 1e5)))


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [([chunk(b"cICP", bytes([12, 13, 0, 1]))], (213, 116, 82)), ([chunk(b"cICP", bytes([1, 1, 0, 1]))], (200, 120, 90)),
     ([chunk(b"cICP", bytes([9, 16, 0, 1]))], (200, 120, 90)), ([chunk(b"cICP", b"")], (200, 120, 90)),
     ([gama(1 / 2.2), CHRM], (213, 116, 82)), ([CHRM], (200, 120, 90)), ([gama(1 / 2.2)], (200, 120, 90)),
     ([gama(1)], (228, 182, 161)), ([gama(1), chunk(b"sRGB", b"\0")], (200, 120, 90)), ([gama(0)], (200, 120, 90)),
     ([gama(1), chunk(b"cICP", bytes([12, 13, 0, 1]))], (213, 116, 82)),
     ([gama(1 / 2.2), chunk(b"cHRM", bytes(32))], (200, 120, 90)),
     ([gama(1), chunk(b"cHRM", b"\xff" * 32)], (200, 120, 90))],
    ids=lambda value: " ".join(one[4:8].decode() for one in value) if isinstance(value, list) else str(value),
)  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "16 bits"])
def test_the_numbers_of_a_png_without_a_profile_are_brought_to_srgb(tmp_path, chunks, expected, mode):
    picture, path = colour((200, 120, 90)), tmp_path / "a.png"
    if mode == "16 bits":
        cv2.imwrite(str(path), np.full((16, 16, 3), (90, 120, 200), np.uint16) * 257)
    else:
        (picture.quantize() if mode == "P" else picture.convert(mode)).save(path)
    whole, end_of_header = path.read_bytes(), 8 + 25
    path.write_bytes(whole[:end_of_header] + b"".join(chunks) + whole[end_of_header:])
    assert np.abs(read_image(path).astype(int) - expected).max() <= 1
    assert whole_size(path)[:2] == (16, 16)


@pytest.mark.parametrize("suffix", [HEIC])
def test_the_numbers_of_heic_without_a_profile_are_brought_to_srgb(tmp_path, suffix):
    numbers = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6}
    colour((200, 120, 90)).save(tmp_path / f"a.{suffix}", quality=98, **numbers)
    assert np.abs(read_image(tmp_path / f"a.{suffix}").reshape(-1, 3).mean(0) - (213, 116, 82)).max() < 3


def test_srgb_and_profiles_of_other_colours_change_nothing(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", icc_profile=srgb)), photograph())
    Image.fromarray(photograph()).convert("L").save(tmp_path / "g.png", icc_profile=srgb)
    grey = np.asarray(Image.fromarray(photograph()).convert("L"))
    np.testing.assert_array_equal(read_image(tmp_path / "g.png")[..., 1], grey)
    save(tmp_path / "b.png", icc_profile=profile("Display P3")[:200])
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), photograph())


def test_profiles_hold_for_grey_palettes_transparency_and_cmyk(tmp_path):
    p3 = profile("Display P3")
    for mode in ("P", "RGBA"):
        picture = colour((200, 120, 90))
        (picture.quantize() if mode == "P" else picture.convert(mode)).save(tmp_path / f"{mode}.png", icc_profile=p3)
        assert np.abs(read_image(tmp_path / f"{mode}.png").astype(int) - (213, 116, 82)).max() < 4
    Image.new("L", (8, 8), 100).save(tmp_path / "l.png", icc_profile=p3)
    assert np.abs(read_image(tmp_path / "l.png").astype(int) - 100).max() < 6
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=98)
    assert (read_image(tmp_path / "c.jpg").reshape(-1, 3).mean(0) - (240, 10, 10) < 20).all()


# Transparency


def test_what_alpha_hides_is_not_seen(tmp_path):
    image = np.zeros((20, 30, 4), np.uint8)
    image[:] = (255, 0, 255, 0)  # magenta
    image[:, 10:20] = (10, 100, 200, 255)
    image[:, 20:] = (10, 100, 200, 51)
    palette = Image.fromarray(image[..., :3]).quantize()
    palette.info["transparency"] = int(np.asarray(palette)[0, 0])
    files = {
        "rgba.png": Image.fromarray(image),
        "rgba.webp": Image.fromarray(image),
        "rgba.tif": Image.fromarray(image),
        "key.png": Image.fromarray(image[..., :3]),
        "p.png": palette,
        "p.gif": palette,
    }
    for name, picture in files.items():
        how = {"transparency": (255, 0, 255)} if name == "key.png" else {"lossless": True, "exact": True}
        picture.save(tmp_path / name, **how)
        read = read_photograph(tmp_path / name)
        assert (read.image[:, :10] == 255).all() and (read.alpha[:, :10] == 0).all(), name
        assert near(read.image[:, 10:20], image[:, 10:20, :3]) and (read.alpha[:, 10:20] == 255).all(), name
        if "rgba" in name:
            assert near(read.image[:, 20:], image[:, 20:, :3]) and (read.alpha[:, 20:] == 51).all()
            assert near(read.seen()[:, 20:], np.broadcast_to([206, 224, 244], (20, 10, 3)))
        small, _ = read_shrunk(tmp_path / name, 15)
        assert (small[:, :4] == 255).all()


def test_an_alpha_that_hides_nothing_is_none(tmp_path):
    opaque = np.dstack([photograph(), np.full((48, 64), 255, np.uint8)])
    read = read_photograph(save(tmp_path / "a.png", opaque))
    np.testing.assert_array_equal(read.image, photograph())
    assert read.alpha is None


# Range


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_16_bit_files_have_the_fewest_bits_that_hold_their_values(tmp_path, bits):
    values = np.rint(photograph() / 255 * (2**bits - 1)).astype(np.uint16)
    for suffix in ("png", "tif"):
        cv2.imwrite(str(tmp_path / f"c.{suffix}"), values[..., ::-1])
        cv2.imwrite(str(tmp_path / f"g.{suffix}"), values[..., 1])
        assert near(read_image(tmp_path / f"c.{suffix}"), photograph())
        assert near(read_shrunk(tmp_path / f"c.{suffix}", 64)[0], photograph())
        assert near(read_image(tmp_path / f"g.{suffix}"), np.repeat(photograph()[..., 1:2], 3, 2))


def test_floating_tiffs_have_their_white_at_1_or_hold_integers(tmp_path):
    for scale in (1 / 255, 1, 16, 257):
        path = tiff(tmp_path / "a.tif", photograph().astype(np.float32) * np.float32(scale), 3)
        assert near(read_image(path), photograph()), scale
        assert whole_size(path)[:2] == (64, 48)
    grey = photograph()[..., 1].astype(np.float32) / 255
    grey[0, 0], grey[0, 1], grey[0, 2] = np.nan, -3, 1.5
    Image.fromarray(grey).save(tmp_path / "g.tif")
    assert read_image(tmp_path / "g.tif")[0, :3, 0].tolist() == [0, 0, 255]
    assert near(read_image(tmp_path / "g.tif")[1:, :, 1], photograph()[1:, :, 1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiffs_are_turned_once(tmp_path, orientation):
    turned = Image.fromarray(photograph())
    expected = np.asarray(turned.transpose(TURNS[orientation]) if orientation > 1 else turned)
    for values, kind in ((photograph().astype(np.uint16) * 257, 1), ((photograph() / 255).astype(np.float32), 3)):
        path = tiff(tmp_path / "a.tif", values, kind, orientation)
        assert near(read_image(path), expected) and whole_size(path)[:2] == expected.shape[1::-1]


def deep_tiff(path: Path, values: np.ndarray, photometric: int, extra: int | None = None, order: str = "<") -> Path:
    """An uncompressed TIFF of 16 bits in one strip; `extra` tells what its last channel is."""
    height, width, channels = values.shape
    more = [] if extra is None else [(338, 3, 1, extra)]
    after = 8 + 2 + (9 + len(more)) * 12 + 4
    bits = (258, 3, channels, after if channels > 2 else 16)
    entries = [(256, 3, 1, width), (257, 3, 1, height), bits, (259, 3, 1, 1), (262, 3, 1, photometric)]
    entries += [(273, 4, 1, after + 8), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, values.nbytes), *more]
    fields = {3: "HHIH2x", 4: "HHII"}
    table = [
        struct.pack(order + fields[kind if count == 1 else 4], *entry)
        for entry in entries
        for _, kind, count, _ in [entry]
    ]
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries)) + b"".join(table)
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(head + bytes(4) + struct.pack(order + "4H", *[16] * 4) + data)
    return path


@pytest.mark.parametrize("order", "<>")
def test_deep_tiffs_say_what_0_and_the_fourth_channel_mean(tmp_path, order):
    values, ones = photograph().astype(np.uint16), np.ones((48, 64, 1), np.uint16)
    grey = deep_tiff(tmp_path / "g.tif", 65535 - 257 * values[..., :1], 0, None, order)
    assert near(read_image(grey), np.repeat(photograph()[..., :1], 3, axis=2))
    unused = read_photograph(deep_tiff(tmp_path / "x.tif", np.dstack([257 * values, 0 * ones]), 2, 0, order))
    assert unused.alpha is None and near(unused.image, photograph())
    mixed = read_photograph(deep_tiff(tmp_path / "a.tif", np.dstack([128 * values, 257 * 128 * ones]), 2, 1, order))
    assert (mixed.alpha == 128).all() and np.abs(mixed.image.astype(int) - photograph()).max() < 4


def test_tiffs_of_32_bits_keep_their_values(tmp_path):
    path, grey = tmp_path / "a.tif", photograph()[..., 1]
    Image.fromarray(grey.astype(np.uint32) * 0x01010101).convert("I").save(path)
    signed, unsigned = (struct.pack("<HHIHH", 339, 3, 1, kind, 0) for kind in (2, 1))
    path.write_bytes(path.read_bytes().replace(signed, unsigned))
    assert near(read_image(path), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("bits", [16, 32])
def test_deep_tiffs_with_a_plane_for_each_colour_are_refused(tmp_path, bits):
    planes = photograph().transpose(2, 0, 1).astype(f"<u{bits // 8}") * 257
    size, after = planes[0].nbytes, 8 + 2 + 10 * 12 + 4
    lists = [[bits] * 3, [after + 32 + size * plane for plane in range(3)], [size] * 3]  # bits, offsets, sizes
    entries = [
        *[(256, 3, 1, 64), (257, 3, 1, 48), (258, 3, 3, after), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 3, after + 8)],
        *[(277, 3, 1, 3), (278, 3, 1, 48), (279, 4, 3, after + 20), (284, 3, 1, 2)],
    ]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    head = b"II*\0" + struct.pack("<IH", 8, 10) + table + struct.pack("<3H2x3I3I", *chain(*lists))
    (tmp_path / "a.tif").write_bytes(head + planes.tobytes())
    with pytest.raises(ValueError, match=f"a.tif can't be read: its colours of {bits} bits lie in separate planes"):
        read_image(tmp_path / "a.tif")


# Files


@pytest.mark.parametrize("suffix", sorted(opening.SUFFIXES))
def test_one_pixel_is_a_photograph(tmp_path, suffix):
    kind = {".jpe": "JPEG", ".jfif": "JPEG"}.get(suffix)
    read = read_photograph(save(tmp_path / f"a{suffix}", np.full((1, 1, 3), 99, np.uint8), format=kind))
    assert read.image.shape == (1, 1, 3) and read.note is None and read.alpha is None


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_the_first_picture_of_an_animation_is_used_and_said(tmp_path, suffix):
    red, blue = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (8, 6), "blue")
    red.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[blue])
    image, _, note = read_photograph(tmp_path / f"a.{suffix}")
    assert image.shape == (6, 8, 3) and image[..., 0].min() > 200 and image[..., 2].max() < 50
    assert "animated" in note


def test_a_file_that_claims_to_be_huge_is_refused(tmp_path):
    with open(tmp_path / "a.bmp", "wb") as file:
        Image.new("1", (8, 8)).save(file, "bmp")
        file.seek(18)
        file.write((60_000).to_bytes(4, "little") * 2)
    with pytest.raises(ValueError, match="60000x60000 pixels, and at most 200 million"):
        read_image(tmp_path / "a.bmp")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif", "avif", HEIC])
def test_a_photograph_that_can_not_be_read_is_one_sentence(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"no image at all"):
        path.write_bytes(data)
        for read in (read_image, whole_size, lambda path: read_shrunk(path, 20)):
            with pytest.raises(ValueError, match=f"{path} can't be read: ") as error:
                read(path)
            assert "\n" not in str(error.value) and "object at" not in str(error.value)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_read(tmp_path, progressive):
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", noise, progressive=progressive)
    whole, expected = path.read_bytes(), read_image(path)
    for cut in (1, 2):
        path.write_bytes(whole[:-cut])
        np.testing.assert_array_equal(read_image(path), expected)
        assert whole_size(path)[:2] == (80, 60) and read_shrunk(path, 20)[1][:2] == (80, 60)
    for cut in (8, 30, len(whole) // 3):  # of the pixels
        path.write_bytes(whole[:-cut])
        with pytest.raises(ValueError, match=f"{path} can't be read: .*truncated"):
            read_image(path)


def test_what_is_no_file_is_one_sentence_and_makes_nobody_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, reason in (("nowhere.jpg", "No such file"), (".", "no regular file"), ("pipe.jpg", "no regular file")):
        with pytest.raises(ValueError, match=f"can't be read: .*{reason}"):
            read_image(tmp_path / path)
    with pytest.raises(ValueError, match="can't be read"):
        read_image("/dev/zero")


def test_hidden_files_are_no_photographs_and_others_are_counted():
    names = ["a.jpg", "b.JFIF", "._a.jpg", ".DS_Store", "notes.txt", "b.txt", "c.mov", "README"]
    assert [name for name in names if is_photograph(name)] == ["a.jpg", "b.JFIF"]
    assert passed_over(["notes.txt", "c.mov", "b.TXT", "README"]) == "2 .txt, 1 .mov, 1 without a suffix"


@pytest.mark.parametrize("suffix", [HEIC])
def test_heic_is_found_in_folders(tmp_path, suffix):
    for name in (f"a.{suffix}", "b.HIF", "c.heif"):
        save(tmp_path / name, format="HEIF")
    assert [found.path.name for found in find_photographs(str(tmp_path))] == ["a.heic", "b.HIF", "c.heif"]


def test_heic_is_read_with_its_extra_and_asked_for_without(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "HEIC", set())
    assert 'pip install -e ".[heic]"' in passed_over(["a.heic"])
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ValueError, match=r"a.heic can.t be read: .*pip install -e .*\[heic\]"):
        read_image(tmp_path / "a.heic")


def test_a_photograph_waits_until_its_pixels_fit():
    budget, steps = Budget(100), []
    small, large = budget.take(60), budget.take(300)

    def wait():
        with large:
            steps.append("large")

    with small:
        waiting = threading.Thread(target=wait)
        waiting.start()
        with budget.take(40):
            steps.append("small")
        assert steps == ["small"]
    waiting.join(5)
    assert steps == ["small", "large"] and budget.taken == 0


@pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there")
def test_the_cases_of_public_reports(tmp_path):
    assert read_image(CASES / "exif" / "orientation_ascii.jpg").shape == (300, 400, 3)
    assert read_image(CASES / "exif" / "xres_signed.jpg").shape == (400, 300, 3)
    assert read_image(CASES / "png" / "icc_1200kB.png").shape == (300, 400, 3)
    assert np.abs(read_image(CASES / "icc" / "p3.jpg").reshape(-1, 3).mean(0) - (213, 116, 82)).max() < 1
    red, green, blue = np.moveaxis(read_image(CASES / "rgba" / "hidden_magenta.png"), 2, 0)
    assert not ((red > 200) & (green < 60) & (blue > 200)).any()


# Much at once


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_photograph_is_read_in_parts_as_at_once(tmp_path, monkeypatch, mode, orientation):
    block, image = Image.Exif(), photograph(37, 50)
    block[0x0112] = orientation
    plane = image[..., 0].astype(np.uint16 if mode == "I;16" else np.float32) * 200
    picture = Image.fromarray(plane if mode in ("I;16", "F") else image)
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(image[..., 1]))
    suffix = {"CMYK": "jpg", "F": "tif"}.get(mode, "png")
    how = {"transparency": 3} if mode in ("P", "L") else {}
    path = tmp_path / f"a.{suffix}"
    picture.convert(mode).save(path, exif=block.tobytes(), **how)
    at_once = read_photograph(path)
    monkeypatch.setattr("humanseg.data.colour.STRIP", 400)
    for found, expected in zip(read_photograph(path), at_once, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted by Linux")
def test_a_large_photograph_with_transparency_is_read_in_9_bytes_a_pixel(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4000, 5000, 4), 90, np.uint8))
    measure = """
import resource, sys
from humanseg.data.pictures import read_photograph
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
read_photograph(sys.argv[1])
print((peak() - before) * 1024 / 20e6)
"""
    done = subprocess.run(
        [sys.executable, "-c", measure, tmp_path / "a.png"], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 10  # 4 as decoded, 3 and 1 as arrays, and a part in work


# Kinds


def grey_with_alpha(path: Path, extra: int) -> Path:
    """A TIFF of 16 bits, grey 40000 under an alpha that is half 0; Pillow has no mode for it."""
    values = np.full((4, 6, 2), 40000, np.uint16)
    values[..., 1] = np.where(np.arange(6) < 3, 0, 65535)
    entries = [
        *[(256, 3, 1, 6), (257, 3, 1, 4), (258, 3, 2, 16 | 16 << 16), (259, 3, 1, 1), (262, 3, 1, 1)],
        *[(273, 4, 1, 134), (277, 3, 1, 2), (278, 3, 1, 4), (279, 4, 1, values.nbytes), (338, 3, 1, extra)],
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    path.write_bytes(head + bytes(4) + values.tobytes())
    return path


def test_the_alpha_of_a_grey_tiff_of_16_bits_is_refused_and_not_left_out(tmp_path):
    assert (read_image(grey_with_alpha(tmp_path / "a.tif", 0)) == 156).all()  # the second channel is no alpha
    for extra in (1, 2):
        with pytest.raises(ValueError, match="has an alpha, which is not read: save it in colour"):
            read_image(grey_with_alpha(tmp_path / "a.tif", extra))


def test_16_bits_with_a_sign_have_their_white_at_32767(tmp_path):
    rows = np.linspace(-32768, 32767, 64).astype(np.int16)
    values = np.repeat(np.tile(rows, (48, 1))[..., None], 3, axis=2)
    image = read_image(tiff(tmp_path / "a.tif", values, 2))
    assert image.max() == 255 and not image[:, :32].any() and abs(int(image[0, 48, 0]) - 131) < 4


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"), (b"\xff\x4f\xff\x51" + bytes(40), "JPEG 2000"),
     (b"\xff\x0a" + bytes(40), "JPEG XL"), (b"8BPS\0\1" + bytes(40), "Photoshop"),
     (b"\xff\xd8\xff\xe0\0\4ab\xff\xc1\0\x11\x0c" + bytes(40), "a JPEG of 12 bits")],
    ids=["jp2", "j2k", "jxl", "psd", "12 bits"],
)  # fmt: skip
def test_a_kind_that_is_not_read_is_told_as_that(tmp_path, content, told):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=f"it is .*{told}.*, which is not read: save it as"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(("channels", "kind", "sample"), [(3, np.float16, 3), (5, np.uint16, 1)])
def test_a_tiff_of_a_kind_that_is_not_read_is_not_called_damaged_alone(tmp_path, channels, kind, sample):
    values = np.ones((8, 8, 3), kind)
    path = tiff(tmp_path / "a.tif", values, sample)
    if channels == 5:
        data = bytearray(path.read_bytes())
        at = data.index(struct.pack("<HHI", 277, 3, 1))
        data[at + 8] = 5
        path.write_bytes(data)
    with pytest.raises(ValueError, match=f"its kind is not read \\({channels} channels of 16"):
        read_image(path)


@pytest.mark.parametrize("name", ["gamma", "icc_profile", "transparency", "exif", "srgb", "chromaticity", "interlace"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1", "I;16"])
def test_a_text_in_a_png_decides_nothing_whatever_its_name_is(tmp_path, name, mode):
    info = PngImagePlugin.PngInfo()
    info.add_text(name, "hello 5")
    grey = Image.fromarray(photograph()[..., 0])
    picture = grey.convert("I;16") if mode == "I;16" else Image.fromarray(photograph()).convert(mode)
    for path, how in ((tmp_path / "a.png", {}), (tmp_path / "b.png", {"pnginfo": info})):
        picture.save(path, **how)
    for found, expected in zip(*(read_photograph(tmp_path / file) for file in ("b.png", "a.png")), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert whole_size(tmp_path / "a.png") == whole_size(tmp_path / "b.png")
