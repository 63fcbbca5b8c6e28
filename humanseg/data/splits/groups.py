"""Which samples of a source stay together: frames of one film, photographs of one person, copies of a photograph."""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np

from humanseg.data.listing import in_one_form
from humanseg.processes.signals import limited

log = logging.getLogger(__name__)

EXAMPLE = r"data.group_by='(.*)_\d+'"
PATIENCE = 60  # seconds: an expression as (a+)+$ would take years on some names
NONE = 0  # the mark of a sample without a group


@dataclass(frozen=True)
class Samples:
    """What is known of a source's samples beside their pixels, reckoned when it is asked for.

    Args:
        source: its `content` has a number for each sample, which copies share, and its `groups` a value, which samples of a
            group share, where it has them.
        roots: folders, or files in such folders, in which the samples lie: a name counts from there on.
        seed: of the marks. duplicates: ``ignore``: copies need not stay together. group_by: as for `labels`.
    """

    source: object
    roots: Sequence[str] = ()
    seed: int = 0
    duplicates: str = "together"
    group_by: str | None = None

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def names(self) -> list[str]:
        """The samples' paths below the roots."""
        return names_below(self.source.names, self.roots)

    @cached_property
    def groups(self) -> np.ndarray | None:
        """The mark of each sample's group; None where there are no groups."""
        if self.group_by is None and getattr(self.source, "groups", None) is None:
            return None
        return marks(labels(self.source, self.names, self.group_by), self.seed)

    @cached_property
    def units(self) -> np.ndarray | None:
        """A number for each sample, by which those stay together that belong together; None where each is alone."""
        content = getattr(self.source, "content", None)
        if content is not None and (self.duplicates == "ignore" or not len(copies := _repeated(content))):
            content = None
        if content is not None:
            first, second = (self.source.names[index] for index in copies[:2])
            log.info("split      %d photographs are there more than once, as %s and %s: equal ones stay on one side",
                     len(copies), first, second)  # fmt: skip
        if self.groups is None:
            return content
        every, unit = np.unique(self.groups, return_inverse=True)
        alone = np.flatnonzero(self.groups == NONE)
        unit[alone] = len(unit) + np.arange(len(alone))
        log.info("split      %d samples belong to groups (%d of them): each group stays on one side",
                 len(unit) - len(alone), np.count_nonzero(every != NONE))  # fmt: skip
        return unit if content is None else _linked(unit, content)

    @cached_property
    def places(self) -> np.ndarray:
        """A place in [0, 1) for each sample, which follows from its name, or from its group's where it has one.

        Of samples that stay together the largest place counts: a copy that comes later can make a photograph train, but
        takes none out of the training samples.
        """
        own = marks(self.names, self.seed)
        if self.groups is not None:
            own = np.where(self.groups == NONE, own, self.groups)
        if self.units is not None:
            _, unit = np.unique(self.units, return_inverse=True)
            largest = np.zeros(len(own), np.uint64)
            np.maximum.at(largest, unit, own)
            own = largest[unit]
        return (own >> np.uint64(11)) / 2.0**53


def names_below(names: Iterable[str], roots: Sequence[str]) -> list[str]:
    """Paths as they are below one of the roots, accents in one form. Others stay whole."""
    folders = [os.path.dirname(root) if os.path.isfile(root) else root for root in roots]
    forms = {in_one_form(form) for root in folders for form in (root, os.path.normpath(root), os.path.abspath(root))}
    longest_first = sorted((re.escape(form.rstrip("/")) for form in forms if form), key=len, reverse=True)
    start = re.compile(rf"(?:{'|'.join(longest_first)})/+") if longest_first else re.compile(r"(?!)")
    whole = (in_one_form(name) for name in names)
    return [name[found.end() :] if (found := start.match(name)) else name for name in whole]


def labels(source: object, names: list[str], group_by: str | None) -> list[str]:
    """The name of each sample's group; empty for none.

    Args:
        names: of the samples, below the roots.
        group_by: ``folder``, or a regular expression whose group is sought in the name; None: the source's own `groups`.

    Raises:
        ValueError: the expression is none, has not one group, fits no name, or takes too long.
    """
    if group_by is None:
        return ["" if one is None else str(one) for one in source.groups]
    if group_by == "folder":
        return [os.path.dirname(name) or "." for name in names]
    try:
        pattern = re.compile(group_by)
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"data.group_by={group_by}: give folder, or a regular expression ({error})") from error
    if pattern.groups != 1:
        raise ValueError(
            f"data.group_by={group_by}: give folder, or a regular expression with one group in parentheses, as {EXAMPLE}"
        )
    try:
        with limited(PATIENCE):
            found = [(match[1] or "") if (match := pattern.search(name)) else "" for name in names]
    except TimeoutError as error:
        raise ValueError(
            f"data.group_by={group_by} takes more than {PATIENCE} s to look at {len(names)} names: give a simpler expression"
        ) from error
    if names and not any(found):
        raise ValueError(f"data.group_by={group_by} fits none of the names, as {names[0]}")
    return found


def marks(texts: Iterable[str], seed: int) -> np.ndarray:
    """64 bits that stand for a text, spread evenly and otherwise for each seed; `NONE` for an empty one."""
    salt = seed.to_bytes(16)
    digests = [
        blake2b(text.encode(errors="surrogateescape"), digest_size=8, salt=salt).digest() if text else bytes(8)
        for text in texts
    ]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def _repeated(content: np.ndarray) -> np.ndarray:
    """Indices of the samples whose content is there more than once, equal ones side by side."""
    order = np.argsort(content, kind="stable")
    same = content[order][1:] == content[order][:-1]
    return order[np.concatenate([same, [False]]) | np.concatenate([[False], same])]


def _linked(unit: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Units, of which those that hold copies of one photograph are one."""
    copies = _repeated(content)
    own, equal = unit[copies].tolist(), (content[copies[:-1]] == content[copies[1:]]).tolist()
    parent = {one: one for one in own}

    def head(one: int) -> int:
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    for first, second, same in zip(own, own[1:], equal, strict=False):
        if same:
            parent[head(second)] = head(first)
    heads = np.arange(unit.max() + 1)
    for one in parent:
        heads[one] = head(one)
    return heads[unit]
