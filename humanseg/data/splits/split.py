"""Which samples train, validate and test. The same seed gives the same samples, and what belongs together shares a side."""

import logging
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from humanseg.data.listing import HELD, SIDES, on_disk
from humanseg.data.splits import drawing, leaks, name_list
from humanseg.data.splits.groups import Samples
from humanseg.data.splits.parts import Part

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitConfig:
    """How samples are divided.

    Args:
        val_split: an int counts samples, a float in [0, 1) is a share, a str is the path of a list of names, see
            `name_list`; ``train`` validates on the training samples.
        test_split: an int, a float or a list as above; held out first.
        limit: None, or a count or a share in (0, 1]: train on a subset. A larger subset contains the smaller ones.
        split_seed: decides which samples are held out, and the subset.
        duplicates: ``together``: photographs of equal content stay on one side. ``ignore``: they fall as they may.
        split_by: None: an order of all samples is drawn. ``name``: a sample's side follows from its name alone, or from its
            group's, so that it keeps it as a data set grows.
        group_by: groups of samples stay on one side. ``folder``, or a regular expression, see `groups.labels`; None: the
            groups that a source brings.
        folds: None, or into how many folds all but the test samples are divided; one of them validates.
        fold: the number of that fold, from 0.
        drop_duplicates: sides of their own may share photographs: `left_out` takes them out of training.

    Raises:
        ValueError: folds and the other rules contradict each other.
    """

    val_split: int | float | str = 0
    test_split: int | float | str = 0
    limit: int | float | None = None
    split_seed: int = 0
    duplicates: str = "together"
    split_by: str | None = None
    group_by: str | None = None
    folds: int | None = None
    fold: int | None = None
    drop_duplicates: bool = False

    def __post_init__(self) -> None:
        folds, fold = self.folds, self.fold
        if folds is None and fold is not None:
            raise ValueError(
                f"data.fold={fold} needs data.folds, the number of folds, as data.folds={max(fold + 1, 5)}"
            )
        if folds is None:
            return
        every = f"-m data.folds={folds} data.fold={','.join(map(str, range(min(folds, 10))))}"
        if fold is None or not 0 <= fold < folds:
            got = "needs data.fold" if fold is None else f"has no data.fold={fold}"
            raise ValueError(f"data.folds={folds} {got}: give a number from 0 to {folds - 1}, or all of them: {every}")
        if isinstance(self.val_split, str):
            raise ValueError(
                f"data.val_split={self.val_split}: with data.folds={folds} the fold validates: give data.folds=null "
                "data.fold=null, or a share as data.val_split"
            )


def split(
    sources: dict, config: SplitConfig, roots: Sequence[str] = (), beside: Sequence[Samples] = ()
) -> dict[str, Part]:
    """Divide sources into ``train``, ``val`` and ``test``.

    Args:
        sources: ``train``, and ``val`` and ``test`` where they have data of their own. A value may be None. What a source may
            have is told in `groups.Samples`.
        roots: folders, or files in such folders, in which the samples lie: a name counts from there on.
        beside: samples of other sources, which the same lists may name.

    Raises:
        ValueError: a rule is not one of these, no sample is left to train on or to hold back, or sides that the user named
            share photographs or groups.
    """
    whole = {
        name: Part(source, array("q", range(len(source)))) for name, source in sources.items() if source is not None
    }
    if "train" not in whole:
        return whole
    _refuse_two_rules(config, whole.keys())
    rules = {side: getattr(config, f"{side}_split") for side in HELD if side not in whole}
    if config.folds or rules.get("val") == "train":
        rules.pop("val", None)
    known = {
        side: Samples(part.source, roots, config.split_seed, config.duplicates, config.group_by)
        for side, part in whole.items()
    }
    shares = _divided(known["train"], config, rules, beside)
    if config.limit is not None:
        kept = max(_count("data.limit", config.limit, len(shares["train"])), 1)
        shares["train"] = shares["train"][:kept]
    splits = {side: Part(sources["train"], array("q", share.tobytes())) for side, share in shares.items()}
    splits |= {side: part for side, part in whole.items() if side != "train"}
    leaks.refuse(splits, known, "dropped" if config.drop_duplicates else config.duplicates)
    return splits | ({"val": splits["train"]} if config.val_split == "train" and "val" not in whole else {})


def _refuse_two_rules(config: SplitConfig, sides: Iterable[str]) -> None:
    """Refuse a rule for a side that has samples of its own. A count or a share, which is there by default, gives way.

    Raises:
        ValueError: there is one.
    """
    if config.folds and "val" in sides:
        raise ValueError(
            f"data.folds={config.folds}: there are validation samples of their own (data.val_root, data.val_pairs and their "
            "like): leave them out, or give data.folds=null data.fold=null"
        )
    for side in HELD:
        rule = getattr(config, f"{side}_split")
        if side in sides and isinstance(rule, str) and rule != "train":
            raise ValueError(
                f"data.{side}_split={rule}: there are {side} samples of their own (data.{side}_root, data.{side}_pairs and "
                f"their like): leave them out, or give data.{side}_split=0"
            )


