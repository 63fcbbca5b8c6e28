"""The one way to write a file: whole or not at all, also where the power fails."""

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, copies: Iterable[Path] = (), keep: Path | None = None) -> Iterator[Path]:
    """Write a file under another name; it takes its place at the end. After an exception nothing of it is left.

    Args:
        copies: more names for the same content in the same folder; they are there before `path` is.
        keep: the name that the file gets which was at `path` before; None: it is replaced.

    Yields:
        The path to write to, beside `path`.
    """
    temporary = path.with_name(path.name + ".part")
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


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file.

    Raises:
        OSError: it can't be written; the file that was there before is untouched.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8; errors as for `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write indented JSON; a number that is not finite becomes null, as JSON has no name for it."""
    write_text(path, json.dumps(_finite(value), indent=2, default=str) + "\n")


def write_table(path: Path, columns: list[str], rows: list[dict]) -> None:
    """Write a CSV with a header; where a row has no value for a column the cell stays empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _link(source: Path, path: Path) -> None:
    """Give a file a second name; where the file system has no hard links, a copy."""
    temporary = path.with_name(path.name + ".part")
    temporary.unlink(missing_ok=True)
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
