"""Stages overlap, keep their order, end together and hand on what they raise."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from humanseg.compositing.flow import Clock, ahead, in_order, in_parts


def test_what_a_thread_makes_comes_whole_and_in_order():
    assert list(ahead(range(100), 3)) == list(range(100))
    assert list(ahead([], 3)) == []


def test_no_more_is_made_ahead_than_asked_for():
    made = []
    taken = ahead((made.append(number) or number for number in range(100)), 4)
    assert next(taken) == 0
    time.sleep(0.3)
    assert len(made) <= 1 + 4 + 1  # taken, in the queue, in the hand
    taken.close()


def test_an_error_of_the_thread_is_raised_where_its_items_are_taken():
    def broken():
        yield 1
        raise ValueError("the second")

    taken = ahead(broken(), 3)
    assert next(taken) == 1
    with pytest.raises(ValueError, match="the second"):
        next(taken)


def test_a_stage_that_is_left_early_ends_all_before_it():
    closed = []

    def source():
        try:
            yield from iter(int, 1)  # endless zeros
        finally:
            closed.append(True)

    before = set(threading.enumerate())
    taken = ahead(ahead(source(), 2), 2)
    next(taken)
    taken.close()
    assert closed == [True] and set(threading.enumerate()) <= before


def test_a_pool_keeps_the_order_and_a_bound():
    running, most, lock = [0], [0], threading.Lock()

    def work(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01 * (number % 3))
        with lock:
            running[0] -= 1
        return number * 10

    with ThreadPoolExecutor(8) as pool:
        assert list(in_order(pool, work, range(30), 3)) == [number * 10 for number in range(30)]
    assert 1 < most[0] <= 3


def test_an_error_in_the_pool_is_raised_and_cancels_what_waits():
    started = []

    def work(number: int) -> None:
        started.append(number)
        if number == 1:
            raise ValueError("one")
        time.sleep(0.05)

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="one"):
        list(in_order(pool, work, range(50), 10))
    assert len(started) < 15


def test_the_clock_adds_up_each_stage():
    clock = Clock()
    with clock("network"):
        time.sleep(0.02)
    assert list(clock.each("decode", iter("ab"))) == ["a", "b"]
    assert 0.02 <= clock.seconds["network"] <= clock.elapsed() and clock.seconds["decode"] >= 0


def test_what_is_in_flight_together_weighs_no_more_than_allowed():
    weights = [5, 5, 5, 90, 5, 100, 300, 5, 5, 5]
    parts = [list(part) for part in in_parts(weights, lambda weight: weight, 100, 3)]
    assert parts == [[5, 5, 5, 90, 5], [100], [300], [5, 5, 5]]
    assert [list(part) for part in in_parts([1] * 50, lambda weight: weight, 3, 3)] == [[1] * 50]
    assert list(in_parts([], lambda weight: weight, 3, 3)) == []
