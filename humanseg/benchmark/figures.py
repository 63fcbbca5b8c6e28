"""Figures: how they are taken, printed and kept. Each has a unit, a median and the values of its rounds."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import TypeVar

import torch

from humanseg import terminal
from humanseg.processes.hardware import finish

ROUNDS = 3  # turns of each peer

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One measured number, or the ratio of two."""

    part: str
    name: str  # what was measured; no two figures of a part share it
    unit: str
    value: float
    rounds: tuple[float, ...]  # the value of each round; a single one where it can only be measured once
    of: tuple[str, str] | None = None  # of a ratio: the names of the figures that it divides


def figure(part: str, name: str, unit: str, rounds: list[float]) -> Figure:
    """The median of the rounds."""
    return Figure(part, name, unit, median(rounds), tuple(rounds))


def ratio(name: str, top: Figure, bottom: Figure) -> Figure:
    """`top` divided by `bottom`: the ratio of their medians. The ratios of the rounds are its range."""
    rounds = tuple(one / other for one, other in zip(top.rounds, bottom.rounds, strict=True))
    return Figure(top.part, name, "x", top.value / bottom.value, rounds, (top.name, bottom.name))


def in_turn(peers: dict[str, Callable[[], T]], rounds: int = ROUNDS) -> dict[str, list[T]]:
    """Call each peer once a round, so that a slow minute of the machine falls on all of them."""
    found = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            found[name].append(peer())
    return found


def durations(call: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Seconds of each call, device included. It is called until `seconds` have passed, but twice at least."""
    found, end = [], time.perf_counter() + seconds
    while len(found) < 2 or time.perf_counter() < end:
        finish(device)
        started = time.perf_counter()
        call()
        finish(device)
        found.append(time.perf_counter() - started)
    return found


def percentile(samples: list[float], share: int) -> float:
    """The value that `share` percent of two or more samples don't exceed."""
    return quantiles(samples, n=100, method="inclusive")[share - 1]


def table(figures: list[Figure]) -> str:
    """The figures for a terminal, a line each."""
    width = max(len(one.name) for one in figures)
    rows = [f"{'part':<9} {'what':<{width}} {'median':>11} {'low':>11} {'high':>11}  unit"]
    for one in figures:
        numbers = " ".join(f"{shown(value):>11}" for value in (one.value, min(one.rounds), max(one.rounds)))
        rows.append(f"{one.part:<9} {one.name:<{width}} {numbers}  {one.unit}")
    return terminal.lines(rows)


def shown(value: float) -> str:
    """A number with three digits, a larger one with all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_json(figures: list[Figure], measured: dict, row: dict | None) -> dict:
    """The content of benchmark.json: how it was measured, the figures, and the table's row if the model is a part."""
    return {"measured": measured, "figures": [asdict(one) for one in figures], "row": row}
