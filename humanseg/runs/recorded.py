"""A config that a checkpoint or a run's folder recorded: it is held against conf/, and overrides change it."""

import copy
from typing import Any

from humanseg import config_rules
from humanseg.runs import trust
from humanseg.runs.trust import key_of


def checkpoint_config(payload: dict, composed: dict, typed: list[str], parts: tuple[str, ...] = ("model",)) -> dict:
    """The config that a checkpoint is used with: its own, changed by what is typed.

    Args:
        payload: the checkpoint. composed: the config as Hydra composed it, resolved.
        typed: the overrides of this command line. parts: the groups that are built from it.

    Raises:
        ValueError: the checkpoint's config is no plain data, or names what the suite's conf/ does not.
    """
    if any(override.startswith("experiment=") for override in typed):
        raise ValueError("experiment= can't be typed beside ckpt=, which brings its own: type the keys to change")
    merged = with_overrides(payload["config"], payload["choices"], composed, typed)
    trust.refuse_strange(merged, parts, trust.typed_keys(typed, payload["choices"]), "the checkpoint's config")
    merged["trainer"] |= of_this_machine(composed, "trainer")
    merged["model"]["encoder_weights"] = None
    return merged


def of_this_machine(composed: dict, group: str) -> dict[str, Any]:
    """The keys of a group that say how this machine does the work, which no record decides."""
    own = composed.get(group) or {}
    return {name: value for name, value in own.items() if config_rules.key(f"{group}.{name}").change == "machine"}


def in_todays_names(config: dict) -> dict:
    """A recorded config of an older version, with what has another name by now."""
    augment = config.get("augment")
    if isinstance(augment, dict) and augment.get("_target_") == "humanseg.data.augment.compose":
        return config | {"augment": {"_target_": "albumentations.Compose", "transforms": augment["transforms"]}}
    return config


def with_overrides(config: dict, choices: dict[str, str], composed: dict, overrides: list[str]) -> dict:
    """A recorded config with overrides: image_size, mean, std and padding stay unless an override names them.

    How this machine reads the data (its cache and workers) is what `composed` has: a stranger's checkpoint has no say in it.

    Args:
        choices: the config groups' choices it was composed from; one of them given again changes nothing.
        composed, overrides: as for `checkpoint_config`.
    """
    merged = copy.deepcopy(config)
    merged["data"] |= of_this_machine(composed, "data")
    sizes = {key: config["data"][key] for key in ("image_size", "mean", "std", "pad_value")}
    parts = [(key_of(override), override.partition("=")[2], override[:1] == "~") for override in overrides]
    for key, choice, deleted in sorted(parts, key=lambda part: part[0] not in choices):  # a group before its keys
        if key in choices:
            if choice != choices[key] and key in composed:
                merged[key] = composed[key]
                if key == "data":
                    merged["data"] = composed["data"] | sizes
        elif key.split(".")[0] in config:
            path = key.split(".")
            _put(merged, path, _get(composed, path))
            if deleted:
                del _get(merged, path[:-1])[path[-1]]
    return merged


def _get(node: Any, path: list[str]) -> Any:
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _put(node: dict, path: list[str], value: Any) -> None:
    for name in path[:-1]:
        if not isinstance(node.get(name), dict):
            node[name] = {}
        node = node[name]
    node[path[-1]] = value
