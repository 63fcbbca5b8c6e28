"""Weights in a file, and whether they are a network's. The file may come from a stranger."""

import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from humanseg import terminal
from humanseg.runs.atomic import regular

ZIP = b"PK\3\4"  # what a zip file begins with


def open_weights_only(path: Path, before_zip: bool = False) -> Any:
    """What torch.save has put into a file, on the CPU.

    Args:
        before_zip: whether it may be of the format that torch wrote before 1.6.

    Raises:
        ValueError: it is no such file, damaged, or would take more memory than it has bytes; the file is not named.
    """
    try:
        with open(path, "rb", opener=regular) as file:  # once, so that what is checked is what is read
            if not before_zip or file.read(len(ZIP)) == ZIP:
                _refuse_unsound(file)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler and what it calls raise errors of any type for such a file
        raise ValueError(terminal.reason(error)) from error


def _refuse_unsound(file: BinaryIO) -> None:
    """torch stores its tensors as they are: a member that is compressed, or larger than the file, only takes memory.

    Raises:
        ValueError: there is one, or a checksum is wrong, which torch does not look at.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(member.file_size for member in members) > file.seek(0, os.SEEK_END):
            raise ValueError("it holds compressed data, which torch never writes")
        if archive.start_dir != _directory(file):
            raise ValueError("it holds two lists of its members, of which torch reads another than zipfile")
        if part := archive.testzip():
            raise ValueError(f"the checksum of {part} is wrong")


def _directory(file: BinaryIO) -> int | None:
    """Where torch looks for the list of a zip file's members; zipfile takes what lies before its end. None: not there."""
    begins = file.seek(-98, os.SEEK_END)
    record, locator, end = file.read(56), file.read(20), file.read(22)
    if end[:4] != b"PK\5\6":
        return None
    if locator[:4] != b"PK\6\7":
        return int.from_bytes(end[16:20], "little")
    sound = record[:4] == b"PK\6\6" and int.from_bytes(locator[8:16], "little") == begins
    return int.from_bytes(record[48:56], "little") if sound else None


def are_plain_tensors(weights: Any) -> bool:
    """Whether something is a state dict of tensors with their numbers in memory."""
    named = isinstance(weights, dict) and all(isinstance(name, str) for name in weights)
    return named and all(map(_is_plain_tensor, weights.values()))


def _is_plain_tensor(value: Any) -> bool:
    return torch.is_tensor(value) and value.layout is torch.strided and not (value.is_meta or value.is_quantized)


def are_finite(weights: dict[str, torch.Tensor]) -> bool:
    """Whether a state dict holds neither NaN nor infinity."""
    return all(value.isfinite().all() for value in weights.values())


def mismatch(expected: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> list[str]:
    """How two state dicts differ in keys and shapes, a line each."""
    found = [f"{key} is missing" for key in expected if key not in given]
    found += [f"{key} is not in the model" for key in given if key not in expected]
    return found + [
        f"{key} is {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]


def describe(differences: list[str], shown: int = 8) -> str:
    """The first differences and how many more there are."""
    more = f"; and {len(differences) - shown} more" if len(differences) > shown else ""
    return "; ".join(differences[:shown]) + more
