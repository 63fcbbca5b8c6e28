"""A key for each sample, by which what was made of its files is found again as long as they stay as they are."""

import gc
import hashlib
import os
from collections.abc import Callable
from multiprocessing import get_context

import numpy as np

from humanseg.data.names import Names
from humanseg.data.pictures import VERSION
from humanseg.processes.hardware import cores

AT_ONCE = 25_000  # samples that a process looks up in one go, which takes an eighth of a second

Stamps = Callable[[int, int], list[tuple[str, str]]]  # as `Labels.stamps`
_inherited: tuple[Names, Stamps]  # the samples whose keys this process makes, where it was forked for that


def all_keys(images: Names, stamps: Stamps) -> tuple[np.ndarray, dict[str, str]]:
    """A key for each sample, and for each path that can't be looked up the reason; such a sample's key is 0.

    A key has 64 bits. It stands for the files as they are now, and for what else the label depends on. Among a million
    samples two keys are equal once in 3e7 data sets.

    Long lists are shared among all cores; Python needs a process for each.

    Args:
        images: the photographs' paths. stamps: tells of some samples what their labels depend on.
    """
    spans = [(start, min(start + AT_ONCE, len(images))) for start in range(0, len(images), AT_ONCE)]
    if len(spans) < 2:
        return _keys(images, stamps, 0, len(images))
    processes = min(cores(alone=True), len(spans))
    with get_context("fork").Pool(processes, _inherit, (images, stamps)) as pool:
        parts = pool.starmap(_inherited_keys, spans, chunksize=1)
    absent = {path: why for _, some in parts for path, why in some.items()}
    return np.concatenate([keys for keys, _ in parts]), absent


def _inherit(images: Names, stamps: Stamps) -> None:
    """Keep what a forked process has of its parent. To send it the paths would take a third of the time of their keys."""
    global _inherited
    _inherited = images, stamps
    gc.disable()  # to look for garbage it would write to all that it inherited, and so copy it


def _inherited_keys(start: int, stop: int) -> tuple[np.ndarray, dict[str, str]]:
    return _keys(*_inherited, start, stop)


def _keys(images: Names, stamps: Stamps, start: int, stop: int) -> tuple[np.ndarray, dict[str, str]]:
    """As `all_keys`, of the samples from `start` to before `stop`."""
    absent: dict[str, str] = {}

    def stamp(path: str) -> str | None:
        try:
            found = os.stat(path)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            absent[path] = "does not exist" if missing else f"can't be read: {error.strerror}"
            return None
        return f"{path if path[0] == '/' else os.path.abspath(path)}\0{found.st_size}\0{found.st_mtime_ns}"

    def key(image: str, label: tuple[str, str]) -> int:
        file, rest = label
        photograph, other = stamp(image), stamp(file) if file else ""
        if photograph is None or other is None:
            return 0
        state = f"{photograph}\0{other}\0{rest}\0{VERSION}"
        return int.from_bytes(hashlib.blake2b(state.encode(errors="surrogateescape"), digest_size=8).digest()) or 1

    keys = map(key, images.part(start, stop), stamps(start, stop))
    return np.fromiter(keys, np.uint64, stop - start), absent
