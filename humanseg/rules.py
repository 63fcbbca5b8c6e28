"""What the values of the config's own keys may be: all that are wrong are named at once, before anything is built."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a value must be, as a test and in words."""

    holds: Callable[[Any], bool]
    words: str


def number(least: float, most: float = math.inf, whole: bool = False) -> Rule:
    """A number from `least` to `most`."""
    kinds = int if whole else (int, float)
    words = f"a {'whole ' * whole}number " + (f"of at least {least}" if most == math.inf else f"from {least} to {most}")
    return Rule(
        lambda value: isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most, words
    )


def whole(least: int, most: float = math.inf) -> Rule:
    return number(least, most, whole=True)


def one_of(*options: Any) -> Rule:
    return Rule(lambda value: value in options, ", ".join(map(str, options)).lower())


def or_null(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.words}, or null")


def or_auto(rule: Rule) -> Rule:
    return Rule(lambda value: value == "auto" or rule.holds(value), f"{rule.words}, or auto")


SWITCH = Rule(lambda value: isinstance(value, bool), "true or false")
WORD = Rule(lambda value: isinstance(value, str), "a word")
WORDS = Rule(lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value), "a list, as [a,b]")
COLOUR = Rule(
    lambda value: isinstance(value, list) and len(value) == 3 and all(isinstance(item, int | float) for item in value),
    "three numbers, for red, green and blue, as [0.5,0.5,0.5]",
)
GROUP = Rule(lambda value: isinstance(value, dict), "one of its choices")

RULES = {
    "seed": whole(0),
    "metrics": WORDS,
    **dict.fromkeys(("model", "data", "loss", "optimizer", "scheduler", "trainer", "callbacks"), GROUP),
    "augment": or_null(GROUP),
    "model.classes": whole(1, 255),
    "data.image_size": Rule(
        lambda value: isinstance(value, int) and value >= 32 and value % 32 == 0,
        "a multiple of 32, as 224 or 320: the network halves it 5 times",
    ),
    "data.batch_size": whole(1),
    "data.val_batch_size": whole(1),
    "data.num_workers": or_auto(whole(0)),
    "data.cache": SWITCH,
    "data.cache_dir": WORD,
    "data.pad_value": whole(0, 255),
    "data.mean": COLOUR,
    "data.std": COLOUR,
    "trainer.epochs": whole(1),
    "trainer.steps_per_epoch": or_null(whole(1)),
    "trainer.device": WORD,
    "trainer.devices": Rule(
        lambda value: (
            value == "all"
            or whole(1).holds(value)
            or (isinstance(value, list) and value and all(map(whole(0).holds, value)))
        ),
        "a number of processes, all, or numbers of GPUs, as [2,3]",
    ),
    "trainer.sync_batchnorm": SWITCH,
    "trainer.max_restarts": whole(0),
    "trainer.join_minutes": number(0.01),
    "trainer.precision": WORD,
    "trainer.channels_last": SWITCH,
    "trainer.compile": SWITCH,
    "trainer.deterministic": SWITCH,
    "trainer.threads": or_null(whole(1)),
    "trainer.memory_fraction": or_null(number(0.01, 1)),
    "trainer.accumulate": whole(1),
    "trainer.grad_clip": or_null(number(0)),
    "trainer.ema": number(0, 0.999999),
    "trainer.val_every": whole(1),
    "trainer.monitor": or_null(WORD),
    "trainer.monitor_mode": one_of("max", "min"),
    "trainer.early_stop": whole(0),
    "trainer.save_minutes": or_null(number(0)),
    "trainer.save_every": whole(0),
    "trainer.test": SWITCH,
    "sweep.max_failures": or_null(whole(1)),
    "sweep.gpus": or_null(
        or_auto(Rule(lambda value: isinstance(value, list) and all(map(whole(0).holds, value)), "GPUs, as [2,3]"))
    ),
}


def refuse_wrong_values(config: dict, complete: bool = True, rules: dict[str, Rule] = RULES) -> None:
    """Hold a resolved config against rules; one that is not `complete` may lack keys, as an old checkpoint's does.

    Raises:
        ValueError: values of another kind, out of range or missing; a line each.
    """
    problems = []
    for key, rule in rules.items():
        group, _, name = key.rpartition(".")
        holder = config.get(group, {}) if group else config
        if not isinstance(holder, dict):
            continue  # the group's own rule says so
        if name not in holder and complete:
            problems.append(f"{key} is missing: give {rule.words}")
        elif name in holder and not rule.holds(holder[name]):
            problems.append(f"{key}={holder[name]}: give {rule.words}")
    if problems:
        raise ValueError("\n".join(problems))
