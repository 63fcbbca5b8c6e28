"""``mode=train``: build what the config names, fit it, and leave a run's folder behind."""

import logging
import math
import random

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard import SummaryWriter

from humanseg import build, checkpoint, interrupts, logs, loop, recorded, rules, runs
from humanseg.callbacks import Record, add_picture
from humanseg.checkpoint import Checkpoints
from humanseg.data.loading import Data
from humanseg.device import Compute, be_deterministic, describe_device
from humanseg.metrics import EVALUATION_ONLY
from humanseg.modes import choices, overrides, run_folder, test
from humanseg.predictor import Predictor

log = logging.getLogger(__name__)

PREVIEWED = 6  # validation samples in each epoch's preview


def run(config: DictConfig) -> float:
    """Train, or go on where the run's folder holds a checkpoint; returns the best monitored value to Hydra's sweepers."""
    saved = checkpoint.load_newest(run_folder() / "checkpoints")
    cfg = _config(OmegaConf.to_container(config, resolve=True), saved)
    rules.refuse_wrong_values(cfg)
    trainer = cfg["trainer"]
    torch.manual_seed(cfg["seed"])
    random.seed(cfg["seed"])
    be_deterministic(trainer["deterministic"])

    compute = build.compute(trainer, cfg["data"])
    metrics = build.metrics(cfg["metrics"])
    loss = build.loss(cfg["loss"], cfg["model"]["classes"]).to(compute.device)
    data = build.data(cfg["data"], cfg["augment"], cfg["model"]["classes"], cfg["seed"])
    settings = _settings(cfg, data)
    facts = _facts(cfg, data, compute)
    state = _state(cfg, compute, settings, fresh=not saved)
    if saved:
        _go_on(state, saved, facts, compute)
    folder = _open(cfg, data, compute, settings, state)
    saves = Checkpoints(folder.checkpoints, trainer["save_minutes"], facts)
    if trainer["compile"]:
        state.model.compile()
    kept = None if not saved else state.history[-1]["step"] if state.history else 0
    writer = logs.open_board(folder.folder, cfg, metrics, kept)
    if saved:
        _write_tables(folder, state, settings)  # a kill may have come between the checkpoint and them
    else:
        images, masks = next(data.train_batches(0, 1))
        batch = logs.save_batch(folder.folder / "train_batch.png", images, masks)
        add_picture(writer, "train_batch", batch)
    react = build.callbacks(cfg["callbacks"], writer, preview_samples(data))
    with interrupts.noted() as asked:

        def between(state: loop.State) -> None:
            if asked() or saves.due():
                loop.refuse_bad(state, data, settings)
                saves.save(state)
            if asked():
                raise interrupts.Interrupted(asked())

        def after_epoch(state: loop.State, record: Record) -> None:
            _keep(state, record, data, settings, saves, trainer["save_every"], folder, writer)

        loop.fit(state, data, compute, loss, metrics, settings, react, after_epoch, between)

    best = loop.best_epoch(state.history, settings)
    if trainer["test"]:
        best = best | _test_best(cfg, folder, data, compute, metrics)
    logs.log_hparams(writer, choices(), overrides(), best, state.step + 1)
    writer.close()
    folder.update(status="completed", best=best, speed=_speed(state.history), saving_seconds=round(saves.seconds, 2))
    _close(folder, best, cfg["out"])
    return best.get(settings.monitor, math.nan)


def _config(composed: dict, saved: dict | None) -> dict:
    """What Hydra composed; to go on from a checkpoint, its config with what has been typed.

    Raises:
        ValueError: that would be another run, or its config names strange code.
    """
    if composed["resume"]:
        raise ValueError(f"resume={composed['resume']}: type it on the command line, it can't stand in a YAML")
    if not saved:
        return composed
    typed = [override for override in overrides() if not override.startswith("experiment=")]
    cfg = recorded.with_typed(saved["config"], saved["choices"], composed, typed)
    recorded.refuse_strange_targets(cfg, overrides())
    recorded.refuse_other_run(saved["config"], cfg)
    return cfg


def _facts(cfg: dict, data: Data, compute: Compute) -> dict:
    """What a checkpoint says beside the state."""
    machine = {
        "device": compute.device.type,
        "precision": compute.precision,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
    }
    samples = {name: part.fingerprint() for name, part in data.splits.items() if name != "test"}
    return {"config": cfg, "choices": choices(), "versions": runs.versions(), "machine": machine, "samples": samples}


