"""The same seed splits the same way; limits are nested; copies share a side; what can't be split is refused."""

import logging

import numpy as np
import pytest

from humanseg.data.splits.split import SplitConfig, split


class Source:
    def __init__(self, count: int, content: list[int] | None = None):
        self.names = [f"{number}.jpg" for number in range(count)]
        self.content = None if content is None else np.array(content, np.uint64)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> int:
        return index


def indices(val=0, test=0, limit=None, seed=0) -> dict[str, list[int]]:
    found = split({"train": Source(100), "val": None}, SplitConfig(val, test, limit, seed))
    return {name: part.indices for name, part in found.items()}


@pytest.mark.parametrize(("val", "test", "sizes"), [(7, 3, (90, 7, 3)), (0.2, 0.1, (70, 20, 10)), (0, 0, (100, 0, 0))])
def test_counts_and_shares(val, test, sizes):
    found = indices(val, test)
    assert tuple(len(found[name]) for name in ("train", "val", "test")) == sizes
    assert sorted(found["train"] + found["val"] + found["test"]) == list(range(100))


def test_the_same_seed_gives_the_same_samples_and_another_seed_others():
    assert indices(0.2, 0.1, seed=3) == indices(0.2, 0.1, seed=3)
    assert indices(0.2, seed=3)["val"] != indices(0.2, seed=4)["val"]


def test_the_test_samples_do_not_depend_on_validation():
    assert indices(5, 10)["test"] == indices(0.3, 10)["test"]


def test_validating_on_the_training_samples():
    found = indices("train", limit=8)
    assert found["train"] == found["val"] and len(found["train"]) == 8


def test_limits_are_nested_and_leave_validation_alone():
    small, large, share = (indices(0.2, limit=limit) for limit in (10, 30, 0.5))
    assert set(small["train"]) < set(large["train"]) < set(share["train"])
    assert len(share["train"]) == 40 and small["val"] == share["val"] == indices(0.2)["val"]
    assert len(indices(0.2, limit=1000)["train"]) == 80 and len(indices(0.2, limit=0.001)["train"]) == 1


def test_sources_of_their_own_are_not_split():
    own = split({"train": Source(10), "val": Source(4), "test": Source(3)}, SplitConfig(0.2, 0.1))
    assert [len(own[name]) for name in ("train", "val", "test")] == [10, 4, 3]
    assert own["val"].name_of(2) == "2.jpg"


@pytest.mark.parametrize(("val", "test"), [(100, 0), (60, 40), (0.5, 0.5)])
def test_nothing_left_to_train_on(val, test):
    with pytest.raises(ValueError, match="nothing is left to train on: 100 samples"):
        indices(val, test)


@pytest.mark.parametrize("rule", [-1, 1.0, -0.1, "half", True, None])
def test_rules_that_make_no_sense(rule):
    with pytest.raises(ValueError, match="data.val_split=.*`train`"):
        indices(rule)
    with pytest.raises(ValueError, match="data.test_split="):
        indices(0, rule)


def held(content: list[int], **rules) -> dict[str, list[int]]:
    """The contents on each side."""
    source = Source(len(content), content)
    found = split({"train": source}, SplitConfig(**rules))
    return {name: [content[index] for index in part.indices] for name, part in found.items()}


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_a_photograph_stay_on_one_side(seed):
    content = [*range(60), 7, 7, *range(20, 40)]
    found = held(content, val_split=20, test_split=10, split_seed=seed)
    assert [len(found[name]) for name in ("train", "val", "test")] == [52, 20, 10]
    assert len({*found["train"]}) + len({*found["val"]}) + len({*found["test"]}) == 60
    twice = held([*range(30), *range(30)], val_split=9, split_seed=seed)  # as many as fit whole
    assert len(twice["val"]) == 8 and not {*twice["val"]} & {*twice["train"]}


def test_where_all_differ_nothing_changes():
    rules = {"val_split": 0.2, "test_split": 7, "limit": 20, "split_seed": 3}
    assert held(list(range(100)), **rules) == {name: part.tolist() for name, part in indices(0.2, 7, 20, 3).items()}


def test_copies_are_told_and_a_photograph_that_all_are_copies_of_is_an_error(caplog):
    with caplog.at_level(logging.INFO, "humanseg"):
        held([1, 2, 3, 2], val_split=1)
    assert "2 photographs are there more than once, as 1.jpg and 3.jpg" in caplog.text
    with pytest.raises(ValueError, match="data.val_split=2.*all 9 are together: group them by something else"):
        held([5] * 9, val_split=2)


def test_sources_of_their_own_that_share_photographs_are_refused(caplog):
    train, val, test = Source(6, [0, 1, 2, 3, 4, 5]), Source(3, [9, 4, 2]), Source(2, [7, 9])
    with pytest.raises(ValueError, match="2 of the 3 val photographs are train photographs too, as 4.jpg and 1.jpg"):
        split({"train": train, "val": val}, SplitConfig())
    with pytest.raises(
        ValueError, match="1 of the 2 test photographs are val photographs too, as 0.jpg and 1.jpg: .*data."
    ):
        split({"train": train, "val": Source(1, [9]), "test": test}, SplitConfig())
    split({"train": train, "val": val}, SplitConfig(duplicates="ignore"))
    assert "2 of the 3 val photographs are train photographs too" in caplog.text
    split({"train": train, "test": test}, SplitConfig(val_split="train"))
    with pytest.raises(ValueError, match="2 of the 3 val photographs"):
        split({"train": train, "val": val}, SplitConfig(val_split="train"))  # a set of its own wins
