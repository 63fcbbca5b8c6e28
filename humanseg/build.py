"""The one place that turns config into objects: networks, losses, optimizers, data."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise albumentations calls home when it is imported

import contextlib
import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from torch import Tensor, nn
from torch.optim import Optimizer

from humanseg import checkpoint, encoders, freezing, loop, losses, schedules, terminal
from humanseg.compute import Compute, choose_precision
from humanseg.data import mix
from humanseg.data.composing import composer
from humanseg.data.loading import Data, LoaderConfig
from humanseg.data.splits.split import SplitConfig
from humanseg.ema import average
from humanseg.processes import distributed, hardware
from humanseg.processes.torch_private import NORMS, skipped_as_a_whole
from humanseg.runs import recorded
from humanseg.schedules import Schedule
from humanseg.weights import describe

SMP = "segmentation_models_pytorch."


def build(node: dict, what: str, **arguments) -> Any:
    """Instantiate a node of the config. An error of the target becomes a sentence that names `what`.

    Raises:
        ValueError: the target's own error, or a `_target_` that is missing or can't be imported.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise ValueError(f"{what} has no _target_: choose one of its group's choices, or name its class")
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        raise _refused(what, error.__cause__ or error) from error


def model(config: dict) -> nn.Module:
    """The network of a `model` config, with its encoder's weights where the config has them.

    Raises:
        ValueError: there is no such encoder, or its weights don't fit or can't be downloaded.
    """
    weights, what = config.get("encoder_weights"), f"model ({_network_name(config)})"
    if weights is None or not _is_path(weights):
        try:
            return build(config, what)
        except ValueError as error:
            reason = error.__cause__ and error.__cause__.__cause__  # what the library raised, where it was called
            if isinstance(reason, OSError):
                raise _no_download(config, reason) from error
            raise
    network = build(config | {"encoder_weights": None}, what)
    encoders.load_weights(network.encoder, Path(weights))
    return network


def model_of(payload: dict, config: dict, path: Path) -> nn.Module:
    """The network of a checkpoint, with its weights; `config` is the `model` config that it is used with.

    A checkpoint may come from a stranger: its encoder is one of the libraries' own, nothing is downloaded, and shapes are
    compared before memory is taken.

    Raises:
        ValueError: no such encoder, or the weights don't fit.
    """
    config = recorded.without_encoder_weights(config)
    if config["_target_"].startswith((SMP, "humanseg.")):  # a class of your own knows its own encoders
        encoders.refuse_foreign(config.get("encoder_name"))
    with contextlib.suppress(RuntimeError, NotImplementedError), torch.device("meta"):  # segformer reads a value there
        checkpoint.refuse_mismatch(model(config), payload, path)
    network = model(config)
    checkpoint.load_weights(network, payload, path)
    return network


def loss(config: dict, classes: int) -> nn.Module:
    """The loss, tried on a small batch.

    Raises:
        ValueError: it doesn't fit the number of classes.
    """
    built = build(config, "loss")
    losses.check(built, classes)
    return built


def optimizers(config: dict, network: nn.Module) -> dict[str, Optimizer]:
    """One optimizer, named ``model``, or one for each of `config["parts"]`.

    A part whose parameters are all frozen needs none and gets none. `rest` are the network's children without a part.

    Raises:
        ValueError: a part isn't in the model, or the parts leave parameters out, share some or have none that train.
    """
    if "parts" not in config:
        return {"model": _optimizer(config, network, "optimizer")}
    named = {part.split(".")[0] for part in config["parts"]}
    others = [child for name, child in network.named_children() if name not in named]
    known = {"rest": nn.ModuleList(others)} | dict(network.named_modules())
    if unknown := [part for part in config["parts"] if part not in known]:
        raise ValueError(
            f"optimizer.parts: the model has no {', '.join(unknown)}; its parts are {', '.join(_parts(network))}"
        )
    trained = {part: node for part, node in config["parts"].items() if _trainable(known[part])}
    built = {part: _optimizer(node, known[part], f"optimizer.parts.{part}") for part, node in trained.items()}
    held = [id(p) for optimizer in built.values() for group in optimizer.param_groups for p in group["params"]]
    left = [name for name, one in network.named_parameters() if one.requires_grad and id(one) not in held]
    if not built:
        raise ValueError("optimizer.parts: all parameters of its parts are frozen, so that nothing would train")
    if left or len(held) != len(set(held)):
        trouble = f"no part holds {describe(left, 3)}" if left else "two parts share parameters"
        raise ValueError(f"optimizer.parts: {trouble}; the model's parts are {', '.join(_parts(network))}")
    return built


