"""Stages that overlap: reading, computing and writing go on at the same time, in order and with bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from queue import Empty, Full, Queue
from threading import Event, Lock, Thread
from time import perf_counter, process_time
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

POLL = 0.05  # seconds after which a waiting stage checks whether the one after it has ended


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items, made in a thread of their own. Up to `count` of them are made before they are asked for.

    An error in making them is raised here. The thread ends with this iterator, also where that is left early.
    """
    queue: Queue = Queue(count)
    over = Event()

    def put(found: tuple) -> bool:
        while not over.is_set():
            try:
                queue.put(found, timeout=POLL)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            with closing(_closable(items)) as made:
                if all(put((item, None)) for item in made):
                    put((None, StopIteration()))
        except BaseException as error:  # the consumer's thread is where it can be handled
            put((None, error))

    thread = Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item, error = queue.get(timeout=POLL)
            except Empty:
                continue  # a wait without end would not notice Ctrl-C
            if isinstance(error, StopIteration):
                return
            if error:
                raise error
            yield item
    finally:
        over.set()
        thread.join()


def _closable(items: Iterable[T]) -> Iterator[T]:
    """A generator over the items. Closing it also closes a generator that they come from."""
    yield from items


def in_order(pool: Executor, work: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """What `work` makes of the items, in their order; up to `count` of them are in the pool at once."""
    pending = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def in_parts(items: Iterable[T], weigh: Callable[[T], float], most: float, window: int) -> Iterator[Iterator[T]]:
    """The items in parts, each to be finished before the next one is begun.

    Within a part, any `window` items in a row weigh at most `most` together. One that weighs more is a part of its own.
    """
    items, recent = iter(items), deque(maxlen=window - 1)
    coming = next(items, items)  # `items` stands for the end

    def part() -> Iterator[T]:
        nonlocal coming
        recent.clear()
        while coming is not items:
            weight = weigh(coming)
            if recent and sum(recent) + weight > most:
                return
            recent.append(weight)
            yield coming
            coming = next(items, items)

    while coming is not items:
        yield part()


class Clock:
    """The seconds that each stage took, by its name. Stages overlap, so the sum may exceed the elapsed time."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.lock, self.started, self.worked = Lock(), perf_counter(), process_time()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """The time inside the context counts for a stage."""
        began = perf_counter()
        try:
            yield
        finally:
            with self.lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - began

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items. The time that it takes to get each one counts for a stage."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, self)
            if item is self:
                return
            yield item

    def elapsed(self) -> float:
        return perf_counter() - self.started

    def busy(self) -> float:
        """How many cores this process has kept busy on average, such as 1.5."""
        return (process_time() - self.worked) / self.elapsed()
