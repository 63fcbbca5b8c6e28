"""Plain data: what a record that may come from a stranger may hold. It is checked before anything looks into it."""

from typing import Any

DEPTH = 12  # of dicts and lists in each other
ITEMS = 20_000  # in all dicts and lists together
LENGTH = 10_000  # characters of a text
LARGEST = 2**63  # of a whole number


def refuse_other_than_plain(
    value: Any,
    what: str,
    items: int = ITEMS,
    length: int = LENGTH,
    interpolations: bool = False,
    keys: tuple[type, ...] = (str,),
) -> None:
    """Hold a value against plain data: texts, numbers, booleans, None, and lists and dicts of them, of a bounded size.

    A text with `${` is refused too, as OmegaConf would read it as an interpolation, unless nobody hands it on.

    Args:
        what: the name of the record, for the sentence. items: at most, in all dicts and lists together.
        length: of a text, at most. interpolations: whether a text may hold `${`. keys: what a dict's key may be.

    Raises:
        ValueError: it holds something else, is nested too deeply or too large; the key is named.
    """
    left = [(value, (), 0)]
    count = 0
    while left:
        node, path, depth = left.pop()
        count += 1
        reason = _reason(node, depth, length, interpolations) if count <= items else f"holds more than {items} values"
        if reason:
            raise ValueError(f"{what}{_place(path)} {reason}")
        if isinstance(node, dict):
            for key in node:
                if type(key) not in keys or _reason(key, 0, length, interpolations):
                    raise ValueError(f"{what}{_place(path)} has a key that is no plain text")
            left += [(item, (*path, key), depth + 1) for key, item in node.items()]
        elif isinstance(node, list):
            left += [(item, (*path, str(index)), depth + 1) for index, item in enumerate(node)]


def _reason(node: Any, depth: int, length: int, interpolations: bool) -> str:
    """Why a node is no plain data; empty where it is."""
    if depth > DEPTH:
        return f"is nested more than {DEPTH} deep"
    if type(node) not in (str, int, float, bool, type(None), dict, list):
        return f"is a {type(node).__name__}, not plain data"
    if isinstance(node, str):
        if len(node) > length:
            return f"is a text of more than {length} characters"
        if "${" in node and not interpolations:
            return "holds an interpolation (${), which a record may not"
    if type(node) is int and abs(node) > LARGEST:
        return "is a number that is too large"
    return ""


def _place(path: tuple[str, ...]) -> str:
    return "".join(f" {'.'.join(path)}"[:200]) if path else ""
