"""Values of hyperparameters along an axis."""

from humanseg.runs.summary import UTMOST

DECADES = 2  # a hyperparameter that spans so many gets a logarithmic axis


def finite(text: str | None) -> float | None:
    """A text as a number; None for any other text, and for a number that can't be reckoned with."""
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if abs(found) <= UTMOST else None


def scale_of(numbers: list[float], drawn_so: bool) -> str:
    """Whether an axis is log or linear.

    Args:
        drawn_so: whether a search has drawn the values on a logarithmic scale.
    """
    is_log = min(numbers) > 0 and (drawn_so or max(numbers) >= 10**DECADES * min(numbers))
    return "log" if is_log else "linear"
