"""Hydra reads the YAMLs of conf/ twice for each command, a fifth of the time of a short one. No test changes them."""

import copy
from pathlib import Path

from hydra.core.plugins import Plugins

CONF = str(Path(__file__).parent.parent / "conf")


def read_once() -> None:
    """Let this process, and those that are forked from it, read each of them once."""
    Plugins.instance()  # it imports the sources of configs anew
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    read, held = FileConfigSource.load_config, {}

    def load_config(source: FileConfigSource, config_path: str) -> object:
        if source.path != CONF:
            return read(source, config_path)
        if config_path not in held:
            held[config_path] = read(source, config_path)
        return copy.deepcopy(held[config_path])

    FileConfigSource.load_config = load_config
