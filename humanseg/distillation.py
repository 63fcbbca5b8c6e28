"""The teacher of a run: a larger network, trained before, whose answers a loss may ask for."""

import threading
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import nn

from humanseg import build, checkpoint, terminal
from humanseg.compute import Compute
from humanseg.data.answers import Teacher
from humanseg.losses import asks_for
from humanseg.predictor import Predictor
from humanseg.runs import find, recorded
from humanseg.weights import are_finite

SEEN = ("image_size", "pad_value", "mean", "std")  # the keys of `data` that decide what a network sees


def place(distill: str, out: str) -> str:
    """The file that `distill` names, as `ckpt` would.

    Raises:
        ValueError: nothing there, or it is no checkpoint.
    """
    path = find.checkpoint(distill, out, "distill")
    if find.is_exported(path):
        raise ValueError(f"distill={path} is exported: give {find.NAMED}")
    return str(path.absolute())


def teacher(path: Path, classes: int, compute: Compute, mark: str | None) -> Teacher:
    """The teacher in a checkpoint.

    It computes in fp32, so that its answers are the same for any precision of the run.

    Args:
        classes: of the network that learns. compute: where that runs.
        mark: of the teacher that the run began with; None: it begins now.

    Raises:
        ValueError: the checkpoint is not there at the beginning, holds another teacher or one that does not fit, or may
            not be opened.
    """
    if mark and not path.is_file():
        return Teacher(str(path), mark, 1, None)
    try:
        payload = checkpoint.load(path)
        config = recorded.checkpoint_config(payload, {}, [])
    except ValueError as error:
        where = "" if str(error).startswith(str(path)) else f"{path}: "
        raise ValueError(f"distill={where}{error}") from error
    if classes > 2:
        raise ValueError(f"distill={path}: a teacher tells people from the background, not model.classes={classes}")
    if (own := config["model"]["classes"]) != classes:
        raise ValueError(
            f"distill={path}: the teacher has model.classes={own}, and this network {classes}: give one of as many"
        )
    network, data = build.model_of(payload, config["model"], path), config["data"]
    found = mark_of(network, config)
    if mark not in (None, found):
        raise ValueError(f"distill={path} is another teacher than the one that this run began with: put that one there")
    seen = Compute(compute.device, "fp32", compute.channels_last, data["mean"], data["std"])
    predictor, alone = Predictor.of(network, seen, data["image_size"], data["pad_value"]), threading.Lock()

    def ask(image: np.ndarray) -> np.ndarray:
        with alone:
            return predictor(image)

    try:
        answer = ask(np.zeros((data["image_size"], data["image_size"], 3), np.uint8))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"distill={path}: the teacher does not take photographs of three colours: {terminal.reason(error)}"
        ) from error
    if not (np.isfinite(answer).all() and are_finite(network.state_dict())):
        raise ValueError(f"distill={path}: the teacher's answers are no numbers, its weights are of no use")
    return Teacher(str(path), found, data["image_size"], ask)


def mark_of(network: nn.Module, config: dict) -> str:
    """16 hexadecimal digits that stand for a network's weights and for what it sees."""
    facts = [*sorted(config["model"].items()), *(config["data"][key] for key in SEEN)]
    told = blake2b(repr(facts).encode(), digest_size=8)
    for name, tensor in network.state_dict().items():
        told.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return told.hexdigest()


def refuse_unasked(loss: nn.Module, distill: str | None) -> None:
    """Hold a loss against whether there is a teacher.

    Raises:
        ValueError: the loss asks for one that is not there, or for none although one is.
    """
    if not distill and asks_for(loss, "teacher", needs=True):
        raise ValueError("the loss asks for a teacher: give distill=PATH, a network that was trained before")
    if distill and not asks_for(loss, "teacher"):
        raise ValueError(
            f"distill={distill}: the loss does not ask for a teacher: give loss=bce_dice_distill, or distill=null"
        )
