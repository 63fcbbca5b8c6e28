"""How much memory mode=predict takes for a large photograph, in bytes a pixel. Run by hand, on Linux:

    python tests/bench/memory.py CKPT [MEGAPIXELS] [KIND ...]

Each kind of photograph, and each kind of result, is drawn in a process of its own. Prints the most memory that was resident,
less what the same command takes for a small photograph.
"""

import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

RUN = Path(__file__).parents[2] / "run.py"
MEASURED = """
import atexit, re, runpy, sys
peak = lambda: re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
atexit.register(lambda: print("peak", peak(), flush=True))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def picture(height: int, width: int) -> np.ndarray:
    """uint8 HxWx4, smooth with some noise; an eighth is transparent."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (max(height // 40, 2), max(width // 40, 2), 4), dtype=np.uint8)
    found = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = random.integers(0, 4, (1021, width, 4), dtype=np.uint8)
    for top in range(0, height, len(noise)):
        found[top : top + len(noise)] ^= noise[: height - top]
    found[: height // 8, :, 3] = 0
    return found


def deep(values: np.ndarray) -> np.ndarray:
    """uint8 -> uint16 whose lower bits are noise, as a camera's are."""
    return cv2.merge([plane.astype(np.uint16) * 256 + plane[::-1, ::-1] for plane in cv2.split(values)])


def by_pillow(channels: str, **how: object) -> Callable[[Path, np.ndarray], None]:
    return lambda path, image: Image.fromarray(image[..., : len(channels)]).convert(channels).save(path, **how)


def by_opencv(channels: int, convert: Callable = np.asarray, *how: object) -> Callable[[Path, np.ndarray], None]:
    return lambda path, image: cv2.imwrite(str(path), convert(image[..., :channels]), how)


def in_one_strip(
    convert: Callable, channels: int, kind: int, more: Mapping = MappingProxyType({})
) -> Callable[[Path, np.ndarray], None]:
    """An uncompressed TIFF of one strip."""

    def save(path: Path, image: np.ndarray) -> None:
        values = convert(image[..., :channels])
        height, width, _ = values.shape
        table = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
        bits, formats = (values.itemsize * 8,) * channels, (kind,) * channels
        tags = {256: width, 257: height, 258: bits, 259: 1, 262: 2, 273: 0, 277: channels, 278: height, 339: formats}
        for tag, value in {**tags, 279: values.nbytes, **({338: (2,)} if channels == 4 else {}), **more}.items():
            table[tag] = value
        with path.open("wb") as file:
            table.save(file)
            values.tofile(file)

    return save


def floats(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) / 255


def la16(path: Path, image: np.ndarray) -> None:
    """A PNG of grey with alpha in 16 bits, which neither library writes."""
    values = deep(image[..., 2:]).astype(">u2")
    height, width, _ = values.shape
    rows = np.zeros((height, 1 + 4 * width), np.uint8)
    rows[:, 1:] = values.view(np.uint8).reshape(height, -1)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


TURNED = Image.Exif()
TURNED[0x0112] = 6
FAST = (cv2.IMWRITE_PNG_COMPRESSION, 1)
PHOTOGRAPHS = {
    "plain.jpg": by_pillow("RGB"),
    "turned.jpg": by_pillow("RGB", exif=TURNED),
    "cmyk.jpg": by_pillow("CMYK"),
    "rgb.png": by_opencv(3, np.asarray, *FAST),
    "rgba.png": by_opencv(4, np.asarray, *FAST),
    "rgb16.png": by_opencv(3, deep, *FAST),
    "rgba16.png": by_opencv(4, deep, *FAST),
    "la16.png": la16,
    "rgb.bmp": by_pillow("RGB"),
    "rgb.gif": by_pillow("RGB"),
    "rgb.tif": by_pillow("RGB", compression="tiff_lzw"),
    "turned.tif": by_pillow("RGBA", compression="tiff_lzw", exif=TURNED),
    "rgb16.tif": by_opencv(3, deep),
    "rgba16.tif": in_one_strip(deep, 4, 1),
    "rgb16_one_strip.tif": in_one_strip(deep, 3, 1),
    "rgba16_turned.tif": in_one_strip(deep, 4, 1, {0x0112: 6}),
    "float.tif": by_opencv(3, floats),
    "float_one_strip.tif": in_one_strip(floats, 3, 3),
    "rgb.webp": by_opencv(3, np.asarray, cv2.IMWRITE_WEBP_QUALITY, 90),
    "rgba.webp": by_opencv(4, np.asarray, cv2.IMWRITE_WEBP_QUALITY, 90),
    "rgb.avif": by_pillow("RGB", speed=10),
    "rgba.avif": by_pillow("RGBA", speed=10),
    "rgb.heic": by_pillow("RGB"),
}
RESULTS = {
    f"to_{draw}{suffix}": (draw, suffix)
    for draw in ("mask", "matting", "cutout")
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp", ".avif")
}


def peak(ckpt: str, photograph: Path, folder: Path, draw: str, suffix: str) -> int:
    """Bytes that were resident at most."""
    typed = [
        f"ckpt={ckpt}",
        f"input={photograph}",
        f"output={folder}/result{suffix}",
        f"draw={draw}",
        f"out={folder}/o",
    ]
    command = [sys.executable, "-c", MEASURED, RUN, "mode=predict", "overwrite=true", *typed]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(" ", done.stderr.strip().splitlines()[-1], flush=True)
    return 1024 * int(done.stdout.split()[-1])


def main(ckpt: str, megapixels: str = "51", *kinds: str) -> None:
    height = round((float(megapixels) * 1e6 * 3 / 4) ** 0.5)
    image, base = picture(height, height * 4 // 3), None
    pixels = image.shape[0] * image.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder, "small.jpg")
        PHOTOGRAPHS["plain.jpg"](small, picture(480, 640))
        base = peak(ckpt, small, Path(folder), "cutout", ".png")
        for kind in kinds or (*PHOTOGRAPHS, *RESULTS):
            draw, suffix = RESULTS.get(kind, ("cutout", ".png"))
            photograph = Path(folder, kind if kind in PHOTOGRAPHS else "plain.jpg")
            PHOTOGRAPHS[photograph.name](photograph, image)
            more = peak(ckpt, photograph, Path(folder), draw, suffix) - base
            print(f"{kind:20} {more / pixels:5.1f} bytes a pixel of {pixels / 1e6:.0f} million", flush=True)
            photograph.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
