"""What a record that may come from a stranger is held against: plain data, the names of conf/, the table of keys.

A run's own code is named in a YAML of conf/, or on this command line: the keys that are typed are not the record's.
"""

import re
from collections.abc import Mapping
from typing import Any

from humanseg import config_rules
from humanseg.runs import conf
from humanseg.runs.plain import refuse_other_than_plain

GROUPS = ("model", "data", "augment", "loss", "optimizer", "scheduler", "trainer", "callbacks")  # make up a run
SHOWN = 8  # problems in one sentence
OWN_CODE = "Where it is your own, name it in a YAML of conf/ or type its override again"


class Strange(ValueError):
    """A record names code that neither conf/ nor this command line names."""


def of_run(choices: Mapping[str, Any]) -> dict[str, str]:
    """The choices that make up a run: of its groups, and of GROUP@PLACE where the place is in the group."""
    places = [(group, *group.partition("@")[::2]) for group in choices]
    return {
        group: choices[group]
        for one in GROUPS
        for group, name, place in places
        if name == one and place.partition(".")[0] in ("", name) and isinstance(choices[group], str)
    }


def safe_choices(choices: Any) -> dict[str, str]:
    """Of recorded choices those that conf/ has; a choice that is gone is left out, its config tells what it was.

    Raises:
        ValueError: a group or choice that is no plain name.
    """
    named = isinstance(choices, dict) and all(isinstance(text, str) for pair in choices.items() for text in pair)
    strange = [] if not named else [
        f"{group}={choice}" for group, choice in choices.items()
        if not re.fullmatch(r"[\w-]+(@[\w.-]+)?", group) or not re.fullmatch(r"[\w-]+", choice)
    ]  # fmt: skip
    if strange or not named:
        raise ValueError(
            f"the recorded choices are no names of conf/: {', '.join(strange)[:200] or type(choices).__name__}"
        )
    return {
        group: choice for group, choice in of_run(choices).items() if conf.has_choice(group.partition("@")[0], choice)
    }


def refuse_strange(config: dict, parts: tuple[str, ...], what: str = "the config") -> None:
    """Hold a recorded config against conf/ and the table of keys.

    What is typed has been cut out of it before.

    Args:
        parts: the groups that are built from it. what: the record, for the sentence.

    Raises:
        ValueError: it is no plain data, or names code, keys or nested nodes that conf/ does not have, or wrong values.
    """
    refuse_other_than_plain(config, what)
    problems = []
    for group in parts:
        if group in config:
            problems += _strange(config[group], conf.shape(group), group, ())
    problems += [f"metrics: {name}"[:200] for name in strange_metrics(config.get("metrics", []))]
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise Strange(f"{what} holds what no YAML of conf/ has: {', '.join(problems[:SHOWN])}{more}. {OWN_CODE}")
    config_rules.refuse_wrong_values(config, complete=False)


def strange_metrics(names: Any) -> list:
    """Of recorded metrics those that are functions which no YAML of conf/ names, or no names at all."""
    names = names if isinstance(names, list) else [names]
    return [name for name in names if not isinstance(name, str) or ("." in name and name not in conf.metrics())]


def strange_at(node: Any, group: str, path: list[str]) -> list[str]:
    """What a value at a place of a group holds that the YAMLs of the group do not have there."""
    shape, place = conf.shape(group), ()
    for name in path:
        place = (*place, conf.ANY if place in shape.open else name)
    return _strange(node, shape, ".".join((group, *path)), place)


def _strange(node: Any, shape: conf.Shape, name: str, place: conf.Place) -> list[str]:
    """What a part of a group holds that the YAMLs of the group do not have at its place."""
    if isinstance(node, list):
        within = (_strange(item, shape, f"{name}.{at}", (*place, conf.ANY)) for at, item in enumerate(node))
        return [problem for problems in within for problem in problems]
    if not isinstance(node, dict):
        return []
    problems = [f"{name} has the key {key[:100]!r}" for key in node if not re.fullmatch(r"[\w-]+|[\w-]+(\.\w+)+", key)]
    if "_target_" in node:
        target = node["_target_"]
        if not isinstance(target, str) or target not in shape.targets.get(place, ()):
            return [f"{name}._target_={str(target)[:200]}"]
        problems += _strange_keys(node, target, shape, name)
    else:
        problems += [f"{name}.{key}" for key in node if key[:1] == "_"]
    for key, item in node.items():
        problems += _strange(item, shape, f"{name}.{key}", (*place, conf.ANY if place in shape.open else key))
    return problems


def _strange_keys(node: dict, target: str, shape: conf.Shape, name: str) -> list[str]:
    """Arguments that neither a YAML nor the table of keys has for a target."""
    found = []
    for key, value in node.items():
        if key[:1] == "_":
            if key != "_target_" and (key, str(value)) not in shape.special[target]:
                found.append(f"{name}.{key}={value}")
        elif key not in shape.keys[target] and not config_rules.has_rule(f"{name}.{key}"):
            found.append(f"{name}.{key}")
    return found
