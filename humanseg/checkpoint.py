"""The checkpoint format: one flat dict of tensors and plain values that opens weights-only; saved whole or not at all."""

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from humanseg.loop import Setup, State, refuse_bad_loss, refuse_bad_weights
from humanseg.processes import distributed
from humanseg.processes.distributed import rank_zero_only
from humanseg.processes.signals import Interrupted
from humanseg.runs import atomic
from humanseg.runs.plain import ITEMS, refuse_other_than_plain
from humanseg.runs.reading import is_config
from humanseg.runs.recorded import in_todays_names
from humanseg.weights import are_plain_tensors, describe, mismatch, open_weights_only

log = logging.getLogger(__name__)

HISTORY = 5_000_000  # values of the logs of all epochs
WRITER = re.compile("PytorchStreamWriter|inline_container")  # in what torch's zip writer says, of a full disk too


class Checkpoints:
    """The checkpoints in a run's folder: last.pt, previous.pt, best.pt and those that stay, as epoch_0010.pt.

    The main process alone saves.

    Args:
        minutes: longest time between two; None: only epochs are saved.
        facts: what goes into each beside the state: `config`, `choices` of its groups, `versions`, `machine`,
            `samples`, `broken` (marks of samples that it began without), `reading` (the version of how photographs are
            read), `teacher` (its mark, or None).
    """

    def __init__(self, folder: Path, minutes: float | None, facts: dict[str, Any]):
        self.folder, self.facts = folder, facts
        self.wait = float("inf") if minutes is None else 60 * minutes
        self.saved, self.seconds = time.monotonic(), 0.0

    @rank_zero_only
    def due(self) -> bool:
        """Whether the last one is too long ago."""
        return time.monotonic() - self.saved >= self.wait

    @rank_zero_only
    def save(self, state: State, also: Iterable[str] = ()) -> None:
        """Save the state as last.pt and under the names in `also`, which come first: a run that is killed here goes on from
        the last.pt before, and saves them again.

        Raises:
            ValueError: it can't be written.
        """
        started = time.monotonic()
        save(self.folder / "last.pt", pack(state, **self.facts), self.folder / "previous.pt", also)
        self.saved = time.monotonic()
        self.seconds += self.saved - started


class SafePoint:
    """Between two optimizer steps or validation batches: where the state is saved when it is due, and a run can stop.

    Of several processes all come here equally often, and do the same.

    Args:
        asked: returns the number of the signal that asks the run to stop, else None.
    """

    def __init__(self, checkpoints: Checkpoints, setup: Setup, seed: int, asked: Callable[[], int | None]):
        self.checkpoints, self.setup, self.seed, self.asked = checkpoints, setup, seed, asked

    def __call__(self, state: State) -> None:
        """Save the state where it is due or the run was asked to stop.

        Raises:
            Interrupted: the run was asked to stop; it is saved.
            ValueError: the loss or the weights are not finite; nothing is saved.
        """
        distributed.seed_rank(self.seed, state.step)
        stop, due = distributed.all_reduce_max(self.asked() or 0, bool(self.checkpoints.due()))
        if stop or due:
            refuse_bad_loss(state, self.setup)
            refuse_bad_weights(state)
            state.collect()
            self.checkpoints.save(state)
        if stop:
            raise Interrupted(stop)


def pack(state: State, config: dict, **facts: Any) -> dict[str, Any]:
    """Everything that a run is, between two optimizer steps; `config` is the resolved one."""
    return {
        "architecture": config["model"]["_target_"],
        "epoch": state.epoch,
        "step": state.step,
        "model": state.model.state_dict(),
        "ema": state.ema.module.state_dict() if state.ema else None,
        "ema_updates": int(state.ema.n_averaged) if state.ema else 0,
        "averaged": state.averaged,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
        "schedule": state.schedule.state_dict(),
        "hardness": state.hardness.state_dict() if state.hardness else None,
        "scaler": state.scaler.state_dict(),
        "random": {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "python": random.getstate(),
        },
        "history": state.history,
        "tally": state.tally.state_dict() if state.tally else None,
        "config": config,
        **facts,
    }


