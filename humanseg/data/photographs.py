"""Photographs on disk with labels that say where people are, and the check before training starts."""

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from humanseg import terminal
from humanseg.data.cache import Table
from humanseg.data.keys import all_keys
from humanseg.data.listing import Found
from humanseg.data.masks import fits
from humanseg.data.names import Names
from humanseg.data.pictures import ON_ITS_SIDE, Size, read_shrunk, whole_size
from humanseg.data.transforms import resize_mask

log = logging.getLogger(__name__)

SHOWN = 20  # problems listed in one error
RESIZED = "resized"  # a mask of another size than its photograph
UNSURE = "unsure"  # a photograph that EXIF turns, and a mask that fits it either way
FINE = (None, RESIZED, UNSURE)
CHECKED = np.dtype([("key", "<u8"), ("content", "<u8"), ("resized", "?")])  # a sample that was fine
CHECKED_NAME = "checked_v2.index"  # another version of CHECKED begins another file
CHUNK = 4096  # samples that are checked before the results are recorded


class Labels(Protocol):
    """Where people are, for the photographs that a source lists."""

    def stamps(self, start: int, stop: int) -> list[tuple[str, str]]:
        """For some photographs the file that each label is read from, empty for none, and what else the label depends on."""

    def read(self, index: int, photograph: Size) -> np.ndarray:
        """Class ids, uint8 HxW, upright: 1 the person, 255 ignored. The photograph's size, or another one of its shape.

        Raises:
            ValueError: the label can't be read.
        """

    def check(self, index: int, photograph: Size) -> str | None:
        """What is wrong with a label in one sentence; RESIZED, UNSURE or None where nothing is.

        Raises:
            ValueError: the label can't be read.
        """


