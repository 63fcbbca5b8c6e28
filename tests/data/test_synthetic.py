"""Procedural people: repeatable, plausible, and not to be told from the background by colour."""

import cv2
import numpy as np
import pytest

from humanseg.data.synthetic import Synthetic


@pytest.fixture(scope="module")
def pictures():
    """100 images, uint8 100x64x64x3, and their masks, uint8 100x64x64."""
    images, masks = zip(*Synthetic(100, 64, seed=0), strict=True)
    return np.stack(images), np.stack(masks)


@pytest.mark.parametrize("size", [32, 64, 97])
def test_arrays(size):
    image, mask = Synthetic(3, size, seed=1)[2]
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert mask.shape == (size, size) and mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}


def test_same_seed_same_pictures():
    first, second = Synthetic(8, 64, seed=3), Synthetic(20, 64, seed=3)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # neither the number of threads nor the order of reading may matter
    backwards = [second[index] for index in reversed(range(8))][::-1]
    cv2.setNumThreads(threads)
    for index in range(8):
        for ours, theirs in zip(first[index], backwards[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_other_index_or_seed_other_picture(pictures):
    assert len(np.unique(pictures[0].reshape(100, -1), axis=0)) == 100
    assert not np.array_equal(Synthetic(1, 64, seed=1)[0][0], pictures[0][0])


def test_sequence():
    people = Synthetic(13, 64, seed=0)
    assert len(people) == len(people.names) == 13
    assert people.names[12] == "synthetic_000012"
    with pytest.raises(IndexError):
        people[13]


def test_share_of_people(pictures):
    shares = pictures[1].mean(axis=(1, 2))
    assert 0.2 < shares.mean() < 0.4
    assert shares.max() < 0.85
    assert 1 <= (shares == 0).sum() <= 20


def test_colour_does_not_tell_people(pictures):
    images, people = pictures[0].astype(int), pictures[1] > 0
    best = 0.0
    for channel in (*np.moveaxis(images, -1, 0), images.mean(axis=-1), np.ptp(images, axis=-1)):
        for threshold in range(0, 256, 8):
            for guess in (channel > threshold, channel <= threshold):
                best = max(best, (guess & people).sum() / (guess | people).sum())
    assert best < 0.5
