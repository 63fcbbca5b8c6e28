"""The photographs in a folder of a data set, and the masks that belong to them by their names."""

import logging
import os

from humanseg.data.listing import Found, below, in_one_form, spelled, typed_folder
from humanseg.data.opening import SUFFIXES, is_photograph, passed_over

log = logging.getLogger(__name__)


def matched(key: str, root: str, mask_suffix: str, parts: tuple[str, str] = ("images", "masks")) -> Found:
    """The photographs of ``images/`` and the masks of ``masks/`` that have the same path without its suffix.

    Args:
        parts: other names of the two folders.
    """
    root = spelled(root) or root
    folders = [f"{root}/{part}" for part in parts]
    if missing := [f"{key}: {folder} does not exist" for folder in folders if not os.path.isdir(folder)]:
        return Found([], [], missing)
    images, problems = by_stem(folders[0])
    masks, unnamed = by_stem(folders[1], mask_suffix)
    if not images:
        return Found([], [], [_no_photograph(key, folders[0])])
    pairs = {stem: stem for stem in images.keys() & masks.keys()}
    left = {in_one_form(stem): stem for stem in masks.keys() - pairs.keys()}
    others = {stem: left[in_one_form(stem)] for stem in images.keys() - pairs.keys() if in_one_form(stem) in left}
    pairs |= others
    if not pairs and not mask_suffix and (suffix := _common_suffix(images.keys(), masks.keys())):
        return Found(
            [], [], [f"{key}: the masks in {folders[1]} are called NAME{suffix}: type data.mask_suffix={suffix}"]
        )
    problems += unnamed
    problems += [f"{images[stem]} has no mask" for stem in sorted(images.keys() - pairs.keys())]
    problems += [f"{masks[stem]} has no image" for stem in sorted(masks.keys() - {*pairs.values()})]
    stems = sorted(pairs)
    return Found([images[stem] for stem in stems], [masks[pairs[stem]] for stem in stems], problems)


def photographs(key: str, root: str) -> Found:
    """All photographs below a folder, or below its ``images/`` where it has one.

    Raises:
        ValueError: there is no such folder.
    """
    root = typed_folder(key, root)
    folder = f"{root}/images" if os.path.isdir(f"{root}/images") else root
    names = list(below(folder))
    if others := [name for name in names if not is_photograph(name)]:
        log.info("data       %s: passed over %s", folder, passed_over(others))
    images = [f"{folder}/{name}" for name in names if is_photograph(name)]
    return Found(images, [], [] if images else [_no_photograph(key, folder)])


def _no_photograph(key: str, folder: str) -> str:
    return f"{key}: {folder} holds no photograph ({', '.join(sorted(SUFFIXES))})"


def by_stem(folder: str, ending: str = "") -> tuple[dict[str, str], list[str]]:
    """The pictures below a folder by their path without suffix and ending, and what is wrong with the names of others."""
    found, problems, others = {}, [], []
    for name in below(folder):
        stem = os.path.splitext(name)[0]
        if not is_photograph(name):
            others.append(name)
        elif not stem.endswith(ending):
            problems.append(f"{folder}/{name} does not end in data.mask_suffix={ending}")
        elif (stem := stem.removesuffix(ending)) in found:
            problems.append(f"{folder}/{name} shares its stem with another file")
        else:
            found[stem] = f"{folder}/{name}"
    if others:
        log.info("data       %s: passed over %s", folder, passed_over(others))
    return found, problems


def _common_suffix(images: set[str], masks: set[str]) -> str | None:
    """What the names of masks have more than those of their photographs, where it is the same for all."""
    first = min(images)
    longer = (mask.removeprefix(first) for mask in masks if mask.startswith(first))
    return next((suffix for suffix in longer if all(f"{image}{suffix}" in masks for image in images)), None)
