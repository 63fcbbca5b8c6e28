"""Pictures of more than 8 bits are read in parts, as OpenCV reads them whole."""

import struct
import zlib
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from humanseg.data import colour, deep, opening, pictures
from humanseg.data.colour import to_uint8
from humanseg.data.pictures import UPRIGHT, read_photograph

RAW, DEFLATE, PACKBITS = 1, 8, 32773
SIZE = 37, 50


def values(kind: str, channels: int) -> np.ndarray:
    """HxWxC over most of the range of 16 bits, or of 0 to 1; an alpha is wholly transparent nowhere."""
    found = np.random.default_rng(0).integers(300, 60_000, (*SIZE, channels))
    return (found / 50_000 if kind[-2] == "f" else found - 30_000 * (kind[-2] == "i")).astype(kind)


def packed(block: np.ndarray, compression: int, predictor: int) -> bytes:
    """A strip or tile as TIFF stores it."""
    if predictor == 2:
        block = np.diff(block, axis=1, prepend=block[:, :1] * 0).astype(block.dtype)
    if predictor == 3:
        _, _, channels = shape = block.shape
        numbers = block.astype(block.dtype.newbyteorder(">")).view(np.uint8).reshape(shape[0], -1, block.itemsize)
        rows = numbers.transpose(0, 2, 1).reshape(shape[0], -1)
        block = np.concatenate([rows[:, :channels], rows[:, channels:] - rows[:, :-channels]], axis=1)
    data = block.tobytes()
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACKBITS:
        a_row = len(data) // len(block)
        parts = (
            data[row + at : row + min(at + 128, a_row)]
            for row in range(0, len(data), a_row)
            for at in range(0, a_row, 128)
        )
        return b"".join(bytes([len(part) - 1]) + part for part in parts)
    return data


def tiff(path: Path, image: np.ndarray, how: tuple = (RAW, 1), side: int = 0, tile: int = 0, **tags: int) -> Path:
    """A TIFF in strips of `side` rows, 0: one; or in tiles."""
    order = "I" if image.dtype.newbyteorder("=").newbyteorder("<") == image.dtype else "M"
    height, width, channels = image.shape
    down, across = (tile, tile) if tile else (side or height, width)
    padded = np.pad(image, ((0, -height % down * bool(tile)), (0, -width % across), (0, 0)), mode="reflect")
    corners = product(range(0, height, down), range(0, width, across))
    pieces = [packed(padded[top : top + down, left : left + across], *how) for top, left in corners]
    table = TiffImagePlugin.ImageFileDirectory_v2(prefix=order.encode() * 2)
    code = {"u": 1, "i": 2, "f": 3}[image.dtype.kind]
    facts = {256: width, 257: height, 258: (8 * image.itemsize,) * channels, 259: how[0], 262: 1 + (channels > 2)}
    facts |= {277: channels, 317: how[1], 339: (code,) * channels} | ({338: (2,)} if channels == 4 else {})
    where, sizes = (324, 325) if tile else (273, 279)
    facts |= {322: tile, 323: tile} if tile else {278: down}
    starts = np.cumsum([0, *map(len, pieces[:-1])])
    for tag, value in {**facts, sizes: tuple(map(len, pieces)), **{int(tag[1:]): tags[tag] for tag in tags}}.items():
        table[tag] = value
    table.tagtype[where] = 4
    table[where] = tuple(starts.tolist())
    if tile:  # Pillow moves the places of strips alone
        table[where] = tuple((starts + 8 + len(table.tobytes(8))).tolist())
    with path.open("wb") as file:
        table.save(file)
        file.write(b"".join(pieces))
    return path


def whole(path: Path) -> np.ndarray:
    """uint8 HxWx3 or HxWx4, as OpenCV reads a file at once."""
    found = np.atleast_3d(
        cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    )
    if found.shape[2] == 1:
        return np.repeat(to_uint8(found), 3, axis=2)
    colours = to_uint8(found[..., 2::-1])
    return colours if found.shape[2] == 3 else np.dstack([colours, to_uint8(found[..., 3])])


def read(path: Path) -> np.ndarray:
    image, alpha, _ = read_photograph(path)
    return image if alpha is None else np.dstack([image, alpha])


@pytest.fixture
def in_parts(monkeypatch):
    """Large and small are told apart at a few pixels."""
    monkeypatch.setattr(colour, "STRIP", 400)
    for module in (deep, opening, pictures):
        monkeypatch.setattr(module, "LARGE", 1500)
    monkeypatch.setattr(deep, "PIECE", 1200)


@pytest.mark.parametrize(
    ("kind", "channels", "predictor"),
    [
        ("<f4", 3, 3),
        (">f4", 4, 1),
        ("<f8", 3, 1),
        ("<i2", 3, 2),
        (">u4", 3, 1),
        ("<u2", 3, 2),
        (">u2", 4, 2),
        ("<u2", 4, 1),
    ],
)
def test_a_deep_tiff_is_read_in_parts_as_at_once(tmp_path, in_parts, kind, channels, predictor):
    image = values(kind, channels)
    for how in ((RAW, 1), (DEFLATE, predictor), (PACKBITS, 1)):
        for place in ({"side": 1}, {"side": 7}, {"tile": 16}):
            path = tiff(tmp_path / "a.tif", image, how, **place)
            np.testing.assert_array_equal(read(path), whole(path), f"{how} {place}")
    np.testing.assert_array_equal(read(tiff(tmp_path / "a.tif", image)), whole(tmp_path / "a.tif"))


