"""Dividing samples in an order that was drawn, so that those which belong together stay together."""

import heapq

import numpy as np


def hold_back(order: np.ndarray, unit: np.ndarray | None, counts: tuple[int, ...]) -> list[np.ndarray]:
    """Divide samples by counts.

    Each count takes from the front of the order. Samples of one unit that are too many for what is left of it are passed over.

    Args:
        order: indices of the samples. unit: by index a number, which samples that stay together share; None: all are alone.

    Returns:
        The samples of each count and the rest, each in their order.
    """
    if unit is None:
        return np.split(order, np.cumsum(counts))
    _, group, size = np.unique(unit[order], return_inverse=True, return_counts=True)
    in_turn, size = list(dict.fromkeys(group.tolist())), size.tolist()
    part = [len(counts)] * len(size)
    for number, left in enumerate(counts):
        for one in in_turn:
            if not left:
                break
            if part[one] == len(counts) and size[one] <= left:
                part[one], left = number, left - size[one]
    parts = np.array(part, np.int64)[group]
    return [order[parts == number] for number in range(len(counts) + 1)]


def in_folds(order: np.ndarray, unit: np.ndarray | None, number: int) -> list[np.ndarray]:
    """Divide samples into folds of equal size, up to one where single samples can even them out.

    The largest units come first, each into the fold that has the fewest samples so far.

    Args:
        order, unit: as for `hold_back`.

    Returns:
        The samples of each fold in their order.
    """
    if unit is None:
        return [order[fold::number] for fold in range(number)]
    _, first, group, size = np.unique(unit[order], return_index=True, return_inverse=True, return_counts=True)
    fold_of, filled = np.empty(len(size), np.int64), [(0, fold) for fold in range(number)]
    for one in np.lexsort((first, -size)).tolist():
        count, fold_of[one] = filled[0]
        heapq.heapreplace(filled, (count + int(size[one]), int(fold_of[one])))
    return [order[fold_of[group] == fold] for fold in range(number)]


def at_thresholds(order: np.ndarray, place: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """Divide samples by the place in [0, 1) that each has of itself, whatever other samples there are.

    Args:
        order: indices of the samples. place: by index.

    Returns:
        The samples of each share and the rest, each in their order.
    """
    parts = np.searchsorted(np.cumsum(shares), place[order], side="right")
    return [order[parts == number] for number in range(len(shares) + 1)]
