"""``mode=test``: score a checkpoint at the photographs' own size."""

import logging
from pathlib import Path

from humanseg import build, checkpoint, metrics
from humanseg.config_rules import refuse_wrong_values
from humanseg.evaluation import choose_split, score
from humanseg.inference.engines import READERS
from humanseg.predictor import Predictor
from humanseg.processes import distributed
from humanseg.runs import find, recorded
from humanseg.runs.job import Job

log = logging.getLogger(__name__)

SHARED, RANKED = True, True


def run(config: dict, job: Job) -> float:
    """Score `ckpt`; returns the first metric of the list."""
    if not config["ckpt"]:
        raise ValueError("mode=test needs ckpt=PATH: a checkpoint, a run's or sweep's folder, or `latest`")
    path = find.checkpoint(config["ckpt"], config["out"])
    cfg, predictor, epoch = (_exported if find.is_exported(path) else _recorded)(path, config, job.typed)
    begun = job.begin(ckpt=str(path), epoch=epoch) if distributed.is_main() else None
    data = build.data(cfg["data"], None, cfg["model"]["classes"], cfg["seed"])
    functions = metrics.find(cfg["metrics"])
    split = choose_split(data, config["split"])
    log.info("checkpoint %s%s", path, "" if epoch is None else f" (epoch {epoch})")
    log.info("runs in    %s, %s", predictor.engine.backend, predictor.engine.precision)
    log.info("samples    %d %s", len(data.splits[split]), split)

    values = score(predictor, data, split, functions, job.folder, config["worst"])
    first, value = next(iter(values.items()))
    if begun:
        monitored = {"monitor": first, "monitor_mode": "max", "monitored": value}
        begun.update(status="completed", split=split, metrics=values, **monitored)
    log.info("result     %s", ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    log.info("pictures   %s", job.folder / "contact_sheet.png")
    return value


def _recorded(path: Path, config: dict, typed: list[str]) -> tuple[dict, Predictor, int]:
    """A checkpoint's config with what is typed, its network, and its epoch."""
    payload = checkpoint.load(path)
    cfg = recorded.checkpoint_config(payload, config, typed, ("model", "data"))
    _settle(cfg, config["split"])
    return cfg, Predictor.of_checkpoint(path, payload, cfg, config["backend"] or "torch"), payload["epoch"]


def _exported(path: Path, config: dict, typed: list[str]) -> tuple[dict, Predictor, None]:
    """The composed config, for a file that brings none; the file in its own runtime, unless `backend` names another."""
    if not any(override.startswith("data=") for override in typed):
        raise ValueError(f"{path} says nothing of its data: type it, as data=folder data.test_root=DIR")
    _settle(config, config["split"])
    trainer, backend = config["trainer"], config["backend"] or READERS[path.suffix][0]
    predictor = Predictor(path, trainer["device"], trainer["precision"], backend, refine=False)
    config["data"] |= {"image_size": predictor.size, "pad_value": predictor.pad_value}
    config["model"]["classes"] = len(predictor.classes)
    return config, predictor, None


def _settle(cfg: dict, split: str) -> None:
    if split in ("auto", "test"):
        cfg["data"] = without_training_data(cfg["data"])
    refuse_wrong_values(cfg, complete=False)


def without_training_data(data: dict) -> dict:
    """A `data` config with test data of its own (test_root, test_pairs) needs no other beside it (root, val_root)."""
    own = [key.removeprefix("test_") for key, value in data.items() if key.startswith("test_") and value]
    return data | {key: None for name in own for key in (name, f"val_{name}") if name != "split"}
