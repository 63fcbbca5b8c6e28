"""``mode=benchmark``: how fast this machine trains, what the limit is, and where the time goes."""

import copy
import dataclasses
import itertools
import logging
import random
from datetime import date

import torch
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from humanseg import build, checkpoint, distributed, engines, loop, recorded, rules, runs
from humanseg.benchmark import datapath, network, people, plain, start, training
from humanseg.benchmark.figures import ROUNDS, Figure, as_json, figure, table
from humanseg.data.loading import Data
from humanseg.data.synthetic import synthetic
from humanseg.device import Compute, be_deterministic, choose_devices, choose_precision, cores, describe_device
from humanseg.metrics import EVALUATION_ONLY
from humanseg.modes import PRELOAD, overrides, run_folder
from humanseg.workers import Plan, launch

log = logging.getLogger(__name__)

OPTIONS = ("mode", "out", "name", "ckpt", "parts", "people", "seconds", "trace")  # not for the runs of `start`
SYNTHETIC = f"{synthetic.__module__}.{synthetic.__name__}"


def run(config: DictConfig) -> None:
    """Measure the chosen parts; prints a table and leaves benchmark.json."""
    options = OmegaConf.to_container(config, resolve=True)
    _refuse_wrong_options(options)
    path = runs.find_checkpoint(options["ckpt"], options["out"]) if options["ckpt"] else None
    saved = checkpoint.load(path) if path else None
    cfg, typed = on_files(options, saved)
    rules.refuse_wrong_values(cfg, complete=not saved)
    folder = runs.Run(run_folder(), overrides=overrides(), mode="benchmark")
    bench = Bench(cfg, typed, options["seconds"])
    if saved:
        checkpoint.load_weights(bench.network, saved, path)

    log.info("run        %s", folder.folder)
    measured = bench.measured() | {"ckpt": str(path) if path else None}
    log.info("measures   %s", ", ".join(f"{name} {value}" for name, value in measured.items()))
    found: list[Figure] = []
    for part in options["parts"]:
        log.info("measuring  %s", part)
        found += PARTS[part](bench)
    if saved:
        found.append(bench.miou())
    row = network.row(bench.name(), found) if "model" in options["parts"] else None
    runs.write_text(folder.folder / "benchmark.json", runs.to_json(as_json(found, measured, row)))
    if options["trace"]:
        training.trace(bench.trainee(), folder.folder / "trace.json")
        log.info("trace      %s (https://ui.perfetto.dev opens it)", folder.folder / "trace.json")
    log.info("%s", table(found))
    if row:
        log.info("%s", network.markdown(row))
    folder.update(status="completed")
    log.info("result     %s", folder.folder / "benchmark.json")


