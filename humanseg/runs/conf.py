"""What the YAMLs of conf/ name: for each group the classes and functions, at which places, with which keys.

A recorded config is held against it. The config folders that a user names beside conf/, on this command line or to a
Predictor, count like conf/. Nothing of Hydra is used: a YAML is read as data, and of its defaults list only the choices
that it takes in (``bce@terms.bce``, ``data_base@data``, ``/data@sources.coco: coco``) are followed.
"""

import json
import os
import shlex
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from humanseg import terminal

# An installed package has conf/ in itself; in a checkout it lies beside humanseg/.
_PACKED = Path(__file__).parents[1] / "conf"
CONF = _PACKED if _PACKED.is_dir() else Path(__file__).parents[2] / "conf"
PROGRAM = "humanseg" if CONF == _PACKED else "python run.py"  # how the suite is called here
VARIABLE = "HUMANSEG_CONFIG_DIRS"  # tells the processes that this one starts
ANY = "*"  # in a place: any item of a list, or any name in a dict of nodes
SPECIAL = ("_partial_", "_args_", "_recursive_", "_convert_")  # what instantiate reads beside `_target_`

Place = tuple[str, ...]


@dataclass
class Shape:
    """What may stand in a group.

    Args:
        targets: the `_target_`s by their place. keys: the arguments of a target. special: pairs of a special key and its
            value, by target. open: the places of dicts that hold nodes under any name, as `optimizer.parts`.
        own: those of them that hold choices of the group itself, as `data.sources`: empty dicts of a YAML.
    """

    targets: dict[Place, set[str]] = field(default_factory=lambda: defaultdict(set))
    keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    special: dict[str, set[tuple[str, Any]]] = field(default_factory=lambda: defaultdict(set))
    open: set[Place] = field(default_factory=set)
    own: set[Place] = field(default_factory=set)

    def add(self, node: Any, place: Place = ()) -> None:
        """Take in what a YAML has."""
        if isinstance(node, list):
            for item in node:
                self.add(item, (*place, ANY))
        if not isinstance(node, dict):
            return
        target = node.get("_target_")
        if target:
            self.targets[place].add(target)
            self.keys[target] |= {key for key in node if key[:1] != "_"}
            self.special[target] |= {(key, str(node[key])) for key in SPECIAL if key in node}
        nodes = [item for item in node.values() if isinstance(item, dict) and "_target_" in item]
        if nodes and not target and all(item in (None, True, False) or item in nodes for item in node.values()):
            self.open.add(place)
        self.own |= {(*place, key) for key, item in node.items() if target and item == {}}
        for key, item in node.items():
            self.add(item, (*place, ANY if place in self.open else key))

    def take_own(self) -> None:
        """Let the places that hold choices of the group have what the group has."""
        self.open |= self.own
        of_group = [*self.targets.items()]
        for place in self.own:
            for at, names in of_group:
                named = at[: len(place)] == place and at[len(place) :]  # a YAML names it there, beside choices
                self.targets[(*place, ANY, *(named[1:] if named else at))] |= names


def use(folders: list[str]) -> None:
    """From now on these config folders, absolute paths, count like conf/."""
    os.environ[VARIABLE] = json.dumps(folders)


@contextmanager
def used(folder: str | Path | None) -> Iterator[None]:
    """In the context one more config folder counts like conf/.

    Raises:
        ValueError: there is no such folder.
    """
    before = os.environ.get(VARIABLE, "[]")
    if folder and not os.path.isdir(os.path.expanduser(folder)):
        raise ValueError(f"config_dir={folder}: there is no such folder")
    if folder:
        use([*json.loads(before), os.path.abspath(os.path.expanduser(folder))])
    try:
        yield
    finally:
        os.environ[VARIABLE] = before


def own_folders() -> list[str]:
    """The config folders that count beside conf/."""
    return json.loads(os.environ.get(VARIABLE, "[]"))


def missing(recorded: object) -> str:
    """What a record needs beside conf/, for the end of a sentence; empty where that is typed, or where it needs nothing.

    Args:
        recorded: the `config_dirs` of a run.
    """
    named = [folder for folder in recorded if isinstance(folder, str)] if isinstance(recorded, list) else []
    if not set(named) - set(own_folders()):
        return ""
    return f"; it was begun with {_typed(named)}, which counts where it is typed again"


def command() -> str:
    """How the suite is called so that what counts like conf/ now counts then."""
    return f"{PROGRAM} {_typed(own_folders())}" if own_folders() else PROGRAM


