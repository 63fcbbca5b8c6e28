"""What a run's folder keeps of a tracked run: its id, and how far its values were sent.

The folder may come from a stranger. The id is a plain word; which server it is for is not in any file.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from humanseg.runs.atomic import write_json
from humanseg.runs.reading import load_json

FOLDER = "trackers"
ID = re.compile(r"[\w-]{1,64}", re.ASCII)
MOST = 2**40  # epochs or steps


@dataclass(frozen=True)
class Receipt:
    """Values of `step` steps and `epoch` finished epochs, and all before them, were sent to the tracked run `id`."""

    id: str | None = None
    step: int = -1
    epoch: int = -1


def path(folder: Path, name: str) -> Path:
    """Where a run's folder keeps the receipt of the tracker of a name."""
    return folder / FOLDER / f"{name}.json"


def save(file: Path, receipt: Receipt) -> None:
    """Write a receipt.

    Raises:
        NotWritten: it can't be written.
    """
    file.parent.mkdir(exist_ok=True)
    write_json(file, asdict(receipt))


def load(file: Path) -> Receipt:
    """A receipt; an empty one where there is none.

    Raises:
        ValueError: it holds what none does.
    """
    try:
        told = load_json(file, most=1000, items=10)
    except FileNotFoundError:
        return Receipt()
    counts = [told.get(name) for name in ("step", "epoch")]
    if not all(type(count) is int and -1 <= count <= MOST for count in counts):
        raise ValueError(f"{file}: step and epoch are no counts")
    if told.get("id") is not None and not (isinstance(told["id"], str) and ID.fullmatch(told["id"])):
        raise ValueError(f"{file}: id is no plain word")
    return Receipt(told.get("id"), *counts)
