"""Metrics agree with scikit-learn and with the authors' formula, on counts that are summed before they are divided."""

import cv2
import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from humanseg import metrics
from humanseg.metrics import Counts


def some_logits(classes: int, empty: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Five pictures of 40x30 with blobs, noise and ignored borders: logits NxCxHxW, target NxHxW."""
    generator = torch.Generator().manual_seed(classes)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(5, classes, 48, 38, generator=generator), 9, 1)
    truth = smooth[:, 0] > 0.02 if classes == 1 else smooth.argmax(1)
    logits = smooth * 20 + torch.randn(5, classes, 40, 30, generator=generator)
    target = truth.to(torch.uint8) * (not empty)
    target[:, :3] = 255
    target[2, :, 25:] = 255
    return logits, target


def counted(logits: torch.Tensor, target: torch.Tensor) -> Counts:
    counts = Counts.zeros(logits.shape[1])
    for one, truth in zip(logits, target, strict=True):
        counts.add(one[None], truth[None], boundary=True, scores=True)
    return counts


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_metrics_agree_with_scikit_learn(classes):
    logits, target = some_logits(classes)
    counts, valid = counted(logits, target), (target != 255).numpy()
    found, truth = metrics.predictions(logits).numpy()[valid], target.numpy()[valid]
    person, is_person = found == 1, truth == 1

    assert metrics.iou(counts) == pytest.approx(reference.jaccard_score(is_person, person))
    assert metrics.miou(counts) == pytest.approx(reference.jaccard_score(truth, found, average="macro"))
    assert metrics.dice(counts) == pytest.approx(reference.f1_score(is_person, person))
    assert metrics.accuracy(counts) == pytest.approx(reference.accuracy_score(truth, found))
    assert metrics.precision(counts) == pytest.approx(reference.precision_score(is_person, person))
    assert metrics.recall(counts) == pytest.approx(reference.recall_score(is_person, person))
    each = [
        reference.jaccard_score(truth[keep] == 1, found[keep] == 1)
        for truth, found, keep in zip(target.numpy(), metrics.predictions(logits).numpy(), valid, strict=True)
    ]
    assert metrics.iou_per_image(counts) == pytest.approx(np.mean(each))
    probability = metrics.person_probability(logits).numpy()[valid]
    expected = reference.average_precision_score(is_person, probability)
    assert metrics.average_precision(counts) == pytest.approx(expected, abs=2e-3)  # 256 levels


def authors_boundary(mask: np.ndarray, share: float = 0.02) -> np.ndarray:
    """Boundary as in the code that Cheng et al. 2021 published: erosion with a zero border."""
    height, width = mask.shape
    dilation = max(1, int(round(share * np.sqrt(height**2 + width**2))))
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=dilation)
    return mask - eroded[1 : height + 1, 1 : width + 1]


@pytest.mark.parametrize("size", [(40, 30), (150, 201), (7, 5)])
def test_boundary_iou_is_the_authors_summed_or_averaged_over_photographs(size):
    generator = np.random.default_rng(size[0])
    truth, found = ((cv2.blur(generator.random((4, *size))[index], (5, 5)) > 0.5).astype(np.uint8) for index in (0, 1))
    height, width = size
    counts, intersection, union, each = Counts.zeros(1), 0, 0, []
    for ours, theirs in ((found, truth), (truth, found), (found, found), (found * 0, truth)):
        logits = torch.from_numpy(ours).float()[None, None] - 0.5
        padded = torch.full((1, height + 6, width + 6), 255, dtype=torch.uint8)
        padded[0, 2 : 2 + height, 3 : 3 + width] = torch.from_numpy(theirs)  # a letterbox changes nothing
        wide = torch.ones(1, 1, height + 6, width + 6)
        wide[:, :, 2 : 2 + height, 3 : 3 + width] = logits
        counts.add(wide, padded, boundary=True)
        edge, true_edge = authors_boundary(ours), authors_boundary(theirs)
        intersection += (edge & true_edge).sum()
        union += (edge | true_edge).sum()
        each.append((edge & true_edge).sum() / (edge | true_edge).sum())
    assert counts.boundary.tolist() == [intersection, union]
    assert metrics.boundary_iou(counts) == pytest.approx(intersection / union)
    assert metrics.boundary_iou_per_image(counts) == pytest.approx(np.mean(each))


def test_counts_of_parts_add_up_to_those_of_the_whole():
    logits, target = some_logits(1)
    whole = counted(logits, target)
    parts = counted(logits[:2], target[:2]) + counted(logits[2:], target[2:])
    for name, value in vars(whole).items():
        torch.testing.assert_close(getattr(parts, name), value, msg=name)


def test_ignored_pixels_count_nowhere():
    logits, target = some_logits(1)
    before = counted(logits, target)
    logits[(target == 255)[:, None]] *= -1
    for name, value in vars(counted(logits, target)).items():
        assert torch.equal(value, getattr(before, name)), name


def test_an_empty_prediction_on_an_empty_mask_is_perfect():
    logits, target = some_logits(1, empty=True)
    counts = counted(logits.abs() * -1 - 1, target)
    for name in metrics.BUILT_IN:
        assert getattr(metrics, name)(counts) == 1, name


def test_a_person_seen_where_none_is_scores_nothing():
    logits, target = some_logits(1, empty=True)
    counts = counted(logits.abs() + 1, target)
    assert metrics.iou(counts) == metrics.dice(counts) == metrics.precision(counts) == metrics.boundary_iou(counts) == 0
    assert metrics.recall(counts) == 1  # nobody was missed


def test_a_class_that_is_nowhere_is_no_part_of_the_mean():
    logits, target = torch.full((1, 21, 4, 4), -9.0), torch.zeros(1, 4, 4, dtype=torch.uint8)
    logits[:, 0], target[:, :2] = 9.0, 1  # all is called background, half is person
    assert metrics.miou(counted(logits, target)) == pytest.approx((0.5 + 0.0) / 2)
    logits[0, 7, 0, 0] = 99.0  # a class that only the prediction shows
    assert metrics.miou(counted(logits, target)) == pytest.approx((8 / 15 + 0.0 + 0.0) / 3)
    assert metrics.miou(counted(logits, torch.full_like(target, 255))) == 1


def test_a_metric_of_ones_own_is_found_by_its_dotted_path():
    found = metrics.find(["iou", "test_metrics.misses"])
    assert list(found) == ["iou", "misses"]
    logits, target = some_logits(1)
    assert found["misses"](counted(logits, target)) == ((logits[:, 0] <= 0) & (target == 1)).sum()


def misses(counts: Counts) -> torch.Tensor:
    return counts.confusion[1, 0]


def several(counts: Counts) -> dict[str, float]:
    return {"one": 1.0, "two": 2.0}


@pytest.mark.parametrize(
    "give", [several, lambda counts: (1.0, 2.0), lambda counts: torch.ones(2), lambda counts: None]
)
def test_a_metric_that_gives_several_values_is_one_sentence(monkeypatch, give):
    monkeypatch.setitem(globals(), "several", give)
    with pytest.raises(ValueError, match=r"metrics: test_metrics.several gives .*, and a metric gives one number"):
        metrics.find(["test_metrics.several"])["several"](Counts.zeros(1))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["iuo"], "did you mean iou"),
        (["nowhere.metric"], "nowhere.metric can't be imported"),
        (["test_metrics.nothing"], "test_metrics.nothing can't be imported"),
        ([], "metrics is empty"),
    ],
)
def test_a_metric_that_is_not_there(names, sentence):
    with pytest.raises(ValueError, match=sentence):
        metrics.find(names)
