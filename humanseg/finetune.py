"""A run that starts from another run's weights: what it takes over, and what begins anew."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from humanseg import checkpoint
from humanseg.runs import find
from humanseg.runs.overrides import key_of

log = logging.getLogger(__name__)

HELD_BACK = ("split_seed", "val_split", "test_split", "duplicates")  # the keys of data that say which samples are


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

    Where the data is of another kind, and where one of the two validates on its training samples, there is nothing to keep.
    """
    if data["_target_"] != before.data.get("_target_"):
        return data
    typed = {key_of(override) for override in overrides}
    kept = {key: before.data[key] for key in HELD_BACK if key in before.data and f"data.{key}" not in typed}
    if "train" in (data.get("val_split"), kept.get("val_split")):
        kept.pop("val_split", None)
    if len(kept) < len(HELD_BACK):  # what is drawn anew does not part copies, as earlier versions did
        kept.pop("duplicates", None)
    return data | kept


def tell_split(data: dict[str, Any], samples: dict[str, str], before: Origin) -> None:
    """Say whether the validation samples are those of the run before.

    Args:
        samples: a fingerprint of each split.
    """
    if data["_target_"] != before.data.get("_target_"):
        return
    if samples.get("val") == before.payload.get("samples", {}).get("val"):
        log.info("split      validates on the samples that %s did not train on", before.path)
    else:
        log.warning("split      its validation samples are others, and %s may have been trained on some", before.path)


def load_weights(network: nn.Module, before: Origin) -> None:
    """Begin with the checkpoint's weights; a head with other classes begins anew and is named.

    Raises:
        ValueError: anything but the head differs.
    """
    path, payload = before
    weights, own = payload["ema"] or payload["model"], network.state_dict()
    if not checkpoint.are_plain_tensors(weights):
        raise ValueError(f"{path}: its weights are no plain tensors")
    head = [key for key in weights if key.startswith("segmentation_head.") and key in own]
    renewed = [key for key in head if weights[key].shape != own[key].shape]
    begun = payload | {"model": weights | {key: own[key] for key in renewed}, "ema": None}
    checkpoint.load_weights(network, begun, path)
    log.info("starts from the weights of %s%s", path, f"; anew: {', '.join(renewed)}" if renewed else "")
