"""All that is borrowed from private parts of Hydra, as they were read in Hydra 1.3.8, and what its errors are known by.

tests/test_private.py says in one sentence which of them another version has not.
"""

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf

UNKNOWN_KEY = r"Could not override '([^']+)'"
KNOWN_KEY = r"Could not append to config. An item is already at '([^']+)'"
MISSING_LAUNCHER = r"hydra_plugins\.hydra_(\w+)_launcher"


def planned_jobs(config: DictConfig) -> list[list[str]] | None:
    """The overrides of each job of a sweep, as Hydra's own sweeper will make them; None under one that decides as it goes."""
    sweeper = config.hydra.sweeper
    if not sweeper._target_.endswith(BasicSweeper.__name__):
        return None
    given = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + list(config.hydra.overrides.task)
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return BasicSweeper.split_arguments(parser.parse_overrides(given), None)[0]


def logging_settings() -> tuple[dict, bool | str]:
    """How this run logs, as plain values: what another process of it needs for `log_like`."""
    hydra = HydraConfig.get()
    return OmegaConf.to_container(hydra.job_logging, resolve=True), hydra.verbose


def log_like(settings: tuple[dict, bool | str]) -> None:
    """Set up logging in a process that Hydra has not started."""
    setup_globals()
    configure_log(OmegaConf.create(settings[0]), settings[1])
