"""What a run writes while it trains: its folder, checkpoints, TensorBoard, tables, and the lines on the terminal."""

import logging
import math
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import yaml

from humanseg import averaging, checkpoint, terminal
from humanseg.checkpoint import Checkpoints
from humanseg.data.loading import Data, Samples
from humanseg.history import best_epoch
from humanseg.logs import lines
from humanseg.logs.lines import epoch_line
from humanseg.logs.model_summary import summarise_model
from humanseg.logs.tensorboard import add_picture, log_epoch, log_hparams, open_board
from humanseg.loop import Record, Setup, State
from humanseg.metrics import predictions
from humanseg.pictures import contact_sheet, extremes, outlined, png, titled_row
from humanseg.processes.distributed import rank_zero_only
from humanseg.processes.hardware import describe_device
from humanseg.runs.atomic import NotWritten, write_bytes, write_text
from humanseg.runs.conf import command
from humanseg.runs.job import Job
from humanseg.runs.summary import Run
from humanseg.runs.value_names import metric_of, over_all

log = logging.getLogger(__name__)

PREVIEWED = 6  # validation samples in each epoch's preview
BATCH_COLUMNS = 4  # of train_batch.png
SHOWN, SIDE = 3, 160  # best and worst validation samples each in best_and_worst.png, and their side in pixels


class Journal:
    """The record of one run, in its folder. The main process keeps it; in the others its methods do nothing.

    Args:
        facts: what goes into each checkpoint, `config` and `choices` among it.
        callbacks: functions ``f(record, writer, step)`` by their names.
    """

    @rank_zero_only
    def __init__(
        self, job: Job, facts: dict[str, Any], setup: Setup, checkpoints: Checkpoints, callbacks: dict[str, Callable]
    ):
        self.job, self.cfg, self.setup = job, facts["config"], setup
        self.checkpoints, self.callbacks = checkpoints, callbacks
        self._missed: set[str] = set()  # files that could not be written
        self._failed: dict[str, str] = {}  # what callbacks have raised, by their names

    @rank_zero_only
    def open(self, state: State, resumed: bool) -> None:
        """Write what is known before the first step, and the opening lines."""
        self.run = self._begin(state)
        kept = (state.history[-1]["step"] if state.history else 0) if resumed else None
        sources = self.setup.data.splits["val"].sources
        self.writer = open_board(self.job.folder, self.cfg, self.setup.metrics, sources, kept)
        if resumed:
            with self._going_on():
                self._write_tables(state)  # a kill may have come between the checkpoint and them
        else:
            self._picture_first_batch()
        self.samples = preview_samples(self.setup.data)

    def _begin(self, state: State) -> Run:
        """The run's folder with what is known at the start; run.log gets what stands behind the opening lines."""
        cfg, data, compute = self.cfg, self.setup.data, self.setup.compute
        table, size = summarise_model(state.model, data.config.image_size)
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
        log.debug("layers\n%s", table)
        log.debug("config\n%s", terminal.lines(yaml.safe_dump(cfg, sort_keys=False).splitlines()))
        return run

    def _picture_first_batch(self) -> None:
        """The first training batch as the network gets it."""
        images, masks = next(self.setup.data.train_batches(0, 1))
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
        """Call the callbacks in their order; they may add to the record's log. One that fails is told once by its name."""
        record.samples = self.samples
        for name, callback in self.callbacks.items():
            try:
                callback(record, self.writer, record.step)
            except Exception as error:  # whatever it is, the epoch has been trained
                told = f"{type(error).__name__}: {error}"
                if name not in self._failed:
                    self._failed[name] = told
                    log.warning("callbacks.%s failed in epoch %d: %s", name, record.epoch, told)
                    log.debug("callbacks.%s", name, exc_info=error)
                if record.counts is not None and self.setup.settings.monitor:
                    record.log.setdefault(self.setup.settings.monitor, math.nan)  # it may have been the callback's

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
        log_epoch(self.writer, values)
        stays = [f"epoch_{state.epoch:04d}.pt"] * bool(every and state.epoch % every == 0)
        if window := self.setup.settings.average_last:
            stays.append(averaging.recent(self.checkpoints.folder, state.epoch).name)
        self.checkpoints.save(state, ["best.pt"] * (best is values) + stays)
        if window:
            averaging.drop_recent(self.checkpoints.folder, state.epoch - window)
        with self._going_on():
            self._write_tables(state)
        log.info("%s", epoch_line(values, self.setup.settings.epochs, best is values))
        if self._failed and self.cfg["callbacks"].get("strict"):
            raise ValueError("\n".join(f"callbacks.{name} failed: {told}" for name, told in self._failed.items()))

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
        log_epoch(
            self.writer,
            {f"averaged/{name}": value for name, value in values.items() if "/" in name} | {"step": state.step},
        )
        if better:
            path = self.checkpoints.folder / "best.pt"
            checkpoint.save(path, checkpoint.pack(averaged, **self.checkpoints.facts))
        self.checkpoints.save(state)
        with self._going_on():
            self._write_tables(state)
        log.info("%s", lines.averaged_line(values, settings.monitor, better))

    def _best(self, state: State) -> dict[str, float] | None:
        return best_epoch(state.history, self.setup.settings.monitor, self.setup.settings.monitor_mode)

    def _write_tables(self, state: State) -> None:
        """metrics.csv and summary.json, as the history has it."""
        best = self._best(state) or {}
        self.run.write_metrics(state.history)
        self.run.update(epochs=state.epoch, best=best, monitored=best.get(self.setup.settings.monitor))

    @rank_zero_only
    def close(self, state: State, best: dict[str, float]) -> None:
        """Write the row for HPARAMS and the summary's end; print the best metrics and the next commands to try.

        Raises:
            NotWritten: a table can't be written.
        """
        self._write_tables(state)
        whole, decides = over_all(best), self.setup.settings.monitor or next(iter(self.setup.metrics))
        listed = {name: one for name, one in best.items() if name in whole or metric_of(name) == metric_of(decides)}
        log_hparams(self.writer, self.job.choices, self.job.overrides, listed, state.step + 1)
        self.writer.close()
        saving = round(self.checkpoints.seconds, 2)
        self.run.update(status="completed", best=best, speed=_speed(state.history), saving_seconds=saving)
        parts = ("val", "test") if any(name.startswith("val/") for name in best) else ("train", "test")
        shown = [f"{name} {best[name]:.4f}" for name in whole if name.startswith(parts) and "loss" not in name]
        mean = f", average of {best['averaged']}" if "averaged" in best else ""
        log.info("best       epoch %d%s: %s", best["epoch"], mean, ", ".join(shown))
        if table := lines.by_source(best, decides):
            log.info("%s", terminal.lines(table))
        log.info("next       %s mode=test ckpt=%s", command(), shlex.quote(str(self.job.folder)))
        log.info("           tensorboard --logdir %s", shlex.quote(str(self.cfg["out"])))


