"""What a run is given, in words: samples by source and split, and how much of their area is people."""

import numpy as np

from humanseg.data.loading import Data
from humanseg.data.splits.parts import Part, Split

CACHED = ("train", "val")  # the splits whose masks the prepared cache has counted


def samples(splits: dict[str, Split]) -> str:
    """How many samples each split has."""
    return ", ".join(_counted(name, len(split), split.per_pass) for name, split in splits.items() if len(split))


def sources(splits: dict[str, Split]) -> dict[str, str]:
    """How many samples of each split each source has, and its weight."""
    told: dict[str, list[str]] = {}
    for name, split in splits.items():
        for part in split.parts:
            told.setdefault(part.name, []).append(_of_part(name, part))
    return {name: ", ".join(counts) for name, counts in told.items()}


def scored(name: str, split: Split) -> str:
    """How many samples a split has, and how many each of several sources has of them."""
    own = ", ".join(f"{len(part)} {part.name}" for part in split.parts)
    return f"{len(split)} {name}" + (f" ({own})" if split.sources else "")


def _of_part(split: str, part: Part) -> str:
    weight = f"weight {part.weight:g}: " if part.weight != 1 else ""
    return _counted(split, len(part), round(part.weights.sum()), weight)


def _counted(split: str, count: int, a_pass: int, weight: str = "") -> str:
    repeated = f" ({weight}{a_pass} a pass)" if split == "train" and a_pass != count else ""
    return f"{count} {split}{repeated}"


def areas(data: Data) -> dict[str, str]:
    """How much of each source's photographs is people, and how much is ignored, as the prepared cache has it.

    They are those that train or validate. The first call fills the cache. A source that is not cached is left out.
    """
    chosen, known = {}, {}
    for name in (name for name in CACHED if data.splits.get(name)):
        split = data.splits[name]
        for part, prepared in zip(split.parts, data.samples(name).prepared.parts, strict=True):
            key = part.name, id(part.source)  # validation may have a source of its own
            known.setdefault(key, prepared.source.shares())
            chosen.setdefault(key, np.zeros(len(known[key].person), bool))[part.indices] = True
    found: dict[str, list[np.ndarray]] = {}
    for key, shares in known.items():
        found.setdefault(key[0], []).append(np.stack(shares)[:, chosen[key]])
    told = {name: _told(*np.concatenate(some, axis=1)) for name, some in found.items()}
    return {name: text for name, text in told.items() if text}


def _told(person: np.ndarray, ignored: np.ndarray) -> str:
    """Quartiles of the people's share where there are some; empty where nothing is known."""
    known = ~np.isnan(person)
    if not known.any():
        return ""
    there = person[person > 0]
    quartiles = np.quantile(there, (0.25, 0.5, 0.75)) if len(there) else (0, 0, 0)
    shown = ", ".join(map(_percent, quartiles))
    empty, ignored = known.sum() - len(there), _percent(ignored[known].mean())
    return f"{shown} % of the area (quartiles), {empty} of {known.sum()} empty, {ignored} % ignored"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.0995 or share == 0 else f"{100 * share:.2g}"
