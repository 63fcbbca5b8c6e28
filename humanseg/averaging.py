"""What becomes of the weights at the end of training: the mean of the last epochs', and batch norm's statistics anew."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from humanseg import checkpoint
from humanseg.compute import Compute
from humanseg.ema import Mean
from humanseg.loop import Record, Setup, State, validate
from humanseg.processes import distributed
from humanseg.weights import are_finite


def finish(
    state: State,
    setup: Setup,
    folder: Path,
    after_step: Callable[[State], None],
    keep: Callable[[State, State, Record], None],
) -> None:
    """Average the last epochs' weights, estimate their statistics and validate them, where the settings ask for it.

    The weights are those that validation uses. The history gets one more log, whose `averaged` says of how many epochs they
    are the mean. All follows from the checkpoints: a run that is killed here does it again, with the same result.

    Args:
        folder: the checkpoints'.
        after_step: called after each validation batch, as in training.
        keep: called at the end with the state, the state whose `ema` is the average, and the record.

    Raises:
        ValueError: an epoch's checkpoint is not there or damaged, or the average gives no numbers.
    """
    settings = setup.settings
    if not (settings.average_last or settings.reestimate_batchnorm) or "averaged" in state.history[-1]:
        return
    count = min(settings.average_last or 1, state.epoch)
    average = Mean(state.evaluated)
    if settings.average_last:
        paths = [recent(folder, epoch) for epoch in range(state.epoch - count + 1, state.epoch + 1)]
        average.module.load_state_dict(distributed.made_by_main(lambda: mean(state.evaluated, paths)))
    if settings.reestimate_batchnorm:
        batches = setup.data.train_batches(0, settings.reestimate_batchnorm)
        reestimate(average.module, (images for images, *_ in batches), setup.compute)
    averaged = replace(state, ema=average, averaged=count)
    log = {"epoch": state.epoch, "step": state.step, "averaged": count}
    record = Record(state.epoch, state.step, log, averaged.evaluated, setup.compute, state.model)
    if setup.data.splits["val"]:
        validate(averaged, record, setup, lambda _: after_step(state))
    state.history.append(record.log)
    keep(state, averaged, record)


def recent(folder: Path, epoch: int) -> Path:
    """The checkpoint of an epoch that may be averaged."""
    return folder / f"recent_{epoch:04d}.pt"


def drop_recent(folder: Path, last: int) -> None:
    """Remove the checkpoints of the epochs up to `last`, which are not averaged any more."""
    for file in folder.glob("recent_*.pt"):
        epoch = file.stem.removeprefix("recent_")
        if epoch.isdecimal() and int(epoch) <= last:
            file.unlink()


def mean(network: nn.Module, paths: list[Path]) -> dict[str, Tensor]:
    """The mean of the weights and statistics in some checkpoints, those that validation used, on the CPU.

    Raises:
        ValueError: a checkpoint is not there, damaged or another network's, or has weights that are not finite.
    """
    one = copy.deepcopy(network).cpu()
    found = Mean(one)
    for path in paths:
        checkpoint.load_weights(one, checkpoint.load(path), path)
        if not are_finite(one.state_dict()):
            raise ValueError(f"{path}: its weights are not finite, and trainer.average_last averages them")
        found.update_parameters(one)
    return found.module.state_dict()


def reestimate(network: nn.Module, batches: Iterable[Tensor], compute: Compute) -> None:
    """Replace the running statistics of batch norm by their mean over batches, uint8 NxHxWx3 (Izmailov et al. 2018).

    Of several processes each takes its part of the batches; the statistics become their mean. Random states stay: what
    dropout draws here is forgotten.
    """
    devices = [compute.device] if compute.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        update_bn(batches, _Forward(network, compute))
    distributed.all_reduce_mean(network.buffers())


class _Forward(nn.Module):
    """A network that takes images, uint8 NxHxWx3, as `update_bn` calls it."""

    def __init__(self, network: nn.Module, compute: Compute):
        super().__init__()
        self.network, self.compute = network, compute

    def forward(self, images: Tensor) -> Tensor:
        return self.compute(self.network, images)
