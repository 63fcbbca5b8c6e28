"""Stages that overlap: what is read, computed and written at the same time, in order and with bounded memory."""

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

POLL = 0.05  # seconds after which a waiting stage looks whether the one after it has gone


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items, made in a thread of their own, up to `count` before they are asked for.

    What they raise is raised here. The thread ends with this iterator, also where that is left early.
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
                continue  # so that Ctrl-C is heard
            if isinstance(error, StopIteration):
                return
            if error:
                raise error
            yield item
    finally:
        over.set()
        thread.join()


def _closable(items: Iterable[T]) -> Iterator[T]:
    """A generator over items: closing it closes one that they come from."""
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


class Clock:
    """Seconds that stages took, by their names; they overlap, so their sum may exceed what has elapsed."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.lock, self.started, self.worked = Lock(), perf_counter(), process_time()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Inside, time counts for a stage."""
        began = perf_counter()
        try:
            yield
        finally:
            with self.lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - began

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time that each takes to come counts for a stage."""
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
        """Of a core, what this process has kept busy on average: 1.5 is one and a half."""
        return (process_time() - self.worked) / self.elapsed()