def _typed(folders: list[str]) -> str:
    """What a user types so that config folders count, for a shell."""
    several = f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders)}]"
    return shlex.quote(f"--config-dir={folders[0]}" if len(folders) == 1 else several)


def roots() -> tuple[Path, ...]:
    """conf/ and the folders that count like it."""
    return (CONF, *map(Path, own_folders()))


def shape(group: str) -> Shape:
    """What the YAMLs of a group, and the experiments for it, name."""
    return _shape(group, roots())


@cache
def _shape(group: str, folders: tuple[Path, ...]) -> Shape:
    found, base = Shape(), read_choice(CONF / "config.yaml").get(group, {})
    for folder in folders:
        for file in _files(folder, group):
            found.add(_merged(base, read_choice(file)))
        for file in _files(folder, "experiment"):
            found.add(read_choice(file).get(group))
    found.take_own()
    return found


def metrics() -> set[str]:
    """The metrics that a YAML names."""
    return _metrics(roots())


@cache
def _metrics(folders: tuple[Path, ...]) -> set[str]:
    files = _files(folders[0], ".") + [file for folder in folders[1:] for file in _files(folder, "experiment")]
    named = (read_choice(file).get("metrics") for file in files)
    return {name for names in named if isinstance(names, list) for name in names}


def place_of_runs() -> str:
    """Where `latest` looks, outside of a run: `out` of conf/local/default.yaml, or of conf/config.yaml.

    Raises:
        ValueError: it is computed, which Hydra alone can do.
    """
    local = file_of("local", "default")
    own = (read_choice(local) if local else {}).get("out")
    out = str(own or read_choice(CONF / "config.yaml")["out"])
    if "${" in out:
        raise ValueError(f"latest: {local} computes `out` ({out}): give the path of a run")
    return out


def file_of(group: str, choice: str) -> Path | None:
    """The YAML of a group's choice."""
    files = (folder / group / f"{choice}.yaml" for folder in roots())
    return next((file for file in files if file.is_file()), None)


def has_choice(group: str, choice: str) -> bool:
    """Whether there is such a choice of a group."""
    return file_of(group, choice) is not None


def choices(group: str) -> list[str]:
    """The names of a group's choices; of one in a folder of the group it is FOLDER/NAME."""
    files = ((folder / group, file) for folder in roots() for file in _files(folder, group))
    return sorted({file.relative_to(folder).with_suffix("").as_posix() for folder, file in files})


def _files(folder: Path, group: str) -> list[Path]:
    """The YAMLs of a group in a config folder, and in folders of the group, as experiment/ablation."""
    return sorted((folder / group).rglob("*.yaml"))


def has_group(group: str) -> bool:
    """Whether there is such a group."""
    return any((folder / group).is_dir() for folder in roots())


def choice(group: str, name: str) -> dict:
    """What the YAML of a group's choice has."""
    return read_choice(file_of(group, name))


def read_choice(file: Path) -> dict:
    """A YAML with the choices that its defaults list takes in, as far as they are files of a config folder.

    Raises:
        ValueError: it is no YAML.
    """
    try:
        own = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} can't be read: {terminal.reason(error)}") from error
    if not isinstance(own, dict):
        return {}
    merged: dict = {}
    for beside, place in _taken_in(own.pop("defaults", None) or [], file):
        merged = _merged(merged, _nested(read_choice(beside), place))
    return _merged(merged, own)


def _taken_in(defaults: list, file: Path) -> Iterator[tuple[Path, Place]]:
    for entry in defaults:
        if isinstance(entry, dict):
            entry = _as_file(*next(iter(entry.items()), ("", None)))
        if not entry or entry == "_self_":
            continue
        name, _, package = entry.partition("@")
        root = next(root for root in roots() if file.is_relative_to(root))
        own_group = "" if name[:1] == "/" or file.parent == root else file.parent.relative_to(root).as_posix()
        group, _, own = f"{own_group}/{name.lstrip('/')}".strip("/").rpartition("/")
        if beside := file_of(group, own):
            yield beside, () if package in ("", "_here_") else tuple(package.split("."))


def _as_file(group: str, choice: object) -> str:
    """A group's choice that goes to a place of its own, as FILE@PLACE; nothing for others: their group is read for itself."""
    name, _, place = group.partition("@")
    return f"{name}/{choice}@{place}" if place and isinstance(choice, str) and " " not in name else ""


def _nested(node: dict, place: Place) -> dict:
    for name in reversed(place):
        node = {name: node}
    return node


def _merged(below: dict, above: dict) -> dict:
    together = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(together.get(key), dict)
        together[key] = _merged(together[key], value) if both else value
    return together
