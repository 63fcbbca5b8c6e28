"""Where this machine has its files: the home folder, and data folders that conf/local/default.yaml names for all runs."""

import difflib
import os
from typing import Any

from hydra import compose

from humanseg import config_rules
from humanseg.runs import conf

OURS = ("data", "trainer", "sweep")  # what else stands in a group may be a class of one's own


def on_this_machine(config: dict, choices: dict[str, str], overrides: list[str], typed: list[str]) -> dict:
    """A composed config with its files where this machine has them.

    `~/x` is in the home folder. conf/local/default.yaml may name a `data.root`: it is left out where the data set has no
    such key, and it takes the place of a recorded one that is not here.

    Args:
        config: resolved. choices: of the config groups.
        overrides: the keys of those in effect. typed: the keys of those on this command line.

    Raises:
        ValueError: conf/local/default.yaml has a key that is none.
    """
    _refuse_misspelt()
    data, file = config.get("data"), conf.file_of("data", choices.get("data", ""))
    if isinstance(data, dict) and file:
        known, places = conf.read_choice(file), [name for name in data if config_rules.is_place(f"data.{name}")]
        foreign = [name for name in places if name not in known and f"data.{name}" not in overrides]
        gone = [name for name in places if f"data.{name}" not in typed and _is_gone(data[name])]
        own = compose("config", [f"data={choices['data']}"])["data"] if gone else {}
        here = {name: own.get(name) or data[name] for name in gone}
        config = config | {"data": {name: value for name, value in (data | here).items() if name not in foreign}}
    return _at_home(config)


def _refuse_misspelt() -> None:
    if not (file := conf.file_of("local", "default")):
        return
    config = conf.read_choice(conf.CONF / "config.yaml")
    options = [name for mode in conf.choices("mode") for name in conf.choice("mode", mode)]
    groups = [folder.name for root in conf.roots() for folder in root.iterdir() if folder.is_dir()]
    known = {*config, *options, *groups}
    for group in OURS:
        own = [config.get(group, {}), *(conf.choice(group, name) for name in conf.choices(group))]
        known |= {f"{group}.{name}" for one in own for name in one}
    given = conf.read_choice(file)
    named = [*given, *(f"{group}.{name}" for group in OURS for name in given.get(group) or ())]
    for name in named:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"{file}: {name} is no key" + f", did you mean {near[0]}?" * bool(near))


def _is_gone(place: object) -> bool:
    return isinstance(place, str) and not os.path.exists(os.path.expanduser(place))


def _at_home(node: Any, name: str = "") -> Any:
    """The values of keys that are paths, with the home folder in the place of `~`."""
    if isinstance(node, dict):
        return {key: _at_home(value, f"{name}.{key}".lstrip(".")) for key, value in node.items()}
    if not config_rules.key(name).path:
        return node
    if isinstance(node, list):
        return [_at_home(item, name) for item in node]
    return os.path.expanduser(node) if isinstance(node, str) else node
