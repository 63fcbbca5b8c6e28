"""``mode=test``: score a checkpoint at the photographs' own size."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from humanseg import build, checkpoint, distributed, logs, loop, recorded, rules, runs
from humanseg.data.loading import Data
from humanseg.data.split import Split
from humanseg.engines import READERS
from humanseg.metrics import Counts, predictions
from humanseg.modes import overrides, run_folder
from humanseg.predictor import Predictor

log = logging.getLogger(__name__)

SHEET_ROWS = 6  # best and worst photographs each on the contact sheet
TILE = 240  # pixels of a photograph's side there


def run(config: DictConfig) -> float:
    """Score `ckpt`; returns the first metric of the list."""
    composed = OmegaConf.to_container(config, resolve=True)
    if not composed["ckpt"]:
        raise ValueError("mode=test needs ckpt=PATH: a checkpoint, a run's or sweep's folder, or `latest`")
    path = runs.find_checkpoint(composed["ckpt"], composed["out"])
    cfg, predictor, epoch = (_exported if runs.is_exported(path) else _recorded)(path, composed)
    begun = {"ckpt": str(path), "overrides": overrides(), "epoch": epoch}
    record = runs.Run(run_folder(), **begun) if distributed.is_main() else None
    data = build.data(cfg["data"], None, cfg["model"]["classes"], cfg["seed"])
    metrics = build.metrics(cfg["metrics"])
    split = choose_split(data, composed["split"])
    log.info("checkpoint %s%s", path, "" if epoch is None else f" (epoch {epoch})")
    log.info("runs in    %s, %s", predictor.engine.backend, predictor.engine.precision)
    log.info("samples    %d %s", len(data.splits[split]), split)

    values = score(predictor, data, split, metrics, run_folder(), composed["worst"])
    first, value = next(iter(values.items()))
    if record:
        monitored = {"monitor": first, "monitor_mode": "max", "monitored": value}
        record.update(status="completed", split=split, metrics=values, **monitored)
    log.info("result     %s", ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    log.info("pictures   %s", run_folder() / "contact_sheet.png")
    return value


def _recorded(path: Path, composed: dict) -> tuple[dict, Predictor, int]:
    """A checkpoint's config with what was typed, its network, and its epoch."""
    payload = checkpoint.load(path)
    cfg = recorded.checkpoint_config(payload, composed, overrides())
    cfg["trainer"]["device"] = composed["trainer"]["device"]  # this machine's, not that which it was trained on
    _settle(cfg, composed["split"])
    return cfg, Predictor.of_checkpoint(path, payload, cfg, composed["backend"] or "torch"), payload["epoch"]


def _exported(path: Path, composed: dict) -> tuple[dict, Predictor, None]:
    """The config as it was typed, for a file that brings none; the file in its own runtime, where none is typed."""
    if not any(override.startswith("data=") for override in overrides()):
        raise ValueError(f"{path} says nothing of its data: type it, as data=folder data.test_root=DIR")
    _settle(composed, composed["split"])
    trainer, backend = composed["trainer"], composed["backend"] or READERS[path.suffix][0]
    predictor = Predictor(path, trainer["device"], trainer["precision"], backend, refine=False)
    composed["data"] |= {"image_size": predictor.size, "pad_value": predictor.pad_value}
    composed["model"]["classes"] = len(predictor.classes)
    return composed, predictor, None


def _settle(cfg: dict, split: str) -> None:
    if split in ("auto", "test"):
        cfg["data"] = without_training_data(cfg["data"])
    rules.refuse_wrong_values(cfg, complete=False)


def without_training_data(data: dict) -> dict:
    """A `data` config with test data of its own (test_root, test_pairs) needs no other beside it (root, val_root)."""
    own = [key.removeprefix("test_") for key, value in data.items() if key.startswith("test_") and value]
    return data | {key: None for name in own for key in (name, f"val_{name}") if name != "split"}


def choose_split(data: Data, wanted: str) -> str:
    """The samples to score: `auto` takes the test data, else the validation samples.

    Raises:
        ValueError: an unknown split, or one without samples.
    """
    filled = [name for name in ("test", "val", "train") if len(data.splits.get(name, ()))]
    if wanted == "auto" and filled:
        return filled[0]
    if wanted not in filled:
        raise ValueError(f"split={wanted}: there are samples in {', '.join(filled) or 'no split'}")
    return wanted


def score(
    predictor: Predictor,
    data: Data,
    split: str,
    metrics: dict[str, Callable[[Counts], float]],
    folder: Path,
    worst: int = 10,
) -> dict[str, float]:
    """Score a split; the main process writes per_image.csv and contact_sheet.png, and logs the worst photographs.

    Returns:
        The metrics over all photographs as ``test/NAME``.
    """
    part, rows = data.splits[split], []

    def each(counts: Counts) -> None:
        name = part.name(data.rank + data.size * len(rows))
        rows.append({"image": name} | {key: metric(counts) for key, metric in metrics.items()})

    values, *_ = loop.evaluate(photograph_outputs(predictor, data.photographs(split)), metrics, each=each)
    rows = distributed.in_turns(rows)
    if distributed.is_main():
        folder.mkdir(exist_ok=True)
        _write_scores(predictor, part, rows, folder, worst)
    return {f"test/{name}": value for name, value in values.items()}


def _write_scores(predictor: Predictor, part: Split, rows: list[dict], folder: Path, worst: int) -> None:
    first = next(name for name in rows[0] if name != "image")
    order = sorted(range(len(rows)), key=lambda index: rows[index][first])
    runs.write_table(folder / "per_image.csv", list(rows[0]), rows)
    lines = [f"  {rows[index][first]:.4f}  {rows[index]['image']}" for index in order[:worst]]
    log.info("worst      by %s\n%s", first, "\n".join(lines))
    half = min(SHEET_ROWS, len(order) // 2) or 1
    pairs = zip(order[:half], order[::-1][:half], strict=True)
    tiles = [_tile(predictor, *part[index], f"{first} {rows[index][first]:.3f}") for pair in pairs for index in pair]
    logs.write_picture(folder / "contact_sheet.png", logs.contact_sheet(tiles, 2))


def photograph_outputs(predictor: Predictor, batches: Iterable) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits 1xCxHxW and target 1xHxW of each photograph at its own size."""
    for photographs in tqdm(batches, "test", leave=False, disable=distributed.no_bar()):
        logits = predictor.logits([image for image, _ in photographs])
        for one, (_, mask) in zip(logits, photographs, strict=True):
            yield one[None], torch.from_numpy(mask)[None].to(one.device)


def _tile(predictor: Predictor, image: np.ndarray, mask: np.ndarray, title: str) -> np.ndarray:
    """Photograph, truth, prediction and errors in a row, with a title."""
    found = predictions(predictor.logits([image])[0][None])[0].cpu().numpy().astype(np.uint8)
    return logs.titled_row(image, mask, found, TILE, title)