def preview_samples(data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    """The first validation samples of each source, or training samples where there are none: uint8 NxHxWx3, uint8 NxHxW."""
    samples = data.samples("val" if data.splits["val"] else "train")
    rows = [samples[position] for position in samples.split.in_turn(PREVIEWED)]
    images, masks = zip(*rows, strict=True)
    return torch.stack(images), torch.stack(masks)


def best_and_worst(record: Record, samples: Samples) -> np.ndarray:
    """The validation samples with the highest IoU, left, and with the lowest, right, as uint8 HxWx3.

    Args:
        samples: in the order of `record.ious`.
    """
    ious = record.ious.tolist()
    chosen = extremes(ious, SHOWN)
    images, masks = (torch.stack(part) for part in zip(*(samples[index] for index in chosen), strict=True))
    record.model.eval()
    with torch.inference_mode():
        found = predictions(record.compute(record.model, images)).byte().cpu()
    rows = zip(images.numpy(), masks.numpy(), found.numpy(), strict=True)
    titles = [f"{samples.split.source_of(index)} iou {ious[index]:.3f}".lstrip() for index in chosen]
    return contact_sheet([titled_row(*row, SIDE, title) for row, title in zip(rows, titles, strict=True)], 2)


def _speed(history: list[dict[str, float]]) -> dict[str, float]:
    """Means over the epochs after the first, which warms up; over the first where it is the only one."""
    trained = [log for log in history if "averaged" not in log]
    counted = trained[1:] or trained
    names = ("time/images_per_second", "time/data_wait_share")
    return {name.removeprefix("time/"): sum(log[name] for log in counted) / len(counted) for name in names}