@pytest.mark.parametrize("orientation", [3, 6, 7, 8])
def test_a_deep_tiff_is_turned_in_parts(tmp_path, in_parts, orientation):
    for kind, channels in (("<f4", 3), ("<u2", 4)):
        lying = whole(tiff(tmp_path / "a.tif", values(kind, channels), (DEFLATE, 1), side=9))
        path = tiff(tmp_path / "a.tif", values(kind, channels), (DEFLATE, 1), side=9, _274=orientation)
        np.testing.assert_array_equal(read(path), np.asarray(Image.fromarray(lying).transpose(UPRIGHT[orientation])))


@pytest.mark.parametrize("photometric", [0, 1])
def test_a_second_channel_that_is_no_alpha_is_left_out(tmp_path, in_parts, photometric):
    path = tiff(tmp_path / "a.tif", values("<u2", 2), (DEFLATE, 1), side=9, _262=photometric, _338=(0,))
    np.testing.assert_array_equal(read(path), whole(path))


def test_what_lies_in_one_compressed_strip_is_refused_where_it_is_large(tmp_path, in_parts):
    path = tiff(tmp_path / "a.tif", values("<f4", 3), (DEFLATE, 3))
    with pytest.raises(ValueError, match=r"a\.tif can't be read: .* are compressed as one: save it in strips"):
        read(path)
    tiff(path, values("<u2", 3), (DEFLATE, 2))  # Pillow reads it
    np.testing.assert_array_equal(read(path), whole(path))


@pytest.mark.parametrize("what", [{"side": 5}, {"tile": 16}, {"side": 5, "how": (RAW, 1)}], ids=str)
def test_a_deep_tiff_that_lacks_pixels_or_places_is_one_sentence(tmp_path, in_parts, what):
    path = tiff(tmp_path / "a.tif", values("<f4", 3), **{"how": (DEFLATE, 1), **what})
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(ValueError, match=r"a\.tif can't be read: it is damaged"):
        read(path)
    for tags in ({"_325" if "tile" in what else "_279": (5,)}, {"_323" if "tile" in what else "_278": 0}):
        with pytest.raises(ValueError, match=r"a\.tif can't be read: it is damaged"):
            read(tiff(path, values("<f4", 3), **{"how": (DEFLATE, 1), **what}, **tags))


def png(path: Path, image: np.ndarray, clear: tuple | None = None) -> Path:
    """A PNG of 16 bits: grey with alpha, colours, one of which may stand for transparency, or both."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, channels = image.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    chunks = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    if clear:
        chunks.insert(1, chunk(b"tRNS", struct.pack(">3H", *clear)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("most", [200, 1000, 4000, 65535])
def test_a_png_of_16_bits_is_read_by_halves_as_at_once(tmp_path, in_parts, channels, most):
    image = np.random.default_rng(0).integers(1, most, (*SIZE, channels), endpoint=True, dtype=np.uint16)
    image[..., channels - 1] |= most >> 1  # an alpha that hides nothing wholly
    path = png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read(path), whole(path))


def test_the_colour_of_16_bits_that_stands_for_transparency_is_one_and_not_its_neighbour(tmp_path, in_parts):
    image = values("<u2", 3)
    image[3, 4], image[3, 5] = (513, 514, 515), (513, 514, 516)
    found = read_photograph(png(tmp_path / "a.png", image, (513, 514, 515)))
    assert found.alpha[3, 4] == 0 and (found.image[3, 4] == 255).all() and np.count_nonzero(found.alpha == 0) == 1
    found.image[3, 4] = 2
    np.testing.assert_array_equal(found.image, to_uint8(image))


@pytest.mark.parametrize(("channels", "quality"), [(3, 90), (4, 90), (4, 101)])
def test_a_large_webp_is_read_as_a_small_one(tmp_path, monkeypatch, channels, quality):
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (*SIZE, channels), dtype=np.uint8), (0, 0), 2)
    smooth[:5, :5, 3:] = 0
    block = Image.Exif()
    block[0x0112] = 6
    Image.fromarray(smooth).save(tmp_path / "a.webp", quality=min(quality, 100), lossless=quality > 100, exif=block)
    small = read_photograph(tmp_path / "a.webp")
    monkeypatch.setattr(pictures, "LARGE", 100)
    monkeypatch.setattr(pictures, "still_webp", lambda file, real=deep.still_webp: called.append(1) or real(file))
    called = []
    for found, expected in zip(read_photograph(tmp_path / "a.webp"), small, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert called and small.image.shape == (50, 37, 3) and (small.alpha is None) == (channels == 3)
