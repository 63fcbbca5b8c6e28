"""The run that is measured, built once, and the parts of the benchmark: functions of it that return figures."""

import copy
import dataclasses
import itertools
import logging
import random
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import torch
from hydra import compose
from omegaconf import OmegaConf
from torch import nn

from humanseg import build, loop, metrics, tally
from humanseg.benchmark import datapath, network, plain, start, training
from humanseg.benchmark.figures import ROUNDS, Figure, figure
from humanseg.compute import Compute, choose_precision
from humanseg.data.composing import composer
from humanseg.data.loading import Data
from humanseg.inference import engines
from humanseg.inference.folding import fold_batchnorm
from humanseg.losses import asks_for
from humanseg.processes import distributed, elastic
from humanseg.processes.hardware import be_deterministic, choose_devices, cores, describe_device
from humanseg.runs import provenance
from humanseg.runs.conf import CONF
from humanseg.runs.overrides import literal

log = logging.getLogger(__name__)

OPTIONS = ("mode", "out", "name", "ckpt", "parts", "people", "seconds", "trace")  # the runs of `start` don't get these


def composed(overrides: list[str]) -> dict:
    """The config of overrides that are not those of this run."""
    return OmegaConf.to_container(compose("config", overrides), resolve=True)


def recipes() -> list[str]:
    """The choices of conf/augment."""
    return sorted(file.stem for file in (CONF / "augment").glob("*.yaml"))


class Bench:
    """The run of some overrides, built once, and what the parts need of it.

    Args:
        seconds: for each figure. folder: where the parts write.
        network: a checkpoint's; None: a new one.
    """

    def __init__(self, cfg: dict, overrides: list[str], seconds: float, folder: Path, network: nn.Module | None = None):
        self.cfg, self.overrides, self.seconds, self.folder = cfg, overrides, seconds, folder
        torch.manual_seed(cfg["seed"])
        random.seed(cfg["seed"])
        be_deterministic(cfg["trainer"]["deterministic"])
        self.compute = build.compute(cfg["trainer"], cfg["data"])
        self.loss = build.loss(cfg["loss"], cfg["model"]["classes"]).to(self.compute.device)
        if asks_for(self.loss, "teacher", needs=True):
            raise ValueError("mode=benchmark asks no teacher: give another loss, as loss=bce_dice")
        self.data = build.data(cfg["data"], cfg["augment"], cfg["model"]["classes"], cfg["seed"])
        self.network = network or build.model(cfg["model"])
        if not all(hasattr(part.source, "paths") for part in self.data.splits["train"].parts):
            raise ValueError("mode=benchmark needs photographs in files: data=folder, data=pairs, or data=synthetic")

    def name(self) -> str:
        """The network and its encoder."""
        encoder = self.cfg["model"].get("encoder_name")  # a network of one's own has its own
        return type(self.network).__name__ + (f" ({encoder})" if encoder else "")

    def measured(self) -> dict:
        """The conditions of the figures, which mean nothing without them."""
        compute, data = self.compute, self.data
        return {
            "model": self.name(),
            "device": describe_device(compute.device),
            "cores": cores(),
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "precision": compute.precision,
            "channels_last": compute.channels_last,
            "image_size": data.config.image_size,
            "batch_size": data.config.batch_size,
            "num_workers": data.workers,
            "recipe": self.recipe(),
            "samples": {name: len(part) for name, part in data.splits.items()},
            "turns": ROUNDS,
            "seconds": self.seconds,
            "date": date.today().isoformat(),
            "versions": provenance.versions(),
        }

    def recipe(self) -> str:
        """The choice of conf/augment that training uses, or `own`."""
        return next((name for name in recipes() if self.cfg["augment"] == self.augment(name)), "own")

    def augment(self, recipe: str) -> dict:
        """The config of a choice of conf/augment at this run's size."""
        others = [item for item in self.overrides if not item.startswith("augment")]
        size = self.data.config.image_size
        return composed([*others, f"augment={recipe}", f"data.image_size={size}"])["augment"]

    def trainee(self, compiled: bool = False) -> training.Trainee:
        """A copy of the network with an optimizer of its own."""
        trainer = self.cfg["trainer"]
        sync = distributed.world_size() > 1 and trainer["sync_batchnorm"]
        cfg = self.cfg | {"trainer": trainer | {"sync_batchnorm": sync}}
        state = build.state(copy.deepcopy(self.network), self.compute, cfg, training.ENDLESS)
        if compiled:
            state.model.compile()
        counted = metrics.find([name for name in self.cfg["metrics"] if name not in metrics.EVALUATION_ONLY])
        settings = loop.Settings(epochs=1, steps=1, grad_clip=trainer["grad_clip"])
        return training.Trainee(state, loop.Setup(self.data, self.compute, self.loss, counted, settings))

    def photographs(self, augment: Callable | None) -> plain.Photographs:
        """The training samples as the plain script reads them."""
        chosen = []
        for part in self.data.splits["train"].parts:
            everything = part.source.paths
            chosen += [everything[index] for index in part.indices]
        data = self.cfg["data"]
        return plain.Photographs(chosen, augment, data["image_size"], data["mean"], data["std"])

    def miou(self) -> Figure:
        """The network's mIoU on the validation samples, at the network's size."""
        placed = self.compute.place(copy.deepcopy(self.network))
        outputs = tally.network_outputs(placed, self.data.eval_batches("val"), self.compute)
        value = tally.evaluate({"": outputs}, metrics.find(["miou"]))[0]["miou"]
        return figure("model", network.MIOU, "1", [value])


