"""The modes, one small module each: ``run(config, job)`` does the work.

A mode is a YAML in conf/mode and a module of that name here. The module says of its mode whether several processes share
its work (SHARED) and whether a report ranks its runs (RANKED).
"""

import importlib
from types import ModuleType

PRELOAD = ("humanseg.modes.train", "segmentation_models_pytorch", "albumentations")  # imported once for all processes


def find(name: str) -> ModuleType:
    """The module of a mode."""
    return importlib.import_module(f"humanseg.modes.{name}")
