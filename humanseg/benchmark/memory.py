"""Peak memory of this process and its workers, on Linux, and of a CUDA device."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

INTERVAL = 0.2  # seconds between two measurements


@contextmanager
def watched(device: torch.device) -> Iterator[dict[str, float]]:
    """Watch the peaks in the context. Afterwards the dict has those it could read, in bytes: `host` and `device`."""
    peaks: dict[str, float] = {}
    over = threading.Event()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def look() -> None:
        while True:
            peaks["host"] = max(peaks.get("host", 0.0), resident())
            if over.wait(INTERVAL):
                return

    watcher = threading.Thread(target=look, daemon=True)
    if Path("/proc/self/smaps_rollup").exists():
        watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        if watcher.ident:
            watcher.join()
        if device.type == "cuda":
            peaks["device"] = float(torch.cuda.max_memory_reserved(device))


def resident(process: str = "self") -> float:
    """Bytes of a process and its children in memory; what several share is divided among them."""
    folder = Path("/proc") / process
    try:
        rolled = (folder / "smaps_rollup").read_text()
        children = [child for task in (folder / "task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:  # the process has just ended
        return 0.0
    own = next((int(line.split()[1]) for line in rolled.splitlines() if line.startswith("Pss:")), 0)
    return 1024.0 * own + sum(resident(child) for child in children)
