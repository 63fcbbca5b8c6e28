"""A config that a checkpoint or a run's folder recorded: how overrides change it, and what code it may name."""

import copy
import re
from pathlib import Path
from typing import Any

import yaml

from humanseg import config_rules

CONF = Path(__file__).parents[2] / "conf"


def checkpoint_config(payload: dict, composed: dict, overrides: list[str]) -> dict:
    """The config that a checkpoint is used with: its own, changed by the overrides.

    Args:
        payload: the checkpoint. composed: the config as Hydra composed it from the overrides, resolved.
        overrides: Hydra's task overrides.

    Raises:
        ValueError: the checkpoint's config names code that the suite's conf/ does not.
    """
    refuse_strange_targets(payload["config"])
    if any(override.startswith("experiment=") for override in overrides):
        raise ValueError("experiment= can't be typed beside ckpt=, which brings its own: type the keys to change")
    merged = with_overrides(payload["config"], payload["choices"], composed, overrides)
    merged["model"]["encoder_weights"] = None
    return merged


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
    here = [name for name in composed.get("data", {}) if config_rules.key(f"data.{name}").change == "machine"]
    merged["data"] |= {name: composed["data"][name] for name in here}
    sizes = {key: config["data"][key] for key in ("image_size", "mean", "std", "pad_value")}
    parts = [(override.lstrip("+~").partition("=")[::2], override[:1] == "~") for override in overrides]
    for (key, choice), deleted in sorted(parts, key=lambda part: part[0][0] not in choices):  # a group before its keys
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


def refuse_strange_targets(config: dict, overrides: list[str] = ()) -> None:
    """A checkpoint may come from a stranger: its config may name only the code that conf/ or an override names.

    Raises:
        ValueError: a `_target_` or a dotted metric path that neither names.
    """
    targets, names = _own_code()
    strange = [target for target in _targets(config) if target not in targets]
    strange += [name for name in config["metrics"] if "." in name and name not in names]
    _refuse([name for name in strange if name not in " ".join(overrides)], "the checkpoint's config names")


def refuse_strange_overrides(recorded: list[str], overrides: list[str]) -> None:
    """The same for overrides that a folder recorded, before they are composed.

    Raises:
        ValueError: one sets a `_target_` or a metric that neither conf/ nor `overrides` name.
    """
    targets, names = _own_code()
    coded = [item for item in recorded if "_target_" in item or item.lstrip("+~").startswith("metrics=")]
    found = [name for item in coded for name in re.findall(r"[A-Za-z_]\w*(?:\.\w+)+", item.partition("=")[2])]
    strange = [name for name in found if name not in targets | names and name not in " ".join(overrides)]
    _refuse(strange, "the recorded overrides name")


def _refuse(strange: list[str], whose: str) -> None:
    if strange:
        raise ValueError(
            f"{whose} code that no YAML of conf/ names: {', '.join(strange)}. "
            "Where it is your own, name it in a YAML of conf/ or type its override again"
        )


def _own_code() -> tuple[set[str], set[str]]:
    """The `_target_`s and the metrics that conf/ names."""
    own = [yaml.safe_load(path.read_text()) or {} for path in sorted(CONF.rglob("*.yaml"))]
    return {target for node in own for target in _targets(node)}, {
        name for node in own for name in node.get("metrics", [])
    }


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [node["_target_"]] if "_target_" in node else []
        return here + [target for value in node.values() for target in _targets(value)]
    return [target for value in node for target in _targets(value)] if isinstance(node, list) else []
