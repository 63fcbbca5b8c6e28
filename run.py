"""Compose the config and hand it to the chosen mode: ``python run.py --help``."""

import hydra
from omegaconf import DictConfig

from humanseg import commandline, sweeps


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    return sweeps.run_job(config)


if __name__ == "__main__":
    commandline.run(main)
