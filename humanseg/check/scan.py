"""One pass over all files, on all cores."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from humanseg.check.facts import FACTS, OTHER_SIZE, Measured, measure, possible
from humanseg.check.store import Store
from humanseg.data.cache import Table
from humanseg.data.photographs import CHECKED, CHECKED_NAME, Photographs, missing, note
from humanseg.data.splits import alike
from humanseg.data.splits.alike import HASHED, HASHED_NAME
from humanseg.processes.hardware import cores

VERSION = 1  # of FACTS and of how they are measured; another one begins another file
CHUNK = 128  # photographs that are measured before the results are kept


@dataclass
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

    def path(self, index: int) -> str:
        """The sample's name for a reader: its file."""
        return self.source.names[index]

    def forget(self, indices: set[int]) -> None:
        """Say nothing of some samples."""
        self.facts[[*indices]] = 0
        self.broken = {index: self.broken[index] for index in self.broken.keys() - indices}

    def sound(self) -> np.ndarray:
        """Indices of the samples that have facts."""
        return np.flatnonzero(self.facts["height"])


class Together:
    """The sound samples of all sources, one after the other.

    `owner` is the place of each one's source among `scanned`, `index` its own in that source. `facts` and `split` are theirs.
    """

    def __init__(self, scanned: list[Scanned]):
        sound = [one.sound() for one in scanned]
        self.scanned, self.owner = scanned, np.repeat(np.arange(len(scanned)), [len(indices) for indices in sound])
        self.index = np.concatenate([*sound, np.zeros(0, np.int64)])
        pairs = list(zip(scanned, sound, strict=True))
        self.facts = np.concatenate([*(one.facts[indices] for one, indices in pairs), np.zeros(0, FACTS)])
        self.split = np.concatenate([*(one.split[indices] for one, indices in pairs), np.zeros(0, "U5")])

    def at(self, place: int) -> tuple[Scanned, int]:
        """The source of a sample, and its index there."""
        return self.scanned[self.owner[place]], int(self.index[place])

    def path(self, place: int) -> str:
        one, index = self.at(place)
        return one.path(index)


def scan(sources: dict[str, list[object]], folder: Path) -> list[Scanned]:
    """Measure all samples of all sources that the folder's store does not have yet.

    What is sound is noted as checked, and its look is noted: a training need not open it for these again.

    Args:
        sources: by name those of its sides.

    Raises:
        ValueError: the folder can't be written to, or is full.
    """
    store = Store(folder / f"check_v{VERSION}", FACTS)
    noted = Table(folder / CHECKED_NAME, CHECKED), Table(folder / HASHED_NAME, HASHED)
    scanned = [_known(name, source, store) for name, some in sources.items() for source in some]
    left = [_unknown(one) for one in scanned]
    with (
        store.table.alone(),
        ThreadPoolExecutor(cores(alone=True)) as pool,
        tqdm(total=sum(map(len, left)), desc="check", unit=" photographs", leave=False, disable=None) as bar,
    ):
        for one, indices in zip(scanned, left, strict=True):
            for start in range(0, len(indices), CHUNK):
                chunk = indices[start : start + CHUNK]
                _measure(one, chunk, *noted, pool)
                bar.update(len(chunk))
    return scanned


def _known(name: str, source: object, store: Store) -> Scanned:
    if not isinstance(source, Photographs):
        return Scanned(name, source, np.zeros(len(source), FACTS), {}, store)
    absent = {index: missing(source, index) for index in np.flatnonzero(source.keys == 0).tolist()}
    facts = store.find(source.keys)
    facts[~possible(facts)] = 0
    known = facts["height"] > 0
    source.content[known] = facts["content"][known]
    return Scanned(name, source, facts, absent, store)


def _unknown(one: Scanned) -> np.ndarray:
    """Indices of the samples that are to be measured."""
    return np.setdiff1d(np.flatnonzero(one.facts["height"] == 0), [*one.broken])


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
            hashed["key"], hashed["hash"] = records["key"], records["phash"]
            alike.note(looks, hashed)


def _tried(source: object, index: int) -> Measured | str:
    try:
        return measure(source, index)
    except ValueError as error:
        return str(error)
