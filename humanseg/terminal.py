"""What is shown on the terminal and in run.log: nothing in a file's name or content acts on them.

A name, a value of a record, or what a decoder says may hold escape sequences, line breaks, and marks that turn text
around. They are shown as Python writes them: ``\\x1b``, ``\\n``, ``\\u202e``.
"""

import copy
import difflib
import logging
import sys
import textwrap
import traceback
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import TextIO

ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of Unicode: control, format, half a character, ends of lines
LONGEST = 5000  # characters of a problem: a name in a record may have millions
JOINERS = "\u200c\u200d"  # they are format characters that Persian, Hindi and emoji are written with


class Lines(str):
    """Lines of ours, as the rows of a table. Whatever acts was taken from each of them; see `lines`."""


def visible(text: object) -> str:
    """A text in one line, with escapes for the characters that act on a terminal; `Lines` as they are."""
    if isinstance(text, Lines):
        return text
    text = str(text)
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(one: str) -> str:
    acts = unicodedata.category(one) in ACTING and one not in JOINERS
    return one.encode("unicode_escape").decode() if acts else one


def lines(rows: Iterable[str]) -> Lines:
    """Rows below each other."""
    return Lines("\n".join(map(visible, rows)))


def aligned(table: list[list[str]]) -> list[str]:
    """Rows under a header. Columns of numbers are aligned to the right, but never the last column."""
    table = [[visible(cell) for cell in row] for row in table]
    columns = list(zip(*table, strict=True))
    numeric = [all(not cell or cell[0].isdigit() or cell[0] == "-" for cell in column[1:]) for column in columns]
    widths = [max(map(len, column)) * (1 if right else -1) for column, right in zip(columns, numeric, strict=True)]
    widths[-1] = 0
    return ["  ".join(_pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _pad(cell: str, width: int) -> str:
    return cell.rjust(width) if width > 0 else cell.ljust(-width)


def listed(head: str, items: list[str], most: int) -> Lines:
    """The first items below a heading, and how many there are more. Of a longer item the beginning is shown."""
    more = [f"  ... and {len(items) - most} more"] * (len(items) > most)
    return lines([head, *(f"  {cut(item, LONGEST)}" for item in items[:most]), *more])


def cut(value: object, length: int) -> str:
    """A value in a sentence, of so many characters at most."""
    text = str(value)
    return text if len(text) <= length else f"{text[:length]}..."


def some(values: Iterable[object], most: int, length: int) -> str:
    """The first values in a sentence, each cut to a length, and how many there are more."""
    values = list(values)
    more = f" and {len(values) - most} more" * (len(values) > most)
    return ", ".join(cut(value, length) for value in values[:most]) + more


def did_you_mean(name: str, known: Iterable[str], least: float = 0.6) -> str:
    """The part of a sentence that names the nearest valid name; empty where none is near by `least`, from 0 to 1."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=least)
    return f", did you mean {near[0]}?" if near else ""


def message(error: BaseException) -> str:
    """What an error says, in one line unless it is made of `Lines`."""
    first = error.args[0] if error.args else ""
    return first if isinstance(first, Lines) else visible(" ".join(str(error).split()))


@contextmanager
def without_warnings() -> Iterator[None]:
    """Nothing below an error is logged meanwhile."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def reason(error: BaseException, last: bool = False) -> str:
    """The first line of what a library's error says, or its `last`; the error's type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1 if last else 0]


def say(*rows: str, file: TextIO | None = None) -> None:
    """Print rows at once; `file` is None for stdout."""
    print(lines(rows), file=file, flush=True)


def say_traceback(kind: type, error: BaseException, trace: object) -> None:
    """Print the traceback of a defect of ours; for sys.excepthook."""
    print(_block("".join(traceback.format_exception(error))), end="", file=sys.stderr)


class Formatter(logging.Formatter):
    """Logs a message with all values in one line, and a traceback below it, indented: no value begins a line."""

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)  # other handlers have formatters of their own
        if isinstance(record.args, dict):  # %(name)s
            record.args = {name: _value(value) for name, value in record.args.items()}
        else:
            record.args = tuple(map(_value, record.args or ()))
        text = record.getMessage().expandtabs()
        by_hydra = record.name.partition(".")[0] == "hydra"  # it puts values into its messages without arguments
        record.msg, record.args, record.exc_text = visible(text) if by_hydra else _block(text), None, None
        return super().format(record)

    def formatException(self, error: tuple) -> str:  # noqa: N802  logging calls it so
        return textwrap.indent(_block(super().formatException(error)), "  ")


def _value(value: object) -> object:
    """What takes a value's place in a message; numbers keep their type, for %.4f."""
    if isinstance(value, BaseException):
        return message(value)
    return visible(value) if isinstance(value, str | PurePath) else value


def _block(text: str) -> str:
    """A text whose line breaks are ours."""
    return "\n".join(map(visible, text.split("\n")))
