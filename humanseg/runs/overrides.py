"""An override as data: what it does to which key, with a plain value.

Overrides are recorded as text. Hydra's grammar is a language (functions, sweeps, interpolations), and a record may come from
a stranger. So records are read here, without Hydra, and only in a narrow form: a sign, a key and a literal value. Hydra
reads what has this form as the same value; tests/hostile/test_fuzz_overrides.py compares the two.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from humanseg.runs.plain import DEPTH, refuse_other_than_plain

FORM = re.compile(r"(?P<sign>~|\+{0,2})(?P<key>[^=]*)(?:=(?P<value>.*))?", re.DOTALL)
KEY = re.compile(
    r"[A-Za-z_]\w*(?:[./-]\w+)*(?:@[A-Za-z_]\w*(?:[.-]\w+)*)?", re.ASCII
)  # of the config, or GROUP@PACKAGE
QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
PIECE = r"(?:[\w./:+%@*?|-]|\\[\\()[\]{}:=, \t])+"  # of a bare word; a backslash makes a mark a part of it
BARE = re.compile(rf"{PIECE}(?: +{PIECE})*(?!(?<=:) )", re.ASCII)  # Hydra takes a space after a last colon along
NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)  # a key within { }
WHOLE = re.compile(r"[+-]?(?:0|[1-9](?:_?\d)*)", re.ASCII)
DECIMAL = re.compile(r"[+-]?(?:(?:\d+\.\d*|\.\d+)(?:e[+-]?\d+)?|\d+e[+-]?\d+|inf|nan)", re.ASCII | re.IGNORECASE)
CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Override:
    """What an override does.

    Args:
        sign: empty to set a key, `+` to add it, `++` for either, `~` to delete it.
        key: of the config, or a group whose choice it names, or GROUP@PACKAGE. value: plain data; None beside `~`.
    """

    sign: str
    key: str
    value: Any = None


def key_of(text: str) -> str:
    """The key or group that an override is for, whatever its value is."""
    return text.lstrip("+~").partition("=")[0]


def sign_of(text: str) -> str:
    """The `+`, `++` or `~` that an override begins with, or nothing."""
    return text[: len(text) - len(text.lstrip("+~"))]


def parse(text: str) -> Override:
    """Read a recorded override.

    Raises:
        ValueError: it is no sign, key and literal value.
    """
    refuse_other_than_plain(text, "an override")
    sign, key, value = FORM.fullmatch(text).group("sign", "key", "value")
    if not KEY.fullmatch(key) or (value is None and sign != "~"):
        raise ValueError(f"{text[:200]!r} names no key with a value")
    if value is None:
        return Override(sign, key)
    literal = _Literal(value)
    read = literal.value() if value else ""
    if literal.at != len(value) or value != value.strip():
        raise ValueError(f"{text[:200]!r} gives {key} no literal value")
    refuse_other_than_plain(read, key)
    return Override(sign, key, read)


class _Literal:
    """A literal value as Hydra's grammar writes it, read from the left; `at` is how far."""

    def __init__(self, text: str):
        self.text, self.at, self.depth = text, 0, 0

    def value(self) -> Any:
        """The value that begins here: a list, a dict, a quoted text or a bare word."""
        if self._next("["):
            return self._items("]", self.value)
        if self._next("{"):
            return dict(self._items("}", self._pair))
        if match := self._match(QUOTED):
            return _unescaped(*match.groups())
        if match := self._match(BARE):
            return _scalar(match[0])
        raise ValueError(f"{self.text[:200]!r} is no literal value")

    def _items(self, end: str, item: Callable[[], Any]) -> list:
        self.depth += 1
        if self.depth > DEPTH:
            raise ValueError(f"{self.text[:200]!r} is nested more than {DEPTH} deep")
        found = []
        while not self._next(end):
            if found and not self._next(","):
                raise ValueError(f"{self.text[:200]!r} lacks a comma or {end}")
            found.append(item())
        self.depth -= 1
        return found

    def _pair(self) -> tuple[str, Any]:
        name = self._match(NAME)
        if not name or name[0].lower() in (*CONSTANTS, "inf", "nan") or not self._next(":"):
            raise ValueError(f"{self.text[:200]!r} is no literal value")
        return name[0], self.value()

    def _next(self, mark: str) -> bool:
        """Whether a mark comes next; it is passed then."""
        return bool(self._match(re.compile(re.escape(mark))))

    def _match(self, pattern: re.Pattern) -> re.Match | None:
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1
        if match := pattern.match(self.text, self.at):
            self.at = match.end()
            while self.text[self.at : self.at + 1] == " ":
                self.at += 1
        return match


def unquoted(value: str) -> str:
    """A value as it is read where it is one quoted text, else as it is written."""
    quoted = QUOTED.fullmatch(value)
    return _unescaped(*quoted.groups()) if quoted else value


def _unescaped(single: str | None, double: str | None) -> str:
    """A quoted text: backslashes stand for themselves, except before a quote like those around it, and at the end."""
    text, quote = (single, "'") if single is not None else (double, '"')
    return re.sub(rf"(\\+)({quote}|\Z)", lambda found: "\\" * (len(found[1]) // 2) + found[2], text)


def _scalar(word: str) -> str | int | float | bool | None:
    if "\\" in word:
        return re.sub(r"\\(.)", r"\1", word)
    if word.lower() in CONSTANTS:
        return CONSTANTS[word.lower()]
    if WHOLE.fullmatch(word):
        return int(word)
    return float(word) if DECIMAL.fullmatch(word) else word


def write(override: Override) -> str:
    """An override as text that `parse` and Hydra read as the same; its value has no `${`."""
    key = override.sign + override.key
    return key if override.sign == "~" else f"{key}={literal(override.value)}"


def literal(value: Any) -> str:
    """Plain data as Hydra's grammar writes it; `${` is escaped, so that it is a text and no interpolation."""
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, str):
        escaped = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
        return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + "\\'" * bool(found[2]), escaped) + "'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
