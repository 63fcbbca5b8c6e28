"""Reading a record of a run's folder: a file of a bounded size that is no link, no pipe and no device."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from humanseg.runs.atomic import no_link
from humanseg.runs.plain import refuse_other_than_plain

LARGEST = 64_000_000  # bytes; sweep.json of a thousand jobs has one


def read_text(path: Path, most: int = LARGEST) -> str:
    """The text of a record.

    Raises:
        OSError: there is none, or it is a link, a pipe or a device. ValueError: it is too large, or no UTF-8.
    """
    with open(path, "rb", opener=no_link) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{path} has {size / 1e6:.0f} MB, and a record has {most / 1e6:.0f} MB at most")
        return file.read(most + 1).decode()


def read_json(path: Path) -> dict:
    """The JSON object in a record; empty where there is none that can be read."""
    try:
        read = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def read_config(path: Path) -> dict:
    """A recorded config.yaml; errors as for `read_yaml`, and for one that has not the groups of a run."""
    config = read_yaml(path)
    refuse_other_than_plain(config, str(path))
    if not is_config(config):
        raise ValueError(f"{path} is no config of a run")
    return config


def is_config(config: Any) -> bool:
    """Whether a record has the groups that every mode needs of a run's config."""
    return isinstance(config, dict) and all(isinstance(config.get(one), dict) for one in ("model", "data", "trainer"))


def read_yaml(path: Path) -> Any:
    """The YAML in a record, as plain data.

    Raises:
        ValueError: it can't be read; the sentence names it.
    """
    try:
        return yaml.load(read_text(path, 1_000_000), yaml.CSafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path} can't be read: {str(error).splitlines()[0]}") from error
