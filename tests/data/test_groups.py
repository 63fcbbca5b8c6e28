"""Samples of a group and copies of a photograph stay on one side, by count, by name and in folds; sides don't share them."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humanseg.data import mix
from humanseg.data.splits import groups
from humanseg.data.splits.groups import names_below
from humanseg.data.splits.split import SplitConfig, split


class Source:
    def __init__(self, names: list[str], content: list[int] | None = None, groups: list | None = None):
        self.names, self.groups = names, groups
        self.content = None if content is None else np.array(content, np.uint64)

    def __len__(self) -> int:
        return len(self.names)


def sides(source: Source, roots=(), **rules) -> dict[str, list[str]]:
    """The names on each side."""
    parts = split({"train": source}, SplitConfig(**rules), roots)
    return {side: [part.name_of(place) for place in range(len(part))] for side, part in parts.items()}


def films(count: int, frames: int) -> Source:
    return Source([f"root/images/film{film}/{frame:03d}.jpg" for film in range(count) for frame in range(frames)])


MEMBERS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), min_size=1, max_size=40)  # (group, content)
RULES = st.fixed_dictionaries(
    {
        "split_seed": st.integers(0, 5),
        "split_by": st.sampled_from([None, "name"]),
        "test_split": st.sampled_from([0, 0.2]),
    }
)


@settings(max_examples=60, deadline=None)
@given(MEMBERS, RULES, st.sampled_from([{"val_split": 0.3}, {"folds": 3}]))
def test_each_sample_is_on_one_side_and_what_belongs_together_on_the_same(members, rules, held):
    names, content = [f"{number}.jpg" for number in range(len(members))], [one for _, one in members]
    source = Source(names, content, [f"film {one}" if one else "" for one, _ in members])
    validated = []
    for fold in range(held.get("folds", 1)):
        try:
            found = sides(source, **rules, **held, **({"fold": fold} if "folds" in held else {}))
        except ValueError as error:
            assert any(
                why in str(error) for why in ("stay on one side", "nothing is left", "too few", "by their names")
            )
            return
        assert sorted(found["train"] + found["val"] + found["test"]) == sorted(names)
        side = {name: side for side, some in found.items() for name in some}
        for name, one in zip(names, members, strict=True):
            for other, two in zip(names, members, strict=True):
                if (one[0] and one[0] == two[0]) or one[1] == two[1]:
                    assert side[name] == side[other]
        validated += found["val"]
    if "folds" in held:
        assert sorted(validated + found["test"]) == sorted(names)


@pytest.mark.parametrize("seed", range(5))
def test_by_name_a_growing_data_set_keeps_its_sides(seed):
    rules = {"val_split": 0.2, "test_split": 0.2, "split_by": "name", "split_seed": seed}
    numbers = np.random.default_rng(seed).permutation(900).tolist()
    found = [
        sides(Source([f"{one}.jpg" for one in numbers[start:]], groups=[one // 2 for one in numbers[start:]]), **rules)
        for start in (600, 300, 0)
    ]
    for small, large in zip(found, found[1:], strict=False):
        assert all({*small[side]} < {*large[side]} for side in ("train", "val", "test"))


def test_by_name_neither_the_folder_of_the_root_nor_the_form_of_accents_counts(tmp_path):
    names = [f"caf\u00e9/{number}.jpg" for number in range(50)]
    rules = {"val_split": 0.4, "split_by": "name"}
    here = sides(Source([f"{tmp_path}/{name}" for name in names]), [str(tmp_path)], **rules)
    there = sides(Source([f"b//{name}".replace("\u00e9", "e\u0301") for name in names]), ["b/"], **rules)
    numbers = [[name.rpartition("/")[2] for name in one["val"]] for one in (here, there)]
    assert numbers[0] == numbers[1] and 10 < len(numbers[0]) < 30
    assert sides(Source(names), **rules, split_seed=1)["val"] != sides(Source(names), **rules)["val"]


def test_names_count_from_the_folder_of_a_list(tmp_path):
    (tmp_path / "pairs.txt").touch()
    assert names_below([f"{tmp_path}/a/1.jpg", "/b/1.jpg"], [str(tmp_path / "pairs.txt"), "c"]) == [
        "a/1.jpg",
        "/b/1.jpg",
    ]


def test_a_copy_that_comes_later_takes_nothing_out_of_the_training_samples():
    names, rules = [f"{number}.jpg" for number in range(100)], {"val_split": 0.5, "split_by": "name"}
    before = sides(Source(names, list(range(100))), **rules)
    after = sides(Source([*names, *(f"copy {name}" for name in names)], [*range(100), *range(100)]), **rules)
    assert {*before["train"]} < {*after["train"]} and {*after["val"]} & {*names} < {*before["val"]}


def test_an_expression_that_would_take_years_is_one_sentence(monkeypatch):
    monkeypatch.setattr(groups, "PATIENCE", 0.1)
    with pytest.raises(ValueError, match=r"data.group_by=\(a\+\)\+\$ takes more than 0.1 s to look at 1 names"):
        sides(Source([f"{'a' * 60}!.jpg"]), val_split=1, group_by="(a+)+$")


@pytest.mark.parametrize("group_by", ["folder", r"film(\d+)/"])
def test_groups_are_made_of_names(group_by):
    found = sides(films(10, 6), ["root"], val_split=0.25, test_split=12, group_by=group_by)
    assert {side: len(some) for side, some in found.items()} == {"train": 36, "val": 12, "test": 12}
    of = {side: {name.split("/")[2] for name in some} for side, some in found.items()}
    assert len(of["train"]) + len(of["val"]) + len(of["test"]) == 10


def test_folds_are_of_equal_size_and_leave_the_test_samples_alone():
    source = Source([f"{number}.jpg" for number in range(53)])
    found = [sides(source, folds=5, fold=fold, test_split=0.1, limit=10) for fold in range(5)]
    assert [len(one["val"]) for one in found] == [10, 10, 10, 9, 9]
    assert all(one["test"] == found[0]["test"] and len(one["train"]) == 10 for one in found)
    grouped = Source(source.names, groups=[number // 7 if number < 35 else "" for number in range(53)])
    assert [len(sides(grouped, folds=5, fold=fold)["val"]) for fold in range(5)] == [11, 11, 11, 10, 10]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"folds": 5}, r"data.folds=5 needs data.fold: give a number from 0 to 4, or all of them: -m data.folds=5 data.fold=0,1,2,3,4"),
        ({"fold": 2}, r"data.fold=2 needs data.folds"),
        ({"folds": 5, "fold": 5}, r"data.folds=5 has no data.fold=5: give a number from 0 to 4"),
        ({"folds": 5, "fold": 0, "val_split": "train"}, r"data.val_split=train: with data.folds=5 the fold validates"),
        ({"folds": 9, "fold": 8}, r"data.folds=9 data.fold=8: .*too few"),
        ({"group_by": "(", "val_split": 2}, r"data.group_by=\(: give folder, or a regular expression"),
        ({"group_by": r"\d+", "val_split": 2}, r"one group in parentheses, as data.group_by='\(\.\*\)_"),
        ({"group_by": "(x)", "val_split": 2}, r"data.group_by=\(x\) fits none of the names, as 0.jpg"),
        ({"group_by": "folder", "val_split": 2}, r"data.val_split=2: .*samples of a group stay on one side, and all 6 are together"),
        ({"split_by": "name", "val_split": 2}, r"data.val_split=2: data.split_by=name takes a share, as data.val_split=0.1"),
        ({"split_by": "name", "val_split": 0.1}, r"data.val_split=0.1: by their names none of the 6 samples"),
        ({"val_split": "none.txt"}, r"data.val_split=none.txt: there is no such file: give a count.*a list of names, or `train`"),
        ({"test_split": "none.txt"}, r"data.test_split=none.txt: there is no such file: give a count.*a list of names$"),
    ],
)  # fmt: skip
def test_what_can_not_be_divided_so_is_one_sentence(rules, told):
    with pytest.raises(ValueError, match=told):
        sides(Source([f"{number}.jpg" for number in range(6)]), **rules)


def test_a_side_that_is_smaller_than_each_group_is_one_sentence():
    with pytest.raises(ValueError, match="data.val_split=1: .*the fewest that do are 3: give another number"):
        sides(films(2, 3), ["root"], val_split=1, group_by="folder")


def test_samples_of_their_own_contradict_folds_and_lists(tmp_path):
    own = {"train": Source(["a", "b"]), "val": Source(["c"]), "test": Source(["d"])}
    with pytest.raises(ValueError, match="data.folds=2: there are validation samples of their own"):
        split(own, SplitConfig(folds=2, fold=0))
    with pytest.raises(ValueError, match="data.test_split=list.txt: there are test samples of their own"):
        split(own, SplitConfig(test_split="list.txt"))
    assert len(split(own, SplitConfig(val_split=0.1, test_split=5))["train"]) == 2  # they give way


def test_a_list_is_held_back_whole(tmp_path):
    (tmp_path / "val.txt").write_text("3\n5\n7")
    (tmp_path / "test.txt").write_text("5.jpg")
    names, rules = [f"{number}.jpg" for number in range(20)], {"val_split": str(tmp_path / "val.txt")}
    found = sides(Source(names), **rules, test_split=0.5)
    assert found["val"] == ["3.jpg", "5.jpg", "7.jpg"] and len(found["test"]) == 10 and len(found["train"]) == 7
    assert sorted(found["train"] + found["val"] + found["test"]) == sorted(names)
    with pytest.raises(ValueError, match="data.test_split and data.val_split both name 5.jpg"):
        sides(Source(names), **rules, test_split=str(tmp_path / "test.txt"))
    copies = Source(names, [*range(19), 3])
    with pytest.raises(ValueError, match="data.val_split names 3.jpg but not 19.jpg, a copy of it or one of its group"):
        sides(copies, **rules)
    assert len(sides(copies, **rules, duplicates="ignore")["val"]) == 3
    with pytest.raises(ValueError, match="data.val_split names 5.jpg but not 4.jpg"):
        sides(Source(names, groups=[number // 2 if number > 3 else "" for number in range(20)]), **rules)


def test_sides_that_the_user_named_share_no_group():
    train, val = Source(["a", "b", "c"], groups=["x", "", "y"]), Source(["d", "e"], groups=["", "y"])
    with pytest.raises(
        ValueError, match="1 of the 2 val photographs are of a group of train photographs, as c and e: take"
    ):
        split({"train": train, "val": val}, SplitConfig(duplicates="ignore"))
    split({"train": train, "val": Source(["d", "e"], groups=["", "z"])}, SplitConfig())
    other = Source([f"other/images/film{film}/1.jpg" for film in (1, 4)])
    with pytest.raises(ValueError, match="1 of the 2 val photographs are of a group of train photographs"):
        split({"train": films(2, 3), "val": other}, SplitConfig(group_by="folder"), ["root", "other"])


def test_where_groups_are_too_large_for_a_count_it_is_said(caplog):
    source = Source([f"{number}.jpg" for number in range(31)], groups=[number // 10 for number in range(31)])
    assert len(sides(source, val_split=8)["val"]) == 1
    assert "data.val_split=8 takes 1 of 8 samples: groups stay whole" in caplog.text


def test_groups_that_copies_link_are_one(caplog):
    source = Source(list("abcdef"), [1, 2, 2, 3, 3, 4], ["x", "x", "y", "y", "z", ""])
    for seed in range(6):
        found = sides(source, val_split=1, split_seed=seed)
        assert found["val"] == ["f"]
    with caplog.at_level(logging.INFO, "humanseg"):
        sides(source, val_split=1)
    assert "4 photographs are there more than once, as b and c" in caplog.text


def test_each_source_of_a_mix_is_divided_by_its_own_rules_and_they_share_a_list(tmp_path):
    (tmp_path / "val.txt").write_text("a/1\n2.jpg\n")
    files = {"one": ["a/1.jpg", "a/0.jpg", "a/3.jpg"], "two": ["b/2.jpg", "b/4.jpg"], "three": list("uvwxyz")}
    nodes = {name: {"root": f"{tmp_path}/{name}", "val_split": str(tmp_path / "val.txt")} for name in files}
    nodes["three"] |= {"val_split": 0.1, "folds": 3, "fold": 1, "weight": 3}
    opened = {name: {"train": Source([f"{tmp_path}/{name}/{one}" for one in some])} for name, some in files.items()}
    parts = {name: mix.divided(name, nodes, opened) for name in nodes}
    held = {
        name: [part["val"].name_of(place)[-7:] for place in range(len(part["val"]))] for name, part in parts.items()
    }
    assert held | {"three": 0} == {"one": ["a/1.jpg"], "two": ["b/2.jpg"], "three": 0} and len(held["three"]) == 2
    assert parts["three"]["train"].name == "three" and parts["three"]["train"].weight == 3
    with pytest.raises(ValueError, match="data.val_split=.*val.txt: 1 of its 2 names fit no sample: 2.jpg"):
        mix.divided("one", nodes | {"two": {"root": "x"}}, opened)
