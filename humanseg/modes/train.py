"""``mode=train``: build what the config names, fit it, and leave a run's folder behind."""

import functools
import logging
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from humanseg import averaging, build, checkpoint, distillation, evaluation, finetune, loop, metrics, sizes, terminal
from humanseg.checkpoint import Checkpoints, SafePoint
from humanseg.config_rules import flat, refuse_other_run, refuse_wrong_values
from humanseg.data import pictures
from humanseg.data.loading import Data
from humanseg.data.splits import left_out
from humanseg.data.splits.parts import Split
from humanseg.hardness import Hardness
from humanseg.history import best_epoch
from humanseg.logs.journal import Journal
from humanseg.monitor import known_values, mode_of
from humanseg.predictor import Predictor
from humanseg.processes import distributed, hardware, signals
from humanseg.restoring import restore
from humanseg.runs import conf, provenance, recorded, trials
from humanseg.runs.job import Job
from humanseg.runs.plain import refuse_other_than_plain

log = logging.getLogger(__name__)

SHARED, RANKED = True, True
WORST = 10  # photographs of trainer.test in the table of the worst


def run(config: dict, job: Job) -> float:
    """Train, or go on where the run's folder holds a checkpoint; returns the best monitored value."""
    saved = distributed.made_by_main(lambda: checkpoint.load_newest(job.folder / "checkpoints"))
    before = finetune.origin(config["ckpt"], config["out"]) if config["ckpt"] and not saved else None
    cfg = _config(config, job, saved, before)
    _seed(cfg)
    setup = _setup(cfg, saved)
    state = _state(cfg, job, setup, saved, before)
    facts = _facts(cfg, job, setup)
    changed = _go_on(state, saved, facts, setup) if saved else None
    if before and setup.data.splits["val"]:
        finetune.tell_split(cfg["data"], facts["samples"], before)
    checkpoints = Checkpoints(job.folder / "checkpoints", cfg["trainer"]["save_minutes"], facts)
    journal = Journal(job, facts, setup, checkpoints, build.callbacks(cfg["callbacks"]))
    journal.open(state, changed)
    try:
        best, status = _fit(cfg, job, setup, state, checkpoints, journal)
        skipped = distributed.all_gather(setup.data.tolerance.skipped(setup.data.splits))
        journal.close(state, best, status, [*dict.fromkeys(one for some in skipped for one in some)])
    except BaseException as stop:
        journal.break_off(state, stop)
        raise
    return best.get(setup.settings.monitor, math.nan)


def _fit(
    cfg: dict, job: Job, setup: loop.Setup, state: loop.State, checkpoints: Checkpoints, journal: Journal
) -> tuple[dict[str, float], str]:
    """Train to the end, and score best.pt where the config says so.

    Returns:
        the best epoch's values, and those scores; and whether the run is completed or pruned.
    """
    state.parallel = setup.parallel(state.model)
    if cfg["trainer"]["compile"]:
        state.model.compile()
    distributed.seed_rank(cfg["seed"], state.step)
    refuse_hopeless = _pruning(job, setup)

    def keep(state: loop.State, record: loop.Record) -> None:
        journal.keep(state, record)
        refuse_hopeless(state)

    with signals.noted(speaks=distributed.is_main()) as asked:
        safe_point = SafePoint(checkpoints, setup, cfg["seed"], asked)
        try:
            refuse_hopeless(state)  # a trial that was killed may have been told so before
            loop.fit(state, setup, loop.Hooks(safe_point, journal.note, journal.react, keep))
            averaging.finish(state, setup, checkpoints.folder, safe_point, journal.keep_averaged)
            status = "completed"
        except trials.Pruned:
            status = "pruned"

    best = best_epoch(state.history, setup.settings.monitor, setup.settings.monitor_mode)
    if cfg["trainer"]["test"] and status == "completed":
        best = best | _test_best(cfg, job, setup)
    return best, status


def _pruning(job: Job, setup: loop.Setup) -> Callable[[loop.State], None]:
    """What a trial of a search does after each epoch: it reports what is validated, and `Pruned` ends one that is hopeless."""
    if job.trial is None:
        return lambda state: None
    make = functools.partial(trials.Watched, job.trial.sweep, job.trial.number)
    watched = make(build.build(job.trial.pruner, "hydra.sweeper.pruner")) if distributed.is_main() else None

    def refuse_hopeless(state: loop.State) -> None:
        hopeless = distributed.made_by_main(lambda: watched.is_hopeless(state.history, setup.settings.monitor))
        if hopeless and state.epoch < setup.settings.epochs:
            raise trials.Pruned

    return refuse_hopeless


