"""Folders and lists as people have them: names in any bytes, sub-folders, links, accents in two forms, encodings."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import write_people
from PIL import Image

from humanseg.data import listing
from humanseg.data.files import folder, pairs
from humanseg.media.images import find_photographs, kind

ODD = [
    "it's.png",
    'say "hi".png',
    "a\nb.png",
    "#1.png",
    "x=1,y.png",
    "[1].png",
    "a b .png",
    os.fsdecode(b"caf\xe9.png"),
]
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(path, "PNG")
    return path


def both(root: Path, name: str, mask: str | None = None) -> None:
    picture(root / "images" / name)
    picture(root / "masks" / (mask or name))


def names(source) -> list[str]:
    return [str(path) for path, _ in source.paths]


def test_names_may_hold_any_bytes(tmp_path):
    for name in ODD:
        both(tmp_path, name)
    source = folder(str(tmp_path), cache_dir=str(tmp_path / "cache"))["train"]
    assert sorted(names(source)) == sorted(f"{tmp_path}/images/{name}" for name in ODD)
    assert all(source[index][1].all() for index in range(len(ODD)))
    assert {photograph.path.name for photograph in find_photographs(tmp_path / "images")} == {*ODD}


def test_accents_match_in_either_form_but_equal_names_first(tmp_path):
    both(tmp_path, f"{NFC}.png", f"{NFD}.png")
    both(tmp_path, f"{NFD} 2.png")
    both(tmp_path, f"{NFC} 2.png")
    source = folder(str(tmp_path))["train"]
    found = {Path(image).name: Path(mask).name for image, mask in source.paths}
    assert found == {f"{NFC}.png": f"{NFD}.png", f"{NFD} 2.png": f"{NFD} 2.png", f"{NFC} 2.png": f"{NFC} 2.png"}


def test_subfolders_match_by_their_path(tmp_path):
    for name in ("a/1.png", "b/1.png", "1.png"):
        both(tmp_path, name)
    picture(tmp_path / "images" / "c" / "1.png")
    picture(tmp_path / "images" / ".thumbs" / "2.png")
    picture(tmp_path / "images" / "._1.png")
    with pytest.raises(ValueError, match="1 problem\n.*images/c/1.png has no mask"):
        folder(str(tmp_path))
    picture(tmp_path / "masks" / "c" / "1.png")
    source = folder(str(tmp_path))["train"]
    assert [path.replace("images", "masks") for path in names(source)] == [str(mask) for _, mask in source.paths]
    assert len(source) == 4


def test_links_to_folders_are_followed_without_loops(tmp_path):
    for part in ("images", "masks"):
        picture(tmp_path / "elsewhere" / part / "deep" / "1.png")
        (tmp_path / "set" / part).mkdir(parents=True)
        (tmp_path / "set" / part / "linked").symlink_to(tmp_path / "elsewhere" / part)
        (tmp_path / "elsewhere" / part / "deep" / "loop").symlink_to(tmp_path / "set" / part)
    assert len(folder(str(tmp_path / "set"))["train"]) == 1
    for typed in ("set", "set/**/*.png", "s*/images/**"):
        assert "linked/deep/1.png" in str(find_photographs(f"{tmp_path}/{typed}")[0].path)


def test_masks_with_a_suffix(tmp_path):
    both(tmp_path, "a.png", "a_mask.png")
    both(tmp_path, "b_mask.png", "b_mask_mask.png")
    with pytest.raises(ValueError, match="called NAME_mask: type data.mask_suffix=_mask"):
        folder(str(tmp_path))
    assert len(folder(str(tmp_path), mask_suffix="_mask")["train"]) == 2
    picture(tmp_path / "masks" / "c.png")
    with pytest.raises(ValueError, match="masks/c.png does not end in data.mask_suffix=_mask"):
        folder(str(tmp_path), mask_suffix="_mask")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_lists_in_the_encodings_of_editors(tmp_path, encoding):
    for name in (f"{NFC}.png", f"{NFD} 2.png", "plain.png"):
        both(tmp_path, name)
    lines = [
        "images/plain.png, masks/plain.png",
        *(f"images/{NFC}{end}, masks/{NFC}{end}" for end in (".png", " 2.png")),
    ]
    (tmp_path / "pairs.txt").write_bytes("\r\n".join(lines).encode(encoding))
    assert len(pairs(str(tmp_path / "pairs.txt"))["train"]) == 3
    (tmp_path / "list.txt").write_bytes(f"images/{NFC}.png\r\n\r\nimages/{NFC} 2.png\r\n".encode(encoding))
    found = {photograph.path.name for photograph in find_photographs(str(tmp_path / "list.txt"))}
    assert found == {f"{NFC}.png", f"{NFD} 2.png"}


def test_a_list_may_hold_the_bytes_of_names(tmp_path):
    for name in ODD:
        both(tmp_path, name)
    lines = (f'"images/{name}","masks/{name}"'.replace('"hi"', '""hi""') for name in ODD)
    (tmp_path / "pairs.txt").write_bytes(os.fsencode("\n".join(lines)))
    source = pairs(str(tmp_path / "pairs.txt"))["train"]
    assert names(source) == [f"{tmp_path}/images/{name}" for name in ODD]


def test_a_line_that_nothing_tells_how_to_read_is_named(tmp_path):
    both(tmp_path, "plain.png")
    (tmp_path / "pairs.txt").write_bytes(b"images/plain.png, masks/plain.png\nimages/caf\x8e.png, masks/plain.png\n")
    with pytest.raises(ValueError, match="pairs.txt, line 2: .*is no UTF-8.*save the list as UTF-8"):
        pairs(str(tmp_path / "pairs.txt"))
    (tmp_path / "list.txt").write_bytes(b"images/plain.png\n\nimages/caf\x8e.png\n")
    with pytest.raises(ValueError, match="list.txt, line 3: .*is no UTF-8.*save the list as UTF-8"):
        find_photographs(str(tmp_path / "list.txt"))


def test_a_quote_that_is_never_closed_is_one_line_of_error(tmp_path):
    (tmp_path / "pairs.txt").write_text('a.png, b.png\n"a.png, b.png\n' + "a.png, b.png\n" * 50_000)
    with pytest.raises(ValueError, match=r"pairs.txt, line \d+: ") as error:
        pairs(str(tmp_path / "pairs.txt"))
    assert len(str(error.value)) < 2000


def test_a_pattern_below_a_folder_with_brackets(tmp_path, monkeypatch):
    for name in ("[old] photos/a/1.png", "[old] photos/2.png", f"{NFD}/3.png"):
        picture(tmp_path / name)
    root = tmp_path / "[old] photos"
    assert [one.path for one in find_photographs(f"{root}/*.png")] == [root / "2.png"]
    assert len(find_photographs(f"{root}/**/*.png")) == 2 and len(find_photographs(f"{root}/**/a/*.png")) == 1
    assert [str(one.place) for one in find_photographs(f"{root}/*/*.png")] == ["a/1"]
    assert len(find_photographs(f"{tmp_path}/[[]old] photos/*.png")) == 1
    assert len(find_photographs(f"{tmp_path}/{NFC}/*.png")) == len(find_photographs(f"{tmp_path}/{NFC}/3.png")) == 1
    monkeypatch.chdir(root)
    assert len(find_photographs("*.png")) == 1 and len(find_photographs("**/*.png")) == 2


def test_a_file_wins_over_a_cameras_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kind("0") == kind(0) == kind("rtsp://cam/s?channel=1") == "camera"
    picture(tmp_path / "0" / "1.png")
    assert kind("0") == kind(0) == "photographs"


def test_folders_that_everyone_sees_in_one_order(tmp_path):
    for name in ("b/2.png", "a/1.png", "c.png"):
        picture(tmp_path / name)
    (tmp_path / "0").symlink_to(tmp_path / "b")
    assert list(listing.below(tmp_path)) == ["c.png", "a/1.png", "b/2.png"]


def test_people_are_found_as_before(tmp_path):
    root = write_people(tmp_path / "people", 3)
    assert names(folder(str(root))["train"]) == [f"{root}/images/{number:03d}.png" for number in range(3)]
