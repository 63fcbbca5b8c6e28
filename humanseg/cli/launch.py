"""Which processes run a mode: this one, those that torchrun or srun have started, or one for each of its devices.

Of several, the main process has Hydra's config and the run's folder. The others get both from it, and write only their errors and their share of what mode=predict draws.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from humanseg import config_rules, modes
from humanseg.cli import hydra_private, places, typed
from humanseg.cli.recorded_overrides import resolved
from humanseg.processes import slurm
from humanseg.runs.atomic import write_text
from humanseg.runs.conf import PROGRAM
from humanseg.runs.job import Job, Trial
from humanseg.runs.overrides import key_of
from humanseg.runs.summary import read_sweep
from humanseg.runs.trust import of_run

log = logging.getLogger(__name__)

_handed_out = []  # the modes whose config the other processes got


def run(config: DictConfig) -> float | None:
    """Run the config's mode on the devices that it names.

    Raises:
        ValueError: there are fewer devices, or others than processes were started.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    mode = modes.find(plain["mode"])
    job = this_job(config, mode.RANKED)
    plain = places.on_this_machine(plain, job.choices, [*map(key_of, job.overrides)], [*map(key_of, job.typed)])
    trainer = plain.get("trainer")
    work = (plain, job, hydra_private.logging_settings(), sys.orig_argv)
    if joined():
        return _run_among_joined(mode.SHARED, work)
    if not mode.SHARED or not isinstance(trainer, dict) or trainer.get("devices", 1) == 1:
        return mode.run(plain, job)
    from humanseg.processes import elastic, hardware

    config_rules.refuse_wrong_values(plain, complete=False)
    processes, gpus = hardware.choose_devices(trainer["devices"], trainer["device"])
    if processes == 1:
        with hardware.given(gpus or [], hardware.sharers()):
            return mode.run(plain, job)
    return elastic.launch(run_as_told, work, elastic.Group(processes, gpus, trainer["max_restarts"], modes.PRELOAD))


def this_job(config: DictConfig, ranked: bool) -> Job:
    """What Hydra knows of this run. Its overrides are recorded as their results."""
    hydra = HydraConfig.get()
    folder, given = Path(hydra.runtime.output_dir), OmegaConf.to_container(hydra.overrides.task)
    chosen = hydra.runtime.choices
    overrides = resolved(given, lambda key: hydra_private.value_in(config, chosen, key))
    if overrides != given:
        write_text(folder / ".hydra" / "overrides.yaml", yaml.safe_dump(overrides))
    return Job(folder, overrides, of_run(chosen), config.mode, ranked, typed.overrides(), _trial(hydra, folder.parent))


def _trial(hydra: DictConfig, sweep: Path) -> Trial | None:
    """The trial of a search that this run is, where the search can stop it: its trials are compared by one value."""
    of_search = hydra.mode == RunMode.MULTIRUN and hydra_private.is_search(hydra)
    if not of_search or len(read_sweep(sweep)["search"]["objectives"]) > 1:
        return None
    return Trial(sweep, hydra.job.num, OmegaConf.to_container(hydra.sweeper.pruner, resolve=True))


def _run_among_joined(shared: bool, work: tuple) -> float | None:
    """Run a mode in the main one of the processes that torchrun or srun has started, and give the others their work."""
    from humanseg.processes import distributed, hardware

    config, job = work[:2]
    name, trainer = config["mode"], config["trainer"]
    if not shared:
        raise ValueError(f"mode={name} is for one process to start: {PROGRAM} mode={name}")
    hardware.refuse_one_device(trainer["device"])
    if trainer["devices"] not in (1, "all", distributed.world_size()):
        raise ValueError(
            f"trainer.devices={trainer['devices']}: torchrun or srun has started {distributed.world_size()} processes"
        )
    if name == "train":
        distributed.remember(str(job.folder))
    _handed_out.append(name)
    distributed.broadcast(work)
    return modes.find(name).run(config, job)


def run_as_told(config: dict, job: Job, logging_settings: tuple, command: list[str]) -> Any:
    """Run a mode in a process that another one has given its work to."""
    from humanseg.processes import distributed

    sys.orig_argv[:] = command
    hydra_private.log_like(logging_settings)
    if not distributed.is_main():
        _only_errors_into_run_log()
    try:
        return modes.find(config["mode"]).run(config, job)
    except Exception as error:
        to_run_log(f"process {distributed.rank()}")
        traceback.clear_frames(error.__traceback__)
        raise


@contextmanager
def met(arguments: list[str]) -> Iterator[bool]:
    """Let the processes that torchrun or srun has started know each other. Yields whether this is the main one.

    Raises:
        ValueError: they don't meet, were not started with the same arguments, or with a sweep.
    """
    if not started_with_others():
        yield True
        return
    from humanseg.processes import distributed, hardware

    given = typed.values(arguments)
    gpus = hardware.own_gpus(given.get("trainer.device", "auto"))
    distributed.init(gpus, float(given.get("trainer.join_minutes", 5)))
    if mistake := _wrong_start(distributed.all_gather(arguments)):
        distributed.leave()
        raise ValueError(mistake)
    with distributed.root_cause_first():
        over = False
        try:
            yield distributed.is_main()
            over = True
        finally:
            if distributed.is_main() and not _handed_out:
                distributed.broadcast(None)  # there is nothing to do: it was --help, or a mistake
                over = True
            if over:  # after an error the others may be at work, and NCCL would wait for them
                distributed.leave()


def _wrong_start(given: list[list[str]]) -> str | None:
    """What is wrong with the arguments that the processes were started with."""
    if other := [rank for rank, one in enumerate(given) if one != given[0]]:
        return (
            f"process {other[0]} was started with {' '.join(given[other[0]])}, process 0 with {' '.join(given[0])}: "
            "start all with the same"
        )
    if {"-m", "--multirun"} & {*given[0]}:
        return f"a sweep starts processes for each job itself: {PROGRAM} -m trainer.devices=N"
    return None


def broken_off() -> Path | None:
    """After a restart by torchrun: the folder of the run that a process' death has ended."""
    if not joined():
        return None
    from humanseg.processes import distributed

    folder = distributed.remembered()
    return folder and Path(folder)


def follow() -> None:
    """Do the work that the main process gives to this one, which torchrun or srun has started beside it."""
    from humanseg.processes import distributed

    if work := distributed.broadcast():
        try:
            run_as_told(*work)
        except RuntimeError as error:
            if not distributed.is_lost(error):
                raise
            sys.exit(f"process {distributed.rank()} ends: it has lost another one")


def to_run_log(who: str) -> None:
    """Write the traceback of the exception that is being handled into run.log."""
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
    distributed = sys.modules.get("humanseg.processes.distributed")
    return distributed is not None and distributed.world_size() > 1


def started_with_others() -> bool:
    """Whether torchrun or srun has started this process and others."""
    slurm.adopt()
    return int(environ.get("WORLD_SIZE", 1)) > 1
