"""What a run writes while it trains: its folder, checkpoints, TensorBoard, tables, and the terminal's lines.

Of several processes the main one keeps it.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from humanseg import logs, loop, runs
from humanseg.callbacks import Record, add_picture
from humanseg.checkpoint import Checkpoints
from humanseg.data.loading import Data
from humanseg.device import Compute, describe_device

log = logging.getLogger(__name__)

PREVIEWED = 6  # validation samples in each epoch's preview


class Journal:
    """The record of one run, in its folder.

    Args:
        typed: the overrides in effect. facts: what goes into each checkpoint, `config` and `choices` among it.
        kept: the last step whose events stay in a folder that is gone on with; None: it begins.
    """

    def __init__(
        self,
        folder: Path,
        typed: list[str],
        facts: dict[str, Any],
        data: Data,
        compute: Compute,
        settings: loop.Settings,
        state: loop.State,
        metrics: dict[str, Callable],
        kept: int | None,
    ):
        self.cfg, self.typed, self.choices = facts["config"], typed, facts["choices"]
        self.data, self.settings = data, settings
        self.run = self._open(folder, compute, state)
        self.saves = Checkpoints(self.run.checkpoints, self.cfg["trainer"]["save_minutes"], facts)
        self.writer = logs.open_board(folder, self.cfg, metrics, kept)
        if kept is not None:
            self._write_tables(state)  # a kill may have come between the checkpoint and them
        self.samples = preview_samples(data)

    def _open(self, folder: Path, compute: Compute, state: loop.State) -> runs.Run:
        """The folder with what is known at the start, the opening lines, and in run.log what stands behind them."""
        cfg = self.cfg
        table, size = logs.summarise_model(state.model, cfg["data"]["image_size"])
        names = {name: len(part) for name, part in self.data.splits.items() if len(part)}
        device = describe_device(compute.device)
        if self.data.size > 1:
            device = f"{self.data.size} processes on {device}"
        (folder / "checkpoints").mkdir(exist_ok=True)
        runs.write_text(folder / "config.yaml", yaml.safe_dump(cfg, sort_keys=False))
        run = runs.Run(
            folder,
            **{key: cfg[key] for key in ("name", "tags", "seed")},
            overrides=self.typed,
            choices=self.choices,
            mode="train",
            monitor=self.settings.monitor,
            monitor_mode=self.settings.monitor_mode,
            samples=names,
            model=size,
            device=device,
            processes=self.data.size,
            precision=compute.precision,
        )
        log.info("run        %s", folder)
        log.info("overrides  %s", " ".join(self.typed) or "none")
        log.info("device     %s, %s", device, compute.precision)
        log.info("samples    %s", ", ".join(f"{count} {name}" for name, count in names.items()))
        log.info("model      %s, %.2f M parameters (%.2f M trainable), %.2f G multiply-adds at %d px",
                 cfg["model"]["_target_"].rpartition(".")[2], size["parameters"] / 1e6, size["trainable"] / 1e6,
                 size["multiply_adds"] / 1e9, cfg["data"]["image_size"])  # fmt: skip
        log.debug("layers\n%s", table)
        log.debug("config\n%s", yaml.safe_dump(cfg, sort_keys=False))
        return run

    def picture_first_batch(self, images: torch.Tensor, masks: torch.Tensor) -> None:
        """The first training batch as the network gets it: uint8 NxHxWx3, uint8 NxHxW."""
        add_picture(self.writer, "train_batch", logs.save_batch(self.run.folder / "train_batch.png", images, masks))

    def keep(self, state: loop.State, record: Record) -> None:
        """What an epoch leaves: TensorBoard's scalars and pictures, checkpoints, a row of metrics.csv, a line.

        A resumed run takes back what TensorBoard has beyond last.pt, so that comes before; the tables follow from it.
        """
        values, best = state.history[-1], loop.best_epoch(state.history, self.settings)
        every = self.cfg["trainer"]["save_every"]
        if best is values and record.ious is not None:
            picture = logs.best_and_worst(record, self.data.eval_batches("val").dataset)
            logs.write_picture(self.run.folder / "best_and_worst.png", picture)
            add_picture(self.writer, "best_and_worst", picture, state.step)
        logs.log_epoch(self.writer, values)
        stays = [f"epoch_{state.epoch:04d}.pt"] * bool(every and state.epoch % every == 0)
        self.saves.save(state, ["best.pt"] * (best is values) + stays)
        self._write_tables(state)
        log.info(logs.epoch_line(values, self.settings.epochs, best is values))

    def _write_tables(self, state: loop.State) -> None:
        """metrics.csv and summary.json as the history has it."""
        best = loop.best_epoch(state.history, self.settings) or {}
        self.run.write_metrics(state.history)
        self.run.update(epochs=state.epoch, best=best, monitored=best.get(self.settings.monitor))

    def close(self, state: loop.State, best: dict[str, float]) -> None:
        """The row for HPARAMS, the summary's end, the best metrics and the next commands to try."""
        logs.log_hparams(self.writer, self.choices, self.typed, best, state.step + 1)
        self.writer.close()
        saving = round(self.saves.seconds, 2)
        self.run.update(status="completed", best=best, speed=_speed(state.history), saving_seconds=saving)
        parts = ("val/", "test/") if any(name.startswith("val/") for name in best) else ("train/", "test/")
        shown = [f"{name} {value:.4f}" for name, value in best.items() if name.startswith(parts) and "loss" not in name]
        log.info("best       epoch %d: %s", best["epoch"], ", ".join(shown))
        log.info("next       python run.py mode=test ckpt=%s", self.run.folder)
        log.info("           tensorboard --logdir %s", self.cfg["out"])


def preview_samples(data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    """The first validation samples, or training samples where there are none: uint8 NxHxWx3, uint8 NxHxW."""
    samples = data.eval_batches("val" if data.splits["val"] else "train").dataset
    rows = [samples[index] for index in range(min(PREVIEWED, len(samples)))]
    images, masks = zip(*rows, strict=True)
    return torch.stack(images), torch.stack(masks)


def _speed(history: list[dict[str, float]]) -> dict[str, float]:
    """Means over the epochs after the first, which warms up; over the first where it is the only one."""
    counted = history[1:] or history
    names = ("time/images_per_second", "time/data_wait_share")
    return {name.removeprefix("time/"): sum(log[name] for log in counted) / len(counted) for name in names}
