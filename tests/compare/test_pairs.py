"""Which photographs a comparison shows: those where the networks differ most."""

from pathlib import Path

from test_statistics import scores

from humanseg.compare import pairs


def side(label: str, *photographs: tuple[int, int, int]) -> pairs.Side:
    """A network's pixels in some photographs of a thousand: hits, false alarms, misses."""
    found = scores(*zip(*photographs, strict=True))
    found.counts.confusion[:, 0, 0] -= found.counts.confusion[:, 1:].sum((1, 2)) + found.counts.confusion[:, 0, 1]
    return pairs.Side(label, Path(label), "", found)


def test_a_wrong_pixel_where_nobody_is_counts_less_than_half_a_person():
    nobody, pixel, crowd, person, half = (0, 0, 0), (0, 1, 0), (0, 600, 0), (20, 0, 0), (10, 0, 10)
    first = side("a", pixel, half, crowd, person, nobody)
    second = side("b", nobody, person, nobody, half, pixel)
    pair = pairs.compared(first, second, ["iou"], 100, 0)
    assert pair.gains == [1, 0.5, 1, -0.5, -1]
    assert pair.judged_by == ["accuracy", "iou", "accuracy", "iou", "accuracy"]
    assert pairs.for_terminal([pair], "iou")[-4:] == [
        "wins    accuracy +0.6000  000002",
        "wins    iou +0.5000  000001",
        "losses  iou -0.5000  000003",
        "losses  accuracy -0.0010  000004",
    ]
    assert pair.wins(9) == [2, 1, 0] and pair.losses(9) == [3, 4]
    assert pair.wins(1) == [2] and pair.losses(1) == [3]
