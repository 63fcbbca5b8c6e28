"""``data=mix``: several sources by name. They train together, and each is validated for itself."""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from inspect import Parameter
from pathlib import Path
from typing import Any

import numpy as np

from humanseg import config_rules, terminal
from humanseg.data.composing import composed
from humanseg.data.listing import SIDES
from humanseg.data.loading import LoaderConfig
from humanseg.data.splits.groups import Samples
from humanseg.data.splits.left_out import Leaving, LeftOut
from humanseg.data.splits.parts import Part, Split
from humanseg.data.splits.split import SplitConfig, split

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z]\w*(?:-\w+)*", re.ASCII)  # of a source: it stands in names of metrics and files
SPLIT = tuple(field.name for field in fields(SplitConfig))
OWN = ("weight", "only", "band", *SPLIT)  # what a source of a mix may have beside the keys of its format
OF_ALL = ("exclude",)  # what concerns all sources together
# What no function of a source gets; mean and std are the network's.
OURS = ("mean", "std", "weights", *OF_ALL, *(field.name for field in fields(LoaderConfig)))


def nodes(config: dict) -> dict[str, dict]:
    """The `data` config of each source by its name; of one source alone under an empty name.

    A source of a mix has the mix' own keys of the split, unless it has others. A list of roots is a mix of folders, which
    are called as they are.

    Raises:
        ValueError: there is no source, or one without a name or `_target_`, or weights that don't fit.
    """
    weights = config.get("weights")
    if "sources" in config:
        if config.get("_target_") != f"{__name__}.{together.__name__}":
            raise ValueError("data.sources is for several sources together: type data=mix too")
        if "_target_" in config["sources"]:
            raise ValueError("data.sources: a source has a name, as coco in +data@data.sources.coco=coco")
        if weights is not None:
            raise ValueError("data.weights is for a list of data.root: give data.sources.NAME.weight to a source")
        common = {key: config[key] for key in SPLIT if key in config}
        found = {name: common | node if isinstance(node, dict) else {} for name, node in config["sources"].items()}
    elif any(isinstance(config.get(f"{side}root"), list) for side in ("", "val_", "test_")):
        found = _listed(config)
    elif weights is not None:
        raise ValueError(f"data.weights={weights}: give data.root as a list too, a folder for each number")
    elif "_target_" not in config:
        raise ValueError("data has no _target_: choose one of its group's choices, or name its function")
    else:
        return {"": config}
    _refuse_unfit(found)
    return found


def _listed(config: dict) -> dict[str, dict]:
    """The sources of a list of roots. Roots of a side of its own are sources for that side only."""
    roots, val_roots, test_roots = (_as_list(config.get(f"{side}root")) for side in ("", "val_", "test_"))
    weights = [1] * len(roots) if config.get("weights") is None else config["weights"]
    if len(weights) != len(roots):
        raise ValueError(f"data.weights={weights}: give a number for each of the {len(roots)} folders of data.root")
    owned = {"val": val_roots, "test": test_roots}
    common = config | {
        f"{side}_{key}": none for side in owned if owned[side] for key, none in (("root", None), ("split", 0))
    }
    own = [{"root": root, "weight": weight} for root, weight in zip(roots, weights, strict=True)]
    own += [{"root": root, "only": side} for side, some in owned.items() for root in some]
    return {name: common | keys for name, keys in zip(_names([keys["root"] for keys in own]), own, strict=True)}


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [value] if value else []


def _names(roots: Sequence) -> list[str]:
    """A name for each folder: its own, numbered where several have the same one."""
    names = [Path(str(root)).name or "root" for root in roots]
    names = [name if NAME.fullmatch(name) else "root_" + re.sub(r"\W", "_", name, flags=re.ASCII) for name in names]
    while len({*names}) < len(names):  # a folder may be called x_0 beside two that are called x
        names = [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names)]
    return names


