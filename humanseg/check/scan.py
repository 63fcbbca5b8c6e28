"""One pass over all files, on all cores."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from humanseg.check.facts import FACTS, OTHER_SIZE, Measured, measure, possible
from humanseg.check.store import Store
from humanseg.data.cache import Table
from humanseg.data.photographs import CHECKED, CHECKED_NAME, FINE, Photographs, check, missing, note
from humanseg.data.splits import alike
from humanseg.data.splits.alike import HASHED, HASHED_NAME
from humanseg.processes.hardware import cores

VERSION = 2  # of FACTS and of how they are measured; another one begins another file
CHUNK = 128  # photographs that are measured before the results are kept


@dataclass(eq=False)
class Scanned:
    """The samples of one source.

    Args:
        name: of the source; empty where there is one. source: its samples.
        facts: a record of FACTS for each; zeros where it is broken.
        broken: by index why a sample can't be used.
        store: has the thumbnails of the facts.
        split: for each sample ``train``, ``val``, ``test``, or empty where it is used for none.
    """

    name: str
    source: object
    facts: np.ndarray
    broken: dict[int, str]
    store: Store
    split: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.split = np.full(len(self.facts), "", "U5")

    def forget(self, indices: set[int]) -> None:
        """Drop what is known of some samples, so that no finding is about them."""
        self.facts[[*indices]] = 0
        self.broken = {index: self.broken[index] for index in self.broken.keys() - indices}

    def tell_broken(self) -> None:
        """Tell the source which samples a training with ``data.on_error=skip`` leaves out. It reads less of each file than a check."""
        if isinstance(self.source, Photographs):
            self.source.broken = {
                index: told for index, told in self.broken.items() if check(self.source, index) not in FINE
            }

    def sound(self) -> np.ndarray:
        """Indices of the samples that have facts."""
        return np.flatnonzero(self.facts["height"])


class Sample(NamedTuple):
    """One of the samples that were scanned, by its index. A file that several sources or sides have is a sample of each."""

    scanned: Scanned
    index: int

    @property
    def path(self) -> str:
        """Its name for a reader: its file."""
        return self.scanned.source.names[self.index]

    @property
    def source(self) -> str:
        return self.scanned.name

    @property
    def split(self) -> str:
        return str(self.scanned.split[self.index])

    @property
    def facts(self) -> np.void:
        """A record of FACTS."""
        return self.scanned.facts[self.index]


class Together:
    """Samples of all sources in one sequence: of each source the sound ones, or those whose indices `chosen` gives."""

    def __init__(self, scanned: list[Scanned], chosen: Callable[[Scanned], np.ndarray] = Scanned.sound):
        self.scanned = [(one, indices) for one in scanned if len(indices := chosen(one))]
        self.ends = np.cumsum([len(indices) for _, indices in self.scanned], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, place: int) -> Sample:
        number = int(np.searchsorted(self.ends, place, "right"))
        one, indices = self.scanned[number]
        return Sample(one, int(indices[place - self.ends[number]]))

    def values(self, of: Callable[[Scanned], np.ndarray]) -> np.ndarray:
        """What a function has for all samples of a source, of these."""
        return np.concatenate([of(one)[indices] for one, indices in self.scanned])


def scan(sources: dict[str, list[object]], folder: Path) -> list[Scanned]:
    """Measure all samples of all sources that the folder's store does not have yet.

    Sound samples are noted as checked, with their perceptual hashes, so that a training need not open their files for these.

    Args:
        sources: by name those of its sides.

    Raises:
        ValueError: the folder can't be written to, or is full.
    """
    store = Store(folder / f"check_v{VERSION}", FACTS, possible)

    def known() -> list[Scanned]:
        return [_known(name, source, store) for name, some in sources.items() for source in some]

    scanned = known()
    if any(len(_unknown(one)) for one in scanned):
        with store.table.alone():
            scanned = known()  # another process may have measured some meanwhile
            _measure_all(scanned, folder)
    return scanned


def _known(name: str, source: object, store: Store) -> Scanned:
    if not isinstance(source, Photographs):
        return Scanned(name, source, np.zeros(len(source), FACTS), {}, store)
    absent = {index: missing(source, index) for index in np.flatnonzero(source.keys == 0).tolist()}
    facts = store.find(source.keys)
    known = facts["height"] > 0
    source.content[known] = facts["content"][known]
    return Scanned(name, source, facts, absent, store)


def _unknown(one: Scanned) -> np.ndarray:
    """Indices of the samples that are to be measured."""
    return np.setdiff1d(np.flatnonzero(one.facts["height"] == 0), [*one.broken])


def _measure_all(scanned: list[Scanned], folder: Path) -> None:
    noted = Table(folder / CHECKED_NAME, CHECKED), Table(folder / HASHED_NAME, HASHED)
    left = [_unknown(one) for one in scanned]
    with (
        ThreadPoolExecutor(cores(alone=True)) as pool,
        tqdm(total=sum(map(len, left)), desc="check", unit=" photographs", leave=False, disable=None) as bar,
    ):
        for one, indices in zip(scanned, left, strict=True):
            for start in range(0, len(indices), CHUNK):
                chunk = indices[start : start + CHUNK]
                _measure(one, chunk, *noted, pool)
                bar.update(len(chunk))


def _measure(one: Scanned, indices: np.ndarray, checked: Table, looks: Table, pool: ThreadPoolExecutor) -> None:
    results = list(pool.map(lambda index: _tried(one.source, index), indices.tolist()))
    one.broken |= {index: told for index, told in zip(indices.tolist(), results, strict=True) if isinstance(told, str)}
    measured = [result for result in results if isinstance(result, Measured)]
    sound = indices[[isinstance(result, Measured) for result in results]]
    if len(sound):
        records = np.array([result.facts for result in measured], FACTS)
        one.facts[sound] = one.store.add(records, [(result.photo, result.mask) for result in measured])
        if isinstance(one.source, Photographs):
            one.source.content[sound] = records["content"]
            note(checked, one.source, sound, records["flags"] & OTHER_SIZE > 0)
            hashed = np.zeros(len(records), HASHED)
            for name in HASHED.names:
                hashed[name] = records[name]
            alike.note(looks, hashed)


def _tried(source: object, index: int) -> Measured | str:
    try:
        return measure(source, index)
    except ValueError as error:
        return str(error)
