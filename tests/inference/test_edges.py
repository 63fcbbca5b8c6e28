"""A refined edge lies where the photograph's does."""

import cv2
import numpy as np
import pytest

from humanseg.inference.edges import CONTRAST, FINEST, MOST, REACH, refined, window_radius, within_reach


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
    assert np.abs(fine - truth).mean() < np.abs(plain - truth).mean() / 3


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


def test_dark_hair_before_a_dark_wall_stays_solid():
    photograph, truth = np.full((512, 384, 3), 30, np.uint8), np.zeros((512, 384), np.uint8)
    cv2.circle(truth, (192, 256), 120, 1, -1)
    cv2.circle(photograph, (192, 288), 112, (210, 170, 150), -1)  # the face; hair and wall have one colour
    photograph[truth == 0] = 30
    coarse = cv2.blur(cv2.resize(truth.astype(np.float32), (192, 256), interpolation=cv2.INTER_AREA), (3, 3))
    found = refined(coarse, photograph, 256)
    depth = cv2.distanceTransform(truth, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - truth, cv2.DIST_L2, 5)
    assert found[depth > 12].min() > 0.95 and found[depth < -12].max() < 0.05  # six of the network's pixels


def test_what_the_network_is_sure_of_all_around_stays():
    coarse = np.ones((40, 40), np.float32)
    coarse[20, 20] = 0
    found = within_reach(np.zeros((40, 40), np.float32), coarse)
    assert found[20, 20 + REACH] == 0 and found[20, 21 + REACH] == 1


def test_what_is_a_linear_function_of_correlated_colours_is_given_back():
    noise = np.random.default_rng(0).normal(0, 1, (64, 48, 4))
    noise = cv2.GaussianBlur(noise, (0, 0), 3) @ np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 2, 2]])
    image = cv2.medianBlur((128 + 300 * noise).clip(0, 255).astype(np.uint8), 5)
    coarse = np.float32(0.5) + (image.astype(np.float32) / 255) @ np.float32([1.5, -0.7, -0.8])
    assert coarse.std() > 0.1
    wanted = within_reach(0.5 + CONTRAST * (coarse - 0.5), coarse).clip(0, 1)
    assert np.abs(refined(coarse, image, 64).clip(0, 1) - wanted).mean() < 0.02


def test_without_an_edge_in_the_photograph_the_answer_is_only_smoothed_and_enlarged():
    coarse, _, _ = coarse_and_photograph()
    grey = np.full((256, 192, 3), 128, np.uint8)
    smooth = cv2.blur(cv2.blur(coarse, (5, 5), borderType=cv2.BORDER_REFLECT), (5, 5), borderType=cv2.BORDER_REFLECT)
    wanted = within_reach(0.5 + CONTRAST * (cv2.resize(smooth, (192, 256)) - 0.5), coarse)
    assert np.abs(enlarged(coarse, grey) - wanted).max() < 0.05


def test_the_window_is_as_wide_as_people_are_and_not_as_many():
    def people(radius: int, places: list[int]) -> np.ndarray:
        plane = np.zeros((160, 160), np.float32)
        for across in places:
            cv2.circle(plane, (across, 80), radius, 1, -1)
        return plane

    small, crowd, large = people(5, [80]), people(5, [20, 40, 60, 80, 100, 120, 140]), people(11, [80])
    assert window_radius(small, 160) == window_radius(crowd, 160) == 1
    assert window_radius(large, 160) == 3
    assert window_radius(np.zeros((160, 160), np.float32), 160) == 1
    assert window_radius(np.ones((160, 160), np.float32), 160) == round(MOST * 160)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (20, 20), (2000, 900)])
def test_photographs_of_other_sizes(size):
    coarse = np.random.default_rng(0).random((32, 32), np.float32)
    found = refined(coarse, np.full((*size, 3), 9, np.uint8), 32)
    assert max(found.shape) <= FINEST * 32 and np.isfinite(found).all()
