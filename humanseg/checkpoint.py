"""The checkpoint format: one flat dict of tensors and plain values that opens weights-only; saved whole or not at all."""

import os
import pickle
import random
from pathlib import Path
from typing import Any

import torch
from torch import nn

from humanseg.loop import State


def pack(state: State, config: dict, choices: dict[str, str], versions: dict[str, str]) -> dict[str, Any]:
    """Everything that a run is, between two optimizer steps.

    Args:
        config: the resolved config. choices: the config groups' choices it was composed from.
        versions: what wrote it.
    """
    return {
        "architecture": config["model"]["_target_"],
        "epoch": state.epoch,
        "step": state.step,
        "model": state.model.state_dict(),
        "ema": state.ema.module.state_dict() if state.ema else None,
        "ema_updates": int(state.ema.n_averaged) if state.ema else 0,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
        "schedule": state.schedule.state_dict(),
        "scaler": state.scaler.state_dict(),
        "random": {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "python": random.getstate(),
        },
        "history": state.history,
        "config": config,
        "choices": choices,
        "versions": versions,
    }


def save(path: Path, payload: dict[str, Any], keep: Path | None = None) -> None:
    """Write a checkpoint so that the folder holds a whole one at every instant; the one before it becomes `keep`.

    Raises:
        ValueError: it can't be written, as on a full disk; the one before it is untouched.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            torch.save(payload, file)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise ValueError(f"{path} can't be written ({error}); the checkpoint before it is whole") from error


def load(path: Path) -> dict[str, Any]:
    """Open a checkpoint on the CPU, weights-only: nothing in it can choose code to run.

    Raises:
        ValueError: the file is missing, truncated or no checkpoint of this suite.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} is truncated, damaged or no checkpoint: {reason}") from error
    needed = {"architecture", "choices", "config", "ema", "model"}
    if missing := needed - (payload.keys() if isinstance(payload, dict) else set()):
        raise ValueError(f"{path} is no checkpoint of humanseg: {', '.join(sorted(missing))} missing")
    return payload


def load_weights(model: nn.Module, payload: dict[str, Any], path: Path) -> None:
    """Load the weights that validation used: the moving average where there is one.

    Raises:
        ValueError: they belong to another architecture.
    """
    weights = payload["ema"] or payload["model"]
    if differences := mismatch(model.state_dict(), weights):
        raise ValueError(f"{path} holds a {payload['architecture']} that does not fit: {describe(differences)}")
    model.load_state_dict(weights)


def mismatch(expected: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> list[str]:
    """How two state dicts differ in keys and shapes, a line each."""
    found = [f"{key} is missing" for key in expected if key not in given]
    found += [f"{key} is not in the model" for key in given if key not in expected]
    return found + [
        f"{key} is {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]


def describe(differences: list[str], shown: int = 8) -> str:
    """The first differences and how many more there are."""
    more = f"; and {len(differences) - shown} more" if len(differences) > shown else ""
    return "; ".join(differences[:shown]) + more
