"""A text file that names samples, one a line: by the path below the root, the file's name, or the name without its suffix."""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from humanseg import terminal
from humanseg.data.listing import LENGTH, decoded, in_one_form, on_disk, readings
from humanseg.data.splits.groups import Samples
from humanseg.runs.reading import read_list

SHOWN = 8  # names in one sentence


def find(key: str, typed: str, samples: Samples, beside: Sequence[Samples] = (), some: bool = False) -> np.ndarray:
    """The indices of the samples that a list names, in ascending order.

    A file that is several samples, as it is in several sources, is named once for all of them.

    Args:
        key: of the config, which has the list's path. beside: of other sources, which the same list may name.
        some: whether it is enough that some of its names fit.

    Raises:
        ValueError: the list can't be read or is empty, or has names that fit no file or several (all told).
    """
    file, every = on_disk(typed), [samples, *beside]
    read = io.StringIO(read_list(file, decoded), newline=None)
    wanted = {line: _forms(line, file.parent) for line in map(str.strip, read) if line}
    found = _matches({form for forms in wanted.values() for form in forms}, every)
    matched = {line: next((found[form] for form in forms if form in found), []) for line, forms in wanted.items()}
    missing = [line for line, places in matched.items() if not places]
    files = {
        line: dict.fromkeys(every[number].source.names[index] for number, index in places)
        for line, places in matched.items()
        if len(places) > 1
    }
    several = {line: " and ".join([*some][:2]) for line, some in files.items() if len(some) > 1}
    told = [f"{len(missing)} of its {len(wanted)} names fit no sample: {_told(missing)}"] * bool(
        missing and not (some and len(missing) < len(wanted))
    )
    told += [
        f"{len(several)} fit more than one: {_told(f'{line} ({names})' for line, names in several.items())}"
    ] * bool(several)
    if told or not wanted:
        raise ValueError(f"{key}={typed}: {'; '.join(told) or 'it names no sample'}")
    return np.unique([index for places in matched.values() for number, index in places if number == 0]).astype(np.int64)


def _forms(line: str, folder: Path) -> list[str]:
    """What a line may mean, in its order: its path seen from the list, as it is, or seen from here, in any encoding."""
    read = readings(line)
    paths = [os.path.normpath(os.path.join(folder, one)) for one in read if one.startswith("../")]
    paths += map(os.path.normpath, read)
    return [
        in_one_form(form) for path in paths for form in ([path, os.path.relpath(path)] if path[0] == "/" else [path])
    ]


def _matches(wanted: set[str], every: list[Samples]) -> dict[str, list[tuple[int, int]]]:
    """For each name the source's number and the index of the sample that it fits best; of all that it fits as well.

    What names the whole path below the folder that holds all samples of a source fits better than an end of it, and a name
    with its suffix better than one without.
    """
    found: dict[str, tuple[tuple[bool, bool], list[tuple[int, int]]]] = {}
    lasts = {one[one.rfind("/") + 1 :] for one in wanted}
    for number, samples in enumerate(every):
        for index, rank, end in _ends(samples, lasts):
            if end not in wanted:
                continue
            best, places = found.setdefault(end, (rank, []))
            if rank < best:
                found[end] = (rank, [(number, index)])
            elif rank == best:
                places.append((number, index))
    return {one: places for one, (_, places) in found.items()}


def _ends(samples: Samples, lasts: set[str]) -> Iterator[tuple[int, tuple[bool, bool], str]]:
    """The ends of samples' paths of which the last part is wanted, each with the sample's index and how badly it fits."""
    names = samples.names
    holder = len(os.path.commonprefix([min(names, default=""), max(names, default="")]).rpartition("/")[0])
    for index, name in enumerate(names):
        file = name[name.rfind("/") + 1 :]
        for last in lasts & {file, file.rpartition(".")[0]}:
            path = in_one_form(samples.source.names[index])
            above = len(path) - len(name) + holder
            at = len(path) - len(file) + len(last)
            path = path[:at]
            while at >= 0:
                at = path.rfind("/", 0, at)
                yield index, (at > above, last != file), path[at + 1 :]


def _told(names: Iterable[str]) -> str:
    return terminal.some(names, SHOWN, LENGTH)
