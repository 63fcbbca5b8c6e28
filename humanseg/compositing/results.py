"""What the results in an output's folder were drawn of, so that a result is never taken for another photograph's."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from humanseg.runs.atomic import no_link, regular
from humanseg.runs.reading import LONGEST_LIST, read_text

NAME = ".drawn.jsonl"  # hidden: it lies among pictures
BROKEN = 1000  # lines that kills and full disks have cut off


class Results:
    """The results in a folder, by what its record says; a result of an earlier version is in no record.

    The record has a line for each photograph: its size, time and digest, and the drawings' names below the folder.
    Several processes may add to it, and the folder may be moved.

    Args:
        folder: the output, or the folder of a single file.

    Raises:
        ValueError: the record can't be read.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.path = self.folder / NAME
        self._known: dict[str, tuple[str, dict]] = {}  # a result's name: (the drawing, the photograph)
        for photograph, drawings in self._lines():
            self._known |= {name: (drawing, photograph) for drawing, name in drawings.items()}

    def hold(self, path: Path) -> bool:
        """Whether a file is a result that the record knows."""
        return self._name(path) in self._known

    def finished(self, drawings: dict[str, Path], photograph: Path) -> bool:
        """Whether all these files are there, and are these drawings of the photograph as it is now.

        A file that the record does not know counts as one: earlier versions kept no record.
        """
        if not all(path.exists() for path in drawings.values()):
            return False
        if not photograph.exists():  # it can't be drawn anew
            return True
        return all(self._is(drawing, path, photograph) for drawing, path in drawings.items())

    def _is(self, drawing: str, path: Path, photograph: Path) -> bool:
        if not self.hold(path):
            return True
        now, (drawn, before) = _stamp(photograph), self._known[self._name(path)]
        if drawn != drawing or now["bytes"] != before.get("bytes"):
            return False
        return now["modified"] == before.get("modified") or _digest(photograph) == before.get("digest")

    def too_old(self, path: Path, photograph: Path) -> bool:
        """Whether a file that the record does not know can't be of the photograph as it is now."""
        there = path.exists() and photograph.exists() and not self.hold(path)
        return there and path.stat().st_mtime_ns < photograph.stat().st_mtime_ns

    def add(self, photograph: dict, drawings: dict[str, Path]) -> None:
        """Note what was drawn of a photograph, which `fingerprint` describes.

        Raises:
            ValueError: it can't be written.
        """
        names = {drawing: self._name(path) for drawing, path in drawings.items()}
        line = json.dumps({"photograph": photograph, "drawings": names}) + "\n"
        try:
            with open(self.path, "ab", buffering=0, opener=no_link) as file:
                file.write(line.encode())  # at once, so that lines of several processes don't mix
        except OSError as error:
            raise ValueError(f"{self.path} can't be written: {error.strerror or error}") from error

    def _name(self, path: Path) -> str:
        return os.path.relpath(path.parent.resolve() / path.name, self.folder)

    def _lines(self) -> Iterator[tuple[dict, dict]]:
        try:
            text = read_text(self.path, LONGEST_LIST)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path} can't be read: {error}") from error
        broken = 0
        for line in text.splitlines():
            try:
                parts = json.loads(line)
            except (ValueError, RecursionError):  # a full disk has cut it off, or it is none of ours
                broken += 1
                if broken > BROKEN:  # each takes microseconds, and the file may have a billion
                    raise ValueError(
                        f"{self.path} can't be read: it has more than {BROKEN} lines of other things"
                    ) from None
                continue
            match parts:
                case {"photograph": dict(photograph), "drawings": dict(drawings)}:
                    yield photograph, {drawing: str(name) for drawing, name in drawings.items()}


def fingerprint(photograph: Path) -> dict:
    """What tells a photograph from one that takes its place: size, time of change and digest.

    Raises:
        ValueError: it can't be read.
    """
    try:
        return _stamp(photograph) | {"digest": _digest(photograph)}
    except OSError as error:
        raise ValueError(f"{photograph} can't be read: {error.strerror or error}") from error


def _stamp(photograph: Path) -> dict:
    found = photograph.stat()
    return {"bytes": found.st_size, "modified": found.st_mtime_ns}


def _digest(photograph: Path) -> str:
    with open(photograph, "rb", opener=regular) as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
