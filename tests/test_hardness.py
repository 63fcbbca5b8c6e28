"""Hard examples come more often: by how wrong the epoch before was, the same for any workers, processes and kills."""

import numpy as np
import pytest
import torch
from conftest import TINY, saved

from humanseg.data.order import BatchNumbers
from humanseg.data.splits.parts import Part, Split
from humanseg.hardness import Hardness
from humanseg.processes.distributed import Share
from humanseg.tally import Tally

CPU = torch.device("cpu")
FACTORS = np.array([0.25, 0.25, 0.5, 3.0])


class Four(list):
    names = ["a", "b", "c", "d"]


def split(**settings) -> Split:
    return Split([Part(Four([0] * 4), [0, 1, 2, 3], **settings)])


def logits(*people: list[int]) -> torch.Tensor:
    return torch.tensor(people, dtype=torch.float)[:, None, None].sub(0.5)


def test_hardness_is_one_minus_iou_and_of_an_empty_place_what_is_taken_for_people():
    given, tally = Hardness(0.5, 5, (2, 2), CPU), None
    tally = Tally(CPU, given)
    target = torch.tensor([[[1, 1, 0, 255]], [[0, 0, 0, 255]]])
    tally.add(logits([1, 0, 1, 1], [0, 1, 0, 1]), target, {"loss": torch.zeros(())})
    tally.add(logits([1, 1, 0, 0], [1, 1, 0, 1]), target[:1].repeat(2, 1, 1), {"loss": torch.zeros(())})
    given.finish_epoch(np.array([[3, 0], [1, 3]]))  # the fourth sample came twice: of 3 + 2 pixels 2 + 0 are wrong
    assert given.known.tolist()[:2] == pytest.approx([1 / 3, 0]) and given.known[3].item() == pytest.approx(2 / 5)
    assert given.known[[2, 4]].isnan().all() and not given.sums.any()
    mean = (1 / 3 + 2 / 5) / 3
    assert given.factors() == pytest.approx([0.5 + 0.5 * one / mean for one in (1 / 3, 0, mean, 2 / 5, mean)])


def test_nothing_is_drawn_more_often_before_anything_is_known_or_where_all_is_right():
    given = Hardness(0.5, 3, (1, 3), CPU)
    assert given.factors().tolist() == [1, 1, 1]
    given.known.zero_()
    assert given.factors().tolist() == [1, 1, 1]


def test_samples_come_as_often_as_their_factors_say():
    times = np.array([np.bincount(split().drawn(0, number, FACTORS)[0], minlength=4) for number in range(2000)])
    assert (times.sum(1) == 4).all() and times[:, 3].min() == times[:, 3].max() == 3
    assert times.mean(0) == pytest.approx(FACTORS, abs=0.03) and times.max(0).tolist() == [1, 1, 1, 3]
    assert abs(np.corrcoef(times[:, 0], times[:, 1])[0, 1] + 1 / 3) < 0.1  # three share one place: no pair is bound
    half = [len(split(weight=0.5).drawn(0, number, FACTORS)[0]) for number in range(9)]
    assert half == [2] * 9  # the pass stays as long


def test_a_batch_follows_from_its_number_and_the_factors_alone():
    whole = list(BatchNumbers(split(), 2, 0, 0, 6, factors=FACTORS))
    assert list(BatchNumbers(split(), 2, 0, 3, 6, factors=FACTORS)) == whole[3:]
    parts = [list(BatchNumbers(split(), 2, 0, 0, 6, Share(rank, 2), FACTORS)) for rank in (0, 1)]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole
    repeats = [repeat for batch in whole[:2] for _, position, repeat in batch if position == 3]
    assert sorted(repeats) == [0, 1, 2]  # each is augmented anew


def test_a_run_remembers_what_was_hard(run):
    taught = saved(run(*TINY, "trainer.hard=0.5", "trainer.epochs=1").folder)["hardness"]
    known = taught["known"]
    assert len(known) == 18 and known.isnan().sum() == 18 - 8 and not taught["sums"].any()
    assert 0 < known.nanmean() <= 1
    assert saved(run(*TINY, "trainer.epochs=1").folder)["hardness"] is None


def test_a_checkpoint_of_other_samples_is_refused():
    given = Hardness(0.5, 3, (1, 3), CPU)
    for name, value in (("known", torch.zeros(4)), ("known", torch.full((3,), 2.0)), ("sums", given.sums - 1)):
        with pytest.raises(ValueError, match="its hardness"):
            given.load_state_dict(given.state_dict() | {name: value})


def test_a_share_that_is_none_is_one_sentence(run):
    told = run(*TINY, "trainer.hard=2", code=1).stderr
    assert "trainer.hard=2: give a number from 0.01 to 1, or null" in told
