"""A run that starts from another run's weights: what it takes over, and what begins anew."""

import logging
import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from humanseg import checkpoint
from humanseg.data import mix
from humanseg.data.splits.split import SplitConfig
from humanseg.runs import find
from humanseg.runs.overrides import key_of, literal
from humanseg.weights import are_plain_tensors

log = logging.getLogger(__name__)

VALIDATES = ("val_split", "folds", "fold")  # the keys of a source that say which samples validate
HEADS = ("segmentation_head.", "deep_heads.", "classification_head.")  # what their weights' names begin with
HELD_BACK = ("split_seed", *VALIDATES, "test_split", "duplicates", "split_by", "group_by")  # and which are held back


class Origin(NamedTuple):
    """The checkpoint that a run starts from."""

    path: Path
    payload: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """The `data` config that it was trained with."""
        return self.payload["config"]["data"]


def origin(ckpt: str, out: str) -> Origin:
    """Open the checkpoint that `ckpt` names.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    path = find.checkpoint(ckpt, out)
    return Origin(path, checkpoint.load(path))


def keep_split(data: dict[str, Any], before: Origin, overrides: list[str]) -> dict[str, Any]:
    """A `data` config that holds back the samples which the run before held back, unless an override says which.

    Of a mix that holds for the sources that have a namesake of their kind. Where the data is of another kind, and where one
    of the two validates on its training samples, there is nothing to keep.
    """
    typed = {key_of(override) for override in overrides}
    if data.get("_target_") != before.data.get("_target_"):
        return data
    if "sources" not in data:
        return data | _kept(data, before.data, {key for key in HELD_BACK if f"data.{key}" in typed})
    sources, were, are = dict(data["sources"]), mix.nodes(before.data), mix.nodes(data)
    for name, own in data["sources"].items():
        if name in were and were[name]["_target_"] == are[name]["_target_"]:
            inherited = {key for key in HELD_BACK if f"data.{key}" in typed and key not in own}
            chosen = {key for key in HELD_BACK if f"data.sources.{name}.{key}" in typed} | inherited
            sources[name] = own | _kept(are[name], were[name], chosen)
    return data | {"sources": sources}


def _kept(now: dict[str, Any], before: dict[str, Any], typed: set[str]) -> dict[str, Any]:
    """The keys of a source that change for it to hold back what the run before held back.

    Args:
        typed: those that an override gives.
    """
    before, now = (asdict(SplitConfig()) | own for own in (before, now))
    dropped = set(typed)
    if "train" in (now["val_split"], before["val_split"]) or "val_split" in typed:
        dropped |= {*VALIDATES}
    if "folds" in typed:
        dropped.add("fold")
    if dropped:  # what is drawn anew does not part copies, as earlier versions did
        dropped.add("duplicates")
    return {key: before[key] for key in HELD_BACK if key not in dropped and before[key] != now[key]}


def tell_split(data: dict[str, Any], samples: dict[str, str], before: Origin) -> None:
    """Say whether the validation samples are those of the run before; of a mix, those of the sources that it had too.

    Args:
        samples: a fingerprint of each split, and of each source's part of the validation samples, as ``val/coco``.
    """
    if data["_target_"] != before.data.get("_target_"):
        return
    held, known = before.payload.get("samples", {}).values(), mix.nodes(before.data)
    parts = {name.partition("/")[2]: mark for name, mark in samples.items() if name.startswith("val/")}
    parts = parts or {"": samples.get("val")}
    others = [name for name, mark in parts.items() if mark not in held and (name in known or "" in known)]
    if others:
        of = f" of {', '.join(others)}" * any(others)
        log.warning(
            "split      its validation samples%s are others, and %s may have been trained on some", of, before.path
        )
    else:
        log.info("split      validates on the samples that %s did not train on", before.path)


def load_weights(network: nn.Module, before: Origin, config: dict[str, Any]) -> None:
    """Begin with the checkpoint's weights; a head with other classes begins anew and is named.

    Args:
        config: the `model` config of this run.

    Raises:
        ValueError: anything but the head differs.
    """
    path, payload = before
    weights, own = payload["ema"] or payload["model"], network.state_dict()
    if not are_plain_tensors(weights):
        raise ValueError(f"{path}: its weights are no plain tensors")
    heads = [key for key in weights if key.startswith(HEADS) and key in own]
    renewed = [key for key in heads if weights[key].shape != own[key].shape]
    begun = payload | {"model": weights | {key: own[key] for key in renewed}, "ema": None}
    try:
        checkpoint.load_weights(network, begun, path)
    except ValueError as error:
        if typed := _to_type(payload["config"]["model"], config):
            raise ValueError(f"{error}. It was trained with other arguments: add {typed}") from error
        raise
    log.info("starts from the weights of %s%s", path, f"; anew: {', '.join(renewed)}" if renewed else "")


def _to_type(wanted: dict[str, Any], config: dict[str, Any]) -> str:
    """The overrides that give a network of the same class the arguments that a checkpoint's had.

    None for what a stranger's checkpoint should not have typed: another class, or an argument that is built from one.
    """
    keys = [key for key in {**config, **wanted} if key not in ("encoder_weights", "classes")]
    others = [key for key in keys if key not in config or key not in wanted or config[key] != wanted[key]]
    values = {key: literal(wanted[key]).strip("'") for key in others if key in wanted}
    plain = all(re.fullmatch(r"[\w.,\[\]-]*", text) for text in [*others, *values.values()])
    if "_target_" in others or not plain:
        return ""
    added = [f"{'+' * (key not in config)}model.{key}={value}" for key, value in values.items()]
    return shlex.join(added + [f"~model.{key}" for key in others if key not in wanted])