def _config(composed: dict, job: Job, saved: dict | None, before: finetune.Origin | None) -> dict:
    """The config that Hydra composed; to go on from a checkpoint, its config with the overrides.

    Args:
        saved: the run's own checkpoint. before: the one that it starts from.

    Raises:
        ValueError: wrong values; or the config would make another run of it, or names strange code.
    """
    if composed["resume"]:
        raise ValueError(f"resume={composed['resume']}: type it on the command line, it can't stand in a YAML")
    refuse_other_than_plain(composed, "the config")  # a checkpoint with anything else could never be opened again
    cfg = composed
    if saved:
        overrides = [override for override in job.overrides if not override.startswith("experiment=")]
        trainer = composed["trainer"] | saved["config"]["trainer"]  # an older version had fewer keys
        began = {"distill": None} | saved["config"] | {"trainer": trainer}
        cfg = recorded.with_overrides(began, saved["choices"], composed, overrides)
        refuse_other_run(saved["config"], cfg)
    refuse_wrong_values(cfg)
    if before:
        cfg = cfg | {"data": finetune.keep_split(cfg["data"], before, job.overrides)}
        refuse_wrong_values(cfg)  # another run's values are in it now
    if cfg["distill"]:
        cfg = cfg | {"distill": _teachers_place(cfg, saved)}
    return cfg


def _teachers_place(cfg: dict, saved: dict | None) -> str:
    """The teacher's file. A run that goes on needs it only for answers that the cache lacks, so it may be gone."""
    try:
        return distillation.place(cfg["distill"], cfg["out"])
    except ValueError:
        if saved:
            return cfg["distill"]
        raise


def _seed(cfg: dict) -> None:
    torch.manual_seed(cfg["seed"])
    random.seed(cfg["seed"])
    hardware.be_deterministic(cfg["trainer"]["deterministic"])


def _setup(cfg: dict, saved: dict | None) -> loop.Setup:
    """What the run trains with."""
    classes = cfg["model"]["classes"]
    compute = build.compute(cfg["trainer"], cfg["data"])
    functions = metrics.find(cfg["metrics"])
    loss = build.loss(cfg["loss"], classes).to(compute.device)
    distillation.refuse_unasked(loss, cfg["distill"])
    data = build.data(cfg["data"], cfg["augment"], classes, cfg["seed"], saved.get("broken") if saved else None)
    if cfg["distill"]:
        mark = saved.get("teacher") if saved else None
        data = replace(data, teacher=distillation.teacher(Path(cfg["distill"]), classes, compute, mark))
    settings, size = _settings(cfg, data), data.config.image_size
    setup = loop.Setup(data, compute, loss, functions, settings, lambda network: build.parallel(network, compute, size))
    sides, order = cfg["trainer"]["sizes"], cfg["trainer"]["size_order"]
    if sides or order:
        return replace(setup, resize=sizes.chosen(sides, order, size, settings.epochs * settings.steps, cfg["seed"]))
    return setup


