"""What the YAMLs of conf/ name: for each group the classes and functions, at which places, with which keys.

A recorded config is held against it. Nothing of Hydra is used: a YAML is read as data, and of its defaults list only
the choices that it takes in (``bce@terms.bce``, ``/data_base@_here_``) are followed.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parents[2] / "conf"
ANY = "*"  # in a place: any item of a list, or any name in a dict of nodes
SPECIAL = ("_partial_", "_args_", "_recursive_", "_convert_")  # what instantiate reads beside `_target_`

Place = tuple[str, ...]


@dataclass
class Shape:
    """What may stand in a group.

    Args:
        targets: the `_target_`s by their place. keys: the arguments of a target. special: pairs of a special key and its
            value, by target. open: the places of dicts that hold nodes under any name, as `optimizer.parts`.
    """

    targets: dict[Place, set[str]] = field(default_factory=lambda: defaultdict(set))
    keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    special: dict[str, set[tuple[str, Any]]] = field(default_factory=lambda: defaultdict(set))
    open: set[Place] = field(default_factory=set)

    def add(self, node: Any, place: Place = ()) -> None:
        """Take in what a YAML has."""
        if isinstance(node, list):
            for item in node:
                self.add(item, (*place, ANY))
        if not isinstance(node, dict):
            return
        target = node.get("_target_")
        if target:
            self.targets[place].add(target)
            self.keys[target] |= {key for key in node if key[:1] != "_"}
            self.special[target] |= {(key, str(node[key])) for key in SPECIAL if key in node}
        nodes = [item for item in node.values() if isinstance(item, dict) and "_target_" in item]
        if nodes and not target and all(item is None or item in nodes for item in node.values()):
            self.open.add(place)
        for key, item in node.items():
            self.add(item, (*place, ANY if place in self.open else key))


@cache
def shape(group: str) -> Shape:
    """What the YAMLs of a group, and the experiments for it, name."""
    found = Shape()
    for file in sorted((CONF / group).glob("*.yaml")):
        found.add(read_choice(file))
    for file in sorted((CONF / "experiment").glob("*.yaml")):
        found.add(read_choice(file).get(group))
    return found


@cache
def metrics() -> set[str]:
    """The metrics that a YAML names."""
    named = (read_choice(file).get("metrics") for file in sorted(CONF.rglob("*.yaml")))
    return {name for names in named if isinstance(names, list) for name in names}


def has_choice(group: str, choice: str) -> bool:
    """Whether conf/ has a choice of a group."""
    return (CONF / group / f"{choice}.yaml").is_file()


def choice(group: str, name: str) -> dict:
    """The YAML of a group's choice."""
    return read_choice(CONF / group / f"{name}.yaml")


def read_choice(file: Path) -> dict:
    """A YAML with the choices that its defaults list takes in, as far as they are files of conf/."""
    own = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(own, dict):
        return {}
    merged: dict = {}
    for beside, place in _taken_in(own.pop("defaults", None) or [], file):
        merged = _merged(merged, _nested(read_choice(beside), place))
    return _merged(merged, own)


def _taken_in(defaults: list, file: Path) -> Iterator[tuple[Path, Place]]:
    for entry in defaults:
        if not isinstance(entry, str) or entry == "_self_":
            continue  # a group's choice: its own group is read for itself
        name, _, package = entry.partition("@")
        beside = (CONF if name[:1] == "/" else file.parent) / f"{name.lstrip('/')}.yaml"
        if beside.is_file():
            yield beside, () if package in ("", "_here_") else tuple(package.split("."))


def _nested(node: dict, place: Place) -> dict:
    for name in reversed(place):
        node = {name: node}
    return node


def _merged(below: dict, above: dict) -> dict:
    together = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(together.get(key), dict)
        together[key] = _merged(together[key], value) if both else value
    return together
