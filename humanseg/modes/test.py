"""``mode=test``: score a checkpoint at the photographs' own size."""

import logging
from pathlib import Path

from humanseg import build, checkpoint, metrics, terminal
from humanseg.config_rules import refuse_wrong_values
from humanseg.data import contents, mix
from humanseg.evaluation import choose_split, score
from humanseg.inference.engines import READERS
from humanseg.logs.lines import by_source
from humanseg.predictor import Predictor
from humanseg.processes import distributed
from humanseg.runs import find, recorded
from humanseg.runs.job import Job
from humanseg.runs.summary import read_summary
from humanseg.runs.value_names import over_all
from humanseg.value_rules import SWITCH

log = logging.getLogger(__name__)

SHARED, RANKED = True, True


def run(config: dict, job: Job) -> float:
    """Score `ckpt`; returns the first metric of the list."""
    if not config["ckpt"]:
        raise ValueError(f"mode=test needs ckpt=PATH: {find.NAMED}")
    refuse_wrong_values(config, rules={"refine": SWITCH})
    path = find.checkpoint(config["ckpt"], config["out"])
    cfg, predictor, epoch = opened(path, config, job.typed)
    begun = job.begin(ckpt=str(path), epoch=epoch, **_training(path)) if distributed.is_main() else None
    data = build.data(cfg["data"], None, cfg["model"]["classes"], cfg["seed"])
    functions = metrics.find(cfg["metrics"])
    split = choose_split(data, config["split"])
    log.info("checkpoint %s%s", path, "" if epoch is None else f" (epoch {epoch})")
    log.info("runs in    %s, %s", predictor.engine.backend, predictor.engine.precision)
    log.info("samples    %s", contents.scored(split, data.splits[split]))

    values = score(predictor, data, split, functions, job.folder, config["worst"])
    first, value = next(iter(values.items()))
    if begun:
        monitored = {"monitor": first, "monitor_mode": "max", "monitored": value}
        begun.update(status="completed", split=split, metrics=values, **monitored)
    log.info("result     %s", ", ".join(f"{name} {values[name]:.4f}" for name in over_all(values)))
    if table := by_source(values, first):
        log.info("%s", terminal.lines(table))
    log.info("pictures   %s", job.folder / "contact_sheet.png")
    return value


def _training(path: Path) -> dict:
    """How a checkpoint's run was trained, so that a report knows what tells tests apart: its overrides and its seed."""
    told = read_summary(path.parent.parent) if path.parent.name == "checkpoints" else {}
    return {"trained": told["overrides"], "seed": told.get("seed")} if told.get("overrides") else {}


def opened(path: Path, config: dict, typed: list[str]) -> tuple[dict, Predictor, int | None]:
    """A network to score: the config that says on what, the predictor, and a checkpoint's epoch.

    Args:
        config: as Hydra composed it. typed: the overrides of this command line.

    Raises:
        ValueError: the file can't be opened, or is an exported one for which no data is typed.
    """
    if not find.is_exported(path):
        return _recorded(path, config, typed)
    if not any(override.startswith("data=") for override in typed):
        raise ValueError(f"{path} says nothing of its data: type it, as data=folder data.test_root=DIR")
    return exported(path, config)


def _recorded(path: Path, config: dict, typed: list[str]) -> tuple[dict, Predictor, int]:
    """A checkpoint's config with what is typed, its network, and its epoch."""
    payload = checkpoint.load(path)
    cfg = recorded.checkpoint_config(payload, config, typed, ("model", "data"))
    _settle(cfg, config["split"])
    drawn = config["refine"]  # what mode=predict draws, and not the network alone
    predictor = Predictor.of_checkpoint(path, payload, cfg, config["backend"] or "torch", refine=drawn, closer=drawn)
    _refuse_several(predictor, path)
    return cfg, predictor, payload["epoch"]


def exported(path: Path, config: dict) -> tuple[dict, Predictor, None]:
    """A config for a file that brings none; the file in its own runtime, unless `backend` names another."""
    _settle(config, config["split"])
    trainer, backend = config["trainer"], config["backend"] or READERS[path.suffix][0]
    predictor = Predictor(path, trainer["device"], trainer["precision"], backend, config["refine"])
    _refuse_several(predictor, path)
    shape = {"image_size": predictor.size, "pad_value": predictor.pad_value}
    model = config["model"] | {"classes": len(predictor.classes)}
    return config | {"data": config["data"] | shape, "model": model}, predictor, None


def _refuse_several(predictor: Predictor, path: Path) -> None:
    """Refuse to score the refined edges of a network of several classes: they are the person's alone."""
    if predictor.refine and len(predictor.classes) > 2:
        raise ValueError(
            f"refine=true scores the person's edges alone, and {path} has {len(predictor.classes)} classes"
        )


def _settle(cfg: dict, split: str) -> None:
    cfg["data"] = needed(cfg["data"], split)
    refuse_wrong_values(cfg, complete=False)


def needed(data: dict, split: str) -> dict:
    """A `data` config without what has no sample in the split, as the sources of a mix that train only.

    Raises:
        ValueError: no source of a mix is left.
    """
    settled = without_training_data if split in ("auto", "test") else dict
    if "sources" not in data:
        return settled(data)
    sides = {"auto": (None, "val", "test"), "val": (None, "val"), "test": (None, "test")}.get(split)
    nodes = {name: node for name, node in mix.nodes(data).items() if sides is None or node.get("only") in sides}
    if not nodes:
        raise ValueError(
            f"split={split}: the sources {', '.join(data['sources'])} have no such samples (data.sources.NAME.only): "
            "add one for the test, as data.sources.NAME.only=test"
        )
    return data | {"sources": {name: settled(data["sources"][name]) for name in nodes}}


def without_training_data(data: dict) -> dict:
    """A `data` config with test data of its own (test_root, test_pairs) needs no other beside it (root, val_root)."""
    own = [key.removeprefix("test_") for key, value in data.items() if key.startswith("test_") and value]
    unneeded = [key for name in own if name != "split" for key in (name, f"val_{name}")]
    if own and "exclude" in data:  # it names samples of the others
        unneeded.append("exclude")
    if "root" in own and "weights" in data:  # of a list of roots
        unneeded.append("weights")
    return data | dict.fromkeys(unneeded)
