"""Overrides that a folder recorded: they are used again only where they are plain, and name what conf/ has.

A run's or sweep's folder may come from a stranger. Hydra reads overrides as a language, so each of them is held against a
narrow form first: a choice that is a file of conf/, or a key of the config with plain values.
"""

import math
import re
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from humanseg.runs import conf, trust
from humanseg.runs.plain import refuse_other_than_plain

FORM = re.compile(r"(?:\+{0,2}|~)([A-Za-z_][\w./-]*)(?:=.*)?", re.DOTALL)
NAME = re.compile(r"[\w-]+")
SETTING = re.compile(r"[\w.,:|-]{1,200}")  # of a launcher: a partition, a constraint, a number
OURS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.mode", "data.cache_dir")  # set anew, or this machine's
MODES = ("train", "test")  # which write into their own folder alone
LAUNCHER = {
    *("n_jobs", "batch_size", "pre_dispatch", "verbose", "partition", "account", "qos", "constraint", "exclude"),
    *("timeout_min", "max_num_timeout", "signal_delay_s", "array_parallelism", "nodes", "tasks_per_node"),
    *("gpus_per_node", "cpus_per_task", "mem_gb", "name", "stderr_to_stdout"),
}
MOST_JOBS = 10_000


def usable(recorded: Any, typed: list[str], folder: Path) -> list[str]:
    """The recorded overrides, without those that `resume=` sets itself or that are this machine's to decide.

    Args:
        typed: on this command line. One that is recorded too counts as typed. folder: the run's or sweep's.

    Raises:
        ValueError: one is more than a plain value, or names what conf/ has not; all are listed.
    """
    if not isinstance(recorded, list) or not all(isinstance(item, str) for item in recorded):
        raise ValueError("the recorded overrides are no list of texts")
    refuse_other_than_plain(recorded, "the recorded overrides: number")
    kept = [item for item in recorded if trust.key_of(item) not in OURS and not _is_elsewhere(item, folder)]
    if strange := [item for item in kept if item not in typed and not _is_plain(item)]:
        raise ValueError(
            f"the recorded overrides name code that no YAML of conf/ names: {'; '.join(strange)[:1000]}. "
            + trust.OWN_CODE
        )
    if math.prod(_jobs(item) for item in kept) > MOST_JOBS:
        raise ValueError(f"the recorded overrides make more than {MOST_JOBS} jobs")
    return kept


def _is_elsewhere(item: str, folder: Path) -> bool:
    """Whether an override is an `out` that the folder does not lie in: it was moved, or a stranger chose it."""
    if trust.key_of(item) != "out":
        return False
    named = item.partition("=")[2].strip("'\"")
    return Path(named).resolve() not in folder.resolve().parents


def _jobs(item: str) -> int:
    """How many jobs an override multiplies a sweep by."""
    value = OverridesParser.create().parse_override(item).value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        return int(abs((value.stop - value.start) / (value.step or 1))) + 1
    return 1


def _is_plain(item: str) -> bool:
    """Whether an override is a choice of conf/, or gives a key of the config plain values."""
    if not FORM.fullmatch(item) or ".." in trust.key_of(item):
        return False
    try:
        parsed = OverridesParser.create().parse_override(item)
    except HydraException:
        return False
    values = _values(parsed)
    if values is None:
        return False
    key = parsed.key_or_group
    if (conf.CONF / key).is_dir():
        names = [name for value in values for name in (value if isinstance(value, list) else [value])]
        return all(_is_choice(key, name) for name in names) and (key != "mode" or {*names} <= {*MODES})
    if key.startswith("hydra"):
        return key.removeprefix("hydra.launcher.") in LAUNCHER and all(SETTING.fullmatch(str(one)) for one in values)
    return not any(part[:1] == "_" for part in key.split(".")) and all(_is_known(key, value) for value in values)


def _values(parsed: Override) -> list[Any] | None:
    """The plain values that an override gives its key, several for a sweep; None where it is anything else."""
    value = parsed.value()
    if isinstance(value, ChoiceSweep):
        values = [_plain(one) for one in value.list]
    elif isinstance(value, RangeSweep):
        values = [value.start, value.stop, value.step]
    elif isinstance(value, Glob):
        values = []  # it matches choices of conf/ alone
    else:
        values = [_plain(value)]
    return values if all(_has_plain_types(one) for one in values) else None


def _plain(value: Any) -> Any:
    """A parsed value without the grammar's own types."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value


def _has_plain_types(value: Any) -> bool:
    try:
        refuse_other_than_plain(value, "")
    except ValueError:
        return False
    return True


def _is_choice(group: str, name: Any) -> bool:
    return name is None or (isinstance(name, str) and bool(NAME.fullmatch(name)) and conf.has_choice(group, name))


def _is_known(key: str, value: Any) -> bool:
    """Whether a value that may hold nodes names only what conf/ has at that place."""
    root, *path = key.split(".")
    if root == "metrics":
        return isinstance(value, list) and all("." not in str(name) or name in conf.metrics() for name in value)
    if root not in trust.GROUPS:
        return not _has_target(value)
    return not trust.strange_at(value, root, path)


def _has_target(value: Any) -> bool:
    if isinstance(value, dict):
        return any(str(key)[:1] == "_" for key in value) or any(map(_has_target, value.values()))
    return isinstance(value, list) and any(map(_has_target, value))
