"""The training loop: epochs of optimizer steps, validation, and what follows from the history."""

import functools
import math
import operator
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from humanseg import distributed
from humanseg.callbacks import Record
from humanseg.data.loading import Data
from humanseg.device import Compute
from humanseg.metrics import Counts
from humanseg.schedules import Schedule
from humanseg.tally import Tally


@dataclass(frozen=True)
class Settings:
    """What the loop takes from conf/trainer, where each key is explained."""

    epochs: int
    steps: int  # optimizer steps an epoch
    accumulate: int
    grad_clip: float | None
    val_every: int
    monitor: str | None
    monitor_mode: str
    early_stop: int


@dataclass
class State:
    """All that training changes; with the config it is the checkpoint."""

    model: nn.Module
    ema: AveragedModel | None
    optimizers: dict[str, Optimizer]
    schedule: Schedule
    scaler: torch.amp.GradScaler
    parallel: nn.Module | None = None  # the model as several processes train it together
    epoch: int = 0  # epochs that are finished
    step: int = 0  # optimizer steps that are finished
    history: list[dict[str, float]] = field(default_factory=list)  # a log for each finished epoch
    tally: Tally | None = None  # the running sums of an unfinished epoch

    @property
    def evaluated(self) -> nn.Module:
        """The weights that validation and test use."""
        return self.ema.module if self.ema else self.model

    def collect(self) -> None:
        """Make one state of those of several processes, before it is evaluated or saved: all of them call this.

        Their weights are equal, their batch norm's statistics become the mean, their sums go to the main one.
        """
        averaged = self.ema.module.buffers() if self.ema else ()
        distributed.average([*self.model.buffers(), *averaged])
        if self.tally:
            self.tally.collect()


def fit(
    state: State,
    data: Data,
    compute: Compute,
    loss: nn.Module,
    metrics: dict[str, Callable[[Counts], float]],
    settings: Settings,
    react: Callable[[Record], None],
    after_epoch: Callable[[State, Record], None],
    between: Callable[[State], None],
) -> None:
    """Train until `settings.epochs` or early stopping, from wherever the state is.

    Args:
        react: the callbacks; may add values to an epoch's log.
        after_epoch: logs and saves.
        between: called after each optimizer step and each validation batch, where the state can be saved; what it
            raises ends the training there.

    Raises:
        ValueError: the loss is not finite, or the monitored metric does not exist.
    """
    per_epoch = settings.steps * settings.accumulate
    used = state.epoch * per_epoch + (state.tally.batches if state.tally else 0)
    batches = data.train_batches(used, settings.epochs * per_epoch)
    while state.epoch < settings.epochs and not stops_early(state.history, settings):
        log = train_epoch(state, batches, data, compute, loss, metrics, settings, between)
        record = Record(state.epoch + 1, state.step, log, state.evaluated, compute, state.model)
        if data.splits["val"] and (record.epoch % settings.val_every == 0 or record.epoch == settings.epochs):
            started = time.perf_counter()
            outputs = network_outputs(state.evaluated, data.eval_batches("val"), compute)
            values, record.counts, record.ious = evaluate(
                outputs, metrics, loss, lambda _: between(state), data.idle_rounds("val")
            )
            log.update({f"val/{name}": value for name, value in values.items()})
            log["time/validation_seconds"] = time.perf_counter() - started
        react(record)
        finish_epoch(state, distributed.from_main(log), settings)  # callbacks may have added to the main one's
        after_epoch(state, record)


def train_epoch(
    state: State,
    batches: Iterator[tuple[Tensor, Tensor]],
    data: Data,
    compute: Compute,
    loss: nn.Module,
    metrics: dict[str, Callable[[Counts], float]],
    settings: Settings,
    between: Callable[[State], None],
) -> dict[str, float]:
    """One epoch of optimizer steps, or what is left of it; returns its log."""
    model, scaler = (state.parallel or state.model).train(), state.scaler
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    state.tally = tally = state.tally or Tally(compute.device)
    done = tally.batches // settings.accumulate
    steps = tqdm(
        range(done, settings.steps),
        f"epoch {state.epoch + 1}",
        settings.steps,
        leave=False,
        disable=distributed.no_bar(),
        initial=done,
    )
    tally.start_clock()
    for _ in steps:
        set_rates(state)
        for optimizer in state.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        for left in reversed(range(settings.accumulate)):
            images, target = tally.wait_for(batches)
            target = target.to(compute.device, non_blocking=True).long()

            with distributed.unsynchronised(model, wanted=left > 0):
                logits = compute(model, images)
                total, terms = total_loss(loss, logits, target)
                scaler.scale(total / settings.accumulate).backward()
            tally.add(logits.detach(), target, terms)

        tally.add_norm(step(state, parameters, settings.grad_clip))
        if compute.device.type == "cpu" or state.step % 50 == 0:  # reading it makes a GPU wait
            refuse_bad(state, data, settings)
        tally.stop_clock()
        between(state)
        tally.start_clock()
    refuse_bad(state, data, settings)
    tally.stop_clock()  # a GPU's last steps have been waited for
    state.collect()
    values = tally.read(metrics, settings.steps, data.batch_size) if distributed.is_main() else {}
    return {"epoch": state.epoch + 1, "step": state.step, **rates(state), **values}


