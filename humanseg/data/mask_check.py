"""Whether the rule for masks fits the masks that are there, and which samples an earlier version read otherwise."""

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from humanseg.data.masks import ACCEPTED, Rule, classes_of, read_mask, threshold, to_classes
from humanseg.data.pictures import reads_otherwise
from humanseg.data.transforms import IGNORE

SAMPLED = 32  # masks on which a rule is tried before training
WHOLE, NEARLY_ALL = 0.995, 0.95  # a mask is whole from this share of person on; nearly all of the masks are
FEW = 16  # fewer masks may all be whole, unless they have several values
ADVISED = ("nonzero", "half", "alpha")
HARMLESS = {"half": {0, 255}, "alpha": {0, 255}, "inverted": {255}}  # values of masks without people; else 0
MUCH = 0.1  # share of 255, which an id ignores, that looks like a person
PERSON = 15  # of Pascal VOC
LITTLE = 0.02  # share of person that one shade of a matte's edge has at most
COMPARED = 1000  # samples at most that a run of an earlier version is told of


class _Tried(NamedTuple):
    """The share of person that the typed rule and those that apply of ADVISED find in a mask; its values; the share of 255.

    `flat` and `soft` are the mask's own, see `Mask`.
    """

    shares: dict[str, float]
    values: set[int]
    ignored: float
    flat: bool
    soft: bool


def refuse_unfit_rule(paths: Sequence[str], rule: Rule, key: str) -> None:
    """Refuse a rule under which none of some masks shows a person, or nearly all are nothing else.

    A mask that shows nobody is fine where the rule names its values, as 0 and 255.

    Args:
        key: what the masks are, for the sentence.

    Raises:
        ValueError: the rule does not fit; the sentence has the values that are there and the rule that fits.
    """
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, min(len(paths), SAMPLED)).astype(int)]
    with ThreadPoolExecutor() as pool:
        tried = list(pool.map(lambda path: _try(path, rule), chosen))
    values = sorted(set().union(*(one.values for one in tried)))
    shares = [one.shares["typed"] for one in tried]
    nobody, whole = not any(shares), _all_whole(shares)
    if isinstance(rule, str):
        harmless = HARMLESS.get(rule, {0})
    else:
        harmless = {0, rule} if isinstance(rule, int) else {*rule}
        harmless |= {IGNORE} if np.mean([one.ignored for one in tried]) < MUCH else set()
    ids = _below_what_is_ignored(tried, values, rule)
    # a person is drawn in the alpha, or in colours, where the rule doesn't look
    elsewhere = any(one.flat or 0 < one.shares.get("alpha", 0) < WHOLE for one in tried)
    if nobody and (elsewhere or not {*values} <= harmless):
        found = f"none of {len(tried)} masks that were looked at shows a person"
    elif whole and (elsewhere or (len(values) > 1 and not {*values} <= {0, 255}) or len(tried) >= FEW):
        found = f"nearly all of {len(tried)} masks that were looked at show a person everywhere"
    elif ids:
        found = f"it takes 255 for a person, which marks what is ignored in {len(tried)} masks that were looked at"
    elif isinstance(rule, int) and all(one.soft for one in tried) and np.mean(shares) < LITTLE:
        found = f"the values of {len(tried)} masks that were looked at are shades, and no ids"
    else:
        return
    shown = ", ".join(map(str, values[:20])) + ", ..." * (len(values) > 20)
    raise ValueError(f"data.mask={rule}: {found} ({key}); their values are {shown}: {_advice(tried, values, ids)}")


def _try(path: str, rule: Rule) -> _Tried:
    mask = read_mask(path)

    def share(other: Rule) -> float:
        classes = classes_of(mask, other, path)
        valid = classes != IGNORE
        return float((classes[valid] > 0).mean()) if valid.any() else 0.0

    shares = {"typed": share(rule)}
    for other in ADVISED:
        with contextlib.suppress(ValueError):  # the rule does not apply
            shares[other] = share(other)
    values = mask.alpha if mask.read_by_alpha(rule) else mask.values
    found = {*np.unique(values * 1).tolist()}  # of one bit 0 and 1
    return _Tried(shares, found, float((mask.values == IGNORE).mean()), mask.flat, mask.soft())


def _all_whole(shares: list[float]) -> bool:
    return np.mean([share > WHOLE for share in shares]) >= NEARLY_ALL


def _below_what_is_ignored(tried: list[_Tried], values: list[int], rule: Rule) -> list[int]:
    """The ids of persons that a threshold overlooks: above it there is 255 alone, on fewer pixels than they have."""
    least = 128 if rule == "half" else threshold(rule) if isinstance(rule, str) else None
    if least is None or {value for value in values if value >= least} != {IGNORE}:
        return []
    ignored = np.mean([one.ignored for one in tried])
    marked = np.mean([one.shares.get("nonzero", 0) for one in tried])
    return [value for value in values if 0 < value < least] if marked > 2 * ignored else []


def _advice(tried: list[_Tried], values: list[int], ids: list[int]) -> str:
    if ids:
        person = PERSON if PERSON in ids else ids[0]
        return f"data.mask={person} where {person} is a person"
    for rule in ADVISED:
        shares = [one.shares.get(rule, 0.0) for one in tried]
        if any(shares) and not _all_whole(shares):
            return f"data.mask={rule} fits"
    if any(one.flat for one in tried):
        return "their colours are equally bright, so no rule tells them apart: save them grey or with a palette"
    if len(values) == 2:
        low, high = values
        return f"data.mask=[{low},{high}] where {high} is a person, data.mask=[{high},{low}] where {low} is"
    return f"give {ACCEPTED}"


def read_otherwise(pairs: Sequence[tuple[str, str]], rule: Rule) -> str:
    """A part of a sentence about the photographs and masks that version 1 of reading read otherwise; empty without any."""
    chosen = [pairs[at] for at in range(0, len(pairs), -(-len(pairs) // COMPARED) or 1)]
    with ThreadPoolExecutor() as pool:
        found = [
            pair
            for pair, other in zip(chosen, pool.map(lambda pair: _differs(*pair, rule), chosen), strict=True)
            if other
        ]
    if not found:
        return ""
    return (
        f"{len(found)} of {len(chosen)} samples that were looked at are read otherwise by now "
        f"(profiles, transparency, few bits, mattes), such as {found[0][0]}"
    )


def _differs(image_path: Path | str, mask_path: Path | str, rule: Rule) -> bool:
    """Whether version 1 of reading gave other pixels for a photograph, or other classes for its mask."""
    mask = read_mask(mask_path)
    before = to_classes(mask.values, rule, mask_path)
    return reads_otherwise(image_path) or not np.array_equal(before, classes_of(mask, rule, mask_path))
