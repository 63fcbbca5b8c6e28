"""A large photograph is drawn some rows at a time, in few bytes a pixel."""

import tracemalloc
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from humanseg.compositing import rows, studio
from humanseg.compositing.drawings import NAMES, Drawings, backdrops
from humanseg.compositing.flow import Clock
from humanseg.data import colour

SIDE = 1600
OTHERS = [("background", "blur:3"), ("background", "blur:90"), ("background", "wide.png"), ("mask", "tidied")]


@pytest.mark.parametrize("name, how", [*((name, "color:00b140") for name in NAMES), *OTHERS])
def test_each_drawing_takes_at_most_12_bytes_a_pixel(tmp_path, monkeypatch, name, how):
    """With the photograph's 3 and its alpha's 1; a part is what OpenCV takes beside arrays."""
    monkeypatch.setattr(studio, "LARGE", 1000)
    monkeypatch.setattr(colour, "STRIP", 10_000)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("wide.png", np.full((20, 300, 3), 80, np.uint8))
    share = cv2.GaussianBlur(cv2.circle(np.zeros((SIDE, SIDE), np.float32), (700, 900), 500, 1, -1), (0, 0), 3)
    predictor = SimpleNamespace(probability_rows=lambda logits, image: share.__getitem__)
    tidies = how == "tidied"
    drawings = Drawings([name], 0.5, [(0, 255, 0), (0, 0, 0)], 0.5, 16, tidies, tidies)
    image, own = np.full((SIDE, SIDE, 3), 90, np.uint8), np.full((SIDE, SIDE), 200, np.uint8)
    picture = studio.Picture(image, own, behind=next(backdrops(None if tidies else how)))
    tracemalloc.start()
    ((_, drawn),) = studio.Studio(predictor, drawings, [1.0], False, 1, Clock()).drawn(picture)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert drawn.shape[:2] == (SIDE, SIDE) and 3 + 1 + peak / SIDE**2 < 12


@pytest.mark.parametrize("size, small", [((97, 60), (97, 60)), ((97, 60), (31, 7)), ((300, 5), (1, 1))])
def test_a_picture_is_shrunk_in_parts_as_at_once(monkeypatch, size, small):
    picture = cv2.GaussianBlur(np.random.default_rng(0).random((*size, 4), np.float32), (0, 0), 9)
    at_once = cv2.resize(picture, small[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(rows.shrunk(picture.__getitem__, size, small), at_once)
    monkeypatch.setattr(colour, "STRIP", 500)
    assert np.abs(rows.shrunk(picture.__getitem__, size, small) - at_once).max() < 0.01
    part = slice(small[0] // 3, small[0])
    some = rows.shrunk(picture.__getitem__, size, small, part)
    np.testing.assert_array_equal(some.shape, at_once[part].shape)
    assert np.abs(some - at_once[part]).max() < 0.01
