"""What a check has found, on the terminal: problems first."""

from humanseg import terminal
from humanseg.check.record import firsts

MOST = 22  # lines; the run's folder, the page and what to do next have a line each
SOURCES = 8  # of these lines, at most


def rows(check: dict) -> list[str]:
    """At most MOST lines: a row for each kind of finding, with its worst example, then what the data set is.

    Args:
        check: as check.json has it.
    """
    sources = check["sources"]
    about = [_about(name, own) for name, own in sources.items()]
    if len(about) > SOURCES:
        about[SOURCES - 1 :] = [f"and {len(about) - SOURCES + 1} more sources"]
    kinds = list(check["kinds"].items())
    room = MOST - len(about) - 2
    left = kinds[room:]
    head = ["", "kind", "count", "", "such as"]
    first = firsts(check)
    listed = terminal.aligned([head, *(_row(name, kind, first[name]) for name, kind in kinds[:room])]) if kinds else []
    more = [f"and {sum(kind['count'] for _, kind in left)} of {len(left)} more kinds"] * bool(left)
    nothing = ["nothing was found"] * (not kinds)
    return [*listed, *more, *nothing, *about]


def _row(name: str, kind: dict, first: dict) -> list[str]:
    named = [path for path in dict.fromkeys(first["paths"]) if path not in first["words"]]
    return [
        kind["severity"],
        name,
        str(kind["count"]),
        kind["title"],
        terminal.cut(f"{' and '.join(named)}: {first['words']}".removeprefix(": "), 300),
    ]


def _about(name: str, own: dict) -> str:
    counts = ", ".join(f"{count} {split or 'unused'}" for split, count in own["samples"].items())
    return f"{name or 'samples'}: {counts}"
