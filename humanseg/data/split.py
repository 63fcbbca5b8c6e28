"""Which samples train, validate and test. The same seed gives the same samples, and equal photographs share a side."""

import logging
from array import array
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from humanseg.data.duplicates import hold_back, repeated
from humanseg.data.parts import Part

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitConfig:
    """How samples are divided.

    Args:
        val_split: an int counts samples, a float in [0, 1) is a share, ``train`` validates on the training samples.
        test_split: an int or a float as above; held out first.
        limit: None, or a count or a share in (0, 1]: train on a subset. A larger subset contains the smaller ones.
        split_seed: decides which samples are held out, and the subset.
        duplicates: ``together``: photographs of equal content stay on one side. ``ignore``: they fall as they may.
    """

    val_split: int | float | str = 0
    test_split: int | float = 0
    limit: int | float | None = None
    split_seed: int = 0
    duplicates: str = "together"


def split(sources: dict, config: SplitConfig) -> dict[str, Part]:
    """Divide sources into ``train``, ``val`` and ``test``.

    Args:
        sources: ``train``, and ``val`` and ``test`` where they have data of their own. A value may be None.

    Raises:
        ValueError: a rule is not one of these, no sample is left to train on or to hold back, or sources of their own share
            photographs.
    """
    whole = {
        name: Part(source, array("q", range(len(source)))) for name, source in sources.items() if source is not None
    }
    if "train" not in whole:
        return whole
    val_split, test_split, limit = config.val_split, config.test_split, config.limit
    source, count = sources["train"], len(sources["train"])
    order = np.random.default_rng([config.split_seed, 0x5917]).permutation(count)
    tested = 0 if "test" in whole else _count("data.test_split", test_split, count)
    validated = 0 if "val" in whole or val_split == "train" else _count("data.val_split", val_split, count)
    test, val, rest = hold_back(order, _content(source, config, tested + validated), (tested, validated))
    if not len(rest):
        raise ValueError(
            f"nothing is left to train on: {count} samples, of which data.test_split={test_split} takes {tested} "
            f"and data.val_split={val_split} takes {validated}"
        )
    if (validated and not len(val)) or (tested and not len(test)):
        raise ValueError(
            f"data.val_split={val_split}, data.test_split={test_split}: copies of a photograph stay on one side, and there "
            f"are more of each of the {count}: give a larger number, or list each photograph once"
        )
    kept = len(rest) if limit is None else min(max(_count("data.limit", limit, len(rest)), 1), len(rest))
    trained = rest[:kept]
    shares = {"train": trained, "val": trained if val_split == "train" else val, "test": test}
    splits = {name: Part(source, array("q", share.tobytes())) for name, share in shares.items()}
    splits |= {name: own for name, own in whole.items() if name != "train"}
    on_train = val_split == "train" and "val" not in whole
    _refuse_leaks({name: part for name, part in splits.items() if name != "val" or not on_train}, config)
    return splits


def _content(source: object, config: SplitConfig, held: int) -> np.ndarray | None:
    """A number for each sample, by which equal ones stay together, and a line that says so; None where all differ."""
    content = getattr(source, "content", None)
    if content is None or config.duplicates == "ignore" or not held or not len(copies := repeated(content)):
        return None
    first, second = (source.names[index] for index in copies[:2])
    log.info("split      %d photographs are there more than once, as %s and %s: equal ones stay on one side",
             len(copies), first, second)  # fmt: skip
    return content


def _refuse_leaks(splits: dict[str, Part], config: SplitConfig) -> None:
    """Hold sides against each other.

    Raises:
        ValueError: photographs of equal content stand on two sides, and `config` does not let them.
    """
    told = []
    for (name, part), (later, other) in combinations(splits.items(), 2):
        if part.source is other.source and config.duplicates == "together":
            continue  # they were drawn so
        here, there = part.content, other.content
        if here is None or there is None:
            continue
        again = np.flatnonzero(np.isin(there, here))
        if len(again):
            first = int(np.flatnonzero(here == there[again[0]])[0])
            pair = " and ".join(dict.fromkeys((part.name_of(first), other.name_of(int(again[0])))))
            told.append(f"{len(again)} of the {len(there)} {later} photographs are {name} photographs too, as {pair}")
    if not told:
        return
    if config.duplicates == "ignore":
        log.warning("split      %s (data.duplicates=ignore)", "; ".join(told))
        return
    raise ValueError(
        f"{'; '.join(told)}: take them out of one side (data.val_root, data.val_pairs and their like), or let them count "
        "by data.duplicates=ignore"
    )


def _count(key: str, rule: int | float | str, total: int) -> int:
    if isinstance(rule, int) and not isinstance(rule, bool) and rule >= 0:
        return min(rule, total)
    if isinstance(rule, float) and (0 <= rule < 1 or (key == "data.limit" and rule == 1)):
        return round(rule * total)
    also = ", or `train`" if key == "data.val_split" else ""
    raise ValueError(f"{key}={rule}: give a count (100), or a share of the samples in [0, 1) (0.1){also}")
