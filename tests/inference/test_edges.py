"""A refined edge lies where the photograph's does."""

import cv2
import numpy as np
import pytest

from humanseg.inference.edges import FINEST, refined


def coarse_and_photograph(factor: int = 8):
    """A bright disc on a dark ground, and what a network at an eighth of the size makes of it: its edge a pixel off."""
    photograph, truth = np.full((256, 192, 3), 40, np.uint8), np.zeros((256, 192), np.uint8)
    cv2.circle(photograph, (100, 120), 60, (200, 180, 160), -1)
    cv2.circle(truth, (100, 120), 60, 1, -1)
    small = cv2.resize(truth.astype(np.float32), (192 // factor, 256 // factor), interpolation=cv2.INTER_AREA)
    return cv2.blur(np.roll(small, 1, 1), (3, 3)), photograph, truth


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    found, truth = found >= 0.5, truth > 0
    return (found & truth).sum() / (found | truth).sum()


def enlarged(coarse: np.ndarray, photograph: np.ndarray) -> np.ndarray:
    return cv2.resize(refined(coarse, photograph, 128), photograph.shape[1::-1])


def test_an_edge_that_is_a_little_off_follows_the_photograph():
    coarse, photograph, truth = coarse_and_photograph()
    plain = cv2.resize(coarse, (192, 256))
    fine = enlarged(coarse, photograph)
    assert fine.shape == (256, 192) and fine.dtype == np.float32 and fine.min() >= 0 and fine.max() <= 1
    assert iou(fine, truth) > iou(plain, truth) + 0.02


def test_an_edge_between_colours_of_one_brightness_is_seen():
    coarse, photograph, truth = coarse_and_photograph()
    photograph = np.where(truth[..., None] > 0, np.uint8([180, 60, 60]), np.uint8([60, 120, 63]))
    grey = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)
    assert int(grey.max()) - grey.min() < 5
    assert iou(enlarged(coarse, photograph), truth) > iou(cv2.resize(coarse, (192, 256)), truth) + 0.02


def test_the_outline_stays_smooth_in_a_noisy_photograph():
    coarse, photograph, truth = coarse_and_photograph()
    noise = np.random.default_rng(0).normal(0, 25, photograph.shape)
    found = enlarged(coarse, (photograph + noise).clip(0, 255).astype(np.uint8)) >= 0.5
    assert iou(found, truth) > 0.96
    assert outline(found) < 1.05 * outline(truth > 0)


def outline(mask: np.ndarray) -> float:
    """Pixels along all the outlines of a mask."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return sum(cv2.arcLength(one, closed=True) for one in found)


def test_functions_of_the_windows_are_those_of_least_squares():
    """What has the photograph's own colours as a linear function is given back as it is."""
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8), (0, 0), 4)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    colours = cv2.medianBlur(image, 5).astype(np.float32) / 255
    coarse = colours @ np.float32([0.5, -0.3, 0.4]) + np.float32(0.2)
    assert np.abs(refined(coarse, image, 64) - coarse).mean() < 0.02


def test_without_an_edge_in_the_photograph_the_answer_is_only_enlarged():
    coarse, _, _ = coarse_and_photograph()
    grey = np.full((256, 192, 3), 128, np.uint8)
    smooth = cv2.blur(cv2.blur(coarse, (5, 5), borderType=cv2.BORDER_REFLECT), (5, 5), borderType=cv2.BORDER_REFLECT)
    assert np.abs(enlarged(coarse, grey) - cv2.resize(smooth, (192, 256))).max() < 0.05


def test_a_small_person_beside_a_like_background_is_kept():
    """In a window that is wide for them, most of what looks as they do is background."""
    photograph, truth = np.full((240, 240, 3), 90, np.uint8), np.zeros((240, 240), np.uint8)
    photograph[:, 60:] = 110
    truth[100:130, 40:50] = 1
    photograph[truth > 0] = 112
    coarse = cv2.GaussianBlur(cv2.resize(truth, (120, 120), interpolation=cv2.INTER_AREA).astype(np.float32), (0, 0), 1)
    assert iou(cv2.resize(refined(coarse, photograph, 120), (240, 240)), truth) > 0.8


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (20, 20), (2000, 900)])
def test_photographs_of_other_sizes(size):
    coarse = np.random.default_rng(0).random((32, 32), np.float32)
    found = refined(coarse, np.full((*size, 3), 9, np.uint8), 32)
    assert max(found.shape) <= FINEST * 32 and np.isfinite(found).all()
