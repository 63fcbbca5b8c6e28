"""Photographs and masks on disk: finding them, checking them before training starts, reading them."""

import csv
import logging
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from humanseg.data.transforms import IGNORE, resize

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
EXIF_ORIENTATION = 0x0112
SHOWN = 20  # problems listed in one error
RESIZED = "resized"  # a mask of another size than its photograph
FINE = (None, RESIZED)

Image.MAX_IMAGE_PIXELS = None  # training data is the user's own: a large photograph is no attack


class Found(NamedTuple):
    """Samples as (image, mask), and what is wrong with the rest."""

    pairs: list[tuple[Path, Path]]
    problems: list[str]


class FilePairs:
    """Photographs and their masks, read when asked for.

    Args:
        paths: (image, mask) for each sample.
        mask: ``nonzero``, ``half`` or a list of ids, see `to_classes`.

    Indexing gives uint8 HxWx3 RGB and uint8 HxW class ids.
    """

    def __init__(self, paths: list[tuple[Path, Path]], mask: str | list[int]):
        self.paths = paths
        self.mask = mask

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        return [str(image) for image, _ in self.paths]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image_path, mask_path = self.paths[index]
        image, mask = read_image(image_path), to_classes(read_mask(mask_path), self.mask, mask_path)
        if image.shape[:2] != mask.shape:
            _, mask = resize(image, mask, *image.shape[:2])
        return image, mask


def folder(
    root: str | None,
    val_root: str | None = None,
    test_root: str | None = None,
    mask: str | list[int] = "nonzero",
    classes: int = 1,
) -> dict[str, FilePairs | None]:
    """Sources from folders with ``images/`` and ``masks/`` matched by stem; keys ``train``, ``val``, ``test``.

    Raises:
        ValueError: a folder is missing or empty, or files don't match, can't be read or don't fit (all listed).
    """
    roots = {"train": ("data.root", root), "val": ("data.val_root", val_root), "test": ("data.test_root", test_root)}
    found = {name: _match(key, Path(path)) if path else None for name, (key, path) in roots.items()}
    return _open(found, mask, classes)


def pairs(
    pairs: str | None,
    val_pairs: str | None = None,
    test_pairs: str | None = None,
    mask: str | list[int] = "nonzero",
    classes: int = 1,
) -> dict[str, FilePairs | None]:
    """Sources from text files of ``image, mask`` lines; keys ``train``, ``val``, ``test``.

    Raises:
        ValueError: a file is missing or empty, or files it names are missing, can't be read or don't fit (all listed).
    """
    files = {
        "train": ("data.pairs", pairs),
        "val": ("data.val_pairs", val_pairs),
        "test": ("data.test_pairs", test_pairs),
    }
    found = {name: _read_pairs(key, Path(path)) if path else None for name, (key, path) in files.items()}
    return _open(found, mask, classes)