def _refuse_wrong_options(options: dict) -> None:
    if unknown := [part for part in options["parts"] if part not in PARTS]:
        raise ValueError(f"parts: there is no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not options["parts"] or not options["seconds"] > 0 or not options["people"] > 0:
        raise ValueError("give parts=[...] with one at least, seconds= and people= above 0")


def on_files(options: dict, saved: dict | None) -> tuple[dict, list[str]]:
    """The config to measure and its overrides; drawn people are written into files, so that there is decoding to do."""
    typed = overrides()
    cfg = recorded.checkpoint_config(saved, options, typed) if saved else options
    if cfg["data"]["_target_"] == SYNTHETIC:
        root = people.draw(run_folder() / "people", options["people"], options["seed"])
        typed = [item for item in typed if not item.startswith(("data=", "data.samples="))]
        typed += ["data=folder", f"data.root='{root}'"]
        if not any(item.startswith(("augment", "experiment=")) for item in typed):
            typed.append("augment=portrait")
        options = composed(typed)
        cfg = recorded.checkpoint_config(saved, options, typed) if saved else options
    return cfg, typed


def composed(typed: list[str]) -> dict:
    """The config of other overrides than those that this run was given."""
    return OmegaConf.to_container(compose("config", typed), resolve=True)


class Bench:
    """The run that was typed, built once, and what the parts need of it."""

    def __init__(self, cfg: dict, typed: list[str], seconds: float):
        self.cfg, self.typed, self.seconds = cfg, typed, seconds
        torch.manual_seed(cfg["seed"])
        random.seed(cfg["seed"])
        be_deterministic(cfg["trainer"]["deterministic"])
        self.compute = build.compute(cfg["trainer"], cfg["data"])
        self.loss = build.loss(cfg["loss"], cfg["model"]["classes"]).to(self.compute.device)
        self.data = build.data(cfg["data"], cfg["augment"], cfg["model"]["classes"], cfg["seed"])
        self.network = build.model(cfg["model"])
        if not hasattr(self.data.splits["train"].source, "paths"):
            raise ValueError("mode=benchmark needs photographs in files: data=folder, data=pairs, or data=synthetic")

    def name(self) -> str:
        return f"{type(self.network).__name__} ({self.cfg['model']['encoder_name']})"

    def measured(self) -> dict:
        """What stands beside the figures: without it they mean nothing."""
        compute, data, samples = self.compute, self.data, {name: len(part) for name, part in self.data.splits.items()}
        return {
            "model": self.name(),
            "device": describe_device(compute.device),
            "cores": cores(),
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "precision": compute.precision,
            "channels_last": compute.channels_last,
            "image_size": data.image_size,
            "batch_size": data.batch_size,
            "num_workers": data.num_workers,
            "recipe": self.recipe(),
            "samples": samples,
            "turns": ROUNDS,
            "seconds": self.seconds,
            "date": date.today().isoformat(),
            "versions": runs.versions(),
        }

    def recipe(self) -> str:
        """The choice of conf/augment that training has; of one's own the plain script has no likeness."""
        own = self.cfg["augment"]
        return next((name for name in plain.RECIPES if own in (self.augment(name), name != "none")), "own")

    def augment(self, recipe: str) -> dict:
        """The config of a choice of conf/augment at this run's size."""
        others = [item for item in self.typed if not item.startswith("augment")]
        return composed([*others, f"augment={recipe}", f"data.image_size={self.data.image_size}"])["augment"]

    def trainee(self, compiled: bool = False) -> training.Trainee:
        """A copy of the network with an optimizer of its own."""
        cfg, trainer = self.cfg, self.cfg["trainer"]
        twin = copy.deepcopy(self.network)
        among_several = distributed.size() > 1 and trainer["sync_batchnorm"]
        parts = cfg["optimizer"], cfg["scheduler"], trainer["ema"], training.ENDLESS
        state = build.state(twin, self.compute, *parts, among_several)
        if compiled:
            state.model.compile()
        metrics = build.metrics([name for name in cfg["metrics"] if name not in EVALUATION_ONLY])
        return training.Trainee(state, self.data, self.compute, self.loss, metrics, trainer["grad_clip"])

    def photographs(self, recipe: str) -> plain.Photographs:
        """The training samples as the plain pipeline reads them."""
        train = self.data.splits["train"]
        everything = train.source.paths
        chosen = [everything[index] for index in train.indices]
        return plain.Photographs(chosen, recipe, self.data.image_size, self.data.mean, self.data.std)

    def miou(self) -> Figure:
        """Of the network on the validation samples, at the network's size."""
        placed = self.compute.place(copy.deepcopy(self.network))
        outputs = loop.network_outputs(placed, self.data.eval_batches("val"), self.compute)
        value = loop.evaluate(outputs, build.metrics(["miou"]))[0]["miou"]
        return figure("model", network.MIOU, "1", [value])


def _model(bench: Bench) -> list[Figure]:
    size, cpu = bench.data.image_size, torch.device("cpu")
    grid = itertools.product(("fp32", "bf16"), (False, True))
    ways = [dataclasses.replace(bench.compute, precision=name, channels_last=last) for name, last in grid]
    if bench.compute.device.type != "cpu":  # for the row's CPU time
        ways.append(Compute(cpu, choose_precision("auto", cpu), True, bench.compute.mean, bench.compute.std))

    def engine(way: Compute, backend: str, precision: str) -> engines.Engine:
        return engines.of_network(copy.deepcopy(bench.network), way, size, backend, precision)

    found = {network.label(way): engine(way, "torch", way.precision) for way in ways}
    on_cpu = dataclasses.replace(bench.compute, device=cpu)
    for backend in filter(engines.is_there, engines.BACKENDS[1:]):
        try:
            other = engine(on_cpu, backend, "auto")
        except ValueError as error:  # a network that it can't take
            log.warning("%s is not measured: %s", backend, error)
        else:
            found[f"cpu {other.precision} {backend}"] = other
    return network.measure(bench.network, size, found, bench.seconds)


def _ceiling(bench: Bench) -> list[Figure]:
    trainees = {network.label(bench.compute): bench.trainee()}
    if bench.cfg["trainer"]["compile"]:
        trainees["compiled"] = bench.trainee(compiled=True)
    return training.ceiling(trainees, bench.seconds)


def _data(bench: Bench) -> list[Figure]:
    cfg, loaders = bench.cfg, []
    cached = [True, False] if "cache" in cfg["data"] else []
    kinds = {f"cache={str(on).lower()}": cfg["data"] | {"cache": on} for on in cached} or {"suite": cfg["data"]}
    built = {way: build.data(node, None, cfg["model"]["classes"], cfg["seed"]) for way, node in kinds.items()}
    for recipe in plain.RECIPES:
        pipeline = build.build(bench.augment(recipe), "augment")
        for way, data in built.items():
            loaders.append(datapath.Loader(recipe, way, _opened(dataclasses.replace(data, augment=pipeline))))
        photographs = bench.photographs(recipe)
        loaders.append(
            datapath.Loader(
                recipe, "plain", lambda workers, of=photographs: plain.endless(of, bench.data.batch_size, workers)
            )
        )
    workers = sorted({0, cores(), *(2**power for power in range(cores().bit_length()))})
    return datapath.measure(loaders, workers, bench.data.batch_size, bench.seconds)


def _opened(data: Data):
    return lambda workers: dataclasses.replace(data, num_workers=workers).train_batches(0, training.ENDLESS)


def _training(bench: Bench) -> list[Figure]:
    recipe = bench.recipe() if bench.recipe() in plain.RECIPES else "portrait"
    workers, device = bench.data.num_workers, bench.compute.device
    trainee = bench.trainee(bench.cfg["trainer"]["compile"])
    twin, loss = copy.deepcopy((bench.network, bench.loss))
    script = training.Script(twin, bench.photographs(recipe), bench.data.batch_size, workers, loss, device)
    with training.plain_script(script) as peer:
        return training.end_to_end(trainee, peer, workers, bench.seconds)


def _scaling(bench: Bench) -> list[Figure]:
    trainer = bench.cfg["trainer"]
    processes, gpus = choose_devices(trainer["devices"], trainer["device"])
    if processes == 1:
        log.info("           trainer.devices=N measures it")
        return []
    alone, plan = bench.trainee(), Plan(processes, gpus, preload=PRELOAD)
    if gpus:  # each has its part of a batch, however many there are
        alone.data = dataclasses.replace(bench.data, batch_size=bench.data.batch_size // processes)

    def together(seconds: float) -> dict[str, float]:
        return launch(_train_together, (bench.cfg, bench.typed, seconds), plan)

    return training.scaling(alone, together, processes, processes if gpus else 1, bench.seconds)


def _train_together(cfg: dict, typed: list[str], seconds: float) -> dict[str, float]:
    """What one of several processes does: training for about as many seconds; the log of it."""
    bench = Bench(cfg, typed, seconds)
    trainee = bench.trainee(cfg["trainer"]["compile"])
    trainee.state.parallel = build.parallel(trainee.state.model, bench.compute, bench.data.image_size)
    return trainee.turn(trainee.stream(), seconds)


def _start(bench: Bench) -> list[Figure]:
    typed = [item for item in bench.typed if item.lstrip("+").split("=")[0] not in OPTIONS]
    if "cache_dir" in bench.cfg["data"]:
        typed.append(f"data.cache_dir='{bench.cfg['data']['cache_dir']}'")
    return start.measure(typed, run_folder() / "start")


PARTS = {
    "model": _model,
    "ceiling": _ceiling,
    "data": _data,
    "training": _training,
    "scaling": _scaling,
    "start": _start,
}
