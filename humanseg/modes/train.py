"""``mode=train``: build what the config names, fit it, and leave a run's folder behind."""

import logging
import math
import random

import torch
from omegaconf import DictConfig, OmegaConf

from humanseg import build, checkpoint, distributed, interrupts, loop, recorded, rules, runs
from humanseg.data.loading import Data
from humanseg.device import Compute, be_deterministic
from humanseg.journal import Journal
from humanseg.metrics import EVALUATION_ONLY
from humanseg.modes import choices, overrides, run_folder, test
from humanseg.predictor import Predictor

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Train, or go on where the run's folder holds a checkpoint; returns the best monitored value to Hydra's sweepers."""
    saved = distributed.made_by_main(lambda: checkpoint.load_newest(run_folder() / "checkpoints"))
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
    journal = _begin(facts, data, compute, settings, state, metrics, saved) if distributed.is_main() else None
    state.parallel = build.parallel(state.model, compute, data.image_size)
    if trainer["compile"]:
        state.model.compile()
    distributed.draw_apart(cfg["seed"], state.step)
    react, keep = _ignore, _ignore
    if journal:
        react, keep = build.callbacks(cfg["callbacks"], journal.writer, journal.samples), journal.keep
    with interrupts.noted(speaks=distributed.is_main()) as asked:

        def between(state: loop.State) -> None:
            distributed.draw_apart(cfg["seed"], state.step)
            stop, due = distributed.most(asked() or 0, journal is not None and journal.saves.due())
            if stop or due:
                loop.refuse_bad(state, data, settings)
                state.collect()
                if journal:
                    journal.saves.save(state)
            if stop:
                raise interrupts.Interrupted(stop)

        loop.fit(state, data, compute, loss, metrics, settings, react, keep, between)

    best = loop.best_epoch(state.history, settings)
    if trainer["test"]:
        best = best | _test_best(cfg, data, compute, metrics)
    if journal:
        journal.close(state, best)
    return best.get(settings.monitor, math.nan)


def _ignore(*_: object) -> None:
    """What a process does that is not the main one, where that writes."""


def _begin(
    facts: dict,
    data: Data,
    compute: Compute,
    settings: loop.Settings,
    state: loop.State,
    metrics: dict,
    saved: dict | None,
) -> Journal:
    kept = None if not saved else state.history[-1]["step"] if state.history else 0
    journal = Journal(run_folder(), overrides(), facts, data, compute, settings, state, metrics, kept)
    if not saved:
        journal.picture_first_batch(*next(data.train_batches(0, 1)))
    return journal


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
    saved["config"]["trainer"] = composed["trainer"] | saved["config"]["trainer"]  # an older version knew fewer keys
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
        "processes": data.size,
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
    trainer = cfg["trainer"]
    together = trainer["sync_batchnorm"]
    return build.state(network, compute, cfg["optimizer"], cfg["scheduler"], trainer["ema"], total, together)


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


def _test_best(cfg: dict, data: Data, compute: Compute, metrics: dict) -> dict:
    """Score best.pt at the photographs' own size into the run's test/ folder."""
    path = run_folder() / "checkpoints" / "best.pt"
    network = build.model(cfg["model"] | {"encoder_weights": None})
    checkpoint.load_weights(network, distributed.made_by_main(lambda: checkpoint.load(path)), path)
    predictor = Predictor.of(network, compute, data.image_size, data.pad_value)
    split = test.choose_split(data, "auto")
    return test.score(predictor, data, split, metrics, run_folder() / "test")
