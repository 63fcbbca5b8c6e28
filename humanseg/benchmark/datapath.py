"""The data path alone: images a second by number of workers, recipe and cache, and per core, beside a plain one."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from humanseg.benchmark.figures import ROUNDS, Figure, figure, in_turn, ratio


class Loader(NamedTuple):
    """A way from files to batches."""

    recipe: str
    way: str  # cache | no cache | plain
    open: Callable[[int], Iterator]  # a number of workers -> endless batches


class Turn(NamedTuple):
    """What a loader did in its turn."""

    rate: float  # images a second
    core_rate: float  # images in a second of one core; valid only without workers


def measure(loaders: list[Loader], workers: list[int], batch_size: int, seconds: float) -> list[Figure]:
    """Each loader with each number of workers; the loaders of one recipe take turns."""
    found = []
    for recipe in dict.fromkeys(loader.recipe for loader in loaders):
        ways = [loader for loader in loaders if loader.recipe == recipe]
        for count in workers:
            peers = {one.way: _peer(one, count, batch_size, seconds) for one in ways}
            turns = in_turn(peers)
            for way, taken in turns.items():
                name = f"{recipe}, {way}, {count} workers"
                found.append(figure("data", name, "images/s", [turn.rate for turn in taken]))
            if count == 0:
                found += _per_core(recipe, turns)
    return found


def _per_core(recipe: str, turns: dict[str, list[Turn]]) -> list[Figure]:
    """Images per second of processor time, which other work on the machine hardly changes."""
    by_way = {
        way: figure("data", f"{recipe}, {way}, per core", "images/core-s", [turn.core_rate for turn in taken])
        for way, taken in turns.items()
    }
    ratios = [
        ratio(f"{recipe}, {way} / plain, per core", one, by_way["plain"])
        for way, one in by_way.items()
        if way != "plain"
    ]
    return [*by_way.values(), *ratios]


def _peer(loader: Loader, workers: int, batch_size: int, seconds: float) -> Callable[[], Turn]:
    def turn() -> Turn:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker; more threads would spin, which counts as work
        try:
            return timed(loader.open(workers))
        finally:
            torch.set_num_threads(threads)

    def timed(batches: Iterator) -> Turn:
        for _ in range(1 + 2 * workers):  # a warm-up, and what the workers prepared before the clock starts
            next(batches)
        images, started, core_started = 0, time.perf_counter(), time.process_time()
        while images < 2 * batch_size or time.perf_counter() - started < seconds / ROUNDS:
            next(batches)
            images += batch_size
        elapsed, core_seconds = time.perf_counter() - started, time.process_time() - core_started
        return Turn(images / elapsed, images / core_seconds)

    return turn
