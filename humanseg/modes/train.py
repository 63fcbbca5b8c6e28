"""``mode=train``: build what the config names, fit it, and leave a run's folder behind."""

import logging
import math
import os
from functools import partial

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard import SummaryWriter

from humanseg import build, checkpoint, logs, loop, rules, runs
from humanseg.data.loading import Data
from humanseg.device import Compute, describe_device
from humanseg.metrics import EVALUATION_ONLY
from humanseg.modes import choices, overrides, run_folder, test
from humanseg.predictor import Predictor

log = logging.getLogger(__name__)

PREVIEWED = 6  # validation samples in each epoch's preview


def run(config: DictConfig) -> float:
    """Train; returns the best value of the monitored metric to Hydra's sweepers."""
    cfg = OmegaConf.to_container(config, resolve=True)
    rules.refuse_wrong_values(cfg)
    trainer = cfg["trainer"]
    torch.manual_seed(cfg["seed"])
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS can't be deterministic without it
    torch.use_deterministic_algorithms(trainer["deterministic"])
    torch.backends.cudnn.benchmark = not trainer["deterministic"]

    compute = build.compute(trainer, cfg["data"])
    metrics = build.metrics(cfg["metrics"])
    loss = build.loss(cfg["loss"], cfg["model"]["classes"]).to(compute.device)
    data = build.data(cfg["data"], cfg["augment"], cfg["model"]["classes"], cfg["seed"])
    settings = _settings(cfg, data)
    state = _state(cfg, compute, settings)

    folder = _open(cfg, data, compute, settings, state)
    if trainer["compile"]:
        state.model.compile()
    writer = logs.open_board(folder.folder, cfg, metrics)
    images, masks = next(data.train_batches(0, 1))
    batch = logs.save_batch(folder.folder / "train_batch.png", images, masks)
    writer.add_image("train_batch", batch, dataformats="HWC")
    react = build.callbacks(cfg["callbacks"], writer, preview_samples(data))
    try:
        keep = partial(_keep, cfg=cfg, settings=settings, folder=folder, writer=writer)
        loop.fit(state, data, compute, loss, metrics, settings, react, keep)
    except KeyboardInterrupt:
        folder.update(status="interrupted")
        raise

    best = loop.best_epoch(state.history, settings)
    if trainer["test"]:
        best = best | _test_best(cfg, folder, data, compute, metrics)
    folder.update(status="completed", best=best, speed=_speed(state.history))
    logs.log_hparams(writer, choices(), overrides(), best)
    writer.close()
    _close(folder, best, cfg["out"])
    return best.get(settings.monitor, math.nan)


def _keep(state: loop.State, cfg: dict, settings: loop.Settings, folder: runs.Run, writer: SummaryWriter) -> None:
    """What an epoch leaves behind: checkpoints, a row of metrics.csv, TensorBoard's scalars, a line."""
    values, best = state.history[-1], loop.best_epoch(state.history, settings)
    payload = checkpoint.pack(state, cfg, choices(), runs.versions())
    last, every = folder.checkpoints / "last.pt", cfg["trainer"]["save_every"]
    checkpoint.save(last, payload, keep=last.with_name("previous.pt"))
    if best is values:
        checkpoint.save(last.with_name("best.pt"), payload)
    if every and state.epoch % every == 0:
        checkpoint.save(last.with_name(f"epoch_{state.epoch:04d}.pt"), payload)
    folder.write_metrics(state.history)
    folder.update(epochs=state.epoch, best=best, monitored=best.get(settings.monitor))
    logs.log_epoch(writer, values)
    log.info(logs.epoch_line(values, settings.epochs, best is values))


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


def _state(cfg: dict, compute: Compute, settings: loop.Settings) -> loop.State:
    """A network at its beginning, or with the weights of `ckpt`, and all that trains it."""
    network = build.model(cfg["model"])
    if cfg["ckpt"]:
        start_from(network, cfg["ckpt"], cfg["out"])
    network = compute.place(network)
    average = build.average(network, cfg["trainer"]["ema"])
    optimizers = build.optimizers(cfg["optimizer"], network)
    schedule = build.schedule(cfg["scheduler"], settings.epochs * settings.steps)
    scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision == "fp16")
    return loop.State(network, average, optimizers, schedule, scaler)


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
    folder = runs.Run(
        run_folder(),
        **{key: cfg[key] for key in ("name", "tags", "seed")},
        overrides=overrides(),
        choices=choices(),
        monitor=settings.monitor,
        monitor_mode=settings.monitor_mode,
        samples=names,
        model=size,
        device=device,
        precision=compute.precision,
    )
    folder.checkpoints.mkdir(exist_ok=True)
    runs.write_text(folder.folder / "config.yaml", yaml.safe_dump(cfg, sort_keys=False))
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
