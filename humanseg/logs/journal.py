"""What a run writes while it trains: its folder, checkpoints, TensorBoard, tables, and the lines on the terminal."""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import yaml

from humanseg import averaging, checkpoint, terminal
from humanseg.checkpoint import Checkpoints
from humanseg.data.splits.left_out import LeftOut, summarised
from humanseg.history import best_epoch
from humanseg.logs import lines
from humanseg.logs.callback_list import CallbackList
from humanseg.logs.lines import epoch_line
from humanseg.logs.model_summary import summarise_model
from humanseg.logs.samples import best_and_worst, preview_samples
from humanseg.logs.steps import StepValues
from humanseg.logs.tensorboard import add_picture, log_hparams, log_values, open_board
from humanseg.loop import Record, Setup, State
from humanseg.pictures import contact_sheet, outlined, png
from humanseg.processes.distributed import rank_zero_only
from humanseg.processes.hardware import describe_device
from humanseg.runs.atomic import NotWritten, write_bytes, write_table, write_text
from humanseg.runs.conf import command
from humanseg.runs.job import Job
from humanseg.runs.run_info import RunInfo
from humanseg.runs.summary import Run, is_sweep
from humanseg.runs.value_names import metric_of, over_all
from humanseg.schedules import current_rates

log = logging.getLogger(__name__)

BATCH_COLUMNS = 4  # of train_batch.png
SKIPPED = 10  # samples named in one warning


