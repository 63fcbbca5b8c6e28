"""Bounds on what this process may take from its machine, while it reads what a stranger may have written."""

import os
import re
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATUS = Path("/proc/self/status")

_alone = threading.Lock()


def bound_process(seconds: int, memory: int) -> None:
    """End this process after so many seconds, whatever its code does then, and let it have so many bytes for good.

    `signal.alarm` sets the time anew. Memory is not bounded on macOS.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.alarm(seconds)
    # Not RLIMIT_AS: threads and CUDA reserve far more addresses than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def bounded_growth(most: int) -> Iterator[None]:
    """Within the context this process can take so many bytes of memory more, on Linux; no other thread should need them.

    An allocation beyond them fails, as it does where the machine has no more.
    """
    if not STATUS.exists():
        yield
        return
    with _alone:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = int(re.search(r"VmData:\s+(\d+) kB", STATUS.read_text())[1]) * 1024 + most
        bounds = [bound for bound in (wanted, soft, hard) if bound != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
