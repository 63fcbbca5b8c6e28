"""What a value of the config may be: a test, and the words for it."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a value must be, as a test and in words."""

    holds: Callable[[Any], bool]
    words: str


PLENTY = 10_000  # an upper bound from here on is nobody's mistake: it keeps a stranger's record from taking the machine


def number(least: float, most: float = 10**9, whole: bool = False) -> Rule:
    """A number from `least` to `most`."""
    kinds = int if whole else (int, float)
    words = f"a {'whole ' * whole}number " + (f"of at least {least}" if most >= PLENTY else f"from {least} to {most}")
    return Rule(
        lambda value: isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most, words
    )


def whole(least: int, most: float = 10**9) -> Rule:
    """A whole number from `least` to `most`."""
    return number(least, most, whole=True)


def colours(least: float, words: str = "numbers") -> Rule:
    """A number of at least `least` for each colour."""
    return Rule(
        lambda value: isinstance(value, list) and len(value) == 3 and all(map(number(least).holds, value)),
        f"three {words}, for red, green and blue, as [0.5,0.5,0.5]",
    )


def one_of(*options: Any) -> Rule:
    """One of some values."""
    return Rule(lambda value: value in options, ", ".join(map(str, options)).lower())


def or_null(rule: Rule) -> Rule:
    """What `rule` allows, or None."""
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.words}, or null")


def or_auto(rule: Rule) -> Rule:
    """What `rule` allows, or `auto`."""
    return Rule(lambda value: value == "auto" or rule.holds(value), f"{rule.words}, or auto")


ANYTHING = Rule(lambda value: True, "anything")
SWITCH = Rule(lambda value: isinstance(value, bool), "true or false")
WORD = Rule(lambda value: isinstance(value, str), "a word")
LIST = Rule(lambda value: isinstance(value, list), "a list, as [a,b]")
WORDS = Rule(lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value), "a list, as [a,b]")
NAMES = Rule(lambda value: isinstance(value, str) or WORDS.holds(value), "names of sources, as [a,b]")
FILES = Rule(lambda value: isinstance(value, str) or WORDS.holds(value), "a file, or several as [a,b]")
GROUP = Rule(lambda value: isinstance(value, dict), "one of its choices")
SOURCES = Rule(GROUP.holds, "sources by their names, as +data@data.sources.coco=coco does")
CALLBACKS = Rule(
    lambda value: (
        isinstance(value, dict)
        and all(not node or isinstance(node, dict) for name, node in value.items() if name != "strict")
    ),
    "one of its choices, each callback with its _target_, or null",
)
MISPLACED = Rule(lambda value: False, "the keys of this YAML their place, by `# @package _global_` as its first line")
SIZE = Rule(
    lambda value: isinstance(value, int) and 32 <= value <= 4096 and value % 32 == 0,
    "a multiple of 32, as 224 or 320: the network halves it 5 times",
)
SIZES = Rule(
    lambda value: isinstance(value, list) and 0 < len(value) <= PLENTY and all(map(SIZE.holds, value)),
    "multiples of 32, as [160,224]",
)
DEVICES = Rule(
    lambda value: (
        value == "all"
        or whole(1).holds(value)
        or (isinstance(value, list) and value and all(map(whole(0).holds, value)))
    ),
    "a number of processes, all, or numbers of GPUs, as [2,3]",
)
WEIGHT = number(0, 1000)  # of a source, or of a sample: how often a pass has it
WEIGHTS = Rule(
    lambda value: isinstance(value, list) and all(map(WEIGHT.holds, value)), "numbers of at least 0, as [1,3]"
)
CATEGORIES = Rule(
    lambda value: (
        value not in ([], "")
        and all(type(one) in (str, int) for one in (value if isinstance(value, list) else [value]))
    ),
    "names or ids, as person or [person,rider]",
)
BAND = Rule(
    lambda value: (
        isinstance(value, list) and len(value) == 2 and all(map(number(0, 1).holds, value)) and value[0] < value[1]
    ),
    "two numbers from 0 to 1, as [0.1,0.9]",
)
GPUS = Rule(lambda value: isinstance(value, list) and all(map(whole(0).holds, value)), "GPUs, as [2,3]")


SMALL = Rule(
    lambda value: (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, str) and len(value) <= 64)
        or (isinstance(value, int | float) and 0 <= value <= 1024)
        or (isinstance(value, list) and len(value) <= 16 and all(map(SMALL.holds, value)))
    ),
    "a word, numbers up to 1024, true, false or null",
)


ENCODER = Rule(  # timm reads `hf-hub:NAME` and `local-dir:PATH` too
    lambda value: isinstance(value, str) and len(value) <= 100 and not {":", "/"} & {*value},
    "the name of an encoder of segmentation-models-pytorch or timm (tu-NAME)",
)
