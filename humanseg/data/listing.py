"""Which files a folder or a list names, as cameras, editors and other systems have named them.

A name may hold any bytes but NUL. A Mac writes an accent as a character of its own, where others write the accented letter.
Lists come from editors that save UTF-8, UTF-16 or Latin-1.
"""

import codecs
import io
import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from humanseg.runs.reading import read_list

log = logging.getLogger(__name__)

CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")  # no list of names has them
SIDES = ("train", "val", "test")  # what samples are for
HELD = ("test", "val")  # the sides that take samples from training, in this order
LENGTH = 200  # characters of a name or line in a sentence
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Found(NamedTuple):
    """Paths of images and of their masks, and what is wrong with the rest."""

    images: list[str]
    masks: list[str]
    problems: list[str]


def each_side(key: str, typed: Sequence[str | None]) -> dict[str, tuple[str, str] | None]:
    """The key and the path of ``train``, ``val`` and ``test``; None where no path is typed.

    Args:
        key: the name of the keys, as ``root`` of data.root, data.val_root and data.test_root.
        typed: the three paths.

    Raises:
        ValueError: a path is a list, or something else.
    """
    keys = dict(zip((f"data.{key}", f"data.val_{key}", f"data.test_{key}"), typed, strict=True))
    if wrong := [name for name, path in keys.items() if path and not isinstance(path, str | Path)]:
        raise ValueError(
            f"{wrong[0]}={keys[wrong[0]]}: give one path; data=pairs and data=mix take photographs of several"
        )
    places = [(name, str(path)) if path else None for name, path in keys.items()]
    return dict(zip(SIDES, places, strict=True))


def below(folder: str | Path) -> Iterator[str]:
    """The files in a folder and below it, by their paths within it; none that is hidden, or in a hidden folder.

    Links to folders are followed. No folder is looked into twice, so they make no loop. One that can't be read is left out,
    which is said.
    """
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_leave_out):
        state = os.stat(parent)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if name[0] != ".")
        folders.sort(key=lambda name: os.path.islink(os.path.join(parent, name)))  # a folder itself before links to it
        place = os.path.relpath(parent, folder)
        yield from (name if place == "." else f"{place}/{name}" for name in sorted(names) if name[0] != ".")


def _leave_out(error: OSError) -> None:
    log.warning("%s can't be read (%s) and is left out", error.filename, error.strerror)


