"""A config that a checkpoint or a run's folder recorded: it is held against conf/, and overrides change it."""

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

from humanseg import config_rules
from humanseg.runs import conf, trust
from humanseg.runs.overrides import key_of

NEEDED = {"model": ("_target_", "classes"), "data": ("image_size", "pad_value", "mean", "std")}


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
    try:
        merged = with_overrides(payload["config"], payload["choices"], composed, typed, parts)
    except trust.Strange as error:
        raise ValueError(f"{error}{conf.missing(payload.get('config_dirs'))}") from error
    if lacking := [f"{group}.{key}" for group, keys in NEEDED.items() for key in keys if key not in merged[group]]:
        raise ValueError(f"the recorded config lacks {', '.join(lacking)}")
    merged["model"] = without_encoder_weights(merged["model"])
    return merged


def without_encoder_weights(model: dict) -> dict:
    """A `model` config whose network loads none; a class of one's own need not know the key."""
    return model | ({"encoder_weights": None} if "encoder_weights" in model else {})


def without_folders(config: dict, prefix: str = "") -> dict[str, Any]:
    """A config that goes to other machines: of each file and folder it has the name alone, and not where it lies."""
    return {name: _name_alone(value, prefix + name) for name, value in config.items()}


def _name_alone(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return without_folders(value, f"{key}.")
    if not config_rules.key(key).path:
        return value
    if isinstance(value, list):
        return [_name_alone(item, key) for item in value]
    return os.path.basename(value.rstrip("/")) if isinstance(value, str) else value


def of_this_machine(composed: dict, group: str) -> dict[str, Any]:
    """The keys of a group that say how this machine does the work, which no record decides."""
    own = composed.get(group) or {}
    return {name: value for name, value in own.items() if config_rules.key(f"{group}.{name}").change == "machine"}


def with_places(
    data: dict, own: Mapping[str, Any], wanted: Callable[[str, Any], bool], prefix: str = "data"
) -> dict[str, Any]:
    """A `data` config with what `own`, this machine's settings, has in the place of some values, where it has something.

    Args:
        wanted: whether another value is wanted for a key, as ``data.sources.coco.root``, and its value.
    """
    found = dict(data)
    for name, value in data.items():
        here, key = own.get(name), f"{prefix}.{name}"
        if isinstance(value, dict):
            found[name] = with_places(value, here if isinstance(here, Mapping) else {}, wanted, key)
        elif here and wanted(key, value):
            found[name] = here
    return found


def _is_gone(key: str, value: Any) -> bool:
    """Whether a key names a place that is not here."""
    return isinstance(value, str) and config_rules.is_place(key) and not os.path.exists(value)


def in_todays_names(config: dict) -> dict:
    """A recorded config of an older version, with what has another name by now, and with the split that its seed gave."""
    augment, data = config.get("augment"), config["data"]
    if isinstance(augment, dict) and augment.get("_target_") == "humanseg.data.augment.compose":
        config = config | {"augment": {"_target_": "albumentations.Compose", "transforms": augment.get("transforms")}}
    if "split_seed" not in data:
        config = config | {"data": data | drawn_by_seed(config)}
    return config


def drawn_by_seed(config: dict) -> dict[str, Any]:
    """The keys of `data` by which the samples are divided as they were before `data.split_seed`."""
    return {"split_seed": config.get("seed", 0), "duplicates": "ignore"}


def with_overrides(
    config: dict, choices: dict[str, str], composed: dict, overrides: list[str], parts: tuple[str, ...] = trust.GROUPS
) -> dict:
    """A recorded config with overrides: image_size, mean, std and padding stay unless an override names them.

    What overrides replace is cut out first, and the rest, all that comes from the record, is held against conf/.

    Args:
        choices: the config groups' choices it was composed from; one of them given again changes nothing.
        composed: the config as Hydra composed it, resolved. overrides: whose keys are taken from it.
        parts: the groups that are built from the result.

    Raises:
        ValueError: the record names what the suite's conf/ does not.
    """
    paths = {key: _path(key) for key in map(key_of, overrides)}
    cut = [
        path
        for key, path in paths.items()
        if path and path[0] in config and (not _is_choice(key) or _replaces(key, choices, overrides))
    ]
    sizes = {key: config["data"][key] for key in ("image_size", "mean", "std", "pad_value") if key in config["data"]}
    merged = copy.deepcopy(config)
    for path in cut:
        _put(merged, path, MISSING)
    trust.refuse_strange(merged, parts, "the recorded config")
    for path in sorted(cut, key=len):  # a group before its keys
        _put(merged, path, _get(composed, path))
        if path == ["data"] and isinstance(merged.get("data"), dict):
            merged["data"] |= sizes
    for group in ("data", "trainer", "sweep"):
        merged[group] = merged.get(group, {}) | of_this_machine(composed, group)
    merged["data"] = with_places(merged["data"], composed.get("data") or {}, _is_gone)
    if "out" in composed:  # it is this machine's, too
        merged["out"] = composed["out"]
    config_rules.refuse_wrong_values(merged, complete=False)
    return merged


MISSING = object()


def _path(key: str) -> list[str]:
    """The path in the config of a key, a group, or GROUP@PLACE; empty for Hydra's own."""
    return [] if "/" in key or key.startswith("hydra.") else key.rpartition("@")[2].split(".")


def _is_choice(key: str) -> bool:
    return "@" in key or key in trust.GROUPS


def _replaces(group: str, choices: dict[str, str], overrides: list[str]) -> bool:
    """Whether overrides take another choice of a group than the recorded one, or take the group away."""
    given = [override for override in overrides if key_of(override) == group]
    return any(one[:1] == "~" or one.partition("=")[2] != choices.get(group) for one in given)


def _get(node: Any, path: list[str]) -> Any:
    """The value at a path; MISSING where there is none."""
    for name in path:
        node = node.get(name, MISSING) if isinstance(node, dict) else MISSING
    return node


def _put(node: dict, path: list[str], value: Any) -> None:
    """Put a value at a path; MISSING takes away what is there."""
    for name in path[:-1]:
        if not isinstance(node.get(name), dict):
            if value is MISSING:
                return
            node[name] = {}
        node = node[name]
    if value is MISSING:
        node.pop(path[-1], None)
    else:
        node[path[-1]] = value
