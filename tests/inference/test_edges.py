"""A refined edge lies where the photograph's does."""

import cv2
import numpy as np
import pytest

from humanseg.inference.edges import refined


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


def test_an_edge_that_is_a_little_off_follows_the_photograph():
    coarse, photograph, truth = coarse_and_photograph()
    plain = cv2.resize(coarse, (192, 256))
    fine = refined(coarse, photograph, 128)
    assert fine.shape == (256, 192) and fine.dtype == np.float32 and fine.min() >= 0 and fine.max() <= 1
    assert iou(fine, truth) > iou(plain, truth) + 0.02


def test_without_an_edge_in_the_photograph_the_answer_is_only_enlarged():
    coarse, _, _ = coarse_and_photograph()
    grey = np.full((256, 192, 3), 128, np.uint8)
    smooth = cv2.blur(cv2.blur(coarse, (5, 5), borderType=cv2.BORDER_REFLECT), (5, 5), borderType=cv2.BORDER_REFLECT)
    assert np.abs(refined(coarse, grey, 128) - cv2.resize(smooth, (192, 256))).max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (20, 20)])
def test_photographs_smaller_than_the_networks_square(size):
    coarse = np.random.default_rng(0).random((32, 32), np.float32)
    found = refined(coarse, np.full((*size, 3), 9, np.uint8), 32)
    assert found.shape == size and np.isfinite(found).all()
