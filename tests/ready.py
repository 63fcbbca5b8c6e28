"""What a forkserver holds so that a run which is forked from it starts at once: torch, Hydra's warm parsers, conf/'s YAMLs."""

from pathlib import Path

import albumentations  # noqa: F401
import segmentation_models_pytorch  # noqa: F401
from conf_once import read_once
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import humanseg.modes.train  # noqa: F401
from humanseg.cli import commandline  # noqa: F401  registers the resolvers that the YAMLs use

read_once()
with initialize_config_dir(str(Path(__file__).parent.parent / "conf"), version_base="1.3"):
    compose(
        "config", ["callbacks=none", "trainer.epochs=1", "+model.decoder_channels=[1]", "tags=[a]", "optimizer.lr=0.1"]
    )
GlobalHydra.instance().clear()
