"""A list of pairs whose first line names columns: split, group and weight."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ON_FILES, rows, saved

from humanseg.data import pair_list
from humanseg.data.files import pairs
from humanseg.data.splits.parts import Part


@pytest.fixture
def write(people):
    """Write a list with some columns beside the people; the n-th line has the n-th of some texts in each of them."""

    def call(name: str = "list.csv", lead: str = "image,mask", count: int = 12, **columns: list) -> Path:
        lines = [",".join([*lead.split(","), *columns])] if lead else []
        for number in range(count):
            cells = [str(texts[number % len(texts)]) for texts in columns.values()]
            lines.append(",".join([f"images/{number:03d}.png", f"masks/{number:03d}.png", *cells]))
        (people / name).write_text("\n".join(lines) + "\n")
        return people / name

    return call


def test_a_list_with_column_names_is_the_list_without_them(write):
    bare, named = pairs(str(write("bare.txt", lead="")))["train"], pairs(str(write(lead="Image, MASK")))["train"]
    assert list(named.names) == list(bare.names) and named.paths == bare.paths and (named.keys == bare.keys).all()
    (write().parent / "turned.csv").write_text("weight,mask,image\n2,masks/003.png,images/003.png\n")
    turned = pairs(str(write().parent / "turned.csv"))["train"]
    assert turned.paths == bare.paths[3:4] and turned.weights.tolist() == [2]


@pytest.mark.parametrize(
    "text",
    [
        "a.png, b.png\nc/d.jpg,e/f.png\n", "a.png, b.png\r\nc.png, d.png", "/a/b.png,   ../c.png\n", "-a.b.png,./b_.png\n",
        "image.png, mask.png\n", "a.png,b.png\n\nc.png,d.png\n", "a.png,b.png\n ", "a.png,b.png \n", "", "\n", "a.png,b.png\rc.png,d.png",
        "a.png, b.png, c.png\n", "a.png\nb.png\n", "image, mask\na.png, b.png\n", "~/a.png,b.png\n", '"a.png",b.png\n', "a b.png,c.png\n",
        "a.png,b.png\n\u00e4.png,b.png\n", "a,b.png\n", "a.png ,b.png\n", "a.png,\tb.png\n", ",\n",
    ],
)  # fmt: skip
def test_a_list_that_is_read_at_once_is_what_it_is_by_its_lines(tmp_path, monkeypatch, text):
    (tmp_path / "list.txt").write_bytes(text.encode())
    whole = pair_list.read("data.pairs", str(tmp_path / "list.txt"))
    monkeypatch.setattr(pair_list, "ODD", re.compile(""))
    assert whole == pair_list.read("data.pairs", str(tmp_path / "list.txt"))


def test_the_split_column_gives_sources_of_their_own(write):
    opened = pairs(str(write(split=["train", "train", "val", "test"])))
    assert {side: [Path(name).stem for name in one.names][:2] for side, one in opened.items()} == {
        "train": ["000", "001"], "val": ["002", "006"], "test": ["003", "007"]}  # fmt: skip
    image, mask = opened["val"].paths[1]
    assert image.stem == mask.stem == "006"
    assert pairs(str(write(split=["test"])))["train"] is None
    opened = pairs(str(write(split=["train"], count=8)), str(write("val.txt", lead="", count=1)))
    assert {side: one and len(one) for side, one in opened.items()} == {"train": 8, "val": 1, "test": None}


def test_groups_and_weights_are_read_by_what_divides_and_draws_samples(write):
    opened = pairs(
        str(write(group=["anna", "ben", "anna"], weight=[3, 0.5, 0], split=["train", "train", "train", "val"]))
    )
    assert (
        list(opened["train"].groups)[:4] == ["anna", "ben", "anna", "ben"] and list(opened["val"].groups)[0] == "anna"
    )
    assert opened["train"].weights[:4].tolist() == [3, 0.5, 0, 0.5]
    part = Part(opened["train"], np.arange(9), weight=2)
    assert part.weights[:3].tolist() == [6, 1, 0] and part.times(0, 0)[0] == 6
    assert not hasattr(pairs(str(write()))["train"], "weights")


@pytest.mark.parametrize(
    ("lead", "columns", "sentence"),
    [
        ("image,mask", {"grup": ["a"]}, "line 1: the columns are image, mask, grup: name image and mask, and of split, group"),
        ("image,label", {}, "line 1: the columns are image, label: name image and mask"),
        ("image,mask,mask", {}, "line 1: the columns are image, mask, mask"),
        ("image,mask", {"split": ["train", "dev"]}, "(?s)6 problems.*line 3: the split 'dev' is none of train, val, test.*line 5"),
        ("image,mask", {"group": ["a", ""]}, "line 3: it has no group"),
        ("image,mask", {"weight": ["1", "-1"]}, "line 3: the weight '-1' is not a number from 0 to 1000"),
        ("image,mask", {"weight": ["1", "nan"]}, "line 3: the weight 'nan' is not a number"),
        ("image,mask", {"weight": ["1", ""]}, "line 3: the weight '' is not a number"),
        ("image,mask", {"weight": ["0"]}, "the weights of data.pairs are all 0"),
        ("image,mask,group", {}, "line 2: expected `image, mask, group`, got "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_columns_is_one_sentence_a_line(write, lead, columns, sentence):
    with pytest.raises(ValueError, match=sentence):
        pairs(str(write(lead=lead, **columns)))


def test_two_lists_for_one_side_are_refused(write):
    typed = str(write(split=["train", "val"]))
    with pytest.raises(ValueError, match="data.pairs has a column split with val, and there is data.val_pairs"):
        pairs(typed, str(write("val.txt", lead="")))
    with pytest.raises(ValueError, match="data.val_pairs has a column split, which only data.pairs may have"):
        pairs(str(write("train.txt", lead="")), typed)


def test_a_run_on_a_list_with_columns(write, run):
    """Weights of 1 and a split that is the list's change nothing but where the samples come from."""
    options = [*ON_FILES, "data=pairs", "data.val_split=0"]
    bare = run(
        *options, f"data.pairs={write('bare.txt', lead='', count=9)}", f"data.val_pairs={write_rest(write)}"
    ).folder
    named = run(*options, f"data.pairs={write(split=['train'] * 9 + ['val'] * 3, weight=[1])}").folder
    assert rows(named)[-1]["val/iou"] == rows(bare)[-1]["val/iou"]
    assert all(bool((one == other).all()) for one, other in zip(saved(named)["model"].values(), saved(bare)["model"].values(), strict=True))  # fmt: skip


def write_rest(write) -> Path:
    lines = [f"images/{number:03d}.png,masks/{number:03d}.png" for number in range(9, 12)]
    file = write("rest.txt", lead="")
    file.write_text("\n".join(lines))
    return file
