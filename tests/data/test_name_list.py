"""A list file names the samples of a side, however its lines were written; what fits nothing or several is told."""

import os

import pytest
from test_groups import Source

from humanseg.data.splits.groups import Samples
from humanseg.data.splits.name_list import find

NAMES = [
    "images/a/1.jpg",
    "images/a/2.jpg",
    "images/b/1.jpg",
    "images/top.png",
    "images/b/caf\u00e9.jpg",
    "images/x.y.jpg",
]


def samples(root: str = "data/set", names: list[str] = NAMES) -> Samples:
    return Samples(Source([f"{root}/{name}" for name in names]), (root,))


@pytest.fixture
def found(tmp_path, monkeypatch):
    """The indices that a list with these lines names."""
    monkeypatch.chdir(tmp_path)

    def find_in(*lines: str, beside=(), encoding: str = "utf-8") -> list[int]:
        (tmp_path / "lists").mkdir(exist_ok=True)
        (tmp_path / "lists" / "val.txt").write_text("\n".join(lines), encoding=encoding)
        return find("data.val_split", "lists/val.txt", samples(), beside).tolist()

    return find_in


@pytest.mark.parametrize(
    ("line", "index"),
    [
        ("images/a/1.jpg", 0), ("a/1.jpg", 0), ("b/1", 2), ("2.jpg", 1), ("2", 1), ("top", 3), ("./a/2.jpg", 1),
        ("data/set/images/b/1.jpg", 2), ("../data/set/images/b/1.jpg", 2), ("set/images/a/1", 0), ("x.y", 5), ("cafe\u0301", 4),
    ],
)  # fmt: skip
def test_a_line_is_a_path_below_the_root_a_file_or_a_stem(found, line, index):
    assert found(line, "", f"  {line}\r") == [index]
    assert found(os.path.abspath("data/set/images/a/1.jpg"), "top.png") == [0, 3]


def test_a_list_that_a_browser_saved_elsewhere_has_paths_as_they_are_seen_from_here(tmp_path):
    (tmp_path / "exclude.txt").write_text("../set/images/top.png\n")
    assert find("data.exclude", str(tmp_path / "exclude.txt"), samples("../set")).tolist() == [3]


def test_lists_come_in_any_encoding(found):
    assert found("caf\u00e9.jpg", encoding="latin-1") == found("caf\u00e9", encoding="utf-16") == [4]


def test_the_whole_path_fits_better_than_an_end_and_a_file_better_than_a_stem(tmp_path):
    (tmp_path / "list.txt").write_text("1.jpg\n2")
    flat = samples(names=["images/1.jpg", "images/old/1.jpg", "images/1.jpg.png", "images/2.jpg"])
    assert find("data.val_split", str(tmp_path / "list.txt"), flat).tolist() == [0, 3]


def test_all_lines_that_fit_nothing_or_several_are_told(found, tmp_path):
    with pytest.raises(ValueError) as error:
        found("3.jpg", "1.jpg", "b/2.jpg", "top", *(f"no{number}" for number in range(10)))
    told = str(error.value)
    assert told.startswith("data.val_split=lists/val.txt: 12 of its 14 names fit no sample: 3.jpg, b/2.jpg, no0")
    assert "no5 and 4 more; 1 fit more than one: 1.jpg (data/set/images/a/1.jpg and data/set/images/b/1.jpg)" in told
    with pytest.raises(ValueError, match="lists/val.txt: it names no sample"):
        found("", "  ")


def test_sources_share_a_list(found):
    other = samples("data/other", ["images/9.jpg", "images/top.png"])
    assert found("a/1", "9.jpg", "set/images/top", beside=[other]) == [0, 3]
    assert found("other/images/top.png", beside=[other]) == []
    again = samples(names=["images/top.png", "images/5.jpg"])
    assert found("top", beside=[again]) == found("data/set/images/top.png", beside=[again]) == [3]  # one file is meant
    with pytest.raises(ValueError, match=r"top \(data/set/images/top.png and data/other/images/top.png\)"):
        found("top", beside=[other])
