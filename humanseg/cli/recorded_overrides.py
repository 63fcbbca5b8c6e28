"""Overrides as a folder records them: resolved when they are written, and held against conf/ when they are used again.

A run's or sweep's folder may come from a stranger, and Hydra reads overrides as a language. So only literal values are
recorded (`runs/overrides.py` has the form), and each must be a choice of conf/, or give a key of the config what conf/
has at its place.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from humanseg.runs import conf, overrides, trust
from humanseg.runs.overrides import Override, key_of, sign_of
from humanseg.runs.plain import refuse_other_than_plain
from humanseg.runs.summary import MODES, read_summary, read_sweep

CHOICE = re.compile(r"[\w-]+(/[\w-]+)*")
SETTING = re.compile(r"[\w.,:|-]{1,200}")  # of a launcher: a partition, a constraint, a number
OURS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.mode", "data.cache_dir")  # set anew, or this machine's
LAUNCHER = {
    *("n_jobs", "batch_size", "pre_dispatch", "verbose", "partition", "account", "qos", "constraint", "exclude"),
    *("timeout_min", "max_num_timeout", "signal_delay_s", "array_parallelism", "nodes", "tasks_per_node"),
    *("gpus_per_node", "cpus_per_task", "mem_gb", "name", "stderr_to_stdout"),
}
SWEEPER = re.compile(r"hydra\.sweeper\.(n_trials|timeout|n_jobs|seed|objectives|(sampler|pruner)\.[a-z]\w*)")
PROCESSES = {
    *("data.num_workers", "trainer.threads", "trainer.devices"),
    *("hydra.launcher.n_jobs", "hydra.launcher.tasks_per_node", "hydra.sweeper.n_jobs"),
}
MOST_PROCESSES = max(16, 2 * (os.cpu_count() or 1))  # that a record may start without being asked
MOST_JOBS = 10_000


def resolved(typed: list[str], value_of: Callable[[str], Any]) -> list[str]:
    """Overrides as they are recorded: a text that Hydra has computed (`${...}`, a function) gives way to its result.

    Args:
        value_of: the value that the composed config has for a key or group.
    """
    return [text if is_literal(text) else _written(text, value_of(key_of(text))) for text in typed]


def literal_keys(recorded: list[str]) -> list[str]:
    """The keys and groups of those overrides that are no sweep: of an older sweep, the ones that all its jobs share."""
    swept = {key_of(text) for text in recorded if not is_literal(text)}  # also where it was typed before with one value
    return [key_of(text).partition("@")[0] for text in recorded if key_of(text) not in swept]


def in_one_form(text: str) -> str:
    """An override as the same text, however it was typed; one that is more than a literal value stays as it is."""
    read = _read(text)
    return overrides.write(read) if read else text


def is_literal(text: str) -> bool:
    """Whether an override is a sign, a key and a literal value."""
    return _read(text) is not None


def _written(text: str, value: Any) -> str:
    return overrides.write(Override(sign_of(text), key_of(text), value))


def usable(recorded: Any, typed: list[str], folder: Path) -> list[str]:
    """The recorded overrides, without those that `resume=` sets itself or that are this machine's to decide.

    Args:
        typed: on this command line; they will take the place of recorded ones with the same key, which may be anything.
        folder: the run's or sweep's.

    Raises:
        ValueError: one is more than a plain value, or names what conf/ has not; all are listed.
    """
    if not isinstance(recorded, list) or not all(isinstance(text, str) for text in recorded):
        raise ValueError("the recorded overrides are no list of texts")
    refuse_other_than_plain(recorded, "the recorded overrides: number")
    kept = [text for text in recorded if key_of(text) not in OURS]
    replaced = {*map(key_of, typed)}
    read = {text: _read(text) for text in kept if key_of(text) not in replaced}
    strange = [text for text, override in read.items() if override is None or not _is_known(override)]
    if gone := [text for text in strange if read[text] and _is_gone(read[text])]:
        raise ValueError(
            f"{', '.join(gone)[:1000]}: conf/ has no such YAML now, so put it back"
            + conf.missing((read_summary(folder) or read_sweep(folder)).get("config_dirs"))
        )
    if strange:
        raise ValueError(
            f"the recorded overrides hold what a record may not bring: {'; '.join(strange)[:1000]}. {trust.OWN_CODE}"
            + conf.missing((read_summary(folder) or read_sweep(folder)).get("config_dirs"))
        )
    return [text for text in kept if text not in read or not _is_elsewhere(read[text], folder)]


def refuse_many(jobs: list[list[str]], launcher: list[str], typed: list[str]) -> None:
    """Hold a recorded sweep's jobs against what a machine should do unasked.

    Args:
        launcher: the recorded overrides of `hydra`. typed: on this command line.

    Raises:
        ValueError: there are too many, or a launcher that starts all at once would start too many; or a job brings what is
            the launcher's, or the launcher what is a job's.
    """
    wrong = [text for text in launcher if not key_of(text).startswith("hydra")]
    wrong += [text for job in jobs for text in job if key_of(text).startswith("hydra")]
    if wrong:
        raise ValueError(f"the recorded overrides have {wrong[0]} where none of its kind can be")
    if len(jobs) > MOST_JOBS:
        raise ValueError(f"the sweep has {len(jobs)} jobs, and a record has {MOST_JOBS} at most")
    at_once = "hydra/launcher=submitit_local"
    if len(jobs) > MOST_PROCESSES and at_once in launcher and at_once not in typed:
        raise ValueError(f"{at_once} would start {len(jobs)} processes at once: type it again to do so")


def _read(text: str) -> Override | None:
    """An override's parts; None where it is more than a literal value."""
    try:
        return overrides.parse(text)
    except ValueError:
        return None


