"""Training: the ceiling of a step, what real training reaches of it, a plain script, all in turn, and a trace."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from humanseg import loop
from humanseg.benchmark import memory
from humanseg.benchmark.figures import ROUNDS, Figure, figure, in_turn, ratio
from humanseg.benchmark.plain import Script
from humanseg.data.loading import Data
from humanseg.processes import distributed

ENDLESS = 10**9  # batches
TRACED_STEPS = 3


class Trainee:
    """A network that the suite's own loop trains, in epochs of some steps."""

    def __init__(self, state: loop.State, setup: loop.Setup):
        self.state, self.setup = state, setup

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> dict[str, float]:
        """Train an epoch of `steps`; returns its log as the loop writes it."""
        self.state.tally = None
        settings = dataclasses.replace(self.setup.settings, steps=steps)
        return loop.train_epoch(self.state, batches, dataclasses.replace(self.setup, settings=settings))

    def stream(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless real batches, after two training steps on them to warm up."""
        batches = self.setup.data.train_batches(0, ENDLESS)
        self.epoch(batches, 2)
        return batches

    def turn(self, batches: Iterator[tuple[Tensor, Tensor]], seconds: float) -> dict[str, float]:
        """Train one step to warm up, then for about `seconds`, two steps at least; returns the log of these."""
        warm = distributed.broadcast(self.epoch(batches, 1))
        return self.epoch(batches, _steps(seconds, warm["time/train_seconds"]))


def _steps(seconds: float, one: float) -> int:
    return max(2, math.ceil(seconds / one))


def ready(data: Data, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The first training batch again and again; it is already on the device."""
    images, masks = next(data.train_batches(0, 1))
    return repeat((images.to(device), masks.to(device)))


def ceiling(trainees: dict[str, Trainee], seconds: float) -> list[Figure]:
    """Each trainee's first step, and its step on a batch that is already on the device, in turn."""
    found, peers = [], {}
    for name, trainee in trainees.items():
        batches = ready(trainee.setup.data, trainee.setup.compute.device)
        first = trainee.epoch(batches, 1)["time/train_seconds"]
        found.append(figure("ceiling", f"first step, {name}", "s", [first]))
        trainee.epoch(batches, 2)  # a warm-up: cuDNN chooses, and the compiler may compile again for another guard
        peers[name] = lambda trainee=trainee, batches=batches: trainee.turn(batches, seconds / ROUNDS)
    rates = {name: rate("ceiling", f"step, {name}", logs) for name, logs in in_turn(peers).items()}
    first, *others = rates.values()
    return [*found, first, *others, *(ratio(f"{one.name} / {first.name}", one, first) for one in others)]


def end_to_end(trainee: Trainee, script: Script, seconds: float) -> list[Figure]:
    """The peak memory of real training, untimed; then real training, the ceiling and a plain script in turn."""
    device, workers = trainee.setup.compute.device, trainee.setup.data.workers
    stream, batch = trainee.stream(), ready(trainee.setup.data, device)
    with memory.watched(device) as peaks:  # before the script has run: the C library keeps the memory that it needed
        trainee.epoch(stream, 2)
    script.steps(2)  # a warm-up

    def real() -> dict[str, float]:
        drain(stream, workers)
        return trainee.turn(stream, seconds / ROUNDS)

    def plain() -> dict[str, float]:
        drain(script.batches, workers)
        count = _steps(seconds / ROUNDS, script.steps(1))
        return {"time/images_per_second": count * script.batch_size / script.steps(count)}

    turns = in_turn({"real": real, "ceiling": lambda: trainee.turn(batch, seconds / ROUNDS), "plain": plain})
    rates = {name: rate("training", name, logs) for name, logs in turns.items()}
    waits = [100 * log["time/data_wait_share"] for log in turns["real"]]
    return [
        *rates.values(),
        ratio("real / ceiling", rates["real"], rates["ceiling"]),
        ratio("real / plain", rates["real"], rates["plain"]),
        figure("training", "waiting for data", "%", waits),
        *(figure("training", f"peak memory, {where}", "MiB", [size / 2**20]) for where, size in peaks.items()),
    ]


def scaling(
    alone: Trainee, together: Callable[[float], dict[str, float]], processes: int, ideal: int, seconds: float
) -> list[Figure]:
    """Real training by one process and by several, in turn, and how much of the ideal the several reach.

    Args:
        together: trains with the several processes for about so many seconds and returns the log. ideal: how many times
            as fast as one process they could be: 1 where they share the same CPU.
    """
    stream = alone.stream()

    def one() -> dict[str, float]:
        drain(stream, alone.setup.data.workers)
        return alone.turn(stream, seconds / ROUNDS)

    turns = in_turn({"1 process": one, f"{processes} processes": lambda: together(seconds / ROUNDS)})
    single, several = (rate("scaling", name, logs) for name, logs in turns.items())
    if ideal == 1:
        return [single, several, ratio(f"{several.name} / {single.name}", several, single)]
    perfect = figure("scaling", f"{ideal} times 1 process", "images/s", [ideal * value for value in single.rounds])
    return [single, perfect, several, ratio(f"{several.name} / {perfect.name}", several, perfect)]


def rate(part: str, name: str, logs: list[dict[str, float]]) -> Figure:
    """The images a second of the logs of several turns."""
    return figure(part, name, "images/s", [log["time/images_per_second"] for log in logs])


def drain(batches: Iterator, workers: int) -> None:
    """Throw away the batches that the workers prepared while other peers had their turn: two for each worker."""
    for _ in range(2 * workers):
        next(batches)


def trace(trainee: Trainee, path: Path) -> None:
    """Some steps of real training as a Chrome trace; https://ui.perfetto.dev opens it."""
    batches = trainee.setup.data.train_batches(0, ENDLESS)
    trainee.epoch(batches, 1)
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (trainee.setup.compute.device.type == "cuda")
    with profile(activities=kinds) as recorded:
        trainee.epoch(batches, TRACED_STEPS)
    recorded.export_chrome_trace(str(path))