def save(path: Path, payload: dict[str, Any], keep: Path | None = None, also: Iterable[str] = ()) -> None:
    """Write a checkpoint so that the folder holds a whole one at every instant; the one before it becomes `keep`.

    Args:
        also: names beside `path` for the same content; they are there before `path` is.

    Raises:
        ValueError: it can't be written, as on a full disk; the one before it is untouched.
    """
    try:
        copies = [path.with_name(name) for name in also]
        with atomic.replacing(path, copies, keep) as temporary, temporary.open("wb") as file:
            torch.save(payload, file)
    except (OSError, RuntimeError) as error:
        first = error.__context__ or error  # after another error torch closes the file, and says that it is short
        if not isinstance(first, OSError) and not WRITER.search(str(first)):
            raise first from None  # as the news that a DataLoader worker was killed
        reason = first.strerror if isinstance(first, OSError) else first
        raise ValueError(f"{path} can't be written ({reason}); the checkpoint before it is whole") from error


def load_newest(folder: Path) -> dict[str, Any] | None:
    """A run's last.pt, or previous.pt where that is missing or damaged, which is said; None where there is neither.

    Raises:
        ValueError: all that there are are damaged.
    """
    last, previous = folder / "last.pt", folder / "previous.pt"
    if last.exists():
        try:
            return load(last)
        except ValueError as error:
            if not previous.exists():
                raise
            log.warning("%s; going on from previous.pt", error)
            os.replace(last, last.with_suffix(".damaged"))  # the next save would make it the one before
    return load(previous) if previous.exists() else None


def load(path: Path) -> dict[str, Any]:
    """Open a checkpoint on the CPU, weights-only: nothing in it can choose code to run.

    Raises:
        ValueError: the file is missing, truncated or no checkpoint of this suite.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        payload = open_weights_only(path)
    except ValueError as error:
        raise ValueError(f"{path} is truncated, damaged or no checkpoint: {error}") from error
    needed = {"architecture", "choices", "config", "ema", "epoch", "model"}
    if missing := needed - (payload.keys() if isinstance(payload, dict) else set()):
        raise ValueError(f"{path} is no checkpoint of humanseg: {', '.join(sorted(missing))} missing")
    _refuse_strange_facts(payload, path)
    return payload | {"config": in_todays_names(payload["config"])}


def _refuse_strange_facts(payload: dict[str, Any], path: Path) -> None:
    """All beside the tensors is plain data of a bounded size and of the types that it has.

    Raises:
        ValueError: it is not.
    """
    refuse_other_than_plain(payload.get("config_dirs"), f"{path}: config_dirs")
    for name in ("config", "choices", "architecture", "epoch", "step", "versions", "machine", "samples", "history"):
        refuse_other_than_plain(payload.get(name), f"{path}: {name}", HISTORY if name == "history" else ITEMS)
    groups, samples, history = is_config(payload["config"]), payload.get("samples", {}), payload.get("history", [])
    epochs = isinstance(history, list) and all(isinstance(log, dict) for log in [samples, *history])
    told = all(isinstance(payload.get(name, {}), dict) for name in ("versions", "machine"))
    broken = payload.get("broken", [])
    told = told and isinstance(broken, list) and all(isinstance(mark, str) for mark in broken)
    told = told and isinstance(payload["ema"], dict | None)
    told = told and all(type(payload.get(name, 0)) is int for name in ("reading", "averaged"))
    mark = payload.get("teacher")
    told = told and (mark is None or (isinstance(mark, str) and bool(re.fullmatch("[0-9a-f]{16}", mark))))
    if not (groups and epochs and told and type(payload["epoch"]) is int and isinstance(payload["architecture"], str)):
        raise ValueError(
            f"{path} is no checkpoint of humanseg: its config, history, samples, facts or epoch is none of a run"
        )


def load_weights(model: nn.Module, payload: dict[str, Any], path: Path) -> None:
    """Load the weights that validation used: the moving average where there is one.

    Raises:
        ValueError: they belong to another architecture.
    """
    refuse_mismatch(model, payload, path)
    model.load_state_dict(payload["ema"] or payload["model"])


def refuse_mismatch(model: nn.Module, payload: dict[str, Any], path: Path) -> None:
    """Compare a network's keys and shapes with a checkpoint's; the network may be one without memory, on the meta device.

    Raises:
        ValueError: they differ.
    """
    weights = payload["ema"] or payload["model"]
    tensors = are_plain_tensors(weights)
    differences = mismatch(model.state_dict(), weights) if tensors else ["its weights are no plain tensors"]
    if differences:
        raise ValueError(f"{path} holds a {payload['architecture']} that does not fit: {describe(differences)}")
