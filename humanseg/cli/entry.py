"""Where Hydra begins: it composes the config of a command line, and `job.run` runs the chosen mode with it."""

import hydra
from omegaconf import DictConfig

from humanseg.cli import commandline, job
from humanseg.runs.conf import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _composed(config: DictConfig) -> float | None:
    return job.run(config)


def run() -> None:
    """Run the command line of this process."""
    commandline.run(_composed)
