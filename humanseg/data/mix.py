"""``data=mix``: several sources by name. They train together, and each is validated for itself."""

import logging
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from humanseg.data.parts import Part, Split
from humanseg.data.split import SplitConfig

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)  # of a source: it stands in names of metrics and files
SIDES = ("train", "val", "test")
OWN = ("weight", "only")  # what a source of a mix may have beside the keys of its format and of its split


def nodes(config: dict) -> dict[str, dict]:
    """The `data` config of each source by its name; of one source alone under an empty name.

    A source of a mix has the mix' own keys of the split, unless it has others. A list of roots is a mix of folders, which
    are called as they are.

    Raises:
        ValueError: there is no source, or one without a name or `_target_`, or weights that don't fit.
    """
    if "sources" in config:
        given = config["sources"]
        common = {field.name: config[field.name] for field in fields(SplitConfig) if field.name in config}
        found = {name: common | node for name, node in given.items() if isinstance(node, dict)}
    elif isinstance(config.get("root"), list):
        roots, weights = config["root"], config.get("weights") or [1] * len(config["root"])
        given = dict(zip(_names(roots), weights, strict=False)) if isinstance(weights, list) else {}
        if len(given) != len(weights) or len(roots) != len(weights):
            raise ValueError(f"data.weights={weights}: give a number for each of the {len(roots)} folders of data.root")
        found = {
            name: config | {"root": root, "weight": weight}
            for root, (name, weight) in zip(roots, given.items(), strict=True)
        }
    else:
        return {"": config}
    wrong = [name for name in given if not NAME.fullmatch(str(name))]
    bare = [name for name in given if "_target_" not in found.get(name, ()) or "sources" in found[name]]
    if wrong or bare or not found:
        raise ValueError(_unfit(wrong, bare))
    if not any(node.get("weight", 1) for node in found.values()):
        raise ValueError(
            "all weights of the sources (data.sources.NAME.weight, data.weights) are 0: nothing would train"
        )
    return found


def _unfit(wrong: list, bare: list) -> str:
    if wrong:
        return f"data.sources: {wrong[0]!r} is no name of a source: give letters, digits, _ and -, a letter first"
    if bare:
        return f"data.sources.{bare[0]} is no source: choose one by +data@data.sources.{bare[0]}=folder"
    return "data=mix has no source: name some, as +data@data.sources.coco=coco data.sources.coco.root=DIR"


def _names(roots: Sequence) -> list[str]:
    """A name for each folder: its own, numbered where several have the same one."""
    stems = [re.sub(r"[^\w-]", "_", Path(str(root)).name, flags=re.ASCII) or "root" for root in roots]
    stems = [stem if NAME.fullmatch(stem) else f"_{stem}" for stem in stems]
    return [stem if stems.count(stem) == 1 else f"{stem}_{number}" for number, stem in enumerate(stems)]


def restricted(sources: dict, only: str | None) -> dict:
    """The sources of a source that is for one side only: all its samples, unless it has some of its own for that side."""
    return {only: sources.get(only) or sources.get("train")} if only else sources


def together(parts: dict[str, dict[str, Part]]) -> dict[str, Split]:
    """The splits of sources that were divided each for itself.

    A training photograph that another source holds back is left out.

    Args:
        parts: by the source's name the part of each side that it has samples for.
    """
    sides = dict.fromkeys([*SIDES, *(side for own in parts.values() for side in own)])
    found = {side: [own[side] for own in parts.values() if side in own] for side in sides}
    if len(parts) > 1:
        found = {side: [part for part in some if len(part)] for side, some in found.items()}
        found["train"] = _without_held_back(found)
    needed = ("train", "val", "test") if found["train"] else ()
    return {side: Split(some) for side, some in found.items() if some or side in needed}


def _without_held_back(found: dict[str, list[Part]]) -> list[Part]:
    """The training parts without photographs of which another source holds an equal one back."""
    kept = []
    for part in found["train"]:
        others = [one for side in ("val", "test") for one in found[side] if one.name != part.name]
        held = [one.content for one in others if one.content is not None]
        if part.content is not None and held:
            again = np.isin(part.content, np.concatenate(held)) & (part.content != 0)
            if again.any():
                first = part.name_of(int(np.flatnonzero(again)[0]))
                log.info("split      %d photographs of %s are held back by another source, as %s: they don't train",
                         again.sum(), part.name, first)  # fmt: skip
                part = part.only(~again)
        kept.append(part)
    return kept
