"""The same seed splits the same way; limits are nested; what can't be split is refused."""

import pytest

from humanseg.data.split import SplitConfig, split


class Source:
    def __init__(self, count: int):
        self.names = [f"{number}.jpg" for number in range(count)]

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
    assert own["val"].name(2) == "2.jpg" and own["val"][2] == 2


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
