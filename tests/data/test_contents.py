"""What a run says of its data: counts, weights and areas that are those of the files."""

from array import array

import cv2
import numpy as np
import pytest
from conftest import composed, write_people

from humanseg import build
from humanseg.data import contents
from humanseg.data.splits.parts import Part, Split


def data(*overrides: str):
    cfg = composed("data=folder", "data.image_size=64", *overrides)
    return build.data(cfg["data"], None, 1, 0)


def test_areas_are_of_all_that_trains_or_validates(people, tmp_path):
    """Validation has photographs of its own here, the right half of which is ignored; only the first one shows somebody."""
    own = write_people(tmp_path / "own", 4, size=(40, 40))
    for path in (people / "masks").iterdir():
        cv2.imwrite(str(path), (cv2.imread(str(path), 0) > 0).astype(np.uint8))
    for number in range(4):
        ids = np.zeros((40, 40), np.uint8)
        ids[:, 20:], ids[:20, :20] = 255, number == 0
        cv2.imwrite(str(own / "masks" / f"{number:03d}.png"), ids)
    where = [f"data.root={people}", f"data.val_root={own}", "data.mask=[0,1]", f"data.cache_dir={tmp_path}/cache"]
    (told,) = contents.areas(data(*where)).values()
    shares = [(cv2.imread(str(path), 0) == 1).mean() for path in (people / "masks").iterdir()] + [0.25]
    quartiles = [float(number) for number in told.split(" %")[0].split(", ")]
    assert quartiles == pytest.approx(list(100 * np.quantile(shares, (0.25, 0.5, 0.75))), abs=1)
    assert told.endswith("(quartiles), 3 of 16 empty, 12 % ignored")
    assert contents.areas(data(*where, "data.cache=false")) == {}


class Weighted(list):
    names, weights = ["a", "b"], [1, 2]


def test_a_pass_is_told_where_samples_repeat():
    both = array("q", [0, 1])
    parts = [Part(Weighted("ab"), both, "x"), Part(["a", "b"], both, "y", 0), Part(["a", "b"], both, "z")]
    splits = {"train": Split(parts), "val": Split(parts[2:]), "test": Split([])}
    assert contents.samples(splits) == "6 train (5 a pass), 2 val"
    assert contents.sources(splits) == {"x": "2 train (3 a pass)", "y": "2 train (weight 0: 0 a pass)", "z": "2 train, 2 val"}  # fmt: skip


def test_the_first_samples_of_each_source_come_in_turn():
    parts = [Part(None, array("q", range(count))) for count in (3, 1, 2)]
    assert Split(parts).in_turn(5) == [0, 3, 4, 1, 5] and Split(parts[:1]).in_turn(5) == [0, 1, 2]
