"""A config that a checkpoint or a run's folder recorded: what may be typed onto it, and what code it may name."""

import copy
import re
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parent.parent / "conf"

# What a run can't change half-way: its weights, the order of its samples or its best.pt would no longer be one run's.
FIXED = re.compile(
    r"seed|(model|data)\..+|optimizer\.(parts\..+\.)?(_target_|decay_norms_and_biases)"
    r"|trainer\.(accumulate|steps_per_epoch|monitor|monitor_mode)"
)
# These say where and how the data is read, not what is in it.
FREE = re.compile(r"model\.encoder_weights|data\.(num_workers|cache|cache_dir|val_batch_size|(\w+_)?(root|pairs))")

# Where this machine keeps its cache, which a stranger's checkpoint has no say in.
THIS_MACHINES = ("cache", "cache_dir")


def checkpoint_config(payload: dict, composed: dict, typed: list[str]) -> dict:
    """The config that a checkpoint is used with: its own, and on it the groups and keys that were typed.

    Args:
        payload: the checkpoint. composed: the config as Hydra composed it from the typed overrides, resolved.
        typed: Hydra's task overrides.

    Raises:
        ValueError: the checkpoint's config names code that the suite's conf/ does not.
    """
    refuse_strange_targets(payload["config"])
    if any(override.startswith("experiment=") for override in typed):
        raise ValueError("experiment= can't be typed beside ckpt=, which brings its own: type the keys to change")
    merged = with_typed(payload["config"], payload["choices"], composed, typed)
    merged["model"]["encoder_weights"] = None
    return merged


def with_typed(config: dict, choices: dict[str, str], composed: dict, typed: list[str]) -> dict:
    """A recorded config with what was typed: image_size, mean, std and padding stay unless themselves typed.

    Args:
        choices: the config groups' choices it was composed from; one of them typed again changes nothing.
        composed, typed: as for `checkpoint_config`.
    """
    merged = copy.deepcopy(config)
    merged["data"] |= {key: composed["data"][key] for key in THIS_MACHINES if key in composed.get("data", {})}
    sizes = {key: config["data"][key] for key in ("image_size", "mean", "std", "pad_value")}
    parts = [(override.lstrip("+~").partition("=")[::2], override[:1] == "~") for override in typed]
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


def refuse_other_run(before: dict, after: dict) -> None:
    """Refuse to go on with a run under a config that makes another run of it.

    Raises:
        ValueError: keys of the model, the data or the order of samples differ; all are listed.
    """
    old, new = flat(before), flat(after)
    differ = [
        f"{key} ({old.get(key)} -> {new.get(key)})"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and FIXED.fullmatch(key) and not FREE.fullmatch(key)
    ]
    if differ:
        raise ValueError(
            f"a run can't go on with another {', '.join(differ)}: start a new one from its weights with ckpt=PATH"
        )


def flat(node: dict, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one with dotted keys."""
    found = {}
    for name, value in node.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def refuse_strange_targets(config: dict, typed: list[str] = ()) -> None:
    """A checkpoint may come from a stranger: its config may name only the code that conf/ names, or that is typed.

    Raises:
        ValueError: a `_target_` or a dotted metric path that neither names.
    """
    targets, names = _own_code()
    strange = [target for target in _targets(config) if target not in targets]
    strange += [name for name in config["metrics"] if "." in name and name not in names]
    _refuse([name for name in strange if name not in " ".join(typed)], "the checkpoint's config names")


def refuse_strange_overrides(recorded: list[str], typed: list[str]) -> None:
    """The same for overrides that a folder recorded, before they are composed.

    Raises:
        ValueError: one sets a `_target_` or a metric that neither conf/ nor `typed` names.
    """
    targets, names = _own_code()
    coded = [item for item in recorded if "_target_" in item or item.lstrip("+~").startswith("metrics=")]
    found = [name for item in coded for name in re.findall(r"[A-Za-z_]\w*(?:\.\w+)+", item.partition("=")[2])]
    strange = [name for name in found if name not in targets | names and name not in " ".join(typed)]
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
