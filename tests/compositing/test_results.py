"""A result belongs to its photograph: what was drawn of another one is not taken for finished."""

import os
import shutil

import numpy as np
import pytest

from humanseg.compositing.results import NAME, Results, fingerprint
from humanseg.compositing.targets import of_photographs
from humanseg.media.images import write_image


def photograph(path, value: int = 0):
    write_image(path, np.full((4, 4, 3), value, np.uint8))
    return path


def draw(typed, output, names=("mask",), overwrite=False) -> list[str]:
    """As mode=predict does: the names of the results that were drawn this time."""
    waiting = of_photographs(str(typed), output, list(names), overwrite)
    for one in waiting:
        for path in one.targets.values():
            write_image(path, np.zeros((4, 4), np.uint8))
        one.results.add(fingerprint(one.source.path), one.targets)
    return sorted(path.name for one in waiting for path in one.targets.values())


def set_time(path, seconds: int):
    os.utime(path, (seconds, seconds))


def test_photographs_that_share_a_name_have_a_result_each(tmp_path):
    photograph(tmp_path / "in" / "a.png")
    assert draw(tmp_path / "in", tmp_path / "out") == ["a.png"]
    photograph(tmp_path / "in" / "a.jpg")
    assert draw(tmp_path / "in", tmp_path / "out") == ["a.jpg.png", "a.png.png"]
    assert draw(tmp_path / "in", tmp_path / "out") == []


@pytest.mark.parametrize("seconds", [1_000_000_000, 4_000_000_000])
def test_a_photograph_that_took_anothers_place_is_drawn(tmp_path, seconds):
    for name in ("a", "b"):
        photograph(tmp_path / "in" / f"{name}.bmp")
    draw(tmp_path / "in", tmp_path / "out")
    size = (tmp_path / "in" / "a.bmp").stat().st_size
    set_time(photograph(tmp_path / "in" / "a.bmp", 9), seconds)
    assert (tmp_path / "in" / "a.bmp").stat().st_size == size
    assert draw(tmp_path / "in", tmp_path / "out") == ["a.png"]
    (tmp_path / "in" / "a.bmp").unlink()
    photograph(tmp_path / "in" / "a.jpg")
    assert draw(tmp_path / "in", tmp_path / "out") == ["a.png"]


def test_the_same_photographs_elsewhere_are_finished_and_others_of_these_names_are_not(tmp_path):
    photograph(tmp_path / "one" / "deep" / "a.png")
    draw(tmp_path / "one", tmp_path / "out")
    shutil.copytree(tmp_path / "one", tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.move(tmp_path / "out", tmp_path / "moved")
    assert draw(tmp_path / "copy", tmp_path / "moved") == []
    photograph(tmp_path / "two" / "deep" / "a.png", 9)
    assert draw(tmp_path / "two", tmp_path / "moved") == ["a.png"]


def test_another_drawing_under_the_same_name_is_not_finished(tmp_path):
    photograph(tmp_path / "in" / "a.png")
    assert draw(tmp_path / "in", tmp_path / "out") == ["a.png"]
    assert draw(tmp_path / "in", tmp_path / "out", ["cutout"]) == ["a.png"]
    assert draw(tmp_path / "in", tmp_path / "out", ["mask", "cutout"]) == ["a_cutout.png", "a_mask.png"]
    assert draw(tmp_path / "in", tmp_path / "out", ["mask", "cutout"]) == []


def test_one_file_belongs_to_its_photograph_too(tmp_path):
    for name in ("a", "b"):
        photograph(tmp_path / f"{name}.png", ord(name))
    out = tmp_path / "cut.tif"
    assert draw(tmp_path / "a.png", out) == ["cut.tif"]
    assert draw(tmp_path / "a.png", out) == []
    assert draw(tmp_path / "b.png", out) == ["cut.tif"]


@pytest.mark.parametrize("typed", ["", "*.*"])
def test_results_among_photographs_are_not_taken_for_photographs(tmp_path, typed):
    for name in ("a.jpg", "b.jpg", "b.webp"):
        photograph(tmp_path / name)
    drawn = ["a.png", "b.jpg.png", "b.webp.png"]
    assert draw(tmp_path / typed, tmp_path) == drawn
    assert draw(tmp_path / typed, tmp_path) == []
    assert draw(tmp_path / typed, tmp_path, overwrite=True) == drawn
    assert draw(tmp_path / "a.png", tmp_path / "out") == ["a.png"]  # typed itself it is one


def test_what_an_earlier_version_drew_is_finished_unless_its_photograph_is_newer(tmp_path):
    for name in ("a", "b"):
        set_time(photograph(tmp_path / "in" / f"{name}.png"), 1_000_000_000)
    draw(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / NAME).unlink()
    (tmp_path / "out" / "b.png").unlink()
    assert draw(tmp_path / "in", tmp_path / "out") == ["b.png"]
    set_time(photograph(tmp_path / "in" / "a.png", 9), 4_000_000_000)
    with pytest.raises(ValueError, match=r"older than their photographs, as .*a\.png: .*overwrite=true"):
        draw(tmp_path / "in", tmp_path / "out")
    assert draw(tmp_path / "in", tmp_path / "out", overwrite=True) == ["a.png", "b.png"]


def test_a_record_that_is_cut_off_or_strange_is_read_as_far_as_it_goes_and_a_link_is_refused(tmp_path):
    for name in ("a", "b"):
        photograph(tmp_path / "in" / f"{name}.png")
    draw(tmp_path / "in", tmp_path / "out")
    record = tmp_path / "out" / NAME
    record.write_text(
        '[1]\n{"photograph": 3}\n{"photograph": {}, "drawings": {"mask": [1]}}\n'
        + "[" * 9**5
        + "\n"
        + record.read_text()[:-20]
    )
    assert Results(tmp_path / "out").hold(tmp_path / "out" / "a.png")
    assert draw(tmp_path / "in", tmp_path / "out") == []
    record.rename(tmp_path / "elsewhere")
    record.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="drawn.jsonl can't be read"):
        draw(tmp_path / "in", tmp_path / "out")


def test_a_folder_may_have_a_dot_in_its_name(tmp_path):
    photograph(tmp_path / "a.png")
    (tmp_path / "cut.xyz").mkdir()
    for name in ("2024.11", "cut.xyz"):
        assert draw(tmp_path / "a.png", tmp_path / name) == ["a.png"] and (tmp_path / name / "a.png").exists()
