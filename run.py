"""Compose the config and run the chosen mode with it: ``python run.py --help``."""

import hydra
from omegaconf import DictConfig

from humanseg.cli import commandline, job


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    return job.run(config)


if __name__ == "__main__":
    commandline.run(main)
