"""Going on from a checkpoint: a state is put back to where it was saved. The checkpoint may come from a stranger."""

import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

from humanseg.loop import State
from humanseg.metrics import Counts
from humanseg.tally import Tally
from humanseg.weights import describe, mismatch

SWITCHES = (int, float, bool, type(None))  # the kinds of an optimizer's settings that are no lists
MOST_STEPS = 2**40
LOGGED = {"epoch", "step", "time/images_per_second", "time/data_wait_share"}  # what each epoch's log has


def restore(state: State, payload: dict[str, Any], device: torch.device, changed: Iterable[str] = ()) -> None:
    """Put a state back to where a checkpoint was saved; the inverse of `checkpoint.pack`.

    Args:
        state: newly built from the same config.
        changed: keys of the config that have new values; ``optimizer.lr`` and its like win over the checkpoint's.

    Raises:
        ValueError: the checkpoint holds something else than such a state.
    """
    try:
        _refuse_other_kinds(payload)
        _put_back(state, payload, device, tuple(changed))
    except Exception as error:  # it may hold anything, and torch raises errors of many types
        reason = f"{type(error).__name__}: {error}".removeprefix("ValueError: ").split("\n")[0]
        raise ValueError(f"checkpoints/last.pt holds no state of this run: {reason}") from error


def _refuse_other_kinds(payload: dict[str, Any]) -> None:
    """The place in the run is two counts, and each epoch's log holds numbers.

    Raises:
        ValueError: they are something else.
    """
    for name in ("epoch", "step"):
        if type(payload[name]) is not int or not 0 <= payload[name] <= MOST_STEPS:
            raise ValueError(f"its {name} is no count")
    if len(payload["history"]) < payload["epoch"]:
        raise ValueError("its history lacks epochs")
    for values in payload["history"]:
        if lacking := ({"epoch", "step"} if "averaged" in values else LOGGED) - values.keys():
            raise ValueError(f"its history lacks {min(lacking)}")
        if others := [name for name, value in values.items() if not isinstance(value, int | float)]:
            raise ValueError(f"its history has a {others[0]} that is no number")


def _put_back(state: State, payload: dict[str, Any], device: torch.device, changed: tuple[str, ...]) -> None:
    if differences := mismatch(state.model.state_dict(), payload["model"]):
        raise ValueError(describe(differences))
    state.model.load_state_dict(payload["model"])
    if state.ema:
        state.ema.module.load_state_dict(payload["ema"] or payload["model"])
        state.ema.n_averaged.fill_(payload["ema_updates"])
    for name, optimizer in state.optimizers.items():
        prefix = "optimizer." if name == "model" else f"optimizer.parts.{name}."
        given = [key.removeprefix(prefix) for key in changed if key.startswith(prefix)]
        saved, groups = payload["optimizers"][name], []
        _refuse_other_shapes(saved["state"], optimizer)
        for old, new in zip(saved["param_groups"], optimizer.state_dict()["param_groups"], strict=True):
            _refuse_other_settings(old, new)
            groups.append(old | {key: new[key] for key in given if key in new})
            if "lr" in given:
                groups[-1]["initial_lr"] = new["lr"]
        optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
        refuse_lacking(optimizer)
        _lay_out(optimizer)
    _refuse_other_memory(payload["schedule"], state.schedule.state_dict())
    state.schedule.load_state_dict(payload["schedule"])
    if payload["scaler"] and state.scaler.is_enabled():
        state.scaler.load_state_dict(payload["scaler"])
    state.epoch, state.step, state.history = payload["epoch"], payload["step"], payload["history"]
    if state.hardness:
        state.hardness.load_state_dict(payload["hardness"])
    if payload["tally"]:
        _refuse_other_sums(payload["tally"], payload["config"]["model"]["classes"])
        state.tally = Tally(device, state.hardness)
        state.tally.load_state_dict(payload["tally"])
    torch.set_rng_state(payload["random"]["torch"])
    if len(payload["random"]["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(payload["random"]["cuda"])
    random.setstate(payload["random"]["python"])


def _refuse_other_memory(saved: dict[str, Any], own: dict[str, float]) -> None:
    """What a schedule remembers are the numbers that this run's remembers; one of another kind remembers nothing.

    Raises:
        ValueError: they are others.
    """
    numbers = all(isinstance(value, int | float) for value in saved.values())
    if saved and own and not (numbers and saved.keys() == own.keys()):
        raise ValueError("its schedule remembers other things")


def _refuse_other_sums(saved: dict[str, Any], classes: int) -> None:
    """What an unfinished epoch has added up are numbers, and counts of the classes.

    Raises:
        ValueError: they are something else.
    """
    whole = vars(Counts.zeros(classes, torch.device("meta")))
    counts = saved["counts"] or {}
    if any(value.numel() != 1 for value in saved["sums"].values()) or any(
        value.shape != whole[name].shape for name, value in counts.items()
    ):
        raise ValueError("its sums are of other shapes")


def _refuse_other_settings(saved: dict[str, Any], own: dict[str, Any]) -> None:
    """The settings of a group of parameters are of the kinds that this run's optimizer has: numbers, or several of them.

    Raises:
        ValueError: one is not.
    """
    for key, value in saved.items():
        known = own.get("lr" if key == "initial_lr" else key)
        if isinstance(known, SWITCHES):
            same = isinstance(value, SWITCHES if known is None or isinstance(known, bool) else int | float)
        else:
            several = isinstance(value, list | tuple) and all(isinstance(item, SWITCHES) for item in value)
            same = several and len(value) == len(known)
        if not same:
            raise ValueError(f"its optimizer has another kind of {key}")


def _refuse_other_shapes(saved: dict[int, dict], optimizer: torch.optim.Optimizer) -> None:
    """What an optimizer keeps of a parameter has the parameter's shape, or is one number; a view may claim more memory.

    Raises:
        ValueError: it has another shape.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        for key, value in saved.get(index, {}).items():
            if torch.is_tensor(value) and value.numel() != 1 and value.shape != parameter.shape:
                raise ValueError(f"the checkpoint's optimizer keeps a {key} of another shape than its parameter")


def refuse_lacking(optimizer: torch.optim.Optimizer) -> None:
    """An optimizer keeps of a parameter what a step of it leaves: a copy of it takes a step with a parameter of one number.

    Raises:
        ValueError: something is not there, or a setting asks for more than the checkpoint's optimizer had.
    """
    trial = object.__new__(type(optimizer))
    trial.__dict__ |= vars(optimizer)
    for group in optimizer.param_groups:
        one = torch.nn.Parameter(torch.zeros(1, device=group["params"][0].device))
        one.grad = torch.zeros_like(one)
        trial.state, trial.param_groups = defaultdict(dict), [group | {"params": [one]}]
        trial.step()
        for parameter in group["params"]:
            if parameter in optimizer.state and (
                lacking := trial.state[one].keys() - optimizer.state[parameter].keys()
            ):
                raise ValueError(f"its optimizer lacks {min(lacking)} of a parameter")


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Bring what belongs to a parameter into its memory format, which trainer.channels_last may have changed since.

    On the CPU a fused step goes through both in the order of memory and would silently pair the wrong numbers.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
