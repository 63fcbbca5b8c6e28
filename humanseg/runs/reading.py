"""Reading a record of a run's folder: a file of a bounded size that is no link, no pipe and no device."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from humanseg import terminal
from humanseg.runs.atomic import DEFUSED, no_link, regular
from humanseg.runs.plain import refuse_other_than_plain

LARGEST = 16_000_000  # bytes; sweep.json of a thousand jobs has one
ITEMS = 300_000  # values in a JSON record: the overrides of 10,000 jobs
ROWS = 100_000  # of a table
LONGEST_LIST = 2**30  # bytes; a million pairs have an eighth of it
LONGEST_LINE = 20_000  # characters; a path has 4096 bytes at most


def read_text(path: Path, most: int = LARGEST, follow: bool = False) -> str:
    """The text of a record.

    Args:
        follow: as for `read_bytes`.

    Raises:
        OSError: there is none, or it is a link, a pipe or a device. ValueError: it is too large, or no UTF-8.
    """
    return read_bytes(path, most, follow).decode()


def read_bytes(path: Path, most: int, follow: bool = True) -> bytes:
    """The content of a file of at most so many bytes.

    A file of /proc says that it is empty, so it counts as empty.

    Args:
        follow: whether it may be a link.

    Raises:
        OSError: there is none, or it is a pipe, a device, or a link that may not be. ValueError: it is too large.
    """
    with open(path, "rb", opener=regular if follow else no_link) as file:
        return file.read(_size(file.fileno(), most, f"{path} "))


def _size(descriptor: int, most: int, what: str = "it ") -> int:
    """The bytes of an open file, of which there may be so many."""
    size = os.fstat(descriptor).st_size
    if size > most:
        raise ValueError(f"{what}has {size / 1e6:.0f} MB, and at most {most / 1e6:.0f} MB are read")
    return size


def load_json(path: Path, most: int = LARGEST, items: int = ITEMS, follow: bool = False) -> dict:
    """The JSON object in a record, as plain data; a number that is not finite is None.

    Args:
        most: bytes. items: values in it. follow: whether it may be a link.

    Raises:
        FileNotFoundError: there is none. ValueError: it can't be read; the sentence names it.
    """
    try:
        text = read_text(path, most, follow).removeprefix("\ufeff")  # the mark of some editors
        if sum(map(text.count, "[{")) > items:  # before they take memory
            raise ValueError(f"it holds more than {items} values")
        read = json.loads(text, parse_constant=lambda _: None)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path} can't be read: it holds no JSON object")
    refuse_other_than_plain(read, str(path), items, most, interpolations=True)
    return read


def read_list(path: Path, decoded: Callable[[bytes], str]) -> str:
    """The text of a list of names of files.

    Raises:
        ValueError: it can't be read or decoded, is no file, is too large, or holds what is in no name.
    """
    try:
        text = decoded(read_bytes(path, LONGEST_LIST))
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no list of files: it has bytes that are no {error.encoding}") from error
    if "\0" in text or max(map(len, text.split("\n"))) > LONGEST_LINE:
        raise ValueError(f"{path} is no list of files: it has lines of other things than names")
    return text


def read_json(path: Path) -> dict:
    """The JSON object in a record; empty where there is none that can be read."""
    try:
        return load_json(path)
    except (FileNotFoundError, ValueError):
        return {}


def read_table(path: Path, most: int = LARGEST) -> Iterator[dict[str, str]]:
    """The rows of a table that `atomic.write_table` wrote, with the texts that were given to it.

    Args:
        most: bytes.

    Raises:
        FileNotFoundError: there is none. ValueError: it can't be read; the sentence names it.
    """
    try:
        with open(path, newline="", encoding="utf-8", opener=no_link) as file:
            _size(file.fileno(), most)
            rows = csv.reader(file)
            columns = [_true(cell) for cell in next(rows, [])]
            for number, row in enumerate(rows):
                if number == ROWS:
                    raise ValueError(f"it has more than {ROWS} rows")
                yield dict(zip(columns, map(_true, row), strict=False))  # a row that was cut off lacks some
    except FileNotFoundError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} can't be read: {error}") from error


def _true(cell: str) -> str:
    """A cell without the apostrophes that keep it from being a formula."""
    return DEFUSED.sub(r"\1", cell)


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


# A byte of a name that is no UTF-8 is half a character to Python, which libyaml refuses: it is read as one that no name has.
BYTE = re.compile(r"(?<!\\)((?:\\\\)*)\\uDC([89A-F][0-9A-F])")
AS_BYTES = {0x10DC00 + byte: 0xDC00 + byte for byte in range(0x80, 0x100)}


def read_yaml(path: Path, keys: tuple[type, ...] = (str,), follow: bool = False) -> Any:
    """The YAML in a record, as plain data.

    Args:
        keys: what a mapping's key may be. follow: whether it may be a link.

    Raises:
        ValueError: it can't be read; the sentence names it.
    """
    try:
        read = yaml.load(BYTE.sub(r"\1\\U0010DC\2", read_text(path, 1_000_000, follow)), _Loader)
    except (OSError, ValueError, KeyError, RecursionError, yaml.YAMLError) as error:  # KeyError: by `!!bool x`
        raise ValueError(f"{path} can't be read: {terminal.reason(error)}") from error
    refuse_other_than_plain(read, str(path), interpolations=True, keys=keys)
    return read


class _Loader(yaml.CSafeLoader):
    """YAML as this suite writes it: no merged mappings, which can grow without bound, no key twice, no 1:00:00."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if "<<" in keys or len({*keys}) < len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key is there twice, or merges", node.start_mark)

    def construct_scalar(self, node: yaml.Node) -> Any:
        scalar = super().construct_scalar(node)
        if node.tag.endswith((":int", ":float")) and ":" in scalar:
            raise yaml.constructor.ConstructorError(None, None, "a number to the base of 60", node.start_mark)
        return scalar.translate(AS_BYTES)


PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_Loader.yaml_constructors = {
    tag: construct for tag, construct in _Loader.yaml_constructors.items() if tag is None or tag.split(":")[-1] in PLAIN
}
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_scalar)  # a date is a text
