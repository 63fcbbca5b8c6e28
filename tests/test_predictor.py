"""`Predictor` takes what a caller from Python has as a photograph, and says what it can't take."""

import numpy as np
import pytest
import torch
from PIL import Image

from humanseg.media.photograph import as_photograph
from humanseg.predictor import Predictor


def test_photographs_are_taken_as_they_come_from_python(trained_once, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    predictor = Predictor(trained_once, "cpu", "fp32", "torch")
    expected = predictor(image)
    written = tmp_path / "photo.png"
    Image.fromarray(image).save(written)
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    turned = np.ascontiguousarray(image[..., ::-1])[..., ::-1]  # as from OpenCV's BGR
    for given in (str(written), written, opaque, turned):
        np.testing.assert_array_equal(predictor(given), expected)
    np.testing.assert_allclose(predictor([image, written])[1], expected, atol=1e-5)
    assert predictor([]) == []
    grey = image[..., 0]
    for given in (grey, grey[..., None]):
        np.testing.assert_array_equal(predictor(given), predictor(np.dstack([grey] * 3)))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 4x4x3"),
        (np.zeros((4, 4, 3), np.uint16), "uint16 4x4x3"),
        (np.zeros((3, 40, 50), np.uint8), "uint8 3x40x50"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 0x4x3"),
        (np.zeros((1, 4, 4, 3), np.uint8), "uint8 1x4x4x3"),
        (torch.zeros(4, 4, 3), "a torch.Tensor"),
        (None, "a builtins.NoneType"),
    ],
    ids=str,
)
def test_what_is_no_photograph_is_one_sentence(given, told):
    with pytest.raises(ValueError, match=f"a photograph is uint8 HxWx3 RGB, .*, or a path; this is {told}"):
        as_photograph(given)
    with pytest.raises(ValueError, match=r"nowhere.png can't be read"):
        as_photograph("nowhere.png")


class Bright:
    """A network that takes what is bright for a person, and notes the sides of the squares that it sees."""

    def __init__(self):
        self.sides = []

    def __call__(self, squares: torch.Tensor) -> torch.Tensor:
        self.sides.append(squares.shape[1])
        return squares.permute(0, 3, 1, 2)[:, :1].float() - 128


@pytest.mark.parametrize(("high", "sides"), [(0, [64, 128]), (2, [64, 128]), (8, [64, 96]), (20, [64])])
def test_photographs_whose_people_are_small_are_looked_at_twice(trained_once, high, sides):
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :high] = 255
    predictor = Predictor(trained_once, "cpu", "fp32", "torch", refine=False)
    predictor.engine, predictor.size = seen, _ = Bright(), 64
    found = predictor.probabilities([image, np.full_like(image, 255)])[0]
    assert seen.sides == sides  # the second photograph is one large person, whatever the first one is
    assert ((found > 0.5) == (image[..., 0] > 128)).mean() > 0.94
    predictor.closer = False
    predictor(image)
    assert seen.sides == [*sides, 64]


def test_a_network_of_one_size_is_told_how_to_look_once(trained_once):
    def of_one_size(squares):
        assert squares.shape[1] == 32, "wrong height"
        return torch.full((len(squares), 1, 32, 32), -1.0)

    predictor, image = Predictor(trained_once, "cpu", "fp32", "torch"), np.zeros((32, 32, 3), np.uint8)
    predictor.engine = of_one_size
    with pytest.raises(ValueError, match=r"of 32 px can't take 64 px, .* \(wrong height\): look once, by tta=\[\]"):
        predictor(image)
    predictor.closer = False
    assert predictor(image).max() < 0.5


def test_a_second_look_is_the_mean_of_both(trained_once):
    predictor = Predictor(trained_once, "cpu", "fp32", "torch")
    image = np.zeros((32, 32, 3), np.uint8)
    predictor.engine = lambda squares: torch.full((len(squares), 1, *squares.shape[1:3]), -float(squares.shape[1]))
    (logits,) = predictor.logits_of([image])
    assert logits.shape == (1, 64, 64) and torch.equal(logits, torch.full_like(logits, -(32 + 64) / 2))