def _model(bench: Bench) -> list[Figure]:
    size, cpu = bench.data.config.image_size, torch.device("cpu")
    grid = itertools.product(("fp32", "bf16"), (False, True))
    ways = [dataclasses.replace(bench.compute, precision=name, channels_last=last) for name, last in grid]
    if bench.compute.device.type != "cpu":  # for the CPU time in the table's row
        ways.append(Compute(cpu, choose_precision("auto", cpu), True, bench.compute.mean, bench.compute.std))

    def engine(way: Compute, backend: str, precision: str) -> engines.Engine:
        return engines.of_network(fold_batchnorm(copy.deepcopy(bench.network)), way, size, backend, precision)

    found = {network.label(way): engine(way, "torch", way.precision) for way in ways}
    on_cpu = dataclasses.replace(bench.compute, device=cpu)
    for backend in filter(engines.is_there, engines.BACKENDS[1:]):
        try:
            other = engine(on_cpu, backend, "auto")
        except ValueError as error:  # this backend can't run this network
            log.warning("%s is not measured: %s", backend, error)
        else:
            found[f"cpu {other.precision} {backend}"] = other
    return network.measure(bench.network, size, bench.cfg["model"]["classes"], found, bench.seconds)


def _ceiling(bench: Bench) -> list[Figure]:
    trainees = {network.label(bench.compute): bench.trainee()}
    if bench.cfg["trainer"]["compile"]:
        trainees["compiled"] = bench.trainee(compiled=True)
    return training.ceiling(trainees, bench.seconds)


def _data(bench: Bench) -> list[Figure]:
    cfg, loaders, batch_size = bench.cfg, [], bench.data.config.batch_size
    cached = [True, False] if "cache" in cfg["data"] else []
    kinds = {f"cache={str(on).lower()}": cfg["data"] | {"cache": on} for on in cached} or {"suite": cfg["data"]}
    built = {way: build.data(node, None, cfg["model"]["classes"], cfg["seed"]) for way, node in kinds.items()}
    for recipe in recipes():
        augment, compose = composer.apart(bench.augment(recipe))
        pipeline = build.build(augment, "augment")
        for way, data in built.items():
            own = dataclasses.replace(data, augment=pipeline, compose=compose)
            loaders.append(datapath.Loader(recipe, way, _opened(own)))
        photographs = bench.photographs(pipeline)
        loaders.append(
            datapath.Loader(recipe, "plain", lambda workers, of=photographs: plain.endless(of, batch_size, workers))
        )
    workers = sorted({0, cores(), *(2**power for power in range(cores().bit_length()))})
    return datapath.measure(loaders, workers, batch_size, bench.seconds)


def _opened(data: Data) -> Callable[[int], Iterator]:
    def batches(workers: int) -> Iterator:
        config = dataclasses.replace(data.config, num_workers=workers)
        return dataclasses.replace(data, config=config).train_batches(0, training.ENDLESS)

    return batches


def _training(bench: Bench) -> list[Figure]:
    trainee = bench.trainee(bench.cfg["trainer"]["compile"])
    network, loss = copy.deepcopy((bench.network, bench.loss))
    photographs, data = bench.photographs(bench.data.augment), bench.data
    script = plain.Script(network, photographs, data.config.batch_size, data.workers, loss, bench.compute.device)
    return training.end_to_end(trainee, script, bench.seconds)


def _scaling(bench: Bench) -> list[Figure]:
    trainer = bench.cfg["trainer"]
    processes, gpus = choose_devices(trainer["devices"], trainer["device"])
    if processes == 1:
        log.info("           trainer.devices=N measures it")
        return []
    alone, group = (
        bench.trainee(),
        elastic.Group(processes, gpus, preload=(__name__, "segmentation_models_pytorch", "albumentations")),
    )
    if gpus:  # as each process of the group, the one process has a part of a batch
        config = dataclasses.replace(bench.data.config, batch_size=bench.data.config.batch_size // processes)
        alone.setup = dataclasses.replace(alone.setup, data=dataclasses.replace(bench.data, config=config))

    def together(seconds: float) -> dict[str, float]:
        return elastic.launch(_train_together, (bench.cfg, bench.overrides, seconds, bench.folder), group)

    return training.scaling(alone, together, processes, processes if gpus else 1, bench.seconds)


def _train_together(cfg: dict, overrides: list[str], seconds: float, folder: Path) -> dict[str, float]:
    """What each of several processes does: train for about `seconds`; returns the log."""
    bench = Bench(cfg, overrides, seconds, folder)
    trainee = bench.trainee(cfg["trainer"]["compile"])
    trainee.state.parallel = build.parallel(trainee.state.model, bench.compute, bench.data.config.image_size)
    return trainee.turn(trainee.stream(), seconds)


def _start(bench: Bench) -> list[Figure]:
    overrides = [item for item in bench.overrides if item.lstrip("+").split("=")[0] not in OPTIONS]
    if "cache_dir" in bench.cfg["data"]:
        overrides.append(f"data.cache_dir={literal(str(bench.cfg['data']['cache_dir']))}")
    return start.measure(overrides, bench.folder / "start")


PARTS = {
    "model": _model,
    "ceiling": _ceiling,
    "data": _data,
    "training": _training,
    "scaling": _scaling,
    "start": _start,
}