class Journal:
    """The record of one run, in its folder. The main process keeps it; in the others its methods do nothing.

    Args:
        facts: what goes into each checkpoint, `config` and `choices` among it.
        callbacks: by their names, see `CallbackList`.
    """

    @rank_zero_only
    def __init__(
        self, job: Job, facts: dict[str, Any], setup: Setup, checkpoints: Checkpoints, callbacks: dict[str, Any]
    ):
        self.job, self.cfg, self.setup = job, facts["config"], setup
        self.checkpoints, self.steps = checkpoints, StepValues()
        self.callbacks = CallbackList(callbacks, self.cfg["callbacks"].get("strict", False))
        self._missed: set[str] = set()  # files that could not be written

    @rank_zero_only
    def open(self, state: State, changed: list[str] | None) -> None:
        """Write what is known before the first step, and the opening lines.

        Args:
            changed: the keys that have another value than before; None where the run does not go on.

        Raises:
            ValueError: a callback has failed, with callbacks.strict=true.
        """
        self.run = self._begin(state)
        kept = None if changed is None else _last_step(state, self.setup)
        sources = self.setup.data.splits["val"].sources
        self.writer = open_board(self.job.folder, self.cfg, self.setup.metrics, sources, kept)
        if changed is not None:
            with self._going_on():
                self._write_tables(state)  # a kill may have come between the checkpoint and them
        else:
            self._picture_first_batch()
        self.samples = preview_samples(self.setup.data)
        self.info = self._describe(changed or [])
        self.callbacks.start(self.info)
        for epoch, values in enumerate(state.history, 1):  # a tracker may be new, or have been away
            self.callbacks.log(values["step"], epoch, _named(values))

    def _describe(self, changed: list[str]) -> RunInfo:
        folder = self.job.folder
        sweep = "/".join(folder.parent.parts[-2:]) if is_sweep(folder.parent) else None
        return RunInfo(folder, self.cfg, self.job.overrides, self.job.choices, changed, sweep)

    def _begin(self, state: State) -> Run:
        """The run's folder with what is known at the start; run.log gets what stands behind the opening lines."""
        cfg, data, compute = self.cfg, self.setup.data, self.setup.compute
        classes, smaller = cfg["model"]["classes"], cfg["trainer"]["sizes"] or ()
        table, size = summarise_model(state.model, data.config.image_size, classes, smaller)
        device, processes = describe_device(compute.device), data.share.world_size
        if processes > 1:
            device = f"{processes} processes on {device}"
        (self.job.folder / "checkpoints").mkdir(exist_ok=True)
        write_text(self.job.folder / "config.yaml", yaml.safe_dump(cfg, sort_keys=False))
        run = self.job.begin(
            **{key: cfg[key] for key in ("name", "tags", "seed")},
            choices=self.job.choices,
            monitor=self.setup.settings.monitor,
            monitor_mode=self.setup.settings.monitor_mode,
            samples={name: len(split) for name, split in data.splits.items() if len(split)},
            model=size,
            device=device,
            processes=processes,
            precision=compute.precision,
        )
        log.info("run        %s", self.job.folder)
        log.info("overrides  %s", " ".join(self.job.overrides) or "none")
        log.info("device     %s, %s", device, compute.precision)
        log.info("%s", terminal.lines(lines.given(data)))
        log.info("model      %s, %.2f M parameters (%.2f M trainable), %.2f G multiply-adds at %d px",
                 cfg["model"]["_target_"].rpartition(".")[2], size["parameters"] / 1e6, size["trainable"] / 1e6,
                 size["multiply_adds"] / 1e9, data.config.image_size)  # fmt: skip
        self._note_left_out(run, data.left_out)
        if any(hasattr(part.source, "content") for split in data.splits.values() for part in split.parts):
            asked = shlex.join(["mode=check", *lines.of_data(self.job.overrides)])
            log.info("check      %s %s looks for wrong labels and copies", command(), asked)
        log.debug("layers\n%s", table)
        log.debug("config\n%s", terminal.lines(yaml.safe_dump(cfg, sort_keys=False).splitlines()))
        return run

    def _note_left_out(self, run: Run, left_out: list[LeftOut]) -> None:
        """Record the samples that the run does without: left_out.csv, and a line with their number by reason."""
        if left_out:
            told = summarised(left_out)
            write_table(self.job.folder / "left_out.csv", list(LeftOut._fields), [one._asdict() for one in left_out])
            run.update(left_out=told)
            counts = ", ".join(f"{count} {why}" for why, count in told.items() if why != "mark")
            log.info("left out   %s (left_out.csv)", counts)

    def _picture_first_batch(self) -> None:
        """The first training batch as the network gets it."""
        images, masks, *_ = next(self.setup.data.train_batches(0, 1))
        tiles = [outlined(image, mask) for image, mask in zip(images.numpy(), masks.numpy(), strict=True)]
        self._write_picture("train_batch", contact_sheet(tiles, BATCH_COLUMNS))

    def _write_picture(self, name: str, picture: np.ndarray, step: int | None = None) -> None:
        """A picture, uint8 HxWx3 RGB, in the run's folder and in TensorBoard."""
        with self._going_on():
            write_bytes(self.job.folder / f"{name}.png", png(picture))
        add_picture(self.writer, name, picture, step)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """A picture, or a table that is written again, is no reason to end the training: that it is missing is said once."""
        try:
            yield
        except NotWritten as error:
            if error.filename not in self._missed:
                log.warning("%s; training goes on", error)
            self._missed.add(error.filename)

    @rank_zero_only
    def react(self, record: Record) -> None:
        """Call the callbacks in their order; they may add to the record's log."""
        self._log_steps(wait=True)
        record.samples, record.run = self.samples, self.info
        self.callbacks.react(record, self.writer, self.setup.settings.monitor)

    @rank_zero_only
    def note(self, state: State, values: dict[str, torch.Tensor]) -> None:
        """Log the values of a step, scalars on the device, to TensorBoard and the trackers, as soon as they are there."""
        rates = current_rates(state.optimizers, state.schedule.factor(state.step - 1))
        self.steps.add(state.step, state.epoch, rates, values)
        self._log_steps(wait=False)

    def _log_steps(self, wait: bool) -> None:
        for step, epoch, values in self.steps.read(wait):
            log_values(self.writer, values, step)
            self.callbacks.log(step, epoch, values)

    @rank_zero_only
    def keep(self, state: State, record: Record) -> None:
        """Write what an epoch leaves: TensorBoard's scalars and pictures, checkpoints, a row of metrics.csv, a line.

        A run that goes on drops what TensorBoard has beyond last.pt, so that is written first. The tables follow from the
        checkpoint.

        Raises:
            ValueError: a callback has failed, with callbacks.strict=true; or the checkpoint can't be written.
        """
        values, best = state.history[-1], self._best(state)
        every = self.cfg["trainer"]["save_every"]
        if best is values and record.ious is not None:
            self._write_picture("best_and_worst", best_and_worst(record, self.setup.data.samples("val")), state.step)
        log_values(self.writer, values, state.step)
        stays = [f"epoch_{state.epoch:04d}.pt"] * bool(every and state.epoch % every == 0)
        if window := self.setup.settings.average_last:
            stays.append(averaging.recent(self.checkpoints.folder, state.epoch).name)
        self.checkpoints.save(state, ["best.pt"] * (best is values) + stays)
        if window:
            averaging.drop_recent(self.checkpoints.folder, state.epoch - window)
        with self._going_on():
            self._write_tables(state)
        self.callbacks.log(state.step, len(state.history), values)
        log.info("%s", epoch_line(values, self.setup.settings.epochs, best is values))
        self.callbacks.refuse_failed()

    @rank_zero_only
    def keep_averaged(self, state: State, averaged: State, record: Record) -> None:
        """Write what the averaged weights leave: their values, and best.pt where they are better.

        Raises:
            ValueError: a checkpoint can't be written.
        """
        values, settings = state.history[-1], self.setup.settings
        better = self._best(state) is values
        if better and record.ious is not None:
            self._write_picture("best_and_worst", best_and_worst(record, self.setup.data.samples("val")), state.step)
        log_values(self.writer, _named(values), state.step)
        if better:
            path = self.checkpoints.folder / "best.pt"
            checkpoint.save(path, checkpoint.pack(averaged, **self.checkpoints.facts))
        self.checkpoints.save(state)
        with self._going_on():
            self._write_tables(state)
        self.callbacks.log(state.step, len(state.history), _named(values))
        log.info("%s", lines.averaged_line(values, settings.monitor, better))

    def _best(self, state: State) -> dict[str, float] | None:
        return best_epoch(state.history, self.setup.settings.monitor, self.setup.settings.monitor_mode)

    def _write_tables(self, state: State) -> None:
        """metrics.csv and summary.json, as the history has it."""
        best = self._best(state) or {}
        self.run.write_metrics(state.history)
        self.run.update(epochs=state.epoch, best=best, monitored=best.get(self.setup.settings.monitor))

    @rank_zero_only
    def close(self, state: State, best: dict[str, float], status: str, skipped: list[LeftOut]) -> None:
        """Write the row for HPARAMS and the summary's end; print the best metrics and the next commands to try.

        Args:
            status: completed or pruned. skipped: the samples that could not be read when their turn came.

        Raises:
            NotWritten: a table can't be written. ValueError: a callback has failed, with callbacks.strict=true.
        """
        self._write_tables(state)
        settings = self.setup.settings
        whole, decides = over_all(best), settings.monitor or next(iter(self.setup.metrics))
        listed = {name: one for name, one in best.items() if name in whole or metric_of(name) == metric_of(decides)}
        log_hparams(self.writer, self.job.choices, self.job.overrides, listed, state.step + 1)
        self.writer.close()
        if skipped:
            head, paths = f"skipped    {len(skipped)} samples can't be read", [one.path for one in skipped]
            log.warning("%s", terminal.listed(head, paths, SKIPPED))
            self._note_left_out(self.run, [*self.setup.data.left_out, *skipped])
        saving = round(self.checkpoints.seconds, 2)
        self.run.update(status=status, best=best, speed=_speed(state.history), saving_seconds=saving)
        parts = ("val", "test") if any(name.startswith("val/") for name in best) else ("train", "test")
        shown = [f"{name} {best[name]:.4f}" for name in whole if name.startswith(parts) and "loss" not in name]
        mean = f", average of {best['averaged']}" if "averaged" in best else ""
        if status == "completed" and state.epoch < settings.epochs:
            log.info("stopped    after epoch %d of %d by trainer.early_stop=%d: %s became no better",
                     state.epoch, settings.epochs, settings.early_stop, settings.monitor)  # fmt: skip
        log.info("best       epoch %d%s%s", best["epoch"], mean, ": " * bool(shown) + ", ".join(shown))
        if table := lines.by_source(best, decides):
            log.info("%s", terminal.lines(table))
        own = [f" {shlex.quote(one)}" for one in lines.own_code(self.job.overrides, self.cfg["metrics"])]
        log.info("next       %s mode=test ckpt=%s%s", command(), shlex.quote(str(self.job.folder)), "".join(own))
        log.info("           tensorboard --logdir %s", shlex.quote(str(self.cfg["out"])))
        self.callbacks.end(replace(self.info, status=status, scores=best))
        self.callbacks.refuse_failed()

    @rank_zero_only
    def break_off(self, state: State, stop: BaseException) -> None:
        """Tell the callbacks and trackers what has ended the run before its time."""
        interrupted = isinstance(stop, KeyboardInterrupt)
        self._log_steps(wait=interrupted)
        best = self._best(state) or {}
        self.callbacks.end(replace(self.info, status="interrupted" if interrupted else "failed", scores=best))


def _last_step(state: State, setup: Setup) -> int:
    """The last step whose events TensorBoard keeps of a run that goes on.

    Where it goes on within an epoch's validation, those of the step before it: the epoch's own may be there, and come again.
    """
    trained = state.tally and state.tally.batches == setup.settings.steps * setup.settings.accumulate
    return state.step - bool(trained)


def _named(values: dict[str, float]) -> dict[str, float]:
    """A log of the history by its names in TensorBoard and for trackers: averaged weights have names of their own."""
    averaged = {f"averaged/{name}": value for name, value in values.items() if "/" in name}
    return averaged if "averaged" in values else values


def _speed(history: list[dict[str, float]]) -> dict[str, float]:
    """Means over the epochs after the first, which warms up; over the first where it is the only one."""
    trained = [log for log in history if "averaged" not in log]
    counted = trained[1:] or trained
    names = ("time/images_per_second", "time/data_wait_share")
    return {name.removeprefix("time/"): sum(log[name] for log in counted) / len(counted) for name in names}
