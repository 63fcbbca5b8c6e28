"""All that is borrowed from private parts of Hydra, as they were read in Hydra 1.3.8, and what its errors are known by.

tests/test_private.py says in one sentence which of them another version has not.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log, setup_globals
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, open_dict

UNKNOWN_KEY = r"Could not override '([^']+)'"
KNOWN_KEY = r"Could not append to config. An item is already at '([^']+)'"
NO_CHOICE = "Config group override must be a string or a list"
MISSING_CHOICE = r"Could not load '(\w+)/([^']+)'"
PLUGINS = "hydra_plugins"  # Hydra takes sweepers from this package alone, and imports them by their names
RECORDED = f"{PLUGINS}.humanseg.Recorded"
SEARCH = f"{PLUGINS}.humanseg.Search"  # in conf/hydra/sweeper/optuna.yaml


def launch_recorded(jobs: list[list[str]]) -> str:
    """Have Hydra launch these jobs, a list of overrides each. Returns the override that chooses the sweeper for it."""
    plugins = Plugins.instance()  # it loads Hydra's own sweeper anew, so the class is made after it
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    class Recorded(BasicSweeper):
        """Hydra's own sweeper with jobs that are given, instead of those that it would read from overrides."""

        recorded = jobs

        def setup(self, **given) -> None:
            del plugins.class_name_to_class[
                RECORDED
            ]  # launchers send the plugins to processes that have no such module
            super().setup(**given)

        @staticmethod
        def split_arguments(overrides: list, max_batch_size: int | None) -> list[list[list[str]]]:
            return [jobs]

    Recorded.__module__, _, Recorded.__qualname__ = RECORDED.rpartition(".")
    if not find_spec(PLUGINS):  # no plugin is installed
        sys.modules[PLUGINS] = ModuleType(PLUGINS)
    home = sys.modules[Recorded.__module__] = ModuleType(Recorded.__module__)
    home.Recorded = plugins.class_name_to_class[RECORDED] = Recorded
    return f"hydra.sweeper._target_={RECORDED}"


def register(sweeper: type[Sweeper], name: str) -> None:
    """Let Hydra find a sweeper of ours under a name of the package that it takes sweepers from."""
    Plugins.instance().register(sweeper)
    Plugins.instance().class_name_to_class[name] = sweeper


def is_search(hydra: DictConfig) -> bool:
    """Whether the sweeper is the one of humanseg/cli/search.py."""
    return OmegaConf.select(hydra, "sweeper._target_") == SEARCH


def loader() -> ConfigLoader:
    """What composes the configs of this command line's jobs."""
    return GlobalHydra.instance().config_loader()


def planned_jobs(config: DictConfig) -> list[list[str]] | None:
    """The overrides of each job of a sweep, as Hydra's own sweeper will make them; None under one that decides as it goes."""
    sweeper = config.hydra.sweeper
    if sweeper._target_ == RECORDED:
        return sys.modules[RECORDED.rpartition(".")[0]].Recorded.recorded
    if not sweeper._target_.endswith(BasicSweeper.__name__):
        return None
    given = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + OmegaConf.to_container(
        config.hydra.overrides.task
    )
    return jobs_of(given, loader())


def jobs_of(overrides: list[str], config_loader: ConfigLoader | None = None) -> list[list[str]]:
    """The overrides of each job that overrides make, in the form that Hydra gives them.

    Args:
        config_loader: knows the choices of groups, for `glob`.

    Raises:
        ValueError: one has a range without a number of values, which a search alone can try.
    """
    parsed = OverridesParser.create(config_loader=config_loader).parse_overrides(overrides)
    if endless := [one.input_line for one in parsed if one.is_interval_sweep()]:
        raise ValueError(
            f"{endless[0]}: such a range is searched: type hydra/sweeper=optuna too, or give single values"
        )
    return BasicSweeper.split_arguments(parsed, None)[0]


def value_in_job(config: DictConfig, job: list[str]) -> Callable[[str], Any]:
    """The value that a key or group has in a job of a sweep; the job is composed where it is asked for one.

    Args:
        config: the sweep's. job: its overrides.
    """
    composed = cache(lambda: loader().load_sweep_config(config, job))
    return lambda key: value_in(composed(), composed().hydra.runtime.choices, key)


def value_in(config: DictConfig, choices: DictConfig, key: str) -> Any:
    """The value of a key in a composed config, or the choice of a group."""
    value = choices[key] if key in choices else OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def composed_jobs(config: DictConfig, jobs: list[list[str]]) -> Iterator[tuple[DictConfig, DictConfig]]:
    """The config of each job of a sweep, without Hydra's own part, and its choices.

    Jobs that choose the same are composed once, and each puts its values on a copy: 7 ms instead of 108 ms a job.

    Args:
        config: the sweep's. jobs: their overrides.
    """
    parser = OverridesParser.create(config_loader=loader())

    @cache
    def composed(*chosen: str) -> tuple[DictConfig, DictConfig]:
        whole = loader().load_sweep_config(config, [*chosen])
        choices = whole.hydra.runtime.choices
        with open_dict(whole):
            del whole["hydra"]
        return whole, choices

    for job in jobs:
        chosen, values = [], []
        for override in parser.parse_overrides(job):
            of_group = loader().repository.group_exists(override.key_or_group) and not isinstance(
                override.value(), dict
            )
            (chosen if of_group else values).append(override)
        base, choices = composed(*(override.input_line for override in chosen))
        copied = copy.deepcopy(base)
        ConfigLoaderImpl._apply_overrides_to_config(values, copied)
        yield copied, choices


def logging_settings() -> tuple[dict, bool | str]:
    """How this run logs, as plain values: what another process of it needs for `log_like`."""
    hydra = HydraConfig.get()
    return OmegaConf.to_container(hydra.job_logging, resolve=True), hydra.verbose


def log_like(settings: tuple[dict, bool | str]) -> None:
    """Set up logging in a process that Hydra has not started."""
    setup_globals()
    configure_log(OmegaConf.create(settings[0]), settings[1])
