"""What a search searches: read from Hydra's grammar when it begins, and from its record when it goes on.

A record may come from a stranger: it is held against what the folder of any sweep may bring.
"""

import math
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from humanseg import terminal
from humanseg.cli import hydra_private
from humanseg.cli.recorded_overrides import MOST_JOBS, is_literal, resolved, usable
from humanseg.config_rules import refuse_wrong_values
from humanseg.runs import trials
from humanseg.value_rules import WORD, WORDS, number, or_null, whole

if TYPE_CHECKING:
    from optuna.study import Study

LOWER_IS_BETTER = ("parameters", "multiply_adds", "latency_ms")  # what is no metric
RULES = {
    "n_trials": whole(1, MOST_JOBS),
    "timeout": or_null(number(0)),
    "n_jobs": or_null(whole(1, 1000)),
    "seed": whole(0, 2**63 - 1),
    "objectives": or_null(WORDS),
    "space": or_null(WORD),
}


def begin(config: DictConfig) -> dict[str, Any]:
    """What sweep.json says of a search that begins.

    Args:
        config: the sweep's.

    Returns:
        `space`: see `runs/trials.py`; `constant`: the overrides of all jobs; `objectives`: max or min by name; `trials`:
        how many there will be; `left`: how many have not ended.

    Raises:
        ValueError: Optuna is missing, or the search can't be as it is typed.
    """
    sweeper = refuse_wrong(config)
    given = [f"{name}={value}" for name, value in (sweeper.params or {}).items()]
    given += OmegaConf.to_container(config.hydra.overrides.task)
    parser = OverridesParser.create(config_loader=hydra_private.loader())
    try:
        parsed = {one.get_key_element(): one for one in parser.parse_overrides(given)}  # what is typed wins
    except HydraException as error:
        raise ValueError(f"hydra.sweeper.params: {' '.join(str(error).split())}") from error
    space = {name: parameter(one) for name, one in parsed.items() if one.is_sweep_override()}
    (constant,) = hydra_private.jobs_of([one.input_line for name, one in parsed.items() if name not in space])
    constant = resolved(constant, hydra_private.value_in_job(config, constant))
    if not space and not sweeper.space:
        raise ValueError(
            "hydra/sweeper=optuna has nothing to search: give a key a range, as optimizer.lr=tag(log,interval(1e-4,1e-1))"
        )
    ((shared, _),) = hydra_private.composed_jobs(config, [constant])
    objectives = dict(_objective(text, shared.trainer) for text in sweeper.objectives or ["monitor"])
    found = {"space": space, "constant": constant, "objectives": objectives}
    return found | {"trials": sweeper.n_trials, "left": sweeper.n_trials}


def refuse_wrong(config: DictConfig) -> DictConfig:
    """The sweeper's own settings.

    Raises:
        ValueError: Optuna is missing, or a setting is wrong.
    """
    refuse_without_optuna()
    sweeper = config.hydra.sweeper
    settings = OmegaConf.to_container(sweeper, resolve=True)
    refuse_wrong_values(
        {"hydra.sweeper": settings}, rules={f"hydra.sweeper.{name}": rule for name, rule in RULES.items()}
    )
    if sweeper.space:
        try:
            get_method(sweeper.space)
        except Exception as error:  # whatever a module of one's own raises
            raise ValueError(
                f"hydra.sweeper.space={sweeper.space}: give the dotted path of a function f(trial) ({error.__cause__ or error})"
            ) from None
    return sweeper


def refuse_without_optuna() -> None:
    """Refuse a search on a machine without Optuna.

    Raises:
        ValueError: it is not installed.
    """
    if not find_spec("optuna"):
        raise ValueError('hydra/sweeper=optuna needs the package optuna: pip install -e ".[search]"')


def parameter(override: Override) -> dict[str, Any]:
    """What Hydra's grammar says that a key may be, as plain data.

    Raises:
        ValueError: Optuna has no such range.
    """
    sweep, name = override.value(), override.get_key_element()
    has_bounds = isinstance(sweep, IntervalSweep) or (isinstance(sweep, RangeSweep) and not sweep.shuffle)
    try:
        found = _numbers(sweep) if has_bounds else {"choices": _choices(override)}
        trials.distribution(found)
    except ValueError as error:
        raise ValueError(f"{override.input_line}: {error}") from error
    if computed := [text for text in found.get("choices", ()) if not is_literal(f"{name}={text}")]:
        raise ValueError(f"{name}={computed[0]}: what a search chooses from is written out")
    return found


def _choices(override: Override) -> list[str]:
    """Each choice as Hydra writes it; shuffled ones in an order that is the same again."""
    found = [*dict.fromkeys(override.sweep_string_iterator())]
    return sorted(found) if getattr(override.value(), "shuffle", False) else found


