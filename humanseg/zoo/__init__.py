"""The networks that come with the suite: small checkpoints, each with a card. README.md beside this file compares them."""

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT = "portrait"  # what mode=predict takes where nothing else is named


def names() -> list[str]:
    """What `ckpt=` may name."""
    return sorted(file.stem for file in FOLDER.glob("*.pt"))


def file_of(name: str) -> Path | None:
    """The checkpoint of that name; None where there is none."""
    return FOLDER / f"{name}.pt" if name in names() else None