def _is_elsewhere(override: Override, folder: Path) -> bool:
    """Whether an override is an `out` that the folder does not lie in: it was moved, or a stranger chose it."""
    return override.key == "out" and Path(str(override.value)).resolve() not in folder.resolve().parents


def _is_known(override: Override) -> bool:
    """Whether an override is a choice of conf/, or gives a key of the config what conf/ has there."""
    key, value = override.key, override.value
    group, _, package = key.partition("@")
    if override.sign == "~":
        return key.split(".")[0] in trust.GROUPS
    if conf.has_group(group):
        names = value if isinstance(value, list) else [value]
        return all(_is_choice(group, name, package) for name in names) and (group != "mode" or {*names} <= {*MODES})
    if key in PROCESSES and not _is_few(value):
        return False
    if SWEEPER.fullmatch(key):
        return _is_setting(value) or (isinstance(value, list) and all(map(_is_setting, value)))
    if key.startswith("hydra"):
        return key.removeprefix("hydra.launcher.") in LAUNCHER and bool(SETTING.fullmatch(str(value)))
    root, *path = key.split(".")
    if package or key == "sweep" or any(part[:1] == "_" for part in (root, *path)):
        return False
    if root == "metrics":
        return not trust.strange_metrics(value)
    if root in trust.GROUPS:
        return not trust.strange_at(value, root, path)
    return not _has_target(value)


def _is_setting(value: Any) -> bool:
    """Whether this is what a setting of a search may be: a number, a switch, or the name of a value with its direction."""
    return not isinstance(value, dict | list) and bool(re.fullmatch(r"[\w./:-]{1,400}", str(value)))


def _is_gone(override: Override) -> bool:
    """Whether an override is a plain choice of a group that conf/ has not."""
    named = isinstance(override.value, str) and CHOICE.fullmatch(override.value)
    return bool(named and conf.has_group(override.key) and not conf.has_choice(override.key, override.value))


def _is_few(value: Any) -> bool:
    """Whether a number of processes, or a list of devices, is one that a record may bring; Hydra reads '900' as a number."""
    if isinstance(value, list):
        return len(value) <= MOST_PROCESSES
    return value in (None, "auto", "all") or (type(value) is int and value <= MOST_PROCESSES)


def _is_choice(group: str, name: Any, package: str) -> bool:
    """Whether conf/ has a choice of a group, and the group's YAMLs name its class at the place where it goes."""
    if name is None:
        return True
    if not isinstance(name, str) or not CHOICE.fullmatch(name) or not conf.has_choice(group, name):
        return False
    root, *path = package.split(".")
    return not package or (root == group and not trust.strange_at(conf.choice(group, name), group, path))


def _has_target(value: Any) -> bool:
    if isinstance(value, dict):
        return any(str(key)[:1] == "_" for key in value) or any(map(_has_target, value.values()))
    return isinstance(value, list) and any(map(_has_target, value))
