"""What follows from a run's history, the list of its epochs' logs: which epoch was the best, and whether to stop early."""

import math


def best_epoch(history: list[dict[str, float]], monitor: str | None, mode: str) -> dict[str, float] | None:
    """The log of the best epoch; of the last one where no epoch has the value; None where there is no epoch.

    Args:
        monitor: the name of a value; None: nothing is monitored. mode: ``max`` or ``min``.
    """
    judged = [log for log in history if math.isfinite(log.get(monitor, math.nan))]
    if not judged:
        return history[-1] if history else None
    return (max if mode == "max" else min)(judged, key=lambda log: log[monitor])


def stops_early(history: list[dict[str, float]], monitor: str | None, mode: str, patience: int) -> bool:
    """Whether `patience` validations have passed since the best; a patience of 0 never ends."""
    judged = [log for log in history if monitor in log and "averaged" not in log]
    best = best_epoch(judged, monitor, mode)
    return bool(patience and best) and len(judged) - 1 - judged.index(best) >= patience