def _go_on(state: loop.State, saved: dict, facts: dict, compute: Compute) -> None:
    """Put the state back; says what is no longer exact.

    Raises:
        ValueError: the samples are others.
    """
    if others := [name for name, mark in saved["samples"].items() if facts["samples"].get(name) != mark]:
        raise ValueError(
            f"the {' and '.join(others)} samples are not those that this run began with (data.root, data.pairs)"
        )
    old, new = recorded.flat(saved["config"]), recorded.flat(facts["config"])
    changed = [key for key in new if key in old and old[key] != new[key]]
    checkpoint.restore(state, saved, compute.device, changed)
    log.info("goes on    from epoch %d, step %d", state.epoch, state.step)
    before, now = (one["machine"] | one["versions"] for one in (saved, facts))
    if inexact := [f"{key} {before[key]} -> {now[key]}" for key in now if before.get(key) != now[key]]:
        log.warning("not exact  results can differ from an uninterrupted run's: %s", ", ".join(inexact))
    if "trainer.epochs" in changed:
        log.warning(
            "schedule   computed anew for %d epochs instead of %d", new["trainer.epochs"], old["trainer.epochs"]
        )


def _keep(
    state: loop.State,
    record: Record,
    data: Data,
    settings: loop.Settings,
    saves: Checkpoints,
    every: int,
    folder: runs.Run,
    writer: SummaryWriter,
) -> None:
    """What an epoch leaves behind: TensorBoard's scalars and pictures, checkpoints, a row of metrics.csv, a line.

    A resumed run takes back what TensorBoard has beyond last.pt, so that comes before; the tables follow from last.pt.
    """
    values, best = state.history[-1], loop.best_epoch(state.history, settings)
    if best is values and record.ious is not None:
        picture = logs.best_and_worst(record, data.eval_batches("val").dataset)
        logs.write_picture(folder.folder / "best_and_worst.png", picture)
        add_picture(writer, "best_and_worst", picture, state.step)
    logs.log_epoch(writer, values)
    also = ["best.pt"] * (best is values) + [f"epoch_{state.epoch:04d}.pt"] * bool(every and state.epoch % every == 0)
    saves.save(state, also)
    _write_tables(folder, state, settings)
    log.info(logs.epoch_line(values, settings.epochs, best is values))


def _write_tables(folder: runs.Run, state: loop.State, settings: loop.Settings) -> None:
    """metrics.csv and summary.json as the history has it."""
    best = loop.best_epoch(state.history, settings) or {}
    folder.write_metrics(state.history)
    folder.update(epochs=state.epoch, best=best, monitored=best.get(settings.monitor))


