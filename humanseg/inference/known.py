"""The exported files that this user wrote on this machine: their digests, in the user's own folder for state.

A stranger can choose all that a file says of itself, and a download belongs to the user too. So neither is a proof.
Nobody else can write into the record, and nobody can make another file with a digest that is in it.
"""

import hashlib
import os
from pathlib import Path

from humanseg.runs.atomic import no_link

OTHERS_WRITE = 0o022  # permission bits of the group and of all


def record() -> Path:
    """The record's place: $XDG_STATE_HOME/humanseg/exported, or below ~/.local/state; a relative path doesn't count."""
    typed = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (typed if typed.is_absolute() else Path.home() / ".local" / "state") / "humanseg" / "exported"


def note(content: tuple[bytes, ...]) -> None:
    """Note that this user wrote a file.

    Raises:
        OSError: the record can't be written.
    """
    record().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    descriptor = os.open(record(), flags, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        file.write(_digest(content) + b"\n")  # one write, so that two processes don't mix their lines


def is_known(content: tuple[bytes, ...]) -> bool:
    """Whether this user wrote a file; a record that another user could have written proves nothing."""
    try:
        with open(record(), "rb", opener=no_link) as file:
            found = os.fstat(file.fileno())
            own = found.st_uid == os.geteuid() and not found.st_mode & OTHERS_WRITE
            return own and _digest(content) in file.read().split(b"\n")
    except OSError:  # nothing was exported yet
        return False


def _digest(content: tuple[bytes, ...]) -> bytes:
    parts = b"".join(hashlib.sha256(part).digest() for part in content)
    return hashlib.sha256(parts).hexdigest().encode()