def _numbers(sweep: IntervalSweep | RangeSweep) -> dict[str, Any]:
    """An interval; or a range, which ends before its `stop`.

    Raises:
        ValueError: it has no value, or no end.
    """
    log, steps = "log" in sweep.tags, isinstance(sweep, RangeSweep)
    ends = (sweep.start, sweep.stop, sweep.step) if steps else (sweep.start, sweep.end)
    whole = all(isinstance(one, int) for one in ends)
    if not all(map(math.isfinite, ends)):
        raise ValueError("its bounds have to be finite")
    if not steps:
        return {"low": sweep.start, "high": sweep.end, "step": None, "log": log, "whole": whole}
    start, stop, step = (Decimal(str(one)) for one in ends)
    count = math.ceil((stop - start) / step) if step else 0
    if count < 1:
        raise ValueError("there is no value in this range")
    low, high = sorted((int if whole else float)(one) for one in (start, start + (count - 1) * step))
    return {"low": low, "high": high, "step": None if log else abs(sweep.step), "log": log, "whole": whole}


def refuse_wrong_bounds(config: DictConfig, search: dict[str, Any]) -> None:
    """Compose a job with each choice and bound alone, so that a mistake is told before any trial.

    Args:
        config: the sweep's. search: the record in sweep.json.

    Raises:
        ValueError: a value that its key can't have. HydraException: a choice or key that is none.
    """
    alone = [(text, one) for name, one in search["space"].items() for text in _alone(name, one)]
    composed = hydra_private.composed_jobs(config, [[*search["constant"], text] for text, _ in alone])
    for (_, one), (each, _) in zip(alone, composed, strict=True):
        try:
            refuse_wrong_values(OmegaConf.to_container(each, resolve=True), complete=False)
        except ValueError as error:
            hint = "" if one.get("whole", True) else " (int(interval(1,8)) gives whole numbers)"
            raise ValueError(f"{error}{hint}") from None


def _alone(name: str, one: dict[str, Any]) -> list[str]:
    """The choices, or the bounds, of one parameter as overrides."""
    return [f"{name}={value}" for value in one.get("choices") or (one["low"], one["high"])]


def _objective(text: str, trainer: DictConfig) -> tuple[str, str]:
    """An objective and whether more of it is better; `NAME:min` says that it is not."""
    name, _, direction = text.partition(":")
    if name == "monitor":
        if not trainer["monitor"]:
            raise ValueError("trainer.monitor=null: a search needs to know what it compares")
        name, direction = trainer["monitor"], direction or trainer["monitor_mode"].replace("auto", "")
    if direction not in ("", "max", "min"):
        raise ValueError(f"hydra.sweeper.objectives: {text} should end with :max or :min")
    if not direction and name in LOWER_IS_BETTER:
        direction = "min"
    if not direction:
        from humanseg.monitor import mode_of  # it takes torch along

        direction = mode_of(name, "auto")
    return name, direction


def directions(search: dict[str, Any]) -> list[str]:
    """Optuna's names for the directions of a search's objectives."""
    return [f"{one}imize" for one in search["objectives"].values()]


def jobs_of(study: "Study", search: dict[str, Any], free: bool) -> list[list[str]]:
    """The overrides of each job that a search has begun, in the order of the trials.

    Args:
        search: the record in sweep.json. free: whether a function may have added parameters.

    Raises:
        ValueError: a trial is not of the space.
    """
    found = trials.read_trials(study, search["space"], free)
    return [[*search["constant"], *trials.overrides(trial.params, search["space"])] for trial in found]


def refuse_strange(folder: Path, search: dict[str, Any]) -> None:
    """Hold the record and the journal of a search that is to go on against what a record may bring.

    Raises:
        ValueError: they hold something else.
    """
    refuse_without_optuna()
    bounds = [text for name, one in search["space"].items() for text in _alone(name, one)]
    begun, drawn = trials.refuse_strange(folder), []
    try:
        for one in search["space"].values():
            trials.distribution(one)
        if begun:
            begun_jobs = jobs_of(trials.open_study(folder), search, free=True)
            drawn = [text for job in begun_jobs for text in trials.own(job, search["constant"])]
    except Exception as error:  # whatever Optuna raises for a journal that is none of a search
        raise ValueError(f"{folder}: its journal can't be read: {terminal.reason(error)}") from error
    every = [*dict.fromkeys([*bounds, *drawn])]
    if len(usable(every, [], folder)) < len(every) or any(text.lstrip("+").startswith("hydra") for text in every):
        raise ValueError(f"the recorded overrides have a place or a setting of Hydra's in the space of {folder}")