def spelled(path: str | Path, beside: str | Path = "") -> str | None:
    """The path as the disk spells it: each part as it is, or with its accents in another form; None where there is none.

    Args:
        beside: the folder that a relative path is relative to.
    """
    found = str(beside)
    for part in Path(path).parts:
        forms = dict.fromkeys([part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD"))])
        there = (os.path.join(found, form) for form in forms)
        found = next((whole for whole in there if os.path.lexists(whole)), None)
        if found is None:
            return None
    return found


def typed_folder(key: str, path: str) -> str:
    """A folder as the disk spells it.

    Args:
        key: of the config, which has its path.

    Raises:
        ValueError: there is none.
    """
    found = spelled(path) or path
    if not os.path.isdir(found):
        raise ValueError(f"{key}: {found} does not exist")
    return found


def inside(root: str, name: str, beside: str = "") -> str:
    """The path of a file that a record of a data set names: it lies below the data set's folder.

    Args:
        beside: the folder below `root` that the name is relative to.

    Raises:
        ValueError: it lies elsewhere, or there is none.
    """
    place = os.path.normpath(os.path.join(beside, name))
    if not lies_below(place):
        raise ValueError(f"names {name[:LENGTH]}, which lies outside of {root}")
    found = spelled(place, root)
    if found is None:
        raise ValueError(f"names {name[:LENGTH]}, which does not exist")
    return found


def lies_below(name: str) -> bool:
    """Whether a relative name is that of a file below the folder that it is relative to."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return "\0" not in name and not os.path.isabs(name) and os.path.normpath(name).split("/")[0] != ".."


def in_one_form(text: str) -> str:
    """A text with its accents in one form."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def on_disk(typed: str | int | Path) -> Path:
    """A typed path, in the home folder for `~/x`, and as the disk spells it."""
    path = Path(os.path.expanduser(str(typed)))
    return Path(spelled(path) or path)


def named(item: Path) -> tuple[Path, list[Path]]:
    """(the folder that places are relative to, the files) of a file, a folder or a pattern.

    A folder that exists is no part of a pattern, whatever its name is. Of ``**`` no folder is looked into twice.
    """
    if item.is_dir():
        return item, [item / name for name in below(item)]
    if item.exists() or not has_magic(str(item)):
        return item.parent, [item]
    fixed = next(parent for parent in item.parents if spelled(parent) is not None)
    folder, parts = Path(spelled(fixed)), item.relative_to(fixed).parts
    if "**" not in parts:
        files = (folder / name for name in glob(os.path.join(*parts), root_dir=folder))
        return folder, [file for file in files if file.is_file()]
    first = parts.index("**")
    heads = glob(os.path.join(*parts[:first]), root_dir=folder) if first else [""]
    inside = ((folder / head, name) for head in heads for name in below(folder / head))
    return folder, [head / name for head, name in inside if _fits(name.split("/"), parts[first:])]


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path are those of a pattern, of which ``**`` stands for any number."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[start:], pattern[1:]) for start in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])


def items(typed: str | Path) -> list[Path]:
    """The paths in a list file (.txt), each in a line; for anything else its own path.

    Raises:
        ValueError: a line can't be read.
    """
    path = on_disk(typed)
    if path.suffix.lower() != ".txt" or path.is_dir() or not path.exists():
        return [path]
    found = []
    for number, line in enumerate(io.StringIO(read_list(path, decoded), newline=None), 1):
        if line.strip():
            place = listed(line.strip(), str(path.parent))
            if place is None:
                raise ValueError(f"{path}, line {number}: {unreadable(line.strip())}")
            found.append(Path(place))
    return found


def decoded(data: bytes) -> str:
    """The text of a list: UTF-8 or UTF-16, with a mark or without. Bytes that are neither stay, as in names of files."""
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    zeros = {"utf-16-be": data[::2].count(0), "utf-16-le": data[1::2].count(0)}
    guess = max(zeros, key=zeros.get)
    if encoding is None and zeros[guess] > len(data) / 8 and not CONTROL.search(data.decode(guess, "replace")):
        encoding = guess  # without a mark it is known by the zero that a letter of a suffix has beside it
    return data.decode(encoding or "utf-8", "surrogateescape" if encoding in (None, "utf-8-sig") else "replace")


def listed(text: str, beside: str) -> str | None:
    """The path that a list names, relative to a folder; None where its bytes are no UTF-8 and nothing tells what they are.

    Such bytes are the name itself, or Latin-1 (Windows' variant of it), whichever names a file.
    """
    text = os.path.expanduser(text) if text[:1] == "~" else text  # a list may have a million lines
    whole = text if text[:1] == "/" or not beside else f"{beside}/{text}"
    if text.isascii():
        return whole
    forms = readings(text)
    named = next(filter(None, (spelled(form, beside) for form in forms)), None)
    return named or (whole if len(forms) == 1 else None)


def readings(text: str) -> list[str]:
    """What a line of a list may say: itself, and where its bytes are no UTF-8 what they are as Latin-1."""
    if _is_unicode(text):
        return [text]
    return [text, *(os.fsencode(text).decode(encoding, "replace") for encoding in ("cp1252", "latin-1"))]


def unreadable(text: str) -> str:
    """The sentence for a line that `listed` can't read."""
    shown = text[:LENGTH].encode(errors="surrogateescape").decode(errors="replace")
    return f"{shown!r} is no UTF-8, and read as Latin-1 it names no file: save the list as UTF-8"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
