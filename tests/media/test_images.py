"""Photographs are found, read upright and whole as far as they can be, and pictures go out with all that they had."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from humanseg.data.colour import on_white
from humanseg.media.images import find_photographs, kind, refuse_size, write_image
from humanseg.runs.atomic import is_of_the_disk


def picture(path: Path, size=(8, 6), colour=(200, 30, 30), **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **how)
    return path


def places(typed) -> list[str]:
    return [photograph.place.as_posix() for photograph in find_photographs(typed)]


# What was typed


@pytest.mark.parametrize("typed", [0, "0", "12", "rtsp://host/1", "http://host:81/video", "HTTPS://host/a.mp4"])
def test_numbers_and_urls_are_cameras(typed):
    assert kind(typed) == "camera"


def test_files_are_told_by_their_suffix(tmp_path):
    (tmp_path / "a.MP4").write_bytes(b"")
    (tmp_path / "folder.mp4").mkdir()
    photograph = picture(tmp_path / "a.jpg")
    assert kind(f"{tmp_path}/a.MP4") == kind([f"{tmp_path}/a.MP4"]) == kind(f"{tmp_path}/*.MP4") == "videos"
    assert kind(str(tmp_path)) == "photographs"  # both lie there
    with pytest.raises(ValueError, match=r"a\.MP4: they are drawn in two calls"):
        kind([str(photograph), f"{tmp_path}/a.MP4"])
    for typed in (str(photograph), f"{tmp_path}/folder.mp4", f"{tmp_path}/*.jpg", [str(photograph)]):
        assert kind(typed) == "photographs"


@pytest.mark.parametrize("typed", ["nowhere.jpg", "nowhere.mp4", "/no/folder", "~nobody/a.jpg", ""])
def test_what_does_not_exist_is_one_sentence(typed):
    with pytest.raises(ValueError, match="input=.*does not exist"):
        kind(typed)
    with pytest.raises(ValueError, match="input="):
        find_photographs(typed or "nowhere")


def test_a_folder_keeps_its_structure_and_counts_what_it_passes_over(tmp_path, caplog):
    for name in ("b.jpg", "a.PNG", "x/y/c.webp", "x/d.bmp", "x/e.gif", "x/.hidden.png", ".cache/f.png"):
        picture(tmp_path / name)
    for name in ("notes.txt", "x/clip.mov", "x/y/more.TXT", "._b.jpg"):
        (tmp_path / name).write_text("b.jpg")
    with caplog.at_level(logging.INFO, "humanseg"):
        assert places(str(tmp_path)) == ["a", "b", "x/d", "x/e", "x/y/c"]
    assert caplog.messages == ["input      passed over 2 .txt, 1 .mov"]


def test_no_two_results_share_a_place(tmp_path):
    for name in (
        "a.jpg",
        "a.png",
        "a.jpg.png",
        "b.c.jpg",
        "B.c.png",
        "d.jpg",
        "x/D.png",
        "x/d.png",
        "\u00e9.jpg",
        "e\u0301.png",
    ):
        picture(tmp_path / name)
    placed = {str(one.path.relative_to(tmp_path)): one.place.as_posix() for one in find_photographs(str(tmp_path))}
    assert placed == {
        **{name: name for name in ("a.jpg", "a.png", "a.jpg.png", "b.c.jpg", "B.c.png", "\u00e9.jpg", "e\u0301.png")},
        **{"d.jpg": "d", "x/D.png": "x/D.png", "x/d.png": "x/d.png_2"},
    }


def test_globs_lists_and_list_files_are_placed_below_what_they_share(tmp_path, monkeypatch):
    for name in ("one/a.jpg", "one/deep/b.jpg", "two/a.jpg", "two/c.png"):
        picture(tmp_path / name)
    (tmp_path / "list.txt").write_text(f"one/a.jpg\n\n{tmp_path}/two/a.jpg\nmissing.jpg\n")
    monkeypatch.chdir(tmp_path)
    assert places("one/a.jpg") == ["a"]
    assert places("one/*.jpg") == ["a"]
    assert places("*/*.jpg") == places(f"{tmp_path}/*/*.jpg") == ["one/a", "two/a"]
    assert places("**/*.jpg") == ["one/a", "one/deep/b", "two/a"]
    assert places(["one", "two/a.jpg", "one/a.jpg"]) == ["one/a", "one/deep/b", "two/a"]
    assert places("list.txt") == ["one/a", "two/a", "missing"]


def test_all_that_is_missing_is_named_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"first\.jpg, second\.jpg"):
        find_photographs(["first.jpg", str(picture(tmp_path / "a.jpg")), "second.jpg"])


def test_a_folder_without_photographs_names_the_formats(tmp_path):
    for typed in (str(tmp_path), f"{tmp_path}/*.jpg"):
        with pytest.raises(ValueError, match="no photograph.*avif bmp gif .*jfif .*png tif tiff webp"):
            find_photographs(typed)


# Pictures out


@pytest.fixture
def rgba() -> np.ndarray:
    image = np.zeros((6, 8, 4), np.uint8)
    image[:, :4] = (200, 30, 30, 255)
    return image


@pytest.mark.parametrize("suffix", ["png", "PNG", "webp", "tif", "avif", "jpg", "jpe", "bmp"])
def test_transparency_is_kept_or_white(tmp_path, rgba, suffix):
    path = tmp_path / "new" / "folder" / f"a.{suffix}"
    write_image(path, rgba)
    with Image.open(path) as image:
        assert image.mode == ("RGBA" if suffix.lower() in ("png", "webp", "tif", "avif") else "RGB")
        values = np.asarray(image).astype(int)
    assert np.abs(values[:, :3, :3] - (200, 30, 30)).max() < 30
    assert (values[:, 6:, 3] == 0).all() if values.shape[2] == 4 else (values[:, 6:] > 240).all()
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "avif"])
def test_masks_are_written_to_the_bit(tmp_path, suffix):
    mask = np.random.default_rng(0).integers(0, 2, (60, 80), dtype=np.uint8) * 255
    write_image(tmp_path / f"a.{suffix}", mask)
    assert (np.asarray(Image.open(tmp_path / f"a.{suffix}").convert("L")) == mask).all()


def test_png_and_tif_hold_16_bits_and_nothing_else_does(tmp_path):
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    for name in ("a.png", "a.tif"):
        write_image(tmp_path / name, values)
        assert (np.asarray(Image.open(tmp_path / name)) == values).all()
    with pytest.raises(ValueError, match=r"a\.jpg.*png"):
        write_image(tmp_path / "a.jpg", values)


def test_what_can_not_be_written_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    image = np.zeros((4, 4, 3), np.uint8)
    for name in ("a.gif", "a", "a.jpg/b.jpg"):
        (tmp_path / "a.jpg").write_bytes(b"a file, no folder")
        with pytest.raises(ValueError, match=name):
            write_image(tmp_path / name, image)
    with pytest.raises(ValueError, match=r"wide\.webp"):
        write_image(tmp_path / "wide.webp", np.zeros((1, 20_000, 3), np.uint8))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ValueError, match=r"a\.jpg can't be written: No space left"):
        write_image(tmp_path / "a.jpg", image)
    assert os.listdir(tmp_path) == ["a.jpg"] and (tmp_path / "a.jpg").read_bytes() == b"a file, no folder"


def test_a_size_that_a_format_does_not_hold_is_one_sentence():
    for name, height, width in (
        ("a.webp", 20_000, 5),
        ("a.jpg", 5, 65_501),
        ("a.avif", 5, 65_537),
        ("a.avif", 8000, 8000),
    ):
        with pytest.raises(ValueError, match=f"{name} can't be written: {width}x{height} pixels, and .* has at most"):
            refuse_size(Path(name), height, width)
    for name, height, width in (("a.webp", 7000, 7000), ("a.tif", 10_000, 20_000), ("a.png", 5, 100_000)):
        refuse_size(Path(name), height, width)


def test_a_tif_on_a_full_disk_says_so(tmp_path, monkeypatch):
    def unexplained(*_, **__):
        raise OSError("encoder error -2 when writing image file")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", unexplained)
    with pytest.raises(ValueError, match=r"a\.tif can't be written: encoder error -2"):
        write_image(tmp_path / "a.tif", np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ValueError, match=r"a\.tif can't be written: No space left") as error:
        write_image(tmp_path / "a.tif", np.zeros((4, 4, 3), np.uint8))
    assert is_of_the_disk(error.value) and not os.listdir(tmp_path)


def test_on_white_mixes_by_alpha():
    pixels = np.array([[[0, 100, 200, 255], [0, 100, 200, 0], [0, 0, 0, 51]]], np.uint8)
    assert on_white(pixels).tolist() == [[[0, 100, 200], [255, 255, 255], [204, 204, 204]]]
