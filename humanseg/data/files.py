"""Photographs and masks on disk: finding them, and checking them before training starts."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from humanseg import terminal
from humanseg.data import listing
from humanseg.data.cache import Table
from humanseg.data.duplicates import digest
from humanseg.data.listing import Found
from humanseg.data.mask_check import read_otherwise, refuse_unfit_rule
from humanseg.data.masks import Rule, classes_of, fits, read_mask, read_pair, refuse_unknown_rule
from humanseg.data.names import Names
from humanseg.data.pictures import ON_ITS_SIDE, VERSION, Size, whole_size
from humanseg.processes.hardware import cores

log = logging.getLogger(__name__)

SHOWN = 20  # problems listed in one error
RESIZED = "resized"  # a mask of another size than its photograph
UNSURE = "unsure"  # a photograph that EXIF turns, and a mask that fits it either way
FINE = (None, RESIZED, UNSURE)
CHECKED = np.dtype([("key", "<u8"), ("content", "<u8"), ("resized", "?")])  # a pair that was fine
CHECKED_NAME = "checked_v2.index"  # another version of CHECKED begins another file
KEYED_AT_ONCE = 50_000  # pairs that a process looks up in one go, which takes a third of a second
CHUNK = 4096  # pairs that are checked before the results are recorded


class FilePairs:
    """Photographs and their masks, read when asked for.

    Args:
        images, masks: their paths.
        mask: the rule that makes classes of a mask's values, see `masks.to_classes`.

    Indexing gives uint8 HxWx3 RGB and uint8 HxW class ids. `content` has a number for each photograph, which equal ones
    share; the check fills it in.
    """

    def __init__(self, images: list[str], masks: list[str], mask: Rule):
        self.names, self.masks, self.mask = Names(images), Names(masks), mask
        self.keys, self.absent = _all_keys(images, masks, mask)
        self.content = np.zeros(len(images), np.uint64)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def paths(self) -> list[tuple[Path, Path]]:
        """(image, mask) for each sample."""
        return [(Path(image), Path(mask)) for image, mask in zip(self.names, self.masks, strict=True)]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return read_pair(self.names[index], self.masks[index], self.mask)

    def prepared(self, index: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """The sample with its longer side at most `longest` pixels, decoded at a smaller scale where that is faster."""
        return read_pair(self.names[index], self.masks[index], self.mask, longest)

    def read_otherwise(self, indices: Sequence[int]) -> str:
        """A part of a sentence about the samples whose pixels version 1 of reading read otherwise; empty without any."""
        return read_otherwise([(self.names[index], self.masks[index]) for index in indices], self.mask)


def _all_keys(images: list[str], masks: list[str], rule: Rule) -> tuple[np.ndarray, dict[str, str]]:
    """As `_keys`. Long lists are shared among all cores; Python needs a process for each."""
    starts = range(0, len(images), KEYED_AT_ONCE)
    chunks = [(images[at : at + KEYED_AT_ONCE], masks[at : at + KEYED_AT_ONCE], rule) for at in starts]
    if len(chunks) < 2:
        return _keys(images, masks, rule)
    with get_context("fork").Pool(cores(alone=True)) as pool:
        parts = pool.starmap(_keys, chunks)
    absent = {path: why for _, some in parts for path, why in some.items()}
    return np.concatenate([keys for keys, _ in parts]), absent


def _keys(images: list[str], masks: list[str], rule: Rule) -> tuple[np.ndarray, dict[str, str]]:
    """A key for each pair, and for each path that can't be looked up the reason.

    A key has 64 bits. It stands for both files as they are now and for the rule of the mask. Among a million pairs two
    keys are equal once in 3e7 data sets.
    """
    absent: dict[str, str] = {}

    def stamp(path: str) -> str:
        try:
            found = os.stat(path)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            absent[path] = "does not exist" if missing else f"can't be read: {error.strerror}"
            return ""
        return f"{path if path[0] == '/' else os.path.abspath(path)}\0{found.st_size}\0{found.st_mtime_ns}"

    def key(image: str, mask: str) -> int:
        state = f"{stamp(image)}\0{stamp(mask)}\0{rule}\0{VERSION}"
        return int.from_bytes(blake2b(state.encode(errors="surrogateescape"), digest_size=8).digest()) or 1

    return np.fromiter(map(key, images, masks), np.uint64, len(images)), absent


def folder(
    root: str | None,
    val_root: str | None = None,
    test_root: str | None = None,
    mask: Rule = "nonzero",
    classes: int = 1,
    cache_dir: str | None = None,
    mask_suffix: str = "",
) -> dict[str, FilePairs | None]:
    """Sources from folders with ``images/`` and ``masks/``; keys ``train``, ``val``, ``test``.

    A mask has its photograph's name and, in sub-folders, its path, whatever their suffixes are.

    Args:
        mask_suffix: what a mask's name has more, as ``_mask`` in ``NAME_mask.png``.
        cache_dir: where the files that were fine are recorded. They are not opened again until they change.

    Raises:
        ValueError: a folder is missing or empty, or files don't match, can't be read or don't fit (all listed).
    """
    roots = {"train": ("data.root", root), "val": ("data.val_root", val_root), "test": ("data.test_root", test_root)}
    found = {
        name: listing.matched(key, _place(key, path), mask_suffix) if path else None
        for name, (key, path) in roots.items()
    }
    return _open(found, mask, classes, cache_dir)


def pairs(
    pairs: str | None,
    val_pairs: str | None = None,
    test_pairs: str | None = None,
    mask: Rule = "nonzero",
    classes: int = 1,
    cache_dir: str | None = None,
) -> dict[str, FilePairs | None]:
    """Sources from text files of ``image, mask`` lines; keys ``train``, ``val``, ``test``.

    Args:
        cache_dir: as for `folder`.

    Raises:
        ValueError: a file is missing or empty, or files it names are missing, can't be read or don't fit (all listed).
    """
    files = {
        "train": ("data.pairs", pairs),
        "val": ("data.val_pairs", val_pairs),
        "test": ("data.test_pairs", test_pairs),
    }
    found = {name: listing.pairs_of(key, _place(key, path)) if path else None for name, (key, path) in files.items()}
    return _open(found, mask, classes, cache_dir)


def _place(key: str, typed: object) -> str:
    if not isinstance(typed, str | Path):
        raise ValueError(f"{key}={typed}: give one path; a file for data=pairs can list photographs of several folders")
    return str(typed)


def _open(
    found: dict[str, Found | None], mask: Rule, classes: int, cache_dir: str | None
) -> dict[str, FilePairs | None]:
    refuse_unknown_rule(mask, classes)
    problems = [problem for one in found.values() if one for problem in one.problems]
    sources = {name: FilePairs(one.images, one.masks, mask) if one else None for name, one in found.items()}
    checked = Table(Path(cache_dir) / CHECKED_NAME, CHECKED) if cache_dir else None
    resized = 0
    for source in filter(None, sources.values()):
        wrong, odd = _check_all(source, checked)
        problems, resized = problems + wrong, resized + odd
    _refuse(list(dict.fromkeys(problems)))
    for name, source in sources.items():
        if source:
            refuse_unfit_rule(source.masks, mask, name)
    if resized:
        log.info("%d masks of another size than their photograph are resized to it", resized)
    return sources


def _check_all(source: FilePairs, checked: Table | None) -> tuple[list[str], int]:
    """What is wrong with the pairs, and how many masks have another size than their photograph."""
    problems = [f"{path} {why}" for path, why in source.absent.items()]
    known = checked.find(source.keys) if checked else np.zeros(len(source), CHECKED)
    unknown, resized, unsure = np.flatnonzero(known["key"] == 0), int(known["resized"].sum()), 0
    source.content[:] = known["content"]
    with ThreadPoolExecutor() as pool, tqdm(total=len(unknown), desc="check", leave=False, disable=None) as bar:
        for start in range(0, len(unknown), CHUNK):
            chunk = unknown[start : start + CHUNK]
            pairs_ = [(source.names[index], source.masks[index]) for index in chunk.tolist()]
            here = [pair for pair in pairs_ if not source.absent.keys() & set(pair)]
            results = dict(zip(here, pool.map(lambda pair: _check(pair, source.mask), here), strict=True))
            problems += [result for result in results.values() if result not in FINE]
            unsure += list(results.values()).count(UNSURE)
            fine = chunk[[results.get(pair, "") in FINE for pair in pairs_]]
            marks = np.array([results[pair] == RESIZED for pair in pairs_ if results.get(pair, "") in FINE], bool)
            names = [source.names[index] for index in fine.tolist()]
            source.content[fine] = np.fromiter(pool.map(digest, names), np.uint64, len(fine))
            resized += int(marks.sum())
            if checked and len(fine):
                _note(checked, source, fine, marks)
            bar.update(len(chunk))
    if unsure:
        log.info("%d masks fit their photograph turned by EXIF and as it lies: they are taken as upright", unsure)
    return problems, resized


def _note(checked: Table, source: FilePairs, fine: np.ndarray, resized: np.ndarray) -> None:
    records = np.zeros(len(fine), CHECKED)
    records["key"], records["content"], records["resized"] = source.keys[fine], source.content[fine], resized
    with checked.alone():
        checked.add(records)


def _check(pair: tuple[str, str], mask: Rule) -> str | None:
    """What is wrong with one pair. Only headers and ends of files are read, but masks with ids are read whole."""
    try:
        photograph, drawn = (whole_size(path) for path in pair)
        if isinstance(mask, list) or mask == "alpha" or drawn.transparent:
            classes_of(read_mask(pair[1]), mask, pair[1])
    except ValueError as error:
        return str(error)
    size, mask_size = photograph[:2], drawn[:2]
    lies = photograph.turn in ON_ITS_SIDE and not fits(mask_size, size)  # it was drawn before the photograph was turned
    if size == (mask_size[::-1] if lies else mask_size):
        return UNSURE if _fits_either_way(photograph, drawn) else None
    if fits(mask_size[::-1] if lies else mask_size, size):
        return RESIZED
    return "{} is {}x{}, its photograph {}x{}: another aspect ratio".format(pair[1], *mask_size, *size)


def _fits_either_way(photograph: Size, mask: Size) -> bool:
    """Whether sizes don't tell if a mask was drawn on the photograph as it lies in its file, or upright."""
    if photograph.turn is None or mask.turn is not None:
        return False
    return photograph.turn not in ON_ITS_SIDE or fits(photograph[:2], photograph[1::-1])


def _refuse(problems: list[str]) -> None:
    if not problems:
        return
    head = f"data: {len(problems)} problem{'s' * (len(problems) > 1)}"
    raise ValueError(terminal.listed(head, problems, SHOWN))
