"""The one way to write a file: whole or not at all, also where the power fails."""

import csv
import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

PART = ".part"  # the end of the name of a file that is being written
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # an error of these meets every other file there too


class NotWritten(OSError):
    """A file that can't be written, as one sentence with its path."""

    def __str__(self) -> str:
        return f"{self.filename} can't be written: {self.strerror}"


# Where a spreadsheet begins to read a formula: at the start of a cell, and after the semicolon that parts cells in some
# countries. An apostrophe there makes it a text.
_ACTS = r"(?='*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"
FORMULA, DEFUSED = re.compile(f"(^|;){_ACTS}"), re.compile(f"(^|;)'{_ACTS}")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)


@contextmanager
def replacing(path: Path, copies: Iterable[Path] = (), keep: Path | None = None) -> Iterator[Path]:
    """Write a file under another name; it takes its place at the end. After an exception nothing of it is left.

    Args:
        copies: more names for the same content in the same folder; they are there before `path` is.
        keep: the name that the file gets which was at `path` before; None: it is replaced.

    Yields:
        The path to write to, beside `path`.

    Raises:
        NotWritten: the disk is full, or it can't be written for another reason of the system's.
    """
    try:
        temporary = _unused(path)
        try:
            yield temporary
            flush(temporary)
            for copy in copies:
                _link(temporary, copy)
            if keep and path.exists():
                os.replace(path, keep)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NotWritten(error.errno, error.strerror or str(error), str(path)) from error


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file.

    Raises:
        NotWritten: it can't be written; the file that was there before is untouched.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, a byte of a file's name that is none as `\\udc80`; errors as for `write_bytes`."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write a text that comes in parts, as `write_text` does."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(part.encode(errors="backslashreplace") for part in parts)


def write_json(path: Path, value: object) -> None:
    """Write indented JSON; a number that is not finite becomes null, as JSON has no name for it."""
    write_text(path, json.dumps(_finite(value), indent=2, default=str) + "\n")


def write_json_lines(path: Path, value: dict, name: str, items: Iterable[object]) -> None:
    """Write indented JSON whose last key has items that come one by one: each gets a line, and no two are in memory."""
    head = json.dumps(_finite(value), indent=2, default=str).removesuffix("\n}")
    lines = (f"{',' * (number > 0)}\n    {json.dumps(_finite(item), default=str)}" for number, item in enumerate(items))
    write_parts(path, chain([f"{head},\n  {json.dumps(name)}: ["], lines, ["\n  ]\n}\n"]))


def write_table(path: Path, columns: list[str], rows: Iterable[dict]) -> None:
    """Write a CSV with a header; where a row has no value for a column the cell stays empty.

    A text that a spreadsheet would take for a formula gets an apostrophe. `reading.read_table` takes it away.
    """
    table = csv.writer(_Line(), lineterminator="\r\n")  # what ends a line is quoted, and \r ends one for many readers
    cells = chain([columns], ([row.get(name) for name in columns] for row in rows))
    write_parts(path, (table.writerow(map(_cell, row)) for row in cells))


class _Line:
    """What csv writes to; `writerow` returns what `write` does."""

    def write(self, line: str) -> str:
        return line.removesuffix("\r\n") + "\n"


def _cell(value: object) -> object:
    return FORMULA.sub(r"\1'", value) if isinstance(value, str) and not NUMBER.fullmatch(value) else value


def is_of_the_disk(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that of a full or broken disk: no other file could be written there."""
    while error is not None and getattr(error, "errno", None) not in DISK:
        error = error.__cause__
    return error is not None


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def no_link(path: str, flags: int) -> int:
    """For the `opener` of open(): refuse a link, which could lead to another file, and what is no file.

    Raises:
        OSError: it is one of these.
    """
    return regular(path, flags | os.O_NOFOLLOW)


def regular(path: str, flags: int) -> int:
    """For the `opener` of open(): refuse what is no file, such as a pipe or a device; a link is followed.

    Raises:
        OSError: it is no file.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)  # a pipe would make it wait
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", path)
    return descriptor


def remove_leftovers(folder: Path) -> None:
    """Remove what a kill has left half-written in a run's folder. Call it where nobody else can be writing."""
    for file in [*folder.glob(f".*{PART}"), *(folder / "checkpoints").glob(f".*{PART}")]:
        file.unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    """A new, empty file beside `path`, under a name that nobody can have put a link at."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PART}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    return temporary


def _link(source: Path, path: Path) -> None:
    """Give a file a second name; where the file system has no hard links, a copy."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PART}")
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, path)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