def schedule(config: dict, total: int) -> Schedule:
    """The learning rate's schedule over `total` optimizer steps, tried at its first and its last.

    Raises:
        ValueError: it gives no numbers.
    """
    factory = build(config, "scheduler")
    try:
        return schedules.tried(factory(total), total)
    except Exception as error:  # a curve may be any function, with settings of any kind
        raise _refused("scheduler", error) from error


def state(network: nn.Module, compute: Compute, config: dict, total: int) -> loop.State:
    """A network on its device and all that trains it for `total` optimizer steps.

    Args:
        config: a run's; its optimizer, scheduler and trainer are used.

    Raises:
        ValueError: the optimizer's parts don't fit, batch norm is to be synchronised elsewhere than on GPUs, or there is no
            encoder to freeze.
    """
    network, trainer = compute.place(network), config["trainer"]
    if trainer["sync_batchnorm"]:
        if compute.device.type != "cuda":
            raise ValueError("trainer.sync_batchnorm=true: torch synchronises batch norm between GPUs alone")
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision == "fp16")
    chosen = optimizers(config["optimizer"], network)
    if trainer["freeze_encoder"]:
        freezing.group_apart(network, chosen.values())
    return loop.State(network, average(network, trainer["ema"]), chosen, schedule(config["scheduler"], total), scaler)


def parallel(network: nn.Module, compute: Compute, size: int) -> nn.Module:
    """The network, on its device already, as several processes train it together on squares of `size` pixels."""
    square = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    return distributed.parallel(network, lambda: sum(output.sum() for output in compute.outputs(network, square)))


def data(config: dict, augment: dict | None, classes: int, seed: int, broken: Collection[str] | None = None) -> Data:
    """The splits of a `data` config with the augmentation of an `augment` config; `broken` as of `Leaving`.

    Raises:
        ValueError: a source, `split` or `Data` raises it; those of all sources together.
    """
    SplitConfig(**_taken(SplitConfig, config))  # what contradicts itself is said once for all sources
    problems, by_key = [], "sources" in config
    with distributed.main_first():  # the main process looks at the files; the other processes find that done
        nodes, opened = sources(config, classes, seed, config.get("on_error", "raise"), problems)
        parts = mix.of_each(nodes, lambda name: mix.divided(name, nodes, opened), problems, by_key)
        if problems:
            raise ValueError(terminal.lines(dict.fromkeys(problems)))
        parts, left_out = mix.leave_out(parts, config, nodes, broken)
    augment, compose = composer.apart(augment)
    pipeline = build(augment, "augment") if augment else None
    splits = mix.together(parts, config.get("duplicates", "together"))
    loader, share = LoaderConfig(**_taken(LoaderConfig, config)), distributed.share()
    return Data(splits, loader, seed, pipeline, share, compose, left_out=left_out)


def sources(config: dict, classes: int, seed: int, on_error: str, problems: list[str]) -> tuple[dict, dict]:
    """The config of each source of a `data` config by its name, and its sources by side, but for those that are refused.

    Args:
        on_error: as of `photographs.open_sources`. problems: gets what is wrong with those that are refused, in lines.
    """
    context = {"classes": classes, "size": config["image_size"], "seed": seed, "on_error": on_error}
    context |= {"cache_dir": config["cache_dir"]} if config.get("cache") else {}
    nodes = mix.nodes(config)
    opened = mix.of_each(nodes, lambda name: _opened(name, nodes[name], context), problems, "sources" in config)
    return {name: nodes[name] for name in opened}, opened


def _opened(name: str, node: dict, context: dict[str, Any]) -> dict[str, Any]:
    """The sources of a node by the side that each is for; arguments as for `mix.arguments`."""
    asked = inspect.signature(get_object(node["_target_"])).parameters
    return build(mix.arguments(name, node, context, asked), "data")


