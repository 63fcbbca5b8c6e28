"""The interval of a difference covers the truth as often as it says, and metrics are resampled as they are defined."""

import math

import pytest
import torch

from humanseg import metrics
from humanseg.compare import statistics
from humanseg.compare.scores import Scores
from humanseg.compare.statistics import differences
from humanseg.metrics import Counts


def scores(hits, false_alarms, misses, own=None) -> Scores:
    """Photographs with these pixels, and a thousand of background."""
    hits, false_alarms, misses = (torch.as_tensor(one, dtype=torch.int64) for one in (hits, false_alarms, misses))
    rest = torch.full_like(hits, 1000)
    confusion = torch.stack([rest, false_alarms, misses, hits], 1).unflatten(1, (2, 2))
    ones, edges = torch.ones(len(hits), dtype=torch.int64), torch.stack([hits, hits + misses], 1)
    counts = Counts(confusion, ones, ones.double(), edges, ones.double(), torch.zeros(len(hits), 0))
    counts.image_iou, counts.image_boundary_iou = metrics.iou(counts), metrics.boundary_iou(counts)
    names = [f"{number:06d}" for number in range(len(hits))]
    return Scores(names, [""] * len(hits), [()] * len(hits), counts, own or {}, boundary=True)


def people(photographs: int, failures: tuple[float, float] = (0.0, 0.0)) -> tuple[Scores, Scores]:
    """Two networks on photographs of people of all sizes, each failing on a share of its own."""
    torch.manual_seed(7)
    area = torch.distributions.Gamma(2.0, 1 / 2000).sample((photographs,)) + 50
    alike = torch.distributions.Beta(30.0, 2.0).sample((photographs,))
    found = []
    for share, gain in zip(failures, (0.0, 0.01), strict=True):
        quality = (alike + gain + 0.03 * torch.randn(photographs)).clamp(0.01, 1)
        quality = torch.where(
            torch.rand(photographs) < share, quality * torch.rand(photographs).clamp(min=0.4), quality
        )
        hits = area * 2 * quality / (1 + quality)  # as many false alarms as misses
        found.append(scores((hits), (area - hits), (area - hits)))
    return found


def coverage(first: Scores, second: Scores, photographs: int, repetitions: int, draws: int) -> dict[str, float]:
    """How often the interval of a test on photographs out of a population holds the population's own difference."""
    generator = torch.Generator().manual_seed(1)
    truth = {name: second.value(name) - first.value(name) for name in ("iou", "iou_per_image")}
    covered = dict.fromkeys(truth, 0)
    for _ in range(repetitions):
        places = torch.randint(len(first), (photographs,), generator=generator).tolist()
        for name, found in differences(first.at(places), second.at(places), list(truth), draws).items():
            covered[name] += found.low <= truth[name] <= found.high
    return {name: count / repetitions for name, count in covered.items()}


CHANCE = 3 * math.sqrt(0.95 * 0.05 / 1000)


def test_the_interval_covers_a_known_difference_as_often_as_it_says():
    """A thousand tests on 100 photographs each, out of a population whose difference is known."""
    found = coverage(*people(20_000), 100, 1000, draws=500)
    assert all(abs(share - 0.95) <= CHANCE for share in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize("photographs", [100, 200, 400])
def test_a_few_failures_that_decide_do_not_make_it_too_narrow(photographs):
    found = coverage(*people(20_000, failures=(0.05, 0.03)), photographs, 1000, draws=2000)
    assert all(share >= 0.95 - CHANCE for share in found.values()), found


def test_ratios_are_of_sums_and_means_are_over_photographs():
    first = scores([100, 10], [0, 0], [0, 10], {"mine": torch.tensor([1.0, 3.0], dtype=torch.float64)})
    second = scores([50, 20], [0, 0], [50, 0], {"mine": torch.tensor([2.0, 6.0], dtype=torch.float64)})
    found = differences(first, second, ["iou", "iou_per_image", "mine", *metrics.OF_BOUNDARIES], draws=100)
    assert found["iou"].first == pytest.approx(110 / 120) and found["iou"].second == pytest.approx(70 / 120)
    assert found["iou"].difference == pytest.approx(-40 / 120) == found["boundary_iou"].difference
    for name in ("iou_per_image", "boundary_iou_per_image"):
        assert found[name].first == pytest.approx(0.75) == found[name].second, name
    assert (found["mine"].first, found["mine"].second, found["mine"].better) == (2, 4, 1)
    assert (found["iou"].better, found["iou"].equal) == (0.5, 0)


def test_a_draw_scores_both_on_the_same_photographs():
    """Photographs differ much, the networks by a hundredth on each of them: the interval is narrow."""
    hits = torch.arange(100, 4100, 10)
    first, second = scores(hits, hits % 700, hits % 900), scores(hits + hits // 100, hits % 700, hits % 900)
    found = differences(first, second, ["iou"])["iou"]
    assert found.resolved and found.high - found.low < 0.1 * found.difference


def test_the_seed_decides_and_the_memory_does_not(monkeypatch):
    first, second = people(150)
    found = differences(first, second, ["iou"], 500, seed=3)["iou"]
    assert found == differences(first, second, ["iou"], 500, seed=3)["iou"]
    assert found != differences(first, second, ["iou"], 500, seed=4)["iou"]
    monkeypatch.setattr(statistics, "AT_ONCE", 150 * 64)
    pieces = [len(weights) for weights in statistics.drawn(150, 500, 3)]
    assert pieces == [64] * 7 + [52]
    assert differences(first, second, ["iou"], 500, seed=3)["iou"].low == pytest.approx(found.low)


def test_networks_that_are_alike_differ_by_nothing():
    first, _ = people(50)
    found = differences(first, first, ["iou", "miou", "precision"], 100)
    assert {(one.low, one.high, one.equal) for one in found.values()} == {(0, 0, 1)}


def test_where_too_few_photographs_differ_there_is_no_interval():
    first, _ = people(100)
    other = Scores(**vars(first) | {"counts": Counts(*(value.clone() for value in vars(first.counts).values()))})
    other.counts.confusion[3, 1] = torch.tensor([900, 100])
    found = differences(first, other, ["iou"], 200)["iou"]
    assert found.difference != 0 and (found.low, found.high) == (None, None) and not found.resolved
    alone = differences(first.at([0]), other.at([0]), ["iou"], 200)["iou"]
    assert alone.low is None


def test_metrics_of_many_counts_at_once_are_those_of_each():
    first, _ = people(20)
    for name, metric in metrics.OF_SUMS.items():
        alone = [metric(Counts(*(value[place] for value in vars(first.counts).values()))) for place in range(20)]
        assert all(isinstance(value, float) for value in alone)
        assert metric(first.counts).tolist() == pytest.approx(alone), name
