"""The network alone: its size, latency and throughput, by precision, memory format and backend."""

import time
from collections.abc import Callable
from itertools import count
from statistics import median

import torch
from torch import nn

from humanseg import terminal
from humanseg.benchmark.figures import ROUNDS, Figure, durations, figure, in_turn, percentile
from humanseg.compute import Compute
from humanseg.inference.engines import Engine
from humanseg.logs.model_summary import summarise_model

MIOU = "mIoU of the validation samples"
MOST_IMAGES = {"cpu": 32, "cuda": 512, "mps": 64}  # in the largest batch that is tried


def measure(network: nn.Module, size: int, classes: int, engines: dict[str, Engine], seconds: float) -> list[Figure]:
    """Size, and for each engine of the network the latency at batch 1 and the throughput at its best batch.

    A forward pass goes from uint8 images on the device to float32 logits there. The engines take turns.

    Args:
        size: side of the square images, pixels. seconds: for each figure.
    """
    facts = summarise_model(network, size, classes)[1]
    found = [figure("model", name.replace("_", "-"), "1", [facts[name]]) for name in ("parameters", "multiply_adds")]
    passes = {name: forward(engine, size) for name, engine in engines.items()}
    devices = {name: engine.device for name, engine in engines.items()}
    found += _latencies(passes, devices, seconds)
    batches = {name: best_batch(run, devices[name], seconds) for name, run in passes.items()}
    peers = {name: _bound(passes[name], batch, devices[name], seconds) for name, batch in batches.items()}
    for name, turns in in_turn(peers).items():
        rates = [batches[name] / median(turn) for turn in turns]
        found.append(figure("model", f"throughput at the best batch, {name}", "images/s", rates))
        found.append(figure("model", f"best batch, {name}", "images", [batches[name]]))
    return found


def forward(engine: Engine, size: int) -> Callable[[int], object]:
    """A function of the batch that runs an engine on as many random images."""
    images = {}

    @torch.inference_mode()
    def run(batch: int) -> object:
        if batch not in images:
            images.clear()
            images[batch] = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, device=engine.device)
        return engine(images[batch])

    return run


def best_batch(run: Callable[[int], object], device: torch.device, seconds: float) -> int:
    """The power of two with the most images a second, of those that fit the memory and could be tried in `seconds`."""
    rates, end = {}, time.perf_counter() + seconds
    for batch in (2**power for power in count()):
        try:
            run(batch)
            rates[batch] = batch / min(durations(lambda size=batch: run(size), device, 0))
        except torch.OutOfMemoryError:
            break
        if 2 * batch > MOST_IMAGES[device.type] or time.perf_counter() > end:
            break
    return max(rates, key=rates.get)


def _latencies(passes: dict[str, Callable], devices: dict[str, torch.device], seconds: float) -> list[Figure]:
    """p50 and p95 of each engine's passes at batch 1, with the values of the rounds as their range."""
    found = []
    for run in passes.values():
        for _ in range(3):  # a warm-up: in the first passes cuDNN and oneDNN choose algorithms and pack weights
            run(1)
    peers = {name: _bound(run, 1, devices[name], seconds) for name, run in passes.items()}
    for name, turns in in_turn(peers).items():
        milliseconds = [[1000 * one for one in turn] for turn in turns]
        whole = [one for turn in milliseconds for one in turn]
        for share in (50, 95):
            each = [percentile(turn, share) for turn in milliseconds]
            label = f"latency p{share} at batch 1, {name}"
            found.append(Figure("model", label, "ms", percentile(whole, share), tuple(each)))
    return found


def _bound(run: Callable, batch: int, device: torch.device, seconds: float) -> Callable[[], list[float]]:
    return lambda: durations(lambda: run(batch), device, seconds / ROUNDS)


def label(compute: Compute) -> str:
    """A device, precision and memory format in short."""
    return f"{compute.device.type} {compute.precision} {'channels-last' if compute.channels_last else 'contiguous'}"


def row(name: str, figures: list[Figure]) -> dict[str, str]:
    """A row of the 2019 template's table of models: FLOPs are multiply-adds, times are the fastest p50 at batch 1."""
    values = {one.name: one.value for one in figures if one.part == "model"}

    def quickest(device: str) -> str:
        times = [value for key, value in values.items() if key.startswith(f"latency p50 at batch 1, {device} ")]
        return f"{min(times):.1f} ms" if times else "-"

    return {
        "Model": name,
        "Parameters": f"{values['parameters'] / 1e6:.2f}M",
        "FLOPs": f"{values['multiply-adds'] / 1e9:.2f}G",
        "CPU time": quickest("cpu"),
        "GPU time": quickest("cuda"),
        "mIoU": f"{100 * values[MIOU]:.2f}%" if MIOU in values else "-",
    }


def markdown(cells: dict[str, str]) -> str:
    """One row under its heading."""
    rows = [cells.keys(), ["---"] * len(cells), [cell.replace("|", r"\|") for cell in cells.values()]]
    return terminal.lines("| " + " | ".join(row) + " |" for row in rows)