def read_image(path: Path) -> np.ndarray:
    """uint8 HxWx3 RGB, upright. Grey, palette, 16-bit and RGBA files become RGB."""
    image = _upright(path)
    if image.mode.startswith("I") or image.mode == "F":
        grey = _to_uint8(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """HxW values as the file has them: a palette's indices, a colour's brightest channel; upright."""
    image = _upright(path)
    if image.mode in ("RGBA", "LA", "PA"):
        image = image.convert("RGB")  # what is transparent keeps its colour: alpha says nothing about the class
    values = np.asarray(image)
    return values.max(axis=2) if values.ndim == 3 else values


def to_classes(values: np.ndarray, rule: str | list[int], path: Path | str = "mask") -> np.ndarray:
    """Mask values HxW -> class ids, uint8 HxW.

    Args:
        rule: ``nonzero``: any value above 0 is person; ``half``: from the middle of the range (128 of 255) on; a list
            of ids: the value of class 0, of class 1, ...; 255 is ignored there unless it is listed.

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


def _to_uint8(values: np.ndarray) -> np.ndarray:
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint8:
        return values
    return (values // 257 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8)


def _upright(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error}") from error


def _match(key: str, root: Path) -> Found:
    if missing := [
        f"{key}: {root / part} does not exist" for part in ("images", "masks") if not (root / part).is_dir()
    ]:
        return Found([], missing)
    images, masks = _by_stem(root / "images"), _by_stem(root / "masks")
    if not images:
        return Found([], [f"{key}: {root / 'images'} holds no photograph ({', '.join(sorted(SUFFIXES))})"])
    problems = [f"{path} shares its stem with another file" for found in (images, masks) for path in _doubles(found)]
    problems += [f"{images[stem][0]} has no mask" for stem in sorted(images.keys() - masks.keys())]
    problems += [f"{masks[stem][0]} has no image" for stem in sorted(masks.keys() - images.keys())]
    return Found([(images[stem][0], masks[stem][0]) for stem in sorted(images.keys() & masks.keys())], problems)


def _by_stem(directory: Path) -> dict[str, list[Path]]:
    found = defaultdict(list)
    for path in sorted(directory.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            found[path.stem].append(path)
    return found


def _doubles(found: dict[str, list[Path]]) -> list[Path]:
    return [path for paths in found.values() for path in paths[1:]]


def _read_pairs(key: str, file: Path) -> Found:
    if not file.is_file():
        return Found([], [f"{key}={file}: no such file"])
    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = [(number, row) for number, row in enumerate(csv.reader(text, skipinitialspace=True), 1) if row]
    if not rows:
        return Found([], [f"{key}={file} holds no line `image, mask`"])
    problems = [f"{file}, line {number}: expected `image, mask`, got {row}" for number, row in rows if len(row) != 2]
    pairs_ = [tuple(file.parent / name.strip() for name in row) for _, row in rows if len(row) == 2]
    missing = dict.fromkeys(path for pair in pairs_ for path in pair if not path.is_file())
    problems += [f"{path} does not exist" for path in missing]
    return Found([pair for pair in pairs_ if not missing.keys() & set(pair)], problems)


def _open(found: dict[str, Found | None], mask: str | list[int], classes: int) -> dict[str, FilePairs | None]:
    if mask not in ("nonzero", "half") and (isinstance(mask, str) or len(mask) != max(classes, 2)):
        raise ValueError(
            f"data.mask={mask}: give nonzero, half, or a list with the mask value of each of the {max(classes, 2)} "
            f"classes of model.classes={classes}"
        )
    given = [one for one in found.values() if one]
    with ThreadPoolExecutor() as pool:
        results = list(
            pool.map(lambda pair: _check(pair, mask), dict.fromkeys(pair for one in given for pair in one.pairs))
        )
    _refuse(
        [problem for one in given for problem in one.problems] + [result for result in results if result not in FINE]
    )
    if resized := results.count(RESIZED):
        log.info("%d masks of another size than their photograph are resized to it", resized)
    return {name: FilePairs(one.pairs, mask) if one else None for name, one in found.items()}


def _check(pair: tuple[Path, Path], mask: str | list[int]) -> str | None:
    """What is wrong with one pair, found from headers and ends of files; masks with ids are read whole."""
    try:
        (width, height), (mask_width, mask_height) = (_whole_size(path) for path in pair)
        if not isinstance(mask, str):
            to_classes(read_mask(pair[1]), mask, pair[1])
    except ValueError as error:
        return str(error)
    if (width, height) == (mask_width, mask_height):
        return None
    if abs(width * mask_height - height * mask_width) <= 0.01 * width * mask_height:
        return RESIZED
    return f"{pair[1]} is {mask_width}x{mask_height}, its photograph {width}x{height}: another aspect ratio"


def _whole_size(path: Path) -> tuple[int, int]:
    """Upright width and height of a file that is whole.

    Raises:
        ValueError: it can't be read or its end is missing.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            if not _ends_well(path, image.format):
                image.load()  # data after the end marker is harmless, so only reading all of it tells
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        raise ValueError(f"{path} can't be read: {error}") from error
    return (height, width) if turned else (width, height)


def _ends_well(path: Path, format: str) -> bool:
    endings = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
    if format not in endings:
        return False
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 64), 2)
        return endings[format] in file.read()


def _refuse(problems: list[str]) -> None:
    if not problems:
        return
    shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
    more = f"\n  ... and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    raise ValueError(f"data: {len(problems)} problem{'s' * (len(problems) > 1)}{shown}{more}")
