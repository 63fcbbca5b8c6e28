"""The arguments that were typed, brought into the form that Hydra reads as they were meant.

Hydra's grammar reads `2024_01` as a number and refuses `photo (1).jpg`. A path holds what it holds, so the values of keys
that the table of keys calls paths or texts are quoted where Hydra would read another text. All other values stay in its grammar.
"""

import os
import re
import shlex
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Quote, QuotedString, RangeSweep
from hydra.errors import HydraException

from humanseg import config_rules
from humanseg.runs import conf

WITH_VALUE = {
    *("-c", "--cfg", "-p", "--package", "-i", "--info", "-cp", "--config-path", "-cn", "--config-name"),
    *("-cd", "--config-dir", "--experimental-rerun"),
}
OVERRIDE = re.compile(r"(\+{0,2}[^=]+)=(.*)", re.DOTALL)
COMPUTED = r"\$\{(?:[^{}]|\{[^{}]*\})*\}"  # an interpolation, with another one in it
ITEM = re.compile(
    rf"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\[[^\]]*\]|(?:{COMPUTED}|[^,])*?)\s*(?=,|\Z)""", re.DOTALL
)
ESCAPE = re.compile(r"\\[\\()\[\]{}:=, \t]")  # what Hydra reads without its backslash
SOURCE = r"data\.sources\.[\w-]+"  # the key of a source of a mix
OF_SOURCE = re.compile(rf"{SOURCE}\.(\w+)=")
UNREADABLE = object()


def in_order(arguments: list[str]) -> list[str]:
    """The flags, each in one piece with its value, then the overrides; Hydra can't read overrides on both sides of a flag.

    `--config-dir=~/x` is in the home folder.
    """
    flags, overrides, left = [], [], list(arguments)
    while left:
        argument = left.pop(0)
        if argument[:1] != "-":
            overrides.append(argument)
        elif argument in WITH_VALUE and left and not (argument in ("-i", "--info") and "=" in left[0]):
            flags.append(f"{argument}={left.pop(0)}")
        else:
            flags.append(argument)
    return [re.sub(r"=~(?=/|$)", lambda _: f"={os.path.expanduser('~')}", flag) for flag in flags] + overrides


def config_dirs(arguments: list[str]) -> list[str]:
    """The config folders of the user's own that `--config-dir` and `hydra.searchpath` name, of arguments in order."""
    found = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in ("-cd", "--config-dir"):
            found.append(value)
        elif name.lstrip("+") == "hydra.searchpath" and isinstance(read(value), list):
            found += [item.removeprefix("file://") for item in read(value) if isinstance(item, str)]
    return [os.path.abspath(folder) for folder in found if "://" not in folder]


def with_paths_as_typed(arguments: list[str]) -> list[str]:
    """Overrides whose values are paths, quoted where Hydra would read another text; `~/x` is in the home folder.

    Lists, null, interpolations, what is quoted already and the commas and functions of a sweep stay.
    """
    swept = is_sweep(arguments)
    return [_with_path(argument, swept) for argument in arguments]


def with_keys_of_sources(arguments: list[str]) -> list[str]:
    """`data.sources.NAME.weight=3` is Hydra's `++`: any source of a mix may have such a key, and its YAML has only others."""
    keys = [found and found[1] for found in map(OF_SOURCE.match, arguments)]
    if not any(keys):
        return arguments
    from humanseg.data import mix  # it takes numpy along

    return [f"++{item}" if key in mix.OWN else item for key, item in zip(keys, arguments, strict=True)]


def is_sweep(arguments: list[str]) -> bool:
    """Whether a command line asks for a sweep: by a flag, or by an experiment that is one."""
    if {"-m", "--multirun", "hydra.mode=MULTIRUN"} & {*arguments}:
        return True
    named = [read(argument.partition("=")[2]) for argument in arguments if argument.startswith("experiment=")]
    names = [name for one in named for name in (one if isinstance(one, list) else [one])]
    files = (conf.file_of("experiment", name) for name in names if isinstance(name, str))
    return any((conf.read_choice(file).get("hydra") or {}).get("mode") == "MULTIRUN" for file in files if file)


def read(value: str) -> Any:
    """An override's value as Hydra reads it; `UNREADABLE` where its grammar has none."""
    try:
        return OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException:
        return UNREADABLE


def suggested(value: str) -> str:
    """A value that Hydra can't read, in its grammar; of a list each item."""
    if value[:1] == "[" and value[-1:] == "]":
        return "[" + ",".join(item if _is_quoted(item) else suggested(item) for item in _items(value[1:-1])) + "]"
    return QuotedString(value, Quote.single if '"' in value else Quote.double).with_quotes()


def explain_interpolation(error: Exception, overrides: list[str]) -> str | None:
    """What was wrong with an override whose ${NAME} is no key, and how it is typed as it stands; None: it was none."""
    found = re.search(r"Interpolation key '(.+?)' not found|Unsupported interpolation type (\S+)", str(error))
    name = found and (found[1] or found[2])
    wrong = next((one for one in overrides if name and re.search(rf"(?<!\\)\$\{{{re.escape(name)}\b", one)), None)
    if not wrong:
        return None
    key, _, value = wrong.partition("=")
    as_it_stands = suggested(value.strip("'\"").replace("${", r"\${"))
    return (
        f"{key}: ${{{name}}} in {value} stands for the value of the key {name}, which there is not; to type it as it stands: "
        + shlex.quote(f"{key}={as_it_stands}")
    )


def _with_path(argument: str, swept: bool) -> str:
    found = OVERRIDE.fullmatch(argument) if argument[:1] != "-" else None
    if not found:
        return argument
    key, value = found.groups()
    name = key.lstrip("+")
    known = config_rules.key(name)
    if not (known.path or known.text) or name == "resume":  # which Hydra never reads
        return argument
    if not swept:
        return f"{key}={_as_typed(value, known)}"
    parsed = read(value)
    if isinstance(parsed, RangeSweep | Glob) or (isinstance(parsed, ChoiceSweep) and not parsed.simple_form):
        return argument
    return f"{key}={','.join(_as_typed(item, known) for item in _items(value))}"


def _items(value: str) -> list[str]:
    """The values between the commas of a sweep or list; quotes and brackets hold theirs together."""
    items, start = [], 0
    while start <= len(value):
        found = ITEM.match(value, start)
        items.append(found[1])
        start = found.end() + 1
    return items


def _as_typed(value: str, known: config_rules.Key) -> str:
    """A value in Hydra's grammar.

    Args:
        known: what the table says of its key.
    """
    parsed = read(value)
    if known.text:
        as_it_is = parsed in (None, value) or _is_quoted(value)
        return value if as_it_is else QuotedString(value, Quote.single).with_quotes()
    return value if known.number and type(parsed) in (int, float) else _path(value)


def _path(value: str) -> str:
    """A path in Hydra's grammar."""
    parsed = read(value)
    if parsed is None or isinstance(parsed, list) or _is_quoted(value):
        return value
    if "${" in value and parsed is not UNREADABLE:
        return value
    if parsed is UNREADABLE and value[:1] == "[" and value[-1:] == "]" and not os.path.exists(value):
        return value  # a list with a name that has to be quoted, which the error says
    if isinstance(parsed, str) and ESCAPE.search(value) and not os.path.exists(value):
        return value  # Hydra's own way of quoting
    whole = os.path.expanduser(value)
    return value if parsed == whole and isinstance(parsed, str) else QuotedString(whole, Quote.single).with_quotes()


def _is_quoted(value: str) -> bool:
    return value[:1] in ("'", '"') and value[-1:] == value[0] and isinstance(read(value), str)
