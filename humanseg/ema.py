"""Averages of a network's weights: one that moves, and the mean of several."""

from itertools import chain

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from humanseg.processes import torch_private


class Mean(AveragedModel):
    """The mean of all weights and statistics that it takes in; before the first it is a copy of the network.

    torch's own update would send the number of updates to the device at each step and wait for it.
    """

    def __init__(self, network: nn.Module):
        super().__init__(network, use_buffers=True)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights; the first are copied."""
        share = self.share(int(self.n_averaged))  # the number is on the CPU
        ours, theirs = (chain(one.parameters(), one.buffers()) for one in (self.module, model))
        pairs = list(zip(ours, theirs, strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        torch_private.lerp_(*map(list, zip(*floating, strict=True)), share)
        for averaged, current in pairs:
            if not averaged.is_floating_point():
                averaged.copy_(current)  # the counters of batch norm
        self.n_averaged += 1

    def share(self, count: int) -> float:
        """What part of the mean the next weights are, after `count` others."""
        return 1 / (1 + count)


class Average(Mean):
    """The moving average of a network's weights and statistics.

    Its decay grows with the number of updates, min(decay, (1 + n) / (10 + n)), so that the first steps are forgotten.
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__(network)
        self.decay = decay

    def share(self, count: int) -> float:
        return 1 - min(self.decay, (1 + count) / (10 + count)) if count else 1.0


def average(network: nn.Module, decay: float) -> Average | None:
    """The moving average of the weights and statistics; None for a decay of 0."""
    return Average(network, decay) if decay else None
