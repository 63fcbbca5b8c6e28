"""A checkpoint for others: the network and its config, without what training alone goes on with."""

from typing import Any

from torch import Tensor

from humanseg.runs.recorded import without_folders

KEPT = ("architecture", "epoch", "averaged", "choices", "versions", "samples", "reading")


def slim(payload: dict[str, Any], config: dict[str, Any], precision: str) -> dict[str, Any]:
    """What a checkpoint has for test, predict, export, benchmark, and for a run that starts from its weights.

    Args:
        payload: the checkpoint. config: its config as it is to be recorded. precision: fp32 | fp16, of the weights.
    """
    weights = payload["ema"] or payload["model"]  # those that validation used
    if precision == "fp16":
        weights = {name: _halved(value) for name, value in weights.items()}
    facts = {name: payload[name] for name in KEPT if name in payload}
    averaged = payload.get("averaged", 0)
    logs = [log for log in payload["history"] if log.get("averaged", 0) == averaged][-1:]  # of these weights
    return facts | {"model": weights, "ema": None, "history": logs, "config": without_folders(config)}


def _halved(value: Tensor) -> Tensor:
    """A tensor in half precision; biases, norms and their statistics stay as they are: they are one number in a hundred."""
    return value.half() if value.is_floating_point() and value.dim() > 1 else value
