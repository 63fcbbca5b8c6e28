"""Values of single optimizer steps: copied from the device while it works on, read when they are there."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class _Copy(NamedTuple):
    step: int
    epoch: int
    known: dict[str, float]  # what the host knows: rates
    names: list[str]
    values: Tensor  # on the CPU, valid when `copied` has happened
    copied: torch.cuda.Event | None


class StepValues:
    """Values on their way from the device, oldest first."""

    def __init__(self):
        self._left: deque[_Copy] = deque()

    def add(self, step: int, epoch: int, known: dict[str, float], values: dict[str, Tensor]) -> None:
        """Take the values of a step; nothing waits for the device.

        Args:
            epoch: how many are finished. known: numbers that join the values. values: scalars on the device.
        """
        together = torch.stack([value.detach().float() for value in values.values()])
        on_cpu, copied = together.to("cpu", non_blocking=together.is_cuda), None
        if together.is_cuda:
            copied = torch.cuda.Event()
            copied.record()
        self._left.append(_Copy(step, epoch, known, list(values), on_cpu, copied))

    def read(self, wait: bool = False) -> Iterator[tuple[int, int, dict[str, float]]]:
        """The step, epoch and values of the steps whose copies are there; with `wait` of all."""
        while self._left:
            copied = self._left[0].copied
            if copied and not wait and not copied.query():
                return
            if copied:
                copied.synchronize()
            one = self._left.popleft()
            values = one.known | dict(zip(one.names, one.values.tolist(), strict=True))
            yield one.step, one.epoch, {f"step/{name}": value for name, value in values.items()}