def preview_samples(data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    """The first validation samples, or training samples where there are none: uint8 NxHxWx3, uint8 NxHxW."""
    batches = data.eval_batches("val" if data.splits["val"] else "train")
    rows = [batches.dataset[index] for index in range(min(PREVIEWED, len(batches.dataset)))]
    images, masks = zip(*rows, strict=True)
    return torch.stack(images), torch.stack(masks)


def _settings(cfg: dict, data: Data) -> loop.Settings:
    """The loop's settings; refuses a monitor that nothing will log."""
    trainer = cfg["trainer"]
    monitor, known = trainer["monitor"], _known_values(cfg)
    if monitor and known and monitor not in known:
        raise ValueError(f"trainer.monitor={monitor}: no such value; there are {', '.join(sorted(known))}")
    one_pass = max(data.batches_per_pass() // trainer["accumulate"], 1)
    if not data.splits["val"]:
        log.info("no validation samples (data.val_split=0): best.pt is the last checkpoint")
        monitor = monitor if monitor and monitor.startswith("train/") else None
    keys = ("epochs", "accumulate", "grad_clip", "val_every", "monitor_mode", "early_stop")
    return loop.Settings(
        steps=trainer["steps_per_epoch"] or one_pass, monitor=monitor, **{key: trainer[key] for key in keys}
    )


def _known_values(cfg: dict) -> set[str]:
    """What can be monitored; empty where a callback or loss of the user's may add to it."""
    terms = [f"loss_{term}" for term in cfg["loss"].get("terms", {})]
    own = [node for node in cfg["callbacks"].values() if node and not node.get("_target_", "").startswith("humanseg.")]
    if own or not cfg["loss"]["_target_"].startswith(("humanseg.", "segmentation_models_pytorch.", "torch.")):
        return set()
    names = [name.rpartition(".")[2] for name in cfg["metrics"]]
    train = {f"train/{name}" for name in ("loss", *terms, *names) if name not in EVALUATION_ONLY}
    return train | {f"val/{name}" for name in ("loss", *terms, *names)}


def _state(cfg: dict, compute: Compute, settings: loop.Settings, fresh: bool) -> loop.State:
    """A network and all that trains it; a fresh one has the encoder's weights, or those of `ckpt`."""
    network = build.model(cfg["model"] if fresh else cfg["model"] | {"encoder_weights": None})
    if cfg["ckpt"] and fresh:
        start_from(network, cfg["ckpt"], cfg["out"])
    total = settings.epochs * settings.steps
    return build.state(network, compute, cfg["optimizer"], cfg["scheduler"], cfg["trainer"]["ema"], total)


def start_from(network: torch.nn.Module, typed: str, out: str) -> None:
    """Fine-tuning: begin with a checkpoint's weights; a head with other classes begins anew and is named.

    Raises:
        ValueError: anything but the head differs.
    """
    path = runs.find_checkpoint(typed, out)
    payload = checkpoint.load(path)
    weights, own = payload["ema"] or payload["model"], network.state_dict()
    head = [key for key in weights if key.startswith("segmentation_head.") and key in own]
    renewed = [key for key in head if weights[key].shape != own[key].shape]
    payload["model"] = weights | {key: own[key] for key in renewed}
    checkpoint.load_weights(network, payload | {"ema": None}, path)
    log.info("starts from the weights of %s%s", path, f"; anew: {', '.join(renewed)}" if renewed else "")


def _open(cfg: dict, data: Data, compute: Compute, settings: loop.Settings, state: loop.State) -> runs.Run:
    """The run's folder with what is known at the start, the opening lines, and in run.log what stands behind them."""
    table, size = logs.summarise_model(state.model, cfg["data"]["image_size"])
    names = {name: len(part) for name, part in data.splits.items() if len(part)}
    device = describe_device(compute.device)
    (run_folder() / "checkpoints").mkdir(exist_ok=True)
    runs.write_text(run_folder() / "config.yaml", yaml.safe_dump(cfg, sort_keys=False))
    folder = runs.Run(
        run_folder(),
        **{key: cfg[key] for key in ("name", "tags", "seed")},
        overrides=overrides(),
        choices=choices(),
        mode="train",
        monitor=settings.monitor,
        monitor_mode=settings.monitor_mode,
        samples=names,
        model=size,
        device=device,
        precision=compute.precision,
    )
    log.info("run        %s", folder.folder)
    log.info("overrides  %s", " ".join(overrides()) or "none")
    log.info("device     %s, %s", device, compute.precision)
    log.info("samples    %s", ", ".join(f"{count} {name}" for name, count in names.items()))
    log.info("model      %s, %.2f M parameters (%.2f M trainable), %.2f G multiply-adds at %d px",
             cfg["model"]["_target_"].rpartition(".")[2], size["parameters"] / 1e6, size["trainable"] / 1e6,
             size["multiply_adds"] / 1e9, cfg["data"]["image_size"])  # fmt: skip
    log.debug("layers\n%s", table)
    log.debug("config\n%s", yaml.safe_dump(cfg, sort_keys=False))
    return folder


def _test_best(cfg: dict, folder: runs.Run, data: Data, compute: Compute, metrics: dict) -> dict:
    """Score best.pt at the photographs' own size into the run's test/ folder."""
    path = folder.checkpoints / "best.pt"
    network = build.model(cfg["model"] | {"encoder_weights": None})
    checkpoint.load_weights(network, checkpoint.load(path), path)
    predictor = Predictor.of(network, compute, data.image_size, data.pad_value)
    split = test.choose_split(data, "auto")
    return test.score(predictor, data, split, metrics, folder.folder / "test")


def _speed(history: list[dict[str, float]]) -> dict[str, float]:
    """Means over the epochs after the first, which warms up; over the first where it is the only one."""
    counted = history[1:] or history
    names = ("time/images_per_second", "time/data_wait_share")
    return {name.removeprefix("time/"): sum(log[name] for log in counted) / len(counted) for name in names}


def _close(folder: runs.Run, best: dict[str, float], out: str) -> None:
    """The best metrics and the next commands to try."""
    parts = ("val/", "test/") if any(name.startswith("val/") for name in best) else ("train/", "test/")
    shown = [f"{name} {value:.4f}" for name, value in best.items() if name.startswith(parts) and "loss" not in name]
    log.info("best       epoch %d: %s", best["epoch"], ", ".join(shown))
    log.info("next       python run.py mode=test ckpt=%s", folder.folder)
    log.info("           tensorboard --logdir %s", out)
