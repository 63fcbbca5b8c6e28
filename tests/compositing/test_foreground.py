"""The person's colours along a soft edge are told from the background's."""

import cv2
import numpy as np
import pytest

from humanseg.compositing import foreground
from humanseg.compositing.drawings import Drawings


@pytest.fixture(scope="module")
def person() -> tuple[np.ndarray, np.ndarray]:
    """Colours that vary from place to place, float32 HxWx3, and how much of each pixel is person."""
    height, width = 150, 220
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    colours = np.dstack([100 + 60 * np.sin(columns / 17), 90 + rows / 2, 200 - columns / 2])
    disc = cv2.circle(np.zeros((height, width), np.float32), (100, 70), 45, 1, -1)
    return colours, cv2.GaussianBlur(disc, (0, 0), 2.5)


def on(background: object, person: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    colours, share = person
    return np.rint(share[..., None] * colours + (1 - share[..., None]) * background).astype(np.uint8)


def estimated(image: np.ndarray, share: np.ndarray) -> np.ndarray:
    return foreground.estimated(image, share.__getitem__)(slice(0, len(image)))


@pytest.mark.parametrize("background", [(0, 177, 64), (255, 255, 255), "stripes"])
def test_what_was_behind_the_person_leaves_the_edge(person, background):
    colours, share = person
    if background == "stripes":
        background = np.where(np.arange(220)[:, None] // 30 % 2, (30, 60, 160), (230, 220, 120))
    image = on(background, person)
    edge = (share > 0.05) & (share < 0.95)
    before, after = (np.abs(one[edge] - colours[edge]).mean() for one in (image, estimated(image, share)))
    assert after < 0.5 * before


def test_inside_the_person_no_pixel_changes(person):
    image = on((0, 177, 64), person)
    found = estimated(image, np.where(person[1] > 0.9, np.float32(1), person[1]))
    assert (found[person[1] > 0.9] == image[person[1] > 0.9]).all() and found.dtype == np.uint8


def test_a_share_that_is_off_by_some_pixels_makes_no_new_colours(person):
    _, share = person
    image = on((0, 177, 64), (np.full((*share.shape, 3), 200, np.float32), share))
    off = np.roll(share, (3, -4), (0, 1))
    found = estimated(image, off)[off > 0]
    assert (found.min(0) >= (0, 177, 64)).all() and (found.max(0) <= (201, 201, 201)).all()


def test_tiles_leave_no_seams(person, monkeypatch):
    image = on((0, 177, 64), person)
    soft = person[1] > 0
    tiled = estimated(image, person[1])[soft].astype(int)
    monkeypatch.setattr(foreground, "TILE", 1000)
    assert np.abs(tiled - estimated(image, person[1])[soft]).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2)])
def test_any_shape_and_any_share_has_colours(size):
    image = np.full((*size, 3), 50, np.uint8)
    for share in (0, 0.002, 0.5, 1):
        assert np.abs(estimated(image, np.full(size, share, np.float32)).astype(int) - 50).max() <= 1


def test_drawings_estimate_or_keep_the_edge(person):
    image, share = on((0, 177, 64), person), person[1]
    names, rest = ["matting", "cutout", "background", "overlay"], (0.5, [(1, 2, 3)] * 2, 0.5, 8, False, False)
    values = 0.25 + share / 2  # the probability that has this share
    drawn = {
        how: Drawings(names, *rest, how)(image, values, lambda image, share: lambda rows: (200, 120, 160))
        for how in ("keep", "estimate")
    }
    edge = (share > 0.3) & (share < 0.7)
    for name in names[:3]:  # green is the background's
        kept, estimated = (drawn[how][name][edge][:, 1].mean() for how in ("keep", "estimate"))
        assert estimated < kept - 5
    assert (drawn["keep"]["overlay"] == drawn["estimate"]["overlay"]).all()
