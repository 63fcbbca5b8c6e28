"""Samples that a split leaves out: excluded by a list, duplicates, and files that can't be used. The others keep their sides."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from humanseg.data.listing import HELD, on_disk
from humanseg.data.splits import name_list
from humanseg.data.splits.alike import first_alike, hashes
from humanseg.data.splits.groups import Samples
from humanseg.data.splits.parts import Part, Split


class LeftOut(NamedTuple):
    """A sample that a run does without: its source and split, its file, and ``excluded``, ``duplicate`` or ``broken``."""

    source: str
    split: str
    path: str
    why: str
    told: str = ""


def mark(source: str, path: str) -> str:
    """What stands for a sample in a checkpoint: its source and file, wherever its folder lies."""
    return f"{source}/{path[path.rfind('/') + 1 :]}"


@dataclass
class Leaving:
    """What leaves samples out.

    Args:
        exclude: lists of names, see `name_list`. without_duplicates: the sources of which no photograph trains that looks like
            one which is held back, or like one that trains and comes before it. folder: of the cache; None without one.
        broken: where a run goes on, the marks of the samples that were broken when it began: it does without these,
            also where they are whole again, and keeps those that have broken since. None: without what is broken now.
    """

    exclude: Sequence[str] = ()
    without_duplicates: Sequence[str] = ()
    folder: Path | None = None
    broken: Collection[str] | None = None
    found: list[LeftOut] = field(default_factory=list)

    def __call__(
        self, parts: dict[str, dict[str, Part]], places: dict[str, Sequence[str]]
    ) -> dict[str, dict[str, Part]]:
        """The parts of each source by side, without what is left out, which is noted in `found`.

        Args:
            places: where each source lies: names on the list count from there on.

        Raises:
            ValueError: the list can't be read, or names no sample of these.
        """
        left = {id(part.source): {} for own in parts.values() for part in own.values()}
        for name, own in parts.items():
            for part in own.values():
                left[id(part.source)] |= self._broken(name, part)
        parts = self._without(parts, left, "broken")
        for file in self.exclude:
            parts = self._without(parts, _excluded(file, parts, places), "excluded")
        return self._without(parts, self._duplicates(parts), "duplicate") if self.without_duplicates else parts

    def _broken(self, source: str, part: Part) -> dict[int, str]:
        """The reasons of broken samples by their index."""
        now = getattr(part.source, "broken", {})
        if self.broken is None:
            return now
        if not (began := set(self.broken)):
            return {}
        gone = [index for index in part.indices if mark(source, part.source.names[index]) in began]
        return {index: now.get(index, "could not be used when the run began") for index in gone}

    def _without(self, parts: dict, left: dict[int, dict[int, str]], why: str) -> dict:
        """The parts without the samples of each source, by its id, that have a reason."""
        kept: dict[str, dict[str, Part]] = {}
        for name, own in parts.items():
            kept[name] = {}
            for side, part in own.items():
                gone = left.get(id(part.source), {})
                out = np.isin(part.indices, [*gone])
                self.found += [
                    LeftOut(name, side, part.name_of(place), why, gone[part.indices[place]])
                    for place in np.flatnonzero(out).tolist()
                    if why != "duplicate" or side == "train"
                ]
                kept[name][side] = part.only(~out) if out.any() and (why != "duplicate" or side == "train") else part
        return kept

    def _duplicates(self, parts: dict) -> dict[int, dict[int, str]]:
        """Training samples that look like one that is held back, or like one that trains and comes before."""
        chosen = [
            (name, side, own[side])
            for side in (*HELD, "train")  # those that are held back keep a photograph that training has too
            for name, own in parts.items()
            if side in own and own[side].content is not None and not (side in HELD and own[side] is own.get("train"))
        ]
        if not chosen:
            return {}
        every = [part for *_, part in chosen]
        looks = np.concatenate([hashes(part.source, np.asarray(part.indices), self.folder) for part in every])
        first = first_alike(looks, np.concatenate([part.content for part in every]))
        split, found, start = Split(every), {}, 0
        for name, side, part in chosen:
            own = first[start : start + len(part)]
            if side == "train" and name in self.without_duplicates:
                told = {
                    part.indices[place]: f"looks like {split.name(own[place])}" for place in np.flatnonzero(own >= 0)
                }
                found.setdefault(id(part.source), {}).update(told)
            start += len(part)
        return found


def _excluded(
    file: str, parts: dict[str, dict[str, Part]], places: dict[str, Sequence[str]]
) -> dict[int, dict[int, str]]:
    """The samples of each source, by its id, that a list names."""
    if not on_disk(file).is_file():
        raise ValueError(f"data.exclude={file}: there is no such file: give a list of samples, a name a line")
    every = {
        id(part.source): Samples(part.source, places[name]) for name, own in parts.items() for part in own.values()
    }
    named = {
        one: name_list.find(
            "data.exclude", file, samples, [other for key, other in every.items() if key != one], some=True
        )
        for one, samples in every.items()
    }
    return {one: dict.fromkeys(indices.tolist(), f"data.exclude={file}") for one, indices in named.items()}


def summarised(left_out: Sequence[LeftOut]) -> dict[str, int | str]:
    """How many samples are left out for each reason, and a ``mark`` that is equal where runs excluded and skipped the same.

    Duplicates are left out of training alone, so they are no part of it.
    """
    names = sorted({one.path[one.path.rfind("/") + 1 :] for one in left_out if one.why != "duplicate"})
    mark = hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:16]
    return {**Counter(one.why for one in left_out), "mark": mark}