def _refuse_unfit(found: dict[str, dict]) -> None:
    """Hold the sources of a mix against what each must have.

    Raises:
        ValueError: there are none, or some without a proper name or `_target_`, or nothing that would train.
    """
    if not found:
        raise ValueError(
            "data=mix has no source: name some, as +data@data.sources.coco=coco data.sources.coco.root=DIR"
        )
    problems = [
        f"data.sources: {str(name)!r} is no name of a source: give letters, digits, _ and -, a letter first"
        for name in found
        if not NAME.fullmatch(str(name))
    ]
    problems += [
        f"data.sources.{name} is no source: choose one by +data@data.sources.{name}=folder, or one of its like"
        for name, node in found.items()
        if "_target_" not in node or "sources" in node
    ]
    trained = [node.get("weight", 1) for node in found.values() if node.get("only") in (None, "train")]
    if not problems and trained and not any(trained):
        problems = ["the weights of all sources (data.sources.NAME.weight, data.weights) are 0: nothing would train"]
    if problems:
        raise ValueError(terminal.lines(problems))


def in_mix(problem: str, name: str, node: dict) -> str:
    """What a source says is wrong, with the keys that the mix has: data.sources.coco.root for data.root.

    Args:
        name: the source's. node: its config.
    """
    keys = "|".join(re.escape(str(key)) for key in {*node, *OWN})
    told = re.sub(rf"^data(?=: )|(?<![\w./])data(?=\.(?:{keys})\b(?!/))", f"data.sources.{name}", problem)
    return told if told != problem else f"data.sources.{name}: {problem}"


def arguments(name: str, node: dict, context: dict[str, Any], asked: Mapping[str, Parameter]) -> dict[str, Any]:
    """What the function of a source is called with: its `_target_` and keys, and what it asks for of the context.

    Args:
        name: the source's in a mix. context: what its function gets where it has such an argument. asked: its arguments.

    Raises:
        ValueError: it has not all of the node's keys.
    """
    source = {key: value for key, value in node.items() if key not in (*OURS, *OWN)}
    if not any(one.kind is one.VAR_KEYWORD for one in asked.values()):
        known = [*(key for key in asked if key not in context), *(OWN if name else SPLIT)]
        if unknown := [key for key in source if key not in known and key[:1] != "_"]:
            raise ValueError(
                terminal.lines(
                    f"data.{key}: there is no such key{terminal.did_you_mean(key, known, 0.5)}; "
                    f"this source has {', '.join(known)}"
                    for key in unknown
                )
            )
    context = context | {"split_seed": node.get("split_seed", 0)}
    return source | {key: value for key, value in context.items() if key in asked}


def of_each(nodes: dict[str, dict], make: Callable[[str], dict], problems: list[str], by_key: bool) -> dict[str, dict]:
    """What `make` gives for each source, by its name, but for those that it refuses.

    Args:
        problems: gets what is wrong with these, in lines. by_key: whether each source has keys of its own.

    Raises:
        ValueError: what is wrong with a source alone.
    """
    made = {}
    for name, node in nodes.items():
        try:
            made[name] = make(name)
        except ValueError as error:
            if not name:
                raise
            told = terminal.message(error)
            problems += (in_mix(told, name, node) if by_key else told).split("\n")
    return made


def restricted(sources: dict, config: SplitConfig, only: str | None) -> tuple[dict, SplitConfig]:
    """The samples and the rules of a source that is for one side only: its own for that side, or all, of which none are held back."""
    if not only:
        return sources, config
    whole = SplitConfig(limit=config.limit, split_seed=config.split_seed, duplicates=config.duplicates)
    return {only: sources.get(only) or sources.get("train")}, whole