def _divided(
    samples: Samples, config: SplitConfig, rules: dict[str, int | float | str], beside: Sequence[Samples]
) -> dict[str, np.ndarray]:
    """The indices of the samples of each side, in the order in which they were drawn.

    Args:
        rules: of the sides that take samples from training. beside: as for `split`.
    """
    lists = {side: rule for side, rule in rules.items() if isinstance(rule, str) and on_disk(rule).exists()}
    named = {side: name_list.find(f"data.{side}_split", rule, samples, beside) for side, rule in lists.items()}
    leaks.refuse_parted(named, samples)
    by_name = config.split_by == "name"
    amounts = [0 if side in named else _amount(side, rules.get(side, 0), len(samples), by_name) for side in HELD]
    if by_name:
        order = np.argsort(samples.places, kind="stable")
    else:
        order = np.random.default_rng([config.split_seed, 0x5917]).permutation(len(samples))
    for indices in named.values():
        order = order[~np.isin(order, indices)]
    if by_name:
        parts = drawing.at_thresholds(order, samples.places, amounts)
    else:
        parts = drawing.hold_back(order, samples.units if any(amounts) else None, amounts)
    sides = dict(zip(("test", "val", "train"), parts, strict=True)) | named
    if config.folds:
        sides |= _fold(sides["train"], samples, config, amounts[0])
    expected = [round(amount * len(samples)) if by_name else amount for amount in amounts]
    asked = [side for side, count in zip(HELD, expected, strict=True) if count] + ["val"] * bool(config.folds)
    _refuse_empty(sides, asked, samples, config)
    for side, count in zip(HELD, expected, strict=True):
        if not by_name and samples.groups is not None and len(sides[side]) < count / 2:
            log.warning("split      data.%s_split=%s takes %d of %d samples: groups stay whole, and most are larger",
                        side, rules[side], len(sides[side]), count)  # fmt: skip
    return {side: sides[side] for side in SIDES}


def _fold(left: np.ndarray, samples: Samples, config: SplitConfig, tested: float) -> dict[str, np.ndarray]:
    """The validation samples of one fold, and the rest.

    Args:
        left: all but the test samples. tested: their share, where names decide.
    """
    if config.split_by == "name":
        shares = [1 / config.folds] * (config.folds - 1)
        folds = drawing.at_thresholds(left, (samples.places - tested) / (1 - tested), shares)
    else:
        folds = drawing.in_folds(left, samples.units, config.folds)
    held = folds[config.fold]
    return {"val": held, "train": left[~np.isin(left, held)]}


def _refuse_empty(sides: dict[str, np.ndarray], asked: list[str], samples: Samples, config: SplitConfig) -> None:
    """Refuse a split without training samples, or with nothing for a side that was asked for.

    Raises:
        ValueError: there is such a side.
    """
    told = {"test": f"data.test_split={config.test_split}", "val": f"data.val_split={config.val_split}"}
    if config.folds:
        told["val"] = f"data.folds={config.folds} data.fold={config.fold}"
    if not len(sides["train"]):
        taken = " and ".join(f"{told[side]} takes {len(sides[side])}" for side in HELD)
        raise ValueError(f"nothing is left to train on: {len(samples)} samples, of which {taken}")
    if empty := [told[side] for side in asked if not len(sides[side])]:
        why = f"there are too few samples ({len(samples)}): give another number"
        if config.split_by == "name":
            why = (
                f"by their names none of the {len(samples)} samples falls there: give another number or data.split_seed"
            )
        elif samples.units is not None:
            sizes = np.unique(samples.units, return_counts=True)[1]
            why = "copies of a photograph and samples of a group stay on one side, and "
            if len(sizes) == 1:
                why += f"all {len(samples)} are together: group them by something else"
            else:
                why += f"the fewest that do are {sizes.min()}: give another number, or list each photograph once"
        raise ValueError(f"{', '.join(empty)}: {why}")


def _amount(side: str, rule: int | float, total: int, by_name: bool) -> int | float:
    """How many samples a side draws; where names decide, which share."""
    key = f"data.{side}_split"
    count = _count(key, rule, total)
    if by_name and rule and isinstance(rule, int):
        raise ValueError(f"{key}={rule}: data.split_by=name takes a share, as {key}=0.1")
    return float(rule) if by_name else count


def _count(key: str, rule: int | float | str | None, total: int) -> int:
    if isinstance(rule, int) and not isinstance(rule, bool) and rule >= 0:
        return min(rule, total)
    if isinstance(rule, float) and (0 <= rule < 1 or (key == "data.limit" and rule == 1)):
        return round(rule * total)
    more = ", or the path of a list of names" * (key != "data.limit") + ", or `train`" * (key == "data.val_split")
    missing = "there is no such file: " * isinstance(rule, str)
    raise ValueError(f"{key}={rule}: {missing}give a count (100), or a share of the samples in [0, 1) (0.1){more}")
