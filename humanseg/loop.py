"""The training loop: epochs of optimizer steps and validation."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from humanseg import freezing
from humanseg.compute import Compute
from humanseg.data.loading import Data
from humanseg.hardness import Hardness
from humanseg.history import stops_early
from humanseg.losses import total_loss
from humanseg.metrics import Counts
from humanseg.processes import distributed
from humanseg.runs.run_info import RunInfo
from humanseg.schedules import Schedule, current_rates, set_rates
from humanseg.tally import STEADIER, Tally, evaluate, network_outputs


@dataclass(frozen=True)
class Settings:
    """What the loop takes from conf/trainer, where each key is explained."""

    epochs: int
    steps: int  # optimizer steps an epoch
    accumulate: int = 1
    grad_clip: float | None = None
    val_every: int = 1
    monitor: str | None = None
    monitor_mode: str = "max"
    early_stop: int = 0
    output_weights: list[float] | None = None
    freeze_encoder: int | None = None
    average_last: int | None = None
    reestimate_batchnorm: int | None = None
    log_every: int = 0  # optimizer steps between those whose own values are logged; 0: none


@dataclass(frozen=True)
class Setup:
    """What a run trains with. It stays as it is while the state changes."""

    data: Data
    compute: Compute
    loss: nn.Module
    metrics: dict[str, Callable[[Counts], float]]  # by name
    settings: Settings
    parallel: Callable[[nn.Module], nn.Module] = lambda network: network  # as several processes train it together
    resize: Callable[..., Sequence[Tensor]] = lambda batch, step: batch  # to the step's size


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
    hardness: Hardness | None = None  # by which hard samples are drawn more often
    averaged: int = 0  # how many epochs' weights `ema` is the mean of; 0: it is the moving average

    @property
    def evaluated(self) -> nn.Module:
        """The weights that validation and test use."""
        return self.ema.module if self.ema else self.model

    def collect(self) -> None:
        """Make one state of those of several processes, before it is evaluated or saved. All processes call this.

        Their weights are equal. The statistics of batch norm become their mean, and the main process gets all sums.
        """
        averaged = self.ema.module.buffers() if self.ema else ()
        distributed.all_reduce_mean([*self.model.buffers(), *averaged])
        if self.tally:
            self.tally.collect()


@dataclass
class Record:
    """An epoch, as callbacks see it."""

    epoch: int  # from 1
    step: int  # optimizer steps so far
    log: dict[str, float]  # the epoch's values by their TensorBoard names
    model: nn.Module  # the weights that validation used
    compute: Compute  # logits = compute(model, images)
    trained: nn.Module  # the weights that training steps, with the last step's gradients
    counts: Counts | None = None  # validation's, where there was one
    ious: Tensor | None = None  # of the person, for each validation sample in their order
    samples: tuple[Tensor, Tensor] | None = None  # the same in each epoch: uint8 NxHxWx3, uint8 NxHxW
    run: RunInfo | None = None


def _nothing(*_: object) -> None: ...


@dataclass(frozen=True)
class Hooks:
    """What others do while the loop runs.

    Args:
        after_step: called after each optimizer step and each validation batch, where the state can be saved. What it
            raises ends the training there. Of several processes all call it equally often.
        on_step: called after each `log_every`-th optimizer step with its losses and the gradient's norm, scalars on the
            device. Of several processes all call it; the main one alone has the values.
        on_epoch: the callbacks; they may add values to the epoch's log.
        after_epoch: logs and saves.
    """

    after_step: Callable[[State], None] = _nothing
    on_step: Callable[[State, dict[str, Tensor]], None] = _nothing
    on_epoch: Callable[[Record], None] = _nothing
    after_epoch: Callable[[State, Record], None] = _nothing


def fit(state: State, setup: Setup, hooks: Hooks = Hooks()) -> None:  # noqa: B008  it is frozen
    """Train until the last epoch or an early stop, from wherever the state is.

    Raises:
        ValueError: the loss or the weights are not finite, or the monitored metric does not exist.
    """
    settings, data = setup.settings, setup.data
    batches, judged_by = None, (settings.monitor, settings.monitor_mode, settings.early_stop)
    while state.epoch < settings.epochs and not stops_early(state.history, *judged_by):
        if batches is None or state.hardness:
            batches = training_batches(state, setup)
        log = train_epoch(state, batches, setup, hooks)
        record = Record(state.epoch + 1, state.step, log, state.evaluated, setup.compute, state.model)
        if data.splits["val"] and (record.epoch % settings.val_every == 0 or record.epoch == settings.epochs):
            validate(state, record, setup, hooks.after_step)
        hooks.on_epoch(record)
        finish_epoch(state, distributed.broadcast(log), setup)  # the main process' callbacks may have added values
        hooks.after_epoch(state, record)


def training_batches(state: State, setup: Setup) -> Iterator[tuple[Tensor, ...]]:
    """The batches to come; those of one epoch where its end decides which samples are drawn next."""
    per_epoch, hardness = setup.settings.steps * setup.settings.accumulate, state.hardness
    used = state.epoch * per_epoch + (state.tally.batches if state.tally else 0)
    last = state.epoch + 1 if hardness else setup.settings.epochs
    return setup.data.train_batches(used, last * per_epoch, hardness and hardness.factors())


def train_epoch(state: State, batches: Iterator, setup: Setup, hooks: Hooks = Hooks()) -> dict[str, float]:  # noqa: B008
    """One epoch of optimizer steps, or what is left of it; returns its log."""
    settings, compute = setup.settings, setup.compute
    begin_training(state, setup)
    state.tally = tally = state.tally or Tally(compute.device, state.hardness)
    done = tally.batches // settings.accumulate
    bar = tqdm(total=settings.steps, desc=f"epoch {state.epoch + 1}", initial=done, leave=False,
               disable=distributed.hides_bar())  # fmt: skip
    with bar:
        tally.start_clock()
        for _ in range(done, settings.steps):
            train_step(state, batches, setup)
            if compute.device.type == "cpu" or state.step % 50 == 0:  # reading the loss makes a GPU wait
                refuse_bad_loss(state, setup)
            tally.stop_clock()
            if settings.log_every and state.step % settings.log_every == 0:
                hooks.on_step(state, tally.last_step())
            hooks.after_step(state)
            tally.start_clock()
            bar.update()
        refuse_bad_loss(state, setup)
        refuse_bad_weights(state)
        tally.stop_clock()  # a GPU's last steps have been waited for
    state.collect()
    values = tally.read(setup.metrics, settings.steps, setup.data.config.batch_size) if distributed.is_main() else {}
    rates = current_rates(state.optimizers, state.schedule.factor(state.step - 1))
    return {"epoch": state.epoch + 1, "step": state.step, **rates, **values}


def train_step(state: State, batches: Iterator[tuple[Tensor, ...]], setup: Setup) -> None:
    """One optimizer step over `accumulate` batches: forward, backward, clip, step."""
    model, scaler, tally, settings = state.parallel or state.model, state.scaler, state.tally, setup.settings
    set_rates(state.optimizers, state.schedule.factor(state.step))
    for optimizer in state.optimizers.values():
        optimizer.zero_grad(set_to_none=True)

    for left in reversed(range(settings.accumulate)):
        batch = [one.to(setup.compute.device, non_blocking=True) for one in tally.wait_for(batches)]
        images, target, *answers = setup.resize(batch, state.step)
        target = target.long()
        with distributed.no_sync(model, wanted=left > 0):
            outputs = forward(model, images, setup)
            loss, terms = total_loss(setup.loss, outputs, target, images, settings.output_weights, *answers)
            scaler.scale(loss / settings.accumulate).backward()
        tally.add(outputs[0].detach(), target, terms)

    stepped = [optimizer for optimizer in state.optimizers.values() if freezing.has_gradients(optimizer)]
    for optimizer in stepped:
        scaler.unscale_(optimizer)
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in trained])
    if settings.grad_clip:
        nn.utils.clip_grads_with_norm_(trained, settings.grad_clip, norm)
    for optimizer in stepped:
        scaler.step(optimizer)
    scaler.update()
    if state.ema:
        state.ema.update_parameters(state.model)
    state.step += 1
    tally.add_norm(norm)


def begin_training(state: State, setup: Setup) -> None:
    """Bring the network into training mode. A frozen encoder stays as it is, with its statistics of batch norm."""
    epochs = setup.settings.freeze_encoder or 0
    frozen = state.epoch < epochs
    if epochs and freezing.change(state.model.encoder, state.optimizers.values(), frozen):
        state.parallel = setup.parallel(state.model)  # several processes exchange other gradients now
    (state.parallel or state.model).train()
    if frozen:
        state.model.encoder.eval()


def forward(model: nn.Module, images: Tensor, setup: Setup) -> list[Tensor]:
    """The network's outputs for a training batch, float32; the first is logits NxCxHxW.

    Raises:
        ValueError: batch norm has nothing to normalise with.
    """
    try:
        return setup.compute.outputs(model, images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"batch norm gets one value a channel, as after global pooling of one photograph: "
            f"data.batch_size={setup.data.config.batch_size} over {setup.data.share.world_size} processes "
            "(trainer.devices) needs two photographs in each"
        ) from error


def validate(state: State, record: Record, setup: Setup, after_step: Callable[[State], None]) -> None:
    """Score the validation samples, source by source; the record gets the values, counts and IoUs."""
    started, data = time.perf_counter(), setup.data
    outputs = {
        part.name: network_outputs(
            state.evaluated, data.eval_batches("val", lambda: after_step(state), part), setup.compute
        )
        for part in data.splits["val"].parts
    }
    values, record.counts, record.ious = evaluate(outputs, setup.metrics, setup.loss)
    record.log |= {f"val/{name}": value for name, value in values.items()}
    record.log["time/validation_seconds"] = time.perf_counter() - started


def finish_epoch(state: State, log: dict[str, float], setup: Setup) -> None:
    """Take an epoch into the history; a plateau gets the monitored metric, and hard samples are known.

    Raises:
        ValueError: there is no such metric.
    """
    settings = setup.settings
    if settings.monitor and any(name.startswith("val/") for name in log):
        if settings.monitor not in log:
            raise ValueError(f"trainer.monitor={settings.monitor}: no such value; there are {', '.join(sorted(log))}")
        state.schedule.observe(log[settings.monitor], settings.monitor_mode)
    state.history.append({name: value if isinstance(value, int) else float(value) for name, value in log.items()})
    if state.hardness:
        first, last = (epoch * state.tally.batches for epoch in (state.epoch, state.epoch + 1))
        state.hardness.finish_epoch(setup.data.train_positions(first, last, state.hardness.factors()))
    state.epoch, state.tally = state.epoch + 1, None


def refuse_bad_loss(state: State, setup: Setup) -> None:
    """Stop at a loss that is not finite, naming where it came from.

    Raises:
        ValueError: there was one in this epoch.
    """
    if state.tally and state.tally.first_bad >= 0:
        accumulate = setup.settings.accumulate
        batch = state.epoch * setup.settings.steps * accumulate + int(state.tally.first_bad)
        names = ", ".join(setup.data.batch_names(batch, state.hardness and state.hardness.factors()))
        raise ValueError(f"the loss is not finite at step {batch // accumulate + 1}: {STEADIER}; its batch was {names}")


def refuse_bad_weights(state: State) -> None:
    """Stop where a step has left weights that are not finite: the next loss would be the first to show it.

    Raises:
        ValueError: there are some.
    """
    if not torch.stack([one.detach().isfinite().all() for one in state.model.parameters()]).all():
        raise ValueError(f"the weights are not finite after step {state.step}: {STEADIER}")
