"""Learning rates: rate = base x warm-up(step) x curve(step, total). They are computed here and nowhere else.

A curve is a function of the optimizer step and the number of steps of the whole run, so that a resumed run and a longer
one are well defined. Only `Plateau` has a memory: its current factor and what led to it.
"""

import math
from collections.abc import Callable

from torch.optim import Optimizer


class Schedule:
    """Multiplies each optimizer's base rate by one factor a step.

    Args:
        total: optimizer steps of the whole run.
        curve: ``f(step, total) -> factor``.
        warmup: linear warm-up; an int counts steps, a float in [0, 1) is a share of `total`.

    Raises:
        ValueError: `warmup` is something else.
    """

    def __init__(self, total: int, curve: Callable[[int, int], float], warmup: int | float = 0):
        if not warmup >= 0 or (isinstance(warmup, float) and warmup >= 1):
            raise ValueError(
                f"scheduler.warmup={warmup}: give a number of steps (5) or a share of the run in [0, 1) (0.1)"
            )
        self.total = total
        self.curve = curve
        self.warmup = round(warmup * total) if isinstance(warmup, float) else warmup

    def factor(self, step: int) -> float:
        """The factor for optimizer step `step`, counted from 0."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return warm * self.curve(step, self.total)

    def observe(self, monitored: float, mode: str) -> None:
        """Tell a plateau the monitored metric after a validation; `mode` is ``max`` or ``min``."""
        if isinstance(self.curve, Plateau):
            self.curve.observe(monitored if mode == "max" else -monitored)

    def state_dict(self) -> dict[str, float]:
        """What a plateau remembers. Its arguments are not saved: they come from the config."""
        return {name: getattr(self.curve, name) for name in Plateau.MEMORY} if isinstance(self.curve, Plateau) else {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        if isinstance(self.curve, Plateau):
            vars(self.curve).update(state)


def set_rates(optimizers: dict[str, Optimizer], factor: float) -> None:
    """Give each optimizer its base rate times the factor."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def current_rates(optimizers: dict[str, Optimizer], factor: float) -> dict[str, float]:
    """The rates with a factor: `lr`, or `lr/PART` where there are several optimizers."""
    groups = {name: optimizer.param_groups[0] for name, optimizer in optimizers.items()}
    found = {name: group.get("initial_lr", group["lr"]) * factor for name, group in groups.items()}
    return {"lr": found["model"]} if list(found) == ["model"] else {f"lr/{name}": lr for name, lr in found.items()}


def tried(schedule: Schedule, total: int) -> Schedule:
    """A schedule of `total` optimizer steps whose first and last factor are numbers.

    Raises:
        ValueError: they are not finite. Its curve may raise anything.
    """
    factors = [schedule.factor(step) for step in (0, max(total - 1, 0))]
    if not all(map(math.isfinite, factors)):
        raise ValueError(
            f"scheduler: it multiplies the learning rate by {factors[0]} at first, by {factors[1]} at last"
        )
    return schedule


def constant(step: int, total: int) -> float:
    return 1.0


def cosine(step: int, total: int, final: float = 0.0) -> float:
    """Half a cosine from 1 to `final` (Loshchilov and Hutter 2017, without restarts)."""
    return final + (1 - final) * (1 + math.cos(math.pi * progress(step, total))) / 2


def poly(step: int, total: int, power: float = 0.9) -> float:
    """(1 - step / total) ** power (Chen et al. 2017)."""
    return (1 - progress(step, total)) ** power


def step(step: int, total: int, milestones: list[float], gamma: float = 0.1) -> float:
    """The product of one `gamma` for each of `milestones` (shares of the run in [0, 1]) that is reached."""
    return gamma ** sum(progress(step, total) >= milestone for milestone in milestones)


def onecycle(
    step: int, total: int, peak: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> float:
    """Cosine from 1 / div_factor up to 1 at share `peak` of the run, then down (Smith and Topin 2018)."""
    first, last = 1 / div_factor, 1 / (div_factor * final_div_factor)
    done = progress(step, total)
    if done < peak:
        return 1 + (first - 1) * (1 + math.cos(math.pi * done / peak)) / 2
    return last + (1 - last) * (1 + math.cos(math.pi * (done - peak) / (1 - peak))) / 2


class Plateau:
    """A factor that shrinks when the monitored metric stops improving.

    Args:
        factor: what the rate is multiplied by, in (0, 1).
        patience: validations without a better value before that happens.
        smallest: share of the base rate below which the rate does not go.

    Raises:
        ValueError: `factor` is something else.
    """

    MEMORY = ("current", "best", "waited")

    def __init__(self, factor: float = 0.1, patience: int = 5, smallest: float = 1e-4):
        if not 0 < factor < 1:
            raise ValueError(f"scheduler.curve.factor={factor}: give a number between 0 and 1")
        self.factor, self.patience, self.smallest = factor, patience, smallest
        self.current, self.best, self.waited = 1.0, -math.inf, 0

    def __call__(self, step: int, total: int) -> float:
        return self.current

    def observe(self, value: float) -> None:
        """`value` is better when higher."""
        if value > self.best:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.current, self.waited = max(self.current * self.factor, self.smallest), 0


def progress(step: int, total: int) -> float:
    """Share of the run that is done; 1 beyond its end."""
    return min(step / max(total, 1), 1.0)
