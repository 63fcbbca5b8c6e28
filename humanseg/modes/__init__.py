"""One small module a mode: ``run(config)`` does it. A mode is a YAML in conf/mode and a module of that name here."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

PRELOAD = ("humanseg.modes.train", "segmentation_models_pytorch", "albumentations")  # once for all worker processes
GROUPS = ("model", "data", "augment", "loss", "optimizer", "scheduler", "trainer", "callbacks")


def run_folder() -> Path:
    """The folder that Hydra gave this run."""
    return Path(HydraConfig.get().runtime.output_dir)


def overrides() -> list[str]:
    """The overrides in effect, without Hydra's own."""
    return OmegaConf.to_container(HydraConfig.get().overrides.task)


def choices() -> dict[str, str]:
    """The choice of each group that makes up a run."""
    chosen = OmegaConf.to_container(HydraConfig.get().runtime.choices)
    return {group: chosen[group] for group in GROUPS if isinstance(chosen.get(group), str)}