def step(state: State, parameters: list[nn.Parameter], clip: float | None) -> Tensor:
    """One step of all optimizers with the gradients that are there; returns their norm before it was clipped."""
    for optimizer in state.optimizers.values():
        state.scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
    for optimizer in state.optimizers.values():
        state.scaler.step(optimizer)
    state.scaler.update()
    if state.ema:
        state.ema.update_parameters(state.model)
    state.step += 1
    return norm


@torch.inference_mode()
def evaluate(
    outputs: Iterable[tuple[Tensor, Tensor]],
    metrics: dict[str, Callable[[Counts], float]],
    loss: nn.Module | None = None,
    each: Callable[[Counts | None], None] | None = None,
    idle: int = 0,
) -> tuple[dict[str, float], Counts, Tensor]:
    """Metrics over pairs of logits NxCxHxW and target NxHxW; validation and test both come through here.

    Several processes see every size()-th pair each, and all of them get the result.

    Args:
        loss: its terms' means over the samples join the metrics.
        each: called with the counts of each pair alone.
        idle: pairs that another process has more, for which `each` is called with None, as it may ask all of them.

    Returns:
        The metrics, what they were read from, and each sample's IoU of the person.
    """
    sums, counts, ious = defaultdict(float), None, []
    for logits, target in outputs:
        here = Counts.zeros(logits.shape[1], logits.device)
        ious.append(here.add(logits, target, boundary="boundary_iou" in metrics, scores=True))
        counts = here if counts is None else counts + here
        if each:
            each(here)
        if loss is not None:
            for name, term in total_loss(loss, logits, target.long())[1].items():
                sums[name] += term * len(logits)
    for _ in range(idle if each else 0):
        each(None)
    ious = torch.cat(distributed.in_turns([one.cpu() for one in ious]))
    counts, sums = together(counts, sums)
    values = {name: float(value) / len(ious) for name, value in sums.items()}
    return values | {name: metric(counts) for name, metric in metrics.items()}, counts, ious


def together(counts: Counts | None, sums: dict[str, Tensor]) -> tuple[Counts, dict[str, Tensor]]:
    """The counts and sums of all processes; one without samples has none."""
    if distributed.size() == 1:
        return counts, sums
    mine = counts.to("cpu") if counts else None, {name: value.cpu() for name, value in sums.items()}
    parts = [part for part in distributed.gathered(mine) if part[0]]
    names = parts[0][1]
    return functools.reduce(operator.add, (part[0] for part in parts)), {
        name: sum(part[1][name] for part in parts) for name in names
    }


@torch.inference_mode()
def network_outputs(model: nn.Module, batches: Iterable, compute: Compute) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and target of batches at the network's size."""
    model.eval()
    for images, target in batches:
        yield compute(model, images), target.to(compute.device, non_blocking=True)


def total_loss(loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to minimise, and what is logged: itself as `loss` and, of a weighted sum, each term as `loss_NAME`."""
    value = loss(logits, target)
    if not isinstance(value, dict):
        return value, {"loss": value}
    total = sum(value.values())
    return total, {"loss": total, **{f"loss_{name}": term for name, term in value.items()}}


def set_rates(state: State) -> None:
    """Give each optimizer its base rate times the schedule's factor."""
    factor = state.schedule.factor(state.step)
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def rates(state: State) -> dict[str, float]:
    """The rates of the last step: `lr`, or `lr/PART` where several optimizers are at work."""
    factor = state.schedule.factor(state.step - 1)
    groups = {name: optimizer.param_groups[0] for name, optimizer in state.optimizers.items()}
    found = {name: group.get("initial_lr", group["lr"]) * factor for name, group in groups.items()}
    return {"lr": found["model"]} if list(found) == ["model"] else {f"lr/{name}": lr for name, lr in found.items()}


def finish_epoch(state: State, log: dict[str, float], settings: Settings) -> None:
    """Take an epoch into the history; a plateau hears of the monitored metric."""
    if settings.monitor and any(name.startswith("val/") for name in log):
        if settings.monitor not in log:
            raise ValueError(f"trainer.monitor={settings.monitor}: no such value; there are {', '.join(sorted(log))}")
        state.schedule.observe(log[settings.monitor], settings.monitor_mode)
    state.history.append({name: value if isinstance(value, int) else float(value) for name, value in log.items()})
    state.epoch, state.tally = state.epoch + 1, None


def best_epoch(history: list[dict[str, float]], settings: Settings) -> dict[str, float] | None:
    """The log of the best epoch; of the last one where nothing is monitored."""
    judged = [log for log in history if math.isfinite(log.get(settings.monitor, math.nan))]
    if not judged:
        return history[-1] if history else None
    return (max if settings.monitor_mode == "max" else min)(judged, key=lambda log: log[settings.monitor])


def stops_early(history: list[dict[str, float]], settings: Settings) -> bool:
    """Whether `settings.early_stop` validations have passed since the best."""
    judged = [log for log in history if settings.monitor in log]
    best = best_epoch(judged, settings)
    return bool(settings.early_stop and best) and len(judged) - 1 - judged.index(best) >= settings.early_stop


def refuse_bad(state: State, data: Data, settings: Settings) -> None:
    """Stop at a loss that is not finite, naming where it came from."""
    if state.tally and state.tally.first_bad >= 0:
        batch = state.epoch * settings.steps * settings.accumulate + int(state.tally.first_bad)
        names = ", ".join(data.batch_names(batch))
        raise ValueError(
            f"the loss is not finite at step {batch // settings.accumulate + 1}: try a smaller optimizer.lr, "
            f"trainer.grad_clip=1 or trainer.precision=fp32; its batch was {names}"
        )