def divided(name: str, nodes: dict[str, dict], opened: dict[str, dict]) -> dict[str, Part]:
    """The parts of a source by the side that each is for.

    Args:
        nodes: as `nodes` gives them. opened: the sources of each by side.

    Raises:
        ValueError: one of several has no photographs; or `split` raises it.
    """
    node = nodes[name]
    beside = [Samples(own["train"], places(nodes[other])) for other, own in opened.items()
              if other != name and own.get("train") is not None and _lists(node) & _lists(nodes[other])]  # fmt: skip
    config = SplitConfig(**{key: node[key] for key in SPLIT if key in node})
    sources, config = restricted(opened[name], config, node.get("only"))
    if name and not any(source is not None for source in sources.values()):
        keys = ", ".join(f"data.{key}" for key in node if config_rules.is_place(f"data.{key}"))
        told = f"with data.only={node['only']} it" if node.get("only") else "it"
        raise ValueError(f"data: {told} has no photographs" + f": give one of {keys}" * bool(keys))
    parts = split(sources, config, places(node), beside)
    own = {"name": name, "weight": node.get("weight", 1), "band": node.get("band") or 0}
    return {side: replace(part, **own) for side, part in parts.items()}


def leave_out(
    parts: dict[str, dict[str, Part]],
    config: dict,
    nodes: dict[str, dict],
    broken: Collection[str] | None = None,
) -> tuple[dict[str, dict[str, Part]], list[LeftOut]]:
    """The parts of each source by side without what a `data` config leaves out, and that.

    Args:
        nodes: its sources. broken: as of `Leaving`.
    """
    dropping = [name for name, node in nodes.items() if node.get("drop_duplicates")]
    folder = Path(config["cache_dir"]) if config.get("cache") else None
    leaving = Leaving(_as_list(config.get("exclude")), dropping, folder, broken)
    return leaving(parts, {name: places(node) for name, node in nodes.items()}), leaving.found


def places(node: dict) -> list[str]:
    """Where a source lies."""
    return [place for key, place in node.items() if isinstance(place, str) and config_rules.is_place(f"data.{key}")]


def _lists(node: dict) -> set[str]:
    """The lists that name samples of a source; sources may share one."""
    return {rule for rule in (node.get("val_split"), node.get("test_split")) if isinstance(rule, str)} - {"train"}


def together(parts: dict[str, dict[str, Part]], duplicates: str = "together") -> dict[str, Split]:
    """The splits of sources that were divided each for itself.

    A training photograph that another source holds back is left out.

    Args:
        parts: by the source's name the part of each side that it has samples for.
        duplicates: as of `SplitConfig`; ``ignore`` leaves nothing out.
    """
    parts = without_held_back(composed.join(parts), duplicates)
    sides = dict.fromkeys([*SIDES, *(side for own in parts.values() for side in own)])
    found = {side: [own[side] for own in parts.values() if side in own] for side in sides}
    if len(parts) > 1:
        found = {side: [part for part in some if len(part)] for side, some in found.items()}
    needed = SIDES if found["train"] else ()
    return {side: Split(some) for side, some in found.items() if some or side in needed}


def without_held_back(parts: dict[str, dict[str, Part]], duplicates: str) -> dict[str, dict[str, Part]]:
    """The parts of `together` without training photographs of which another source holds an equal one back."""
    if duplicates == "ignore":
        return parts
    return {name: own | _trained(name, parts) for name, own in parts.items()}


def _trained(name: str, parts: dict[str, dict[str, Part]]) -> dict[str, Part]:
    """The training part of a source, if it has one, without what another source holds back."""
    part = parts[name].get("train")
    others = [own[side] for other, own in parts.items() if other != name for side in ("val", "test") if side in own]
    held = [one.content for one in others if one.content is not None]
    if part is None or part.content is None or not held:
        return {}
    again = np.isin(part.content, np.concatenate(held)) & (part.content != 0)
    if not again.any():
        return {}
    log.info("split      %d photographs of %s are held back by another source, as %s: they don't train",
             again.sum(), name, part.name_of(int(np.flatnonzero(again)[0])))  # fmt: skip
    return {"train": part.only(~again)}
