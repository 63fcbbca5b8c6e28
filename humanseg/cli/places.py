"""Where this machine has its files: the home folder, and data folders that conf/local/default.yaml names for all runs."""

import os
from typing import Any

from hydra import compose

from humanseg import config_rules, terminal
from humanseg.runs import conf, recorded

OURS = ("data", "trainer", "sweep")  # what else stands in a group may be a class of one's own


def on_this_machine(config: dict, choices: dict[str, str], overrides: list[str], typed: list[str]) -> dict:
    """A composed config with its files where this machine has them.

    `~/x` is in the home folder. conf/local/default.yaml may name a `data.root`, and a `data.sources.coco.root`: it is left
    out where the data set has no such key, or the mix no such source, and it takes the place of a recorded one that is not
    here.

    Args:
        config: resolved. choices: of the config groups.
        overrides: the keys of those in effect. typed: the keys of those on this command line.

    Raises:
        ValueError: conf/local/default.yaml has a key that is none.
    """
    _refuse_misspelt()
    data, file = config.get("data"), conf.file_of("data", choices.get("data", ""))
    if isinstance(data, dict) and file:
        data = _without_foreign(data, conf.read_choice(file), overrides)
        flat = config_rules.flat(data, "data.")
        left = [key for key, value in flat.items() if _is_unset(key, value) and key not in overrides]
        left += [key for key, value in flat.items() if _is_gone(value) and key not in typed]
        places = {*filter(config_rules.is_place, left)}
        own = compose("config", [f"data={choices['data']}"])["data"] if places else {}
        config = config | {"data": recorded.with_places(data, own, lambda key, value: key in places)}
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
            raise ValueError(f"{file}: {name} is no key{terminal.did_you_mean(name, known)}")


def _without_foreign(data: dict, known: dict, overrides: list[str]) -> dict:
    """A `data` config without places that its YAML has not, and sources of which there are places alone."""
    sources = data.get("sources")
    if isinstance(sources, dict):
        named = {tuple(key.split(".")[:3]) for key in overrides}
        only_placed = [name for name in _local_sources() if ("data", "sources", name) not in named]
        sources = {name: node for name, node in sources.items() if name not in only_placed or _is_source(node)}
        data = data | {"sources": sources}
    foreign = [name for name in data if config_rules.is_place(f"data.{name}") and f"data.{name}" not in overrides]
    foreign += ["sources"] * (sources == {})
    return {name: value for name, value in data.items() if name in known or name not in foreign}


def _local_sources() -> dict:
    """The sources of which conf/local/default.yaml says where they are."""
    file = conf.file_of("local", "default")
    data = conf.read_choice(file).get("data") if file else None
    sources = data.get("sources") if isinstance(data, dict) else None
    return sources if isinstance(sources, dict) else {}


def _is_source(node: object) -> bool:
    return isinstance(node, dict) and "_target_" in node


def _is_unset(key: str, value: object) -> bool:
    """Whether nothing says where a source of a mix is: what a command line adds to the mix stands behind conf/local."""
    return value is None and key.startswith("data.sources.") and conf.file_of("local", "default") is not None


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
