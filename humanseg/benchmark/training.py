"""Training: the step's ceiling, what real training reaches of it, and a plain script, all in turn; and a trace."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import repeat
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from humanseg import distributed, loop
from humanseg.benchmark import memory, plain
from humanseg.benchmark.figures import ROUNDS, Figure, figure, in_turn, ratio
from humanseg.data.loading import Data
from humanseg.device import Compute, finish

ENDLESS = 10**9  # batches
TRACED_STEPS = 3


class Trainee:
    """A network in training by the suite's own loop, an epoch of some steps at a time.

    Args:
        metrics: those that training counts, by name.
    """

    def __init__(
        self, state: loop.State, data: Data, compute: Compute, loss: nn.Module, metrics: dict, clip: float | None
    ):
        self.state, self.data, self.compute, self.loss, self.metrics = state, data, compute, loss, metrics
        self.clip = clip

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> dict[str, float]:
        """The log of an epoch of `steps`, as the loop writes it."""
        settings = loop.Settings(1, steps, 1, self.clip, 1, None, "max", 0)
        self.state.tally = None
        return loop.train_epoch(
            self.state, batches, self.data, self.compute, self.loss, self.metrics, settings, lambda _: None
        )

    def stream(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Its real batches, without end, after two steps to warm up."""
        batches = self.data.train_batches(0, ENDLESS)
        self.epoch(batches, 2)
        return batches

    def turn(self, batches: Iterator[tuple[Tensor, Tensor]], seconds: float) -> dict[str, float]:
        """The log of about as many seconds, two steps at least, after one to warm up."""
        warm = distributed.from_main(self.epoch(batches, 1))
        return self.epoch(batches, _steps(seconds, warm["time/train_seconds"]))


def _steps(seconds: float, one: float) -> int:
    return max(2, math.ceil(seconds / one))


def ready(data: Data, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The first training batch again and again, on the device already."""
    images, masks = next(data.train_batches(0, 1))
    return repeat((images.to(device), masks.to(device)))


def ceiling(trainees: dict[str, Trainee], seconds: float) -> list[Figure]:
    """The training step on a batch that is on the device, for each trainee in turn, and their first step."""
    found, peers = [], {}
    for name, trainee in trainees.items():
        batches = ready(trainee.data, trainee.compute.device)
        first = trainee.epoch(batches, 1)["time/train_seconds"]
        found.append(figure("ceiling", f"first step, {name}", "s", [first]))
        trainee.epoch(batches, 2)  # cuDNN has chosen, the compiler may have met another guard
        peers[name] = lambda trainee=trainee, batches=batches: trainee.turn(batches, seconds / ROUNDS)
    rates = {name: rate("ceiling", f"step, {name}", logs) for name, logs in in_turn(peers).items()}
    first, *others = rates.values()
    return [*found, first, *others, *(ratio(f"{one.name} / {first.name}", one, first) for one in others)]


def end_to_end(trainee: Trainee, script: Callable[[float], float], workers: int, seconds: float) -> list[Figure]:
    """Real training, the ceiling and a plain script in turn; then the peak memory of real training, untimed.

    Args:
        script: trains for about as many seconds and returns its images a second.
    """
    device = trainee.compute.device
    stream, batch = trainee.stream(), ready(trainee.data, device)

    def real() -> dict[str, float]:
        drain(stream, workers)
        return trainee.turn(stream, seconds / ROUNDS)

    turns = in_turn(
        {
            "real": real,
            "ceiling": lambda: trainee.turn(batch, seconds / ROUNDS),
            "plain": lambda: {"time/images_per_second": script(seconds / ROUNDS)},
        }
    )
    with memory.watched(device) as peaks:
        trainee.epoch(stream, 2)
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
        together: has them train for about as many seconds and returns the log. ideal: how many times as fast as one
            they could be: 1 where they share the same CPU.
    """
    stream = alone.stream()

    def one() -> dict[str, float]:
        drain(stream, alone.data.num_workers)
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


class Script(NamedTuple):
    """What a plain script trains."""

    network: nn.Module
    photographs: plain.Photographs
    batch_size: int
    workers: int
    loss: nn.Module
    device: torch.device


@contextmanager
def plain_script(script: Script) -> Iterator[Callable[[float], float]]:
    """The plain script in a process of its own: in this one the C library has the suite's settings.

    Inside, a function that has it train for about as many seconds and returns its images a second.
    """
    context = get_context("spawn")
    ours, its = context.Pipe()
    # Processes share no GPU memory.
    on_cpu = script._replace(network=script.network.to("cpu"), loss=script.loss.to("cpu"))
    process = context.Process(target=_run_plain, args=(its, on_cpu, torch.get_num_threads()))
    process.start()
    its.close()  # or a process that died would leave this one waiting
    ours.recv()  # it is warm

    def turn(seconds: float) -> float:
        ours.send(seconds)
        return ours.recv()

    try:
        yield turn
    finally:
        ours.close()
        process.join()


def _run_plain(asked: Connection, script: Script, threads: int) -> None:
    torch.set_num_threads(threads)
    network, photographs, batch_size, workers, loss, device = script
    network, loss = network.to(device), loss.to(device)
    optimizer = torch.optim.SGD((one for one in network.parameters() if one.requires_grad), lr=1e-3, momentum=0.9)
    batches = plain.endless(photographs, batch_size, workers)

    def steps(count: int) -> float:
        finish(device)
        started = time.perf_counter()
        plain.train(network, batches, loss, optimizer, device, count)
        finish(device)
        return time.perf_counter() - started

    steps(2)
    asked.send(None)
    with suppress(EOFError):  # the benchmark has all that it wanted
        while True:
            seconds = asked.recv()
            drain(batches, workers)
            count = _steps(seconds, steps(1))
            asked.send(count * batch_size / steps(count))


def drain(batches: Iterator, workers: int) -> None:
    """Throw away what the workers have prepared while others had their turn: two batches each."""
    for _ in range(2 * workers):
        next(batches)


def trace(trainee: Trainee, path: Path) -> None:
    """Some steps of real training as a Chrome trace; https://ui.perfetto.dev opens it."""
    batches = trainee.data.train_batches(0, ENDLESS)
    trainee.epoch(batches, 1)
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (trainee.compute.device.type == "cuda")
    with profile(activities=kinds) as recorded:
        trainee.epoch(batches, TRACED_STEPS)
    recorded.export_chrome_trace(str(path))
