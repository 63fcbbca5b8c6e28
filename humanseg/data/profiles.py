"""Colours that a file names by numbers instead of a profile, as ICC profiles: cICP, gAMA and cHRM of PNG, nclx of HEIC.

The order is that of the PNG specification (third edition): cICP, the embedded profile, sRGB, then gAMA with or without cHRM.
HDR (PQ, HLG) is left as it is.
"""

import struct
from functools import lru_cache
from typing import BinaryIO

import numpy as np
from PIL import Image

Point = tuple[float, float]  # x and y of a colour

D65, D50 = (0.3127, 0.3290), np.array([0.9642, 1, 0.8249])
BT709 = (D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
PRIMARIES = {  # white, red, green and blue, by their numbers in ITU-T H.273
    1: BT709,
    9: (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
GAMMAS = {
    **dict.fromkeys((1, 6, 13, 14, 15)),
    4: 2.2,
    5: 2.8,
    8: 1.0,
}  # None: sRGB's own curve, which BT.709 is shown by
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
USUAL, NEAR = 2.2, 0.05  # a gamma that is so near means sRGB, as for libpng
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def profile_of(image: Image.Image, file: BinaryIO) -> bytes | None:
    """The ICC profile of an image that is loaded, or one that is made of the numbers in its file; None: it says nothing."""
    info = image.info
    if image.format == "PNG" and (numbers := _cicp(file)) and (profile := _by_numbers(*numbers)):
        return profile
    if embedded := info.get("icc_profile"):
        return embedded
    if nclx := info.get("nclx_profile") if image.format == "HEIF" else None:
        return _by_numbers(nclx["color_primaries"], nclx["transfer_characteristics"])
    if image.format != "PNG" or "srgb" in info or not 0.1 <= info.get("gamma", 0) <= 10:
        return None
    gamma, points = 1 / info["gamma"], info.get("chromaticity")
    points = tuple(zip(points[::2], points[1::2], strict=True)) if points else BT709
    return _profile(points, None if abs(gamma / USUAL - 1) < NEAR else gamma)


def _cicp(file: BinaryIO) -> tuple[int, int] | None:
    """The numbers of primaries and curve that a PNG's cICP has."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        if head[4:] == b"cICP":
            body = file.read(4)
            return (body[0], body[1]) if len(body) == 4 else None
        file.seek(int.from_bytes(head[:4]) + 4, 1)
    return None


def _by_numbers(primaries: int, curve: int) -> bytes | None:
    return _profile(PRIMARIES[primaries], GAMMAS[curve]) if primaries in PRIMARIES and curve in GAMMAS else None


@lru_cache(16)
def _profile(points: tuple[Point, Point, Point, Point], gamma: float | None) -> bytes | None:
    """A matrix profile of white, red, green and blue; None where these are no colours.

    Args:
        gamma: exponent of the curve from the file's values to light; None: sRGB's.
    """
    if not all(x >= 0 and y > 0 and x + y <= 1 for x, y in points):
        return None
    try:
        white, *primaries = np.array([[x / y, 1, (1 - x - y) / y] for x, y in points])
        to_xyz = np.transpose(primaries) * np.linalg.solve(np.transpose(primaries), white)
        cones = (BRADFORD @ D50) / (BRADFORD @ white)  # the white of profiles is D50
        to_xyz = np.linalg.solve(BRADFORD, cones[:, None] * BRADFORD) @ to_xyz
        names = (b"rXYZ", b"gXYZ", b"bXYZ")
        tags = {name: b"XYZ \0\0\0\0" + _fixed(*xyz) for name, xyz in zip(names, to_xyz.T, strict=True)}
    except (np.linalg.LinAlgError, struct.error):
        return None
    curve = (0, gamma) if gamma else (3, *SRGB_CURVE)
    tags |= dict.fromkeys(
        (b"rTRC", b"gTRC", b"bTRC"), b"para\0\0\0\0" + struct.pack(">HH", curve[0], 0) + _fixed(*curve[1:])
    )
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + _fixed(*D50)
    table, data, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value
    head = struct.pack(">I4xI4s4s4s12x4s28x", start + len(data), 0x04000000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return (head + _fixed(*D50)).ljust(128, b"\0") + table + data


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)
