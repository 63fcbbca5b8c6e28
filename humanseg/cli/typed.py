"""What was typed on this command line, as opposed to what a folder recorded: only the former may name code of one's own.

Processes that this one starts, those of joblib and submitit too, know it by an environment variable.
"""

import json
import os

VARIABLE = "HUMANSEG_TYPED"


def remember(arguments: list[str]) -> None:
    """Keep the overrides of this command line."""
    os.environ[VARIABLE] = json.dumps([argument for argument in arguments if not argument.startswith("-")])


def overrides() -> list[str]:
    """The overrides that were typed."""
    return json.loads(os.environ.get(VARIABLE, "[]"))


def values(arguments: list[str]) -> dict[str, str]:
    """The values of a command line's overrides by key, as they were typed."""
    return dict(argument.split("=", 1) for argument in arguments if "=" in argument and not argument.startswith("-"))
