"""per_image.csv: its counts give a test's metrics, its marks tell photographs apart, and anybody may have written it."""

import os

import pytest
import torch
from test_metrics import counted, some_logits

from humanseg import metrics
from humanseg.compare import scores
from humanseg.runs.atomic import write_table


def rows(classes: int = 1, boundary: bool = True) -> list[dict]:
    logits, target = some_logits(classes)
    found = []
    for number, (one, mask) in enumerate(zip(logits, target, strict=True)):
        told = {"image": f"/data/people/images/{number % 3}/{number}.png", "iou": 0.5, "mine": number / 4}
        found.append(told | scores.facts(counted(one[None], mask[None]), mask[None], boundary))
    return found


def written(tmp_path, table: list[dict]) -> scores.Scores:
    write_table(tmp_path / "per_image.csv", list(table[0]), table)
    return scores.read(tmp_path / "per_image.csv")


@pytest.mark.parametrize("classes", [1, 3])
def test_a_table_gives_the_metrics_of_its_test(tmp_path, classes):
    read, whole = written(tmp_path, rows(classes)), counted(*some_logits(classes))
    for name, metric in metrics.OF_SUMS.items():
        assert read.value(name) == pytest.approx(metric(whole), abs=1e-7), name
    assert read.value("mine") == 0.5 and read.has("mine") and not read.has("average_precision")
    assert read.truths[0][:2] == (40, 30) and len({mark for *_, mark in read.truths}) == 5


def test_boundaries_that_were_not_counted_are_not_there(tmp_path):
    read = written(tmp_path, rows(boundary=False))
    assert read.has("iou") and not any(map(read.has, metrics.OF_BOUNDARIES))


def test_the_same_photographs_are_found_in_another_order_and_folder(tmp_path):
    first = written(tmp_path, rows())
    moved = [row | {"image": row["image"].replace("/data", "/mnt/d")} for row in rows()[::-1]]
    second = scores.matched(first, scores.of_rows(moved, "x"))
    assert torch.equal(second.counts.confusion, first.counts.confusion) and second.truths == first.truths
    assert second.images[0] == "/mnt/d/people/images/0/0.png"


def test_other_photographs_sizes_and_masks_are_refused():
    first = scores.of_rows(rows(), "x")
    other = rows()
    other[1]["image"] = "/data/people/images/9/9.png"
    with pytest.raises(ValueError, match=r"1 are in a alone \(1/1.png\), 1 are in b2 alone \(9/9.png\)"):
        scores.matched(first, scores.of_rows(other, "x"), ("a", "b2"))
    for name, value, what in (("truth/height", 41, "sizes"), ("truth/sha256", "0" * 16, "masks")):
        other = rows()
        other[2][name] = value
        with pytest.raises(ValueError, match=rf"the {what} of 1 of 5 photographs differ \(2/2.png\)"):
            scores.matched(first, scores.of_rows(other, "x"))


STRANGE = {
    "no counts": ("confusion/0/0", None, "has no counts, as those of earlier versions"),
    "no mark": ("truth/sha256", None, "has no counts"),
    "less than nothing": ("confusion/0/1", -5, "confusion/0/1 is -5, which is no number of pixels"),
    "a part of a pixel": ("confusion/0/1", 0.5, "is 0.5, which is no number of pixels"),
    "other digits": ("confusion/0/1", "٣", "no number of pixels"),
    "a long number": ("confusion/0/1", "9" * 5000, "no number of pixels"),
    "a long side": ("truth/height", "9" * 12, "no number of pixels"),
    "more than a photograph has": ("confusion/0/1", 2000, "counts more pixels than a photograph has"),
    "more edge than edges": ("boundary/intersection", 1201, "counts more pixels than a photograph has"),
    "a mark that acts": ("truth/sha256", "\x1b[2J", "is \x1b[2J, which is no hash"),
    "not a number": ("mine", "nan", "mine has values that are not finite"),
    "a text": ("mine", "=1+1", "mine has values that are no numbers"),
}


@pytest.mark.parametrize(("column", "value", "sentence"), STRANGE.values(), ids=STRANGE)
def test_a_table_that_no_test_writes_is_one_sentence(tmp_path, column, value, sentence):
    table = [{name: cell for name, cell in row.items() if value is not None or name != column} for row in rows()]
    if value is not None:
        table[1][column] = value
    with pytest.raises(ValueError) as refused:
        written(tmp_path, table)
    assert str(tmp_path / "per_image.csv") in str(refused.value) and sentence in str(refused.value)
    assert len(str(refused.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda file: file.symlink_to("/dev/zero")])
def test_a_table_is_a_file(tmp_path, make):
    make(tmp_path / "per_image.csv")
    with pytest.raises(ValueError, match=r"per_image.csv can't be read"):
        scores.read(tmp_path / "per_image.csv")
