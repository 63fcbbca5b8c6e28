"""Photographs of equal content: a copy of a training photograph validates nothing, whatever its name is."""

import hashlib

import numpy as np


def digest(path: str) -> int:
    """64 bits that stand for a file's bytes. Among a million files two others share them once in 4e7 data sets."""
    with open(path, "rb") as file:
        return int.from_bytes(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).digest())


def hold_back(order: np.ndarray, content: np.ndarray | None, counts: tuple[int, ...]) -> list[np.ndarray]:
    """Divide samples so that those of equal content stay together.

    Each count takes from the front of the order. Copies that are too many for what is left of it are passed over.

    Args:
        order: indices of all samples. content: a number for each sample, which equal ones share; None: all differ.

    Returns:
        The samples of each count and the rest, each in their order.
    """
    if content is None:
        return np.split(order, np.cumsum(counts))
    _, group, size = np.unique(content, return_inverse=True, return_counts=True)
    groups = group[order]
    in_turn, size = list(dict.fromkeys(groups.tolist())), size.tolist()
    part = [len(counts)] * len(size)
    for number, left in enumerate(counts):
        for one in in_turn:
            if not left:
                break
            if part[one] == len(counts) and size[one] <= left:
                part[one], left = number, left - size[one]
    parts = np.array(part)[groups]
    return [order[parts == number] for number in range(len(counts) + 1)]


def repeated(content: np.ndarray) -> np.ndarray:
    """Indices of the samples that are there more than once, equal ones side by side."""
    order = np.argsort(content, kind="stable")
    same = content[order][1:] == content[order][:-1]
    return order[np.concatenate([same, [False]]) | np.concatenate([[False], same])]
