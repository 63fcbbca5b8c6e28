"""Learning rates: the same as torch's where torch has the schedule, defined for longer runs and after a plateau."""

import pytest
import torch
from conftest import ROOT, composed

from humanseg import build
from humanseg.schedules import Schedule, cosine, onecycle, poly, step

TOTAL = 40


def torchs(scheduler: type, **arguments) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = scheduler(optimizer, **arguments)
    rates = []
    for _ in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_cosine_and_poly_are_torchs():
    expected = torchs(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=TOTAL)
    assert [cosine(n, TOTAL) for n in range(TOTAL)] == pytest.approx(expected)
    expected = torchs(torch.optim.lr_scheduler.PolynomialLR, total_iters=TOTAL, power=0.9)
    assert [poly(n, TOTAL) for n in range(TOTAL)] == pytest.approx(expected)


def test_step_is_torchs():
    expected = torchs(torch.optim.lr_scheduler.MultiStepLR, milestones=[20, 30], gamma=0.1)
    assert [step(n, TOTAL, milestones=[0.5, 0.75]) for n in range(TOTAL)] == pytest.approx(expected)


def test_onecycle_has_torchs_shape():
    expected = torchs(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=4001, pct_start=0.3)
    # torch ends a step before its total: on a long run the two are the same curve
    assert [onecycle(n, 4001) for n in range(TOTAL)] == pytest.approx(expected, rel=1e-3)
    assert onecycle(0, 100) == pytest.approx(1 / 25)
    assert onecycle(30, 100) == pytest.approx(1)
    assert onecycle(100, 100) == pytest.approx(1 / 25 / 1e4)
    assert onecycle(150, 100) == onecycle(100, 100)  # torch's raises beyond its end


def test_warm_up_multiplies_the_curve():
    schedule = Schedule(TOTAL, poly, warmup=4)
    assert [schedule.factor(n) / poly(n, TOTAL) for n in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert Schedule(TOTAL, poly, warmup=0.1).warmup == 4


@pytest.mark.parametrize("warmup", [-1, 1.0, 2.5])
def test_a_warm_up_that_makes_no_sense(warmup):
    with pytest.raises(ValueError, match="scheduler.warmup"):
        Schedule(TOTAL, poly, warmup)


def test_plateau_shrinks_after_patience_and_remembers():
    def fresh() -> Schedule:
        return build.schedule(composed("scheduler=plateau", "scheduler.curve.patience=1")["scheduler"], TOTAL)

    schedule = fresh()
    factors = []
    for value in (0.5, 0.6, 0.6, 0.59, 0.7, 0.1, 0.1, 0.1):
        schedule.observe(value, "max")
        factors.append(schedule.factor(0))
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])

    resumed = fresh()
    resumed.load_state_dict(schedule.state_dict())
    schedule.observe(0.1, "max"), resumed.observe(0.1, "max")
    assert resumed.factor(0) == schedule.factor(0) == pytest.approx(0.001)


def test_plateau_of_a_loss_that_should_fall():
    schedule = build.schedule(composed("scheduler=plateau", "scheduler.curve.patience=0")["scheduler"], TOTAL)
    schedule.observe(1.0, "min")
    schedule.observe(0.5, "min")
    assert schedule.factor(0) == 1
    schedule.observe(0.6, "min")
    assert schedule.factor(0) == pytest.approx(0.1)


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "conf" / "scheduler").glob("*.yaml")))
def test_every_schedule_is_finite_from_the_first_step_to_beyond_the_last(name):
    schedule = build.schedule(composed(f"scheduler={name}", "scheduler.warmup=0.1")["scheduler"], TOTAL)
    factors = [schedule.factor(n) for n in range(2 * TOTAL)]
    assert all(0 <= factor <= 1 for factor in factors) and max(factors[:TOTAL]) > 0.5
