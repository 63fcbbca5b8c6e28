"""What a forkserver imports so that a run which is forked from it starts at once: torch, and Hydra with warm parsers."""

from pathlib import Path

import albumentations  # noqa: F401
import segmentation_models_pytorch  # noqa: F401
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import humanseg.modes.train  # noqa: F401
from humanseg.cli import commandline  # noqa: F401  registers the resolvers that the YAMLs use

with initialize_config_dir(str(Path(__file__).parent.parent / "conf"), version_base="1.3"):
    compose(
        "config", ["callbacks=none", "trainer.epochs=1", "+model.decoder_channels=[1]", "tags=[a]", "optimizer.lr=0.1"]
    )
GlobalHydra.instance().clear()