def _settings(cfg: dict, data: Data) -> loop.Settings:
    """The loop's settings; refuses a monitor that nothing will log, and an average of more epochs than there are."""
    trainer = cfg["trainer"]
    if (trainer["average_last"] or 0) > trainer["epochs"]:
        raise ValueError(
            f"trainer.average_last={trainer['average_last']}: there are {trainer['epochs']} epochs (trainer.epochs); "
            f"give at most {trainer['epochs']}"
        )
    one_pass = max(data.batches_per_pass() // trainer["accumulate"], 1)
    monitor, known = trainer["monitor"], known_values(cfg, data)
    if monitor and known and monitor not in known:
        near = terminal.did_you_mean(monitor, known)
        raise ValueError(f"trainer.monitor={monitor}: no such value{near}; there are {', '.join(sorted(known))}")
    if not data.splits["val"]:
        log.info("no validation samples (data.val_split=0): best.pt is the last checkpoint")
        monitor = monitor if monitor and monitor.startswith("train/") else None
    keys = ("epochs", "accumulate", "grad_clip", "val_every", "early_stop", "log_every")
    keys += ("output_weights", "freeze_encoder", "average_last", "reestimate_batchnorm")
    return loop.Settings(
        steps=trainer["steps_per_epoch"] or one_pass,
        monitor=monitor,
        monitor_mode=mode_of(monitor, trainer["monitor_mode"]),
        **{key: trainer[key] for key in keys},
    )


def _state(cfg: dict, job: Job, setup: loop.Setup, saved: dict | None, before: finetune.Origin | None) -> loop.State:
    """A network and all that trains it; a fresh one has the encoder's weights, or those of `ckpt`.

    Raises:
        ValueError: there is no batch norm to estimate, or what `build` raises.
    """
    if saved:
        network = build.model_of(saved, cfg["model"], job.folder / "checkpoints" / "last.pt")
    else:
        network = build.model(cfg["model"])
    if before:
        finetune.load_weights(network, before, cfg["model"])
    batches = cfg["trainer"]["reestimate_batchnorm"]
    if batches and not any(name.endswith("running_mean") for name, _ in network.named_buffers()):
        raise ValueError(
            f"trainer.reestimate_batchnorm={batches}: {type(network).__name__} has no batch norm; give null"
        )
    settings, data = setup.settings, setup.data
    state = build.state(network, setup.compute, cfg, settings.epochs * settings.steps)
    if share := cfg["trainer"]["hard"]:
        samples, epoch = len(data.splits["train"]), (settings.steps * settings.accumulate, data.config.batch_size)
        state.hardness = Hardness(share, samples, epoch, setup.compute.device)
    return state


def _facts(cfg: dict, job: Job, setup: loop.Setup) -> dict:
    """What a checkpoint says beside the state."""
    machine = {
        "device": setup.compute.device.type,
        "precision": setup.compute.precision,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "processes": setup.data.share.world_size,
    }
    splits = setup.data.splits
    samples = {name: split.fingerprint() for name, split in splits.items() if name != "test"}
    samples |= {f"val/{part.name}": Split([part]).fingerprint() for part in splits["val"].parts if part.name}
    samples |= {
        f"{part.name}.{what}": drawn.fingerprint()
        for part in splits["val"].parts
        for what, drawn in getattr(part.source, "draws_from", {}).items()
    }
    teacher = setup.data.teacher
    broken = [left_out.mark(one.source, one.path) for one in setup.data.left_out if one.why == "broken"]
    own = {"config_dirs": conf.own_folders(), "reading": pictures.VERSION, "teacher": teacher and teacher.mark}
    versions = provenance.versions()
    own |= {"choices": job.choices, "versions": versions, "machine": machine}
    return own | {"config": cfg, "samples": samples, "broken": broken}


def _go_on(state: loop.State, saved: dict, facts: dict, setup: loop.Setup) -> list[str]:
    """Put the state back; says what is no longer exact. Returns the keys of the config that have other values.

    Raises:
        ValueError: the samples are others.
    """
    marks = {name: mark for name, mark in saved.get("samples", {}).items() if "/" not in name}
    if others := [name for name, mark in marks.items() if facts["samples"].get(name) != mark]:
        raise ValueError(
            f"the {' and '.join(others)} samples are not those that this run began with (data.root, data.pairs, a list of names)"
        )
    old, new = flat(saved["config"]), flat(facts["config"])
    changed = [key for key in new if key in old and old[key] != new[key]]
    restore(state, saved, setup.compute.device, changed)
    log.info("goes on    from epoch %d, step %d", state.epoch, state.step)
    before, now = (one.get("machine", {}) | one.get("versions", {}) for one in (saved, facts))
    if saved.get("reading", 1) != facts["reading"] and (told := setup.data.read_otherwise()):
        log.warning("not exact  %s", told)
    if inexact := [f"{key} {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]]:
        log.warning("not exact  results can differ from an uninterrupted run's: %s", ", ".join(inexact))
    if "trainer.epochs" in changed:
        log.warning(
            "schedule   computed anew for %d epochs instead of %d", new["trainer.epochs"], old["trainer.epochs"]
        )
    return changed


def _test_best(cfg: dict, job: Job, setup: loop.Setup) -> dict[str, float]:
    """Score best.pt at the photographs' own size into the run's test/ folder.

    Without test data the validation photographs are scored, as val_full_size/: they are not unseen, and val/ is measured at
    the network's size.
    """
    path = job.folder / "checkpoints" / "best.pt"
    network = build.model_of(distributed.made_by_main(lambda: checkpoint.load(path)), cfg["model"], path)
    data = setup.data
    predictor = Predictor.of(network, setup.compute, data.config.image_size, data.config.pad_value)
    split = evaluation.choose_split(data, "auto")
    called = "test" if split == "test" else f"{split}_full_size"
    return evaluation.score(predictor, data, split, setup.metrics, job.folder / called, WORST, called)
