"""The config of some overrides, before Hydra has begun a run."""

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from humanseg.runs import conf
from humanseg.runs.overrides import key_of, literal


def composed(overrides: list[str]) -> DictConfig:
    """The config of overrides, with the config folders that this command line names."""
    GlobalHydra.instance().clear()
    own = literal([f"file://{folder}" for folder in conf.own_folders()])
    beside = [item for item in overrides if key_of(item) != "hydra.searchpath"]
    with initialize_config_dir(str(conf.CONF), version_base="1.3"):
        return compose("config", [*beside, f"hydra.searchpath={own}"])


def place_of_runs(arguments: list[str]) -> str:
    """Where `latest` looks: `out` as it is typed, or as conf/local/default.yaml or conf/config.yaml has it."""
    return composed([argument for argument in arguments if key_of(argument) == "out"])["out"]
