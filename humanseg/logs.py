"""TensorBoard's files and the terminal's lines."""

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from tensorboard.plugins.hparams import summary_v2 as hparams
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.tensorboard import SummaryWriter

from humanseg.callbacks import Record, png, preview_row, stages
from humanseg.data.transforms import IGNORE, letterbox
from humanseg.metrics import predictions

NO_HYPERPARAMETERS = ("callbacks", "mode", "name", "out", "tags", "trainer")


def open_board(folder: Path, config: dict, metrics: Iterable[str], kept: int | None = None) -> SummaryWriter:
    """An event file in the run's folder with the config as text and training beside validation on one chart.

    Args:
        kept: the last step whose events stay, in a folder that has some; TensorBoard takes back what follows.
    """
    earlier = sorted(folder.glob("events.out.tfevents.*"))
    for number, file in enumerate(earlier):  # TensorBoard reads them by name: the clock may have been put back
        file.rename(file.with_name(re.sub(r"tfevents\.\d+", f"tfevents.{number:010d}", file.name)))
    if kept is not None:
        return SummaryWriter(str(folder), purge_step=kept + 1)
    writer = SummaryWriter(str(folder), purge_step=0 if earlier else None)
    writer.add_text("config", "```yaml\n" + yaml.safe_dump(config, sort_keys=False) + "```")
    pairs = {name: ["Multiline", [f"^train/{name}$", f"^val/{name}$"]] for name in ["loss", *metrics]}
    writer.add_custom_scalars({"training and validation": pairs})
    return writer


def log_epoch(writer: SummaryWriter, values: dict[str, float]) -> None:
    """One epoch's values under their names, over optimizer steps."""
    for name, value in values.items():
        if name not in ("epoch", "step"):
            writer.add_scalar(name, value, values["step"])
    writer.flush()


def log_hparams(
    writer: SummaryWriter, choices: dict[str, str], overrides: list[str], best: dict[str, float], step: int
) -> None:
    """The run's row for the HPARAMS tab: the groups' choices, the typed overrides and the best epoch's metrics.

    SummaryWriter.add_hparams would write a second run for each job; the plugin's own summaries join this one. Without
    a summary of the experiment TensorBoard shows the columns of all runs instead of the first one's only.
    """
    typed = dict(override.lstrip("+~").split("=", 1) for override in overrides if "=" in override)
    values = {name: str(value) for name, value in choices.items()} | {key: _number(v) for key, v in typed.items()}
    values = {name: value for name, value in values.items() if name not in NO_HYPERPARAMETERS}
    for name, value in best.items():
        if name.startswith(("val/", "test/")):
            writer.add_scalar(f"best/{name}", value, step)
    writer._get_file_writer().add_summary(hparams.hparams_pb(values, start_time_secs=time.time()))
    writer.flush()


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def epoch_line(values: dict[str, float], epochs: int, best: bool) -> str:
    """An epoch in one line for the terminal."""
    parts = [f"epoch {values['epoch']:>{len(str(epochs))}}/{epochs}", f"loss {values['train/loss']:.4f}"]
    if "val/loss" in values:
        shown = [name for name in values if name.startswith("val/")][:2] + ["val/iou", "val/boundary_iou"]
        parts += [
            f"{name} {values[name]:.4f}" for name in dict.fromkeys(shown) if name in values and "loss_" not in name
        ]
    parts.append(
        f"{values['time/images_per_second']:.1f} images/s, {values['time/data_wait_share']:.0%} waiting for data"
    )
    return "  ".join(parts) + ("  *" if best else "")


