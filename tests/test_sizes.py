"""Training at several sizes: the size follows from the step alone, and squares are shrunk as photographs and masks are."""

import pytest
import torch
from conftest import TINY, saved

from humanseg import loop
from humanseg.sizes import Sizes, shrunk


def test_each_size_has_an_equal_part_of_the_run_in_their_order():
    rising = Sizes([32, 64, 96], steps=9)
    assert [rising.at(step) for step in range(9)] == [32] * 3 + [64] * 3 + [96] * 3
    assert [Sizes([32, 64], 3).at(step) for step in range(3)] == [32, 32, 64]
    assert rising.at(9) == 96  # a run of fewer epochs than before goes on at its own size


def test_a_size_drawn_for_a_step_is_the_same_wherever_the_run_begins():
    sizes = [32, 64, 96]
    drawn = [Sizes(sizes, 300, seed=1).at(step) for step in range(300)]
    assert drawn[200:] == [Sizes(sizes, 900, seed=1).at(step) for step in range(200, 300)]
    assert drawn != [Sizes(sizes, 300, seed=2).at(step) for step in range(300)]
    assert all(80 < drawn.count(size) < 120 for size in sizes)


def test_shrinking_averages_photographs_and_takes_the_nearest_class():
    images = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    images[0, :, ::2], images[1, :, 32:] = 200, 100  # stripes that a sample of pixels would miss, and a half
    target = torch.zeros(2, 64, 64, dtype=torch.long)
    target[1, :, 32:], target[1, :8] = 1, 255
    small, labels, said = shrunk([images, target, target.byte()], 32)  # a teacher's answers go the way of the masks
    assert small.shape == (2, 32, 32, 3) and small.dtype == torch.uint8 and labels.shape == (2, 32, 32)
    assert torch.equal(said, labels.byte())
    assert small[0, :, 1:-1].sub(100).abs().max() <= 1  # uint8 wraps around: a smaller value would be far above
    assert torch.equal(labels[1, 4:, 16:], torch.ones(28, 16).long()) and labels[1, 4:, :16].max() == 0
    assert torch.equal(labels[1, :4], torch.full((4, 32), 255)) and small[1, :, 18:].unique().tolist() == [100]
    whole, same = shrunk([images, target], 64)
    assert whole is images and same is target


def test_a_run_trains_at_each_size_and_validates_at_its_own(run, monkeypatch):
    seen, step = [], loop.forward

    def look(model, images, setup):
        seen.append((model.training, images.shape[1]))
        return step(model, images, setup)

    monkeypatch.setattr(loop, "forward", look)
    folder = run(*TINY, "data.image_size=64", "trainer.sizes=[32,64]", "trainer.accumulate=2").folder
    assert seen == [(True, 32)] * 4 + [(True, 64)] * 4
    assert saved(folder)["config"]["data"]["image_size"] == 64


@pytest.mark.parametrize(
    "sizes, sentence",
    [
        ("[64,32]", "trainer.sizes=[64, 32]: give sizes up to data.image_size=32, and that one last"),
        ("[16,32]", "trainer.sizes=[16, 32]: give multiples of 32, as [160,224], or null"),
        ("[]", "trainer.sizes=[]: give multiples of 32, as [160,224], or null"),
        ("null", "trainer.size_order=random is for trainer.sizes: give some, the last of them 32, or null"),
    ],
)
def test_sizes_that_do_not_fit_are_one_sentence(run, sizes, sentence):
    assert sentence in run(*TINY, f"trainer.sizes={sizes}", "trainer.size_order=random", code=1).stderr


def test_a_size_that_the_network_can_not_take_is_one_sentence(run):
    typed = [one for one in TINY if "decoder_channels" not in one and "image_size" not in one]
    told = run(*typed, "model=pan_mbv2", "data.image_size=128", "trainer.sizes=[64,128]", code=1).stderr
    assert told.startswith("error: trainer.sizes=64: PAN can't take a 3x64x64 image") and "Traceback" not in told