def _taken(kind: type, config: dict) -> dict:
    """The keys of a config that a dataclass has. An older checkpoint's config may lack some."""
    return {field.name: config[field.name] for field in fields(kind) if field.name in config}


def compute(trainer: dict, data_config: dict) -> Compute:
    """Where and how the network runs, chosen for the hardware where the config says auto."""
    hardware.set_threads(trainer["threads"])
    device = hardware.choose_device(trainer["device"])
    hardware.bound_memory(trainer.get("memory_fraction"), device)  # an older checkpoint's config has none
    if device.type == "cpu":
        hardware.keep_memory()
    precision = choose_precision(trainer["precision"], device)
    return Compute(device, precision, trainer["channels_last"], data_config["mean"], data_config["std"])


def callbacks(config: dict) -> dict[str, Any]:
    """The callbacks and trackers in their order, by their names.

    Raises:
        ValueError: a callback without a function or class, or with one that can't be imported.
    """
    nodes = {name: node for name, node in config.items() if node and name != "strict"}
    return {name: build(node, f"callbacks.{name}") for name, node in nodes.items()}


def _optimizer(config: dict, part: nn.Module, what: str) -> Optimizer:
    if not isinstance(config, dict) or "decay_norms_and_biases" not in config:
        raise ValueError(f"{what} has no decay_norms_and_biases: give true or false")
    settings = {key: value for key, value in config.items() if key != "decay_norms_and_biases"}
    parameters = _trainable(part)
    groups = [{"params": parameters}]
    if not config["decay_norms_and_biases"]:
        norms = [module for module in part.modules() if isinstance(module, NORMS)]
        spared = {id(parameter) for norm in norms for parameter in norm.parameters()}
        spared |= {id(parameter) for name, parameter in part.named_parameters() if name.split(".")[-1] == "bias"}
        groups = [
            {"params": [parameter for parameter in parameters if id(parameter) not in spared]},
            {"params": [parameter for parameter in parameters if id(parameter) in spared], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
    try:
        factory = build(settings, what)
        chosen = settings.keys().isdisjoint(("fused", "foreach")) and has_fused(factory.func, parameters)
        return skipped_as_a_whole(factory(groups, **({"fused": True} if chosen else {})))
    except (TypeError, ValueError) as error:
        raise _refused(what, error) from error


def _trainable(part: nn.Module) -> list[Tensor]:
    return [parameter for parameter in part.parameters() if parameter.requires_grad]


def has_fused(optimizer: Callable, parameters: list[Tensor]) -> bool:
    """Whether torch steps all parameters in one kernel: its own optimizers that know `fused`, on CUDA and the CPU.

    That is faster than the loop over tensors: AdamW's step on 2 CPU cores takes 0.45 of the time. On CUDA it also reads
    the overflow of loss scaling on the device, where SGD and other optimizers wait for it.
    """
    own = optimizer.__module__.startswith("torch.optim.") and "fused" in inspect.signature(optimizer).parameters
    return own and all(one.device.type in ("cuda", "cpu") and one.is_floating_point() for one in parameters)


def _refused(what: str, error: Exception) -> ValueError:
    """A target's own error as a ValueError that begins with the name of its group."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, ValueError) and text.startswith(what.split()[0].split(".")[0]):
        return ValueError(*error.args)  # a list of problems stays one
    lines = text.split("\n")  # the last one of an ImportError has Hydra's reason
    told = dict.fromkeys([lines[0], lines[-1]]) if isinstance(error, ImportError) else lines[:1]
    return ValueError(f"{what}: {' '.join(told)}")


def _network_name(config: dict) -> str:
    return config.get("encoder_name") or config.get("_target_", "").rpartition(".")[2]


def _parts(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_children()]


def _is_path(weights: str) -> bool:
    return "/" in weights or "\\" in weights or Path(weights).suffix in (".pth", ".pt", ".bin")


def _no_download(config: dict, error: Exception) -> ValueError:
    return ValueError(
        f"the weights `{config['encoder_weights']}` of {_network_name(config)} can't be downloaded, as without a connection "
        f"({type(error).__name__}): give model.encoder_weights=null or the path of a local state dict"
    )