def summarise_model(model: nn.Module, size: int) -> tuple[str, dict[str, float]]:
    """Layers by stage as a table; parameters, trainable parameters and multiply-adds for one size x size image.

    Raises:
        ValueError: the network can't take that size.
    """
    device = next(model.parameters()).device
    counter, was_training = FlopCounterMode(display=False), model.training
    try:
        with torch.no_grad(), counter:
            model.eval()(torch.zeros(1, 3, size, size, device=device))
    except RuntimeError as error:
        raise ValueError(
            f"data.image_size={size}: {type(model).__name__} can't take a 3x{size}x{size} image: {error}"
        ) from error
    model.train(was_training)
    flops = {name.split(".", 1)[-1]: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    lines = [f"{'stage':<32} {'layers':>7} {'parameters':>12} {'M multiply-adds':>16}"]
    for name, stage in stages(model):
        layers = sum(not list(module.children()) for module in stage.modules())
        parameters = sum(parameter.numel() for parameter in stage.parameters())
        lines.append(f"{name:<32} {layers:>7} {parameters:>12,} {flops.get(name, 0) / 2e6:>16.1f}")
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "multiply_adds": counter.get_total_flops() // 2,
    }
    return "\n".join(lines), facts


def save_batch(path: Path, images: torch.Tensor, masks: torch.Tensor, columns: int = 4) -> np.ndarray:
    """The first training batch as the network gets it, as a PNG: persons outlined, ignored pixels hatched.

    Args:
        images: uint8 NxHxWx3 RGB. masks: uint8 NxHxW.

    Returns:
        The picture, uint8 HxWx3 RGB.
    """
    tiles = [_outline(image.copy(), mask) for image, mask in zip(images.numpy(), masks.numpy(), strict=True)]
    picture = contact_sheet(tiles, columns)
    write_picture(path, picture)
    return picture


def contact_sheet(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    """Tiles of one size, uint8 HxWx3, in rows of `columns`; the last row is filled with black."""
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def titled_row(image: np.ndarray, truth: np.ndarray, found: np.ndarray, side: int, title: str) -> np.ndarray:
    """Photograph, truth, prediction and errors in a row of `side` pixels' height, with a title.

    Args:
        image: uint8 HxWx3 RGB. truth, found: class ids, uint8 HxW.
    """
    square, labels = letterbox(image, truth, side, pad_value=0)
    row = preview_row(square, labels, letterbox(image, found, side, pad_value=0)[1])
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(row, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA)
    return row


def best_and_worst(record: Record, samples: Sequence, count: int = 3, side: int = 160) -> np.ndarray:
    """The validation samples with the highest IoU, left, and with the lowest, right, as uint8 HxWx3.

    An IoU of exactly 1 is nearly always a photograph of nobody, and the last to be chosen as one of the best.

    Args:
        samples: [i] -> uint8 HxWx3, uint8 HxW tensors, in the order of `record.ious`.
    """
    ious = record.ious.tolist()
    count = min(count, len(ious) // 2) or 1
    best = sorted(range(len(ious)), key=lambda index: (ious[index] == 1, -ious[index]))[:count]
    worst = sorted(set(range(len(ious))) - set(best) or best, key=lambda index: ious[index])[:count]
    chosen = [index for pair in zip(best, worst, strict=True) for index in pair]
    images, masks = (torch.stack(part) for part in zip(*(samples[index] for index in chosen), strict=True))
    record.model.eval()
    with torch.inference_mode():
        found = predictions(record.compute(record.model, images)).byte().cpu()
    rows = zip(images.numpy(), masks.numpy(), found.numpy(), strict=True)
    titles = [f"iou {ious[index]:.3f}" for index in chosen]
    return contact_sheet([titled_row(*row, side, title) for row, title in zip(rows, titles, strict=True)], 2)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """uint8 HxWx3 RGB to a PNG file."""
    path.write_bytes(png(picture))


def _outline(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(
        ((mask > 0) & (mask != IGNORE)).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(image, contours, -1, (0, 255, 120), max(1, mask.shape[0] // 160))
    rows, columns = np.indices(mask.shape)
    hatched = (mask == IGNORE) & ((rows + columns) % 8 == 0)
    image[hatched] = (110, 110, 110)
    return image
