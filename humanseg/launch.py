"""Which processes run a mode: this one, those that torchrun or srun have started, or one for each of its devices.

Of several, the main one has Hydra's config and the run's folder; the others get the config from it and write nothing.
"""

import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf

from humanseg import resolvers  # noqa: F401  a process that is given a config reads it with them
from humanseg.modes import PRELOAD

SHARED = ("train", "test", "predict")  # the modes whose work several processes share

log = logging.getLogger(__name__)

_handed_out = []  # the mode whose config the others got


def run(config: DictConfig) -> float | None:
    """Run the config's mode on the devices that it names.

    Raises:
        ValueError: there are fewer, or others than were started.
    """
    mode = importlib.import_module(f"humanseg.modes.{config.mode}")
    if config.mode not in SHARED:
        if joined():
            raise ValueError(f"mode={config.mode} is for one process to start: python run.py mode={config.mode}")
        return mode.run(config)
    if joined():
        from humanseg import device, distributed

        device.refuse_one_device(config.trainer.device)
        if config.trainer.devices not in (1, "all", distributed.size()):
            raise ValueError(
                f"trainer.devices={config.trainer.devices}: torchrun or srun has started {distributed.size()} processes"
            )
        if config.mode == "train":
            distributed.remember(HydraConfig.get().runtime.output_dir)
        _handed_out.append(config.mode)
        distributed.from_main((config, HydraConfig.instance().cfg, sys.orig_argv))
        return mode.run(config)
    if config.trainer.devices == 1:
        return mode.run(config)
    from humanseg import device, rules, workers

    plain = OmegaConf.to_container(config, resolve=True)
    rules.refuse_wrong_values(plain, complete=False)
    trainer = plain["trainer"]
    processes, gpus = device.choose_devices(trainer["devices"], trainer["device"])
    if processes == 1:
        with device.given(gpus or [], device.sharers()):
            return mode.run(config)
    job = config, HydraConfig.instance().cfg, sys.orig_argv
    return workers.launch(work, job, workers.Plan(processes, gpus, trainer["max_restarts"], PRELOAD))


def work(config: DictConfig, hydra: DictConfig, command: list[str]) -> Any:
    """Run a mode in a process that another one has given the config to."""
    from humanseg import distributed

    setup_globals()
    HydraConfig.instance().cfg = hydra
    sys.orig_argv[:] = command
    configure_log(hydra.hydra.job_logging, hydra.hydra.verbose)
    if not distributed.is_main():
        _only_errors_into_run_log()
    try:
        return importlib.import_module(f"humanseg.modes.{config.mode}").run(config)
    except Exception as error:
        to_run_log(f"process {distributed.rank()}")
        traceback.clear_frames(error.__traceback__)
        raise


@contextmanager
def met(arguments: list[str]) -> Iterator[bool]:
    """Inside, the processes that torchrun or srun has started know each other; gives whether this is the main one.

    Raises:
        ValueError: they don't meet, were not started with the same arguments, or with a sweep.
    """
    if not started_with_others():
        yield True
        return
    from humanseg import device, distributed

    typed = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    distributed.join(device.own_gpus(typed.get("trainer.device", "auto")), float(typed.get("trainer.join_minutes", 5)))
    if mistake := _wrong_start(distributed.gathered(arguments)):
        distributed.leave()
        raise ValueError(mistake)
    with distributed.root_cause_first():
        over = False
        try:
            yield distributed.is_main()
            over = True
        finally:
            if distributed.is_main() and not _handed_out:
                distributed.from_main(None)  # there is nothing to do: it was --help, or a mistake
                over = True
            if over:  # after an error the others may be at work, and NCCL would wait for them
                distributed.leave()


def _wrong_start(given: list[list[str]]) -> str | None:
    """What is wrong with the arguments that the processes were started with."""
    if other := [number for number, one in enumerate(given) if one != given[0]]:
        return (
            f"process {other[0]} was started with {' '.join(given[other[0]])}, process 0 with {' '.join(given[0])}: "
            "start all with the same"
        )
    if {"-m", "--multirun"} & {*given[0]}:
        return "a sweep starts processes for each job itself: python run.py -m trainer.devices=N"
    return None


def broken_off() -> Path | None:
    """After a restart by torchrun: the folder of the run that a worker's death has ended."""
    if not joined():
        return None
    from humanseg import distributed

    folder = distributed.remembered()
    return folder and Path(folder)


def follow() -> None:
    """What a process that torchrun or srun has started does, if it is not the main one: what that one says."""
    from humanseg import distributed

    if job := distributed.from_main():
        try:
            work(*job)
        except RuntimeError as error:
            if not distributed.is_lost(error):
                raise
            sys.exit(f"process {distributed.rank()} ends: it has lost another one")


def to_run_log(who: str) -> None:
    """The traceback of the exception that is being handled."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)]
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, f"{who} failed", (), sys.exc_info())
    for handler in handlers:
        handler.handle(record)


def _only_errors_into_run_log() -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)
        else:
            root.removeHandler(handler)


def joined() -> bool:
    """Whether this process has met others."""
    distributed = sys.modules.get("humanseg.distributed")
    return distributed is not None and distributed.size() > 1


def started_with_others() -> bool:
    """Whether torchrun or srun has started this process and others; srun's variables become torchrun's."""
    env = os.environ
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "RANK" not in env:
        node, tasks = int(env["SLURM_NODEID"]), _tasks_by_node(env["SLURM_STEP_TASKS_PER_NODE"])
        env |= {
            "RANK": env["SLURM_PROCID"],
            "WORLD_SIZE": env["SLURM_STEP_NUM_TASKS"],
            "LOCAL_RANK": env["SLURM_LOCALID"],
            "LOCAL_WORLD_SIZE": str(tasks[node]),
        }
        env.setdefault("MASTER_ADDR", _first_host(env["SLURM_STEP_NODELIST"]))
        own = int(env["SLURM_JOB_ID"]) + 997 * int(env.get("SLURM_STEP_ID", 0))
        env.setdefault("MASTER_PORT", str(20000 + own % 20000))
    return int(env.get("WORLD_SIZE", 1)) > 1


def _tasks_by_node(text: str) -> list[int]:
    """SLURM's `2(x3),1` is three nodes with two tasks and one with one."""
    parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in parts for _ in range(int(times or 1))]


def _first_host(nodes: str) -> str:
    """The first of SLURM's `node[07-09,12],other`."""
    prefix, number = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes).groups()
    return prefix + (number or "")
