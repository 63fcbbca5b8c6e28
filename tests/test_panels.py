"""Pictures of samples: which are shown, and what is written on them can be read."""

import cv2
import numpy as np

from humanseg.pictures import extremes, titled_row


def test_a_title_has_an_outline_that_lies_close_around_its_letters():
    nobody = np.zeros((160, 160), np.uint8)

    def titled(grey: int) -> np.ndarray:
        return titled_row(np.full((160, 160, 3), grey, np.uint8), nobody, nobody, 160, "eg1800 iou 0.658")[:24, :160, 0]

    letters, outline = titled(0) > 127, titled(255) < 127
    near, next_to = (cv2.dilate(letters.astype(np.uint8), np.ones((side, side))) > 0 for side in (5, 3))
    assert letters.sum() > 300 and not (outline & ~near).any()
    assert outline[next_to & ~letters].mean() > 0.9


def test_photographs_of_nobody_are_the_last_to_be_shown_as_the_best():
    assert extremes([1.0, 0.9, 0.2, 1.0, 0.7, 0.1], 2) == [1, 5, 4, 2]
    assert extremes([1.0, 0.3, 1.0, 1.0], 6) == [2, 1, 3, 0]
    assert extremes([0.5], 3) == [0, 0]
