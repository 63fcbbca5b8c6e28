"""Drawings do with each pixel what their names say."""

import cv2
import numpy as np
import pytest

from humanseg.compositing import composite
from humanseg.compositing.drawings import Drawings, backdrops, color

ALL = slice(0, 20)  # rows of the photograph


def test_alpha_is_whole_where_the_network_is_sure_and_soft_at_the_threshold():
    values = np.array([[0.0, 0.2, 0.5, 0.8, 1.0]], np.float32)
    assert composite.alpha(values).tolist() == [[0, 0, 0.5, 1, 1]]
    assert composite.alpha(values, threshold=0.8)[0, 3] == pytest.approx(0.5)
    assert composite.mask(values).tolist() == [[0, 0, 255, 255, 255]]


@pytest.fixture
def photograph():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def share():
    plane = np.zeros((20, 30), np.float32)
    plane[:, 15:] = 1
    plane[:, 14] = 0.5
    return plane


def test_the_person_stays_and_the_rest_becomes_white_transparent_or_another_picture(photograph, share):
    on_white = composite.matting(photograph, share)
    assert np.abs(on_white[:, 15:].astype(int) - photograph[:, 15:]).max() <= 1 and (on_white[:, :14] >= 254).all()
    middle = (photograph[:, 14].astype(int) + 255) / 2
    assert np.abs(on_white[:, 14] - middle).max() <= 1
    cut = composite.cutout(photograph, share)
    assert (cut[:, 14:, :3] == photograph[:, 14:]).all() and not cut[:, :14].any()
    assert cut[0, [0, 14, 20], 3].tolist() == [0, 128, 255]
    other = np.full_like(photograph, 7)
    behind = composite.blend(photograph, other, share)
    assert np.abs(behind[:, :14].astype(int) - 7).max() <= 1


def test_the_overlay_tints_by_its_opacity(photograph, share):
    tinted = composite.overlay(photograph, share, [(255, 0, 0), (0, 0, 255)], 1.0)
    assert np.abs(tinted[0, 20].astype(int) - (255, 0, 0)).max() <= 1
    assert np.abs(tinted[0, 0].astype(int) - (0, 0, 255)).max() <= 1
    assert (composite.overlay(photograph, share, [(255, 0, 0), (0, 0, 255)], 0.0) == photograph).all()


def test_a_blurred_background_has_nothing_of_the_person_in_it(share):
    photograph = np.full((20, 30, 3), 50, np.uint8)
    photograph[:, 14:] = 250
    assert composite.blurred(photograph, share.__getitem__, 6.0)(ALL)[:, :12].max() <= 75


@pytest.mark.parametrize("size", [(50, 50), (10, 80), (90, 20), (300, 400), (1, 1)])
def test_a_background_of_any_shape_covers_and_is_centred(size):
    picture = np.zeros((*size, 3), np.uint8)
    picture[size[0] // 2 :] = 255
    cover = composite.covering(picture, 20, 30)
    assert cover.shape == (20, 30, 3)
    if size[0] > 1:
        assert cover[0].max() == 0 and cover[-1].min() == 255


def test_probabilities_fill_their_range():
    values = np.array([[0, 0.5, 1]], np.float32)
    assert composite.probability(values).tolist() == [[0, 128, 255]]
    assert composite.probability(values, 16).tolist() == [[0, 32768, 65535]]
    assert composite.probability(values, 16).dtype == np.uint16


def tidied(values: np.ndarray, keep_largest: bool, fill_holes: bool) -> np.ndarray:
    rows = composite.tidied(values.__getitem__, *values.shape, 0.5, keep_largest, fill_holes)
    return rows(slice(0, len(values)))


def test_the_largest_person_stays_and_holes_are_filled():
    values = np.zeros((40, 60), np.float32)
    cv2.circle(values, (15, 20), 10, 0.9, -1)
    cv2.circle(values, (15, 20), 3, 0.1, -1)  # a hole
    cv2.circle(values, (45, 20), 5, 0.9, -1)  # a passer-by
    values[:8, 30:34] = 0.3
    largest = tidied(values, keep_largest=True, fill_holes=False)
    assert largest[20, 45] == 0 and largest[20, 7] == values[20, 7] and largest[20, 15] < 0.5
    filled = tidied(values, keep_largest=False, fill_holes=True)
    assert filled[20, 15] == 1 and filled[20, 45] == values[20, 45] and filled[0, 0] == 0
    assert (tidied(values, False, False) == values).all()
    nobody = np.zeros((5, 5), np.float32)
    assert (tidied(nobody, True, True) == 0).all()
    everywhere = np.ones((5, 5), np.float32)
    assert (tidied(everywhere, True, True) == 1).all()


def test_colours_and_backgrounds_are_read_or_refused(tmp_path, photograph, share):
    assert color("00b140") == (0, 177, 64) and color("#ffffff") == (255, 255, 255)
    for wrong in ("green", "123", "00b14g"):
        with pytest.raises(ValueError, match="six hexadecimal digits"):
            color(wrong)
    rows = share.__getitem__
    assert next(backdrops("color:00b140"))(photograph, rows)(ALL) == (0, 177, 64)
    assert next(backdrops("blur:5"))(photograph, rows)(ALL).shape == photograph.shape
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((5, 9, 3), 80, np.uint8))
    behind = next(backdrops(str(tmp_path / "wall.png")))
    assert (behind(photograph, rows)(ALL) == 80).all() and behind(photograph, rows)(ALL).shape == photograph.shape
    assert next(backdrops(None)) is None
    for wrong in ("blur:0", "blur:wide", "nowhere.jpg", "color:red"):
        with pytest.raises(ValueError, match=wrong.partition(":")[2] or "nowhere"):
            next(backdrops(wrong))


def test_each_drawing_that_is_asked_for_is_made(photograph):
    names = ["mask", "matting", "cutout", "overlay", "background", "probability"]
    drawings = Drawings(names, 0.5, [(0, 255, 0), (0, 0, 0)], 0.5, 16, False, False)
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    made = drawings(photograph, values, next(backdrops("color:00b140")))
    shapes = {"mask": (20, 30), "cutout": (20, 30, 4), "probability": (20, 30)}
    assert list(made) == names
    assert all(made[name].shape == shapes.get(name, (20, 30, 3)) for name in names)