class Photographs:
    """Photographs and their labels, read when asked for.

    Args:
        images: paths of the photographs.

    Indexing gives uint8 HxWx3 RGB and uint8 HxW class ids. `content` has a number for each photograph, which equal ones
    share, once they are checked. A key is 0 where a file can't be looked up; `absent` has the reason for each such path.
    Where a data set is opened in spite of what is wrong, `problems` has that of the set as a whole, and `broken` by index
    that of samples which can't be used.
    """

    def __init__(self, images: list[str], labels: Labels):
        self.names, self.labels = Names(images), labels
        self.keys, self.absent = all_keys(self.names, labels.stamps)
        self.content = np.where(self.keys, self.keys, np.arange(1, len(images) + 1, dtype=np.uint64))
        self.problems: list[str] = []
        self.broken: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.prepared(index)

    def prepared(self, index: int, longest: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The sample with its longer side at most `longest` pixels, decoded at a smaller scale where that is faster."""
        image, size = read_shrunk(self.names[index], longest)
        return image, resize_mask(self.labels.read(index, size), *image.shape[:2])


def compare(label: str, drawn: tuple[int, int], photograph: Size, turned: bool = False) -> str | None:
    """Hold a label's size against its photograph's; the result is that of `Labels.check`.

    Args:
        label: its name, for the sentence. drawn: its width and height. turned: whether EXIF has turned it already.
    """
    size = photograph[:2]
    lies = photograph.turn in ON_ITS_SIDE and not fits(drawn, size)  # it was drawn before the photograph was turned
    if size == (drawn[::-1] if lies else drawn):
        return UNSURE if not turned and _fits_either_way(photograph) else None
    if fits(drawn[::-1] if lies else drawn, size):
        return RESIZED
    return "{} is {}x{}, its photograph {}x{}: another aspect ratio".format(label, *drawn, *size)


def _fits_either_way(photograph: Size) -> bool:
    """Whether sizes don't tell if a label was drawn on the photograph as it lies in its file, or upright."""
    if photograph.turn is None:
        return False
    return photograph.turn not in ON_ITS_SIDE or fits(photograph[:2], photograph[1::-1])


def refuse_more_classes(classes: int) -> None:
    """Refuse a network of other classes than person and background, for labels that know no others.

    Raises:
        ValueError: there are more.
    """
    if classes > 2:
        raise ValueError(f"model.classes={classes}: these labels tell people from the background: give 1 or 2")


def open_sources(
    sources: dict[str, Photographs | None], problems: list[str], cache_dir: str | None, on_error: str = "raise"
) -> dict[str, Photographs | None]:
    """The sources, checked.

    Args:
        sources: by side, as ``train``. problems: what is wrong already, in one sentence each.
        cache_dir: where the samples that were fine are recorded. They are not opened again until they change.
        on_error: ``raise``; ``skip``: samples that can't be read or don't fit are noted as broken; ``note``: no file is
            looked at, and what is wrong already is noted as the first source's problems, for `mode=check`.

    Raises:
        ValueError: there are problems, or photographs or labels that can't be read or don't fit (all listed).
    """
    opened = [source for source in sources.values() if source is not None]
    if on_error == "note" and any(map(len, opened)):
        opened[0].problems += dict.fromkeys(problems)
        return sources
    checked = Table(Path(cache_dir) / CHECKED_NAME, CHECKED) if cache_dir else None
    problems, resized = list(problems), 0
    for source in opened:
        wrong, odd = _check_all(source, checked)
        resized += odd
        if on_error == "skip":
            source.broken |= wrong
        else:
            problems += [f"{path} {why}" for path, why in source.absent.items()]
            problems += [why for index, why in wrong.items() if source.keys[index]]
    _refuse(list(dict.fromkeys(problems)))
    if resized:
        log.info("%d masks of another size than their photograph are resized to it", resized)
    return sources


def open_places(
    typed: dict[str, tuple | None],
    open_one: Callable[..., tuple[dict[str, Photographs], list[str]]],
    cache_dir: str | None,
    on_error: str = "raise",
) -> dict[str, Photographs | None]:
    """As `open_sources`, of the data set that lies at each place.

    Args:
        typed: by side what says where the data set is; None where nothing is typed.
        open_one: makes the sources by side, and problems, of a side and of what is typed for it. What it refuses by
            ValueError is a problem too.
    """
    sources, problems = dict.fromkeys(typed), []
    for side, place in typed.items():
        if place:
            try:
                found, wrong = open_one(side, *place)
            except ValueError as error:
                found, wrong = {}, [str(error)]
            sources |= found
            problems += wrong
    return open_sources(sources, problems, cache_dir, on_error)


def open_found(
    places: dict[str, tuple[str, str] | None],
    find: Callable[[str, str], Found],
    make: Callable[[Found], Photographs],
    cache_dir: str | None,
    on_error: str = "raise",
) -> dict[str, Photographs | None]:
    """As `open_places`, where `find` finds files by a key and its path, and `make` makes photographs with labels of them."""

    def open_one(side: str, key: str, path: str) -> tuple[dict[str, Photographs], list[str]]:
        found = find(key, path)
        return {side: make(found)}, found.problems

    return open_places(places, open_one, cache_dir, on_error)


def _check_all(source: Photographs, checked: Table | None) -> tuple[dict[int, str], int]:
    """What is wrong with samples, by index, and how many masks have another size than their photograph."""
    problems = {index: missing(source, index) for index in np.flatnonzero(source.keys == 0).tolist()}
    known = checked.find(source.keys) if checked else np.zeros(len(source), CHECKED)
    fresh, resized, unsure = known["key"] == 0, int(known["resized"].sum()), 0
    unknown = np.flatnonzero(fresh)
    # The others keep a number of their own: broken ones are no copies.
    source.content[~fresh] = known["content"][~fresh]
    with ThreadPoolExecutor() as pool, tqdm(total=len(unknown), desc="check", leave=False, disable=None) as bar:
        for start in range(0, len(unknown), CHUNK):
            chunk = unknown[start : start + CHUNK]
            here = chunk[source.keys[chunk] != 0]
            results = list(pool.map(lambda index: check(source, index), here.tolist()))
            problems |= {index: told for index, told in zip(here.tolist(), results, strict=True) if told not in FINE}
            unsure += results.count(UNSURE)
            fine = here[[result in FINE for result in results]]
            marks = np.array([result == RESIZED for result in results if result in FINE], bool)
            names = [source.names[index] for index in fine.tolist()]
            source.content[fine] = np.fromiter(pool.map(digest, names), np.uint64, len(fine))
            resized += int(marks.sum())
            if checked and len(fine):
                note(checked, source, fine, marks)
            bar.update(len(chunk))
    if unsure:
        log.info("%d masks fit their photograph turned by EXIF and as it lies: they are taken as upright", unsure)
    return problems, resized


def missing(source: Photographs, index: int) -> str:
    """Why a sample has no key: the file that can't be looked up."""
    paths = source.names[index], source.labels.stamps(index, index + 1)[0][0]
    return next(f"{path} {source.absent[path]}" for path in paths if path in source.absent)


def note(checked: Table, source: Photographs, fine: np.ndarray, resized: np.ndarray) -> None:
    """Record samples that were fine.

    Args:
        fine: their indices. resized: for each whether its mask has another size than its photograph.
    """
    records = np.zeros(len(fine), CHECKED)
    records["key"], records["content"], records["resized"] = source.keys[fine], source.content[fine], resized
    with checked.alone():
        checked.add(records)


def check(source: Photographs, index: int) -> str | None:
    """What is wrong with one sample, as `Labels.check` says it. Of photographs only headers and ends of files are read."""
    try:
        return source.labels.check(index, whole_size(source.names[index]))
    except ValueError as error:
        return str(error)


def digest(path: str) -> int:
    """64 bits that stand for a file's bytes. Among a million files two others share them once in 4e7 data sets."""
    with open(path, "rb") as file:
        return int.from_bytes(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).digest())


def _refuse(problems: list[str]) -> None:
    if not problems:
        return
    head = f"data: {len(problems)} problem{'s' * (len(problems) > 1)}"
    raise ValueError(terminal.listed(head, problems, SHOWN))
