"""This machine: its devices, cores, threads and memory, and the share of them that this process has."""

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

GLIBC_KEEPS = {-1: -1, -2: 2**26, -4: 0}  # malloc.h: M_TRIM_THRESHOLD never, M_TOP_PAD 64 MiB, M_MMAP_MAX none

_gpus: list[int] = []  # those that this process was given, where not all are its own
_sharers = 1  # processes that share this machine's cores


def give(gpus: list[int], sharers: int) -> None:
    """Let this process have GPUs, where no other is named, and its share of the cores among so many processes."""
    global _gpus, _sharers
    _gpus, _sharers = gpus, sharers
    if gpus:
        torch.cuda.set_device(gpus[0])


@contextmanager
def given(gpus: list[int], sharers: int) -> Iterator[None]:
    """Within the context this process has these GPUs and this share of the cores; afterwards what it had before."""
    before = _gpus, _sharers
    give(gpus, sharers)
    try:
        yield
    finally:
        give(*before)


def sharers() -> int:
    """How many processes share this machine's cores, as they were given."""
    return _sharers


def choose_devices(wanted: int | str | list[int], name: str) -> tuple[int, list[int] | None]:
    """How many processes `trainer.devices=WANTED` with `trainer.device=NAME` means, and the GPU of each.

    Returns:
        1 and None for this process as it is; a number and None for so many that share the CPU.

    Raises:
        ValueError: more than there are, or what is no device.
    """
    kind, override = choose_device(name), f"trainer.devices={wanted}"
    gpus = (_gpus or [*range(torch.cuda.device_count())]) if kind.type == "cuda" else []
    if wanted == 1 or (wanted == "all" and len(gpus) <= 1):
        return 1, None
    refuse_one_device(name)
    if not gpus:
        most, what = (1, "device") if kind.type == "mps" else (cores(), "CPU core(s)")
        if isinstance(wanted, list) or wanted > most:
            raise ValueError(f"{override}: torch finds no CUDA device, and this machine has {most} {what}")
        return wanted, None
    chosen = wanted if isinstance(wanted, list) else gpus if wanted == "all" else gpus[:wanted]
    if (
        len(set(chosen)) < len(chosen)
        or not set(chosen) <= set(gpus)
        or (isinstance(wanted, int) and wanted > len(gpus))
    ):
        raise ValueError(f"{override}: there are {len(gpus)} CUDA device(s), number {', '.join(map(str, gpus))}")
    return len(chosen), chosen


def refuse_one_device(name: str) -> None:
    """For several processes, which have a device each.

    Raises:
        ValueError: `trainer.device=NAME` names one by its number.
    """
    kind, _, number = name.partition(":")
    if number:
        raise ValueError(f"trainer.device={name} is one device: give trainer.device={kind} to several processes")


def count_gpus(name: str) -> int:
    """GPUs that a run with `trainer.device=NAME` could be given: none where it names one by its number, or the CPU."""
    return 0 if ":" in name or choose_device(name).type != "cuda" else torch.cuda.device_count()


def own_gpus(name: str) -> list[int] | None:
    """This machine's GPUs for the processes that were started on it, one each; None where they share the CPU.

    SLURM may show each process only its own.
    """
    if choose_device(name).type != "cuda":
        return None
    count, processes = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    if count < processes and not (count == 1 and "SLURM_STEP_ID" in os.environ):
        raise ValueError(f"{processes} processes were started on a machine with {count} CUDA device(s)")
    return [number % count for number in range(processes)]


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU; of several GPUs the one that this process was given, or the first.

    Raises:
        ValueError: a device that this machine, or this torch, has not.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"trainer.device={name}: give auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA device(s)" if torch.cuda.is_available() else "no CUDA device"
        raise ValueError(f"trainer.device={name}: torch {torch.__version__} finds {found}; use trainer.device=auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"trainer.device={name}: torch finds no MPS device; use trainer.device=auto")
    return torch.device("cuda", _gpus[0]) if name == "cuda" and _gpus else device


def own_cores() -> tuple[str, set[int]]:
    """The machine and those of its CPU cores that this process may use: a container's, a SLURM job's or taskset's share.

    Processes that share them have the same.
    """
    numbers = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return platform.node(), set(numbers)


def cores(alone: bool = False) -> int:
    """How many cores are this process' share of `own_cores`; all of them where it works `alone` while others wait."""
    allowed = len(own_cores()[1])
    return allowed if alone else max(allowed // _sharers, 1)


def set_threads(wanted: int | None) -> None:
    """CPU threads of the network: as many as wanted; else torch's choice, or this process' share of the cores."""
    if wanted or _sharers > 1:
        torch.set_num_threads(wanted or cores())


def be_deterministic(wanted: bool) -> None:
    """Bit-equal results on CUDA too, where it is wanted.

    cuDNN does not try its kernels for the quickest (``cudnn.benchmark``). On an H200 that six trainings shared, their
    steps took as long without it, and each new size of a batch cost 20 seconds less.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS can't be deterministic without it
    if wanted != torch.are_deterministic_algorithms_enabled():  # setting it imports the compiler, which takes a second
        torch.use_deterministic_algorithms(wanted)


def bound_memory(share: float | None, device: torch.device) -> None:
    """Let this process have a share of a GPU's memory; beyond it an allocation fails here instead of in a neighbour."""
    if share is not None and device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, device)


def keep_memory() -> None:
    """Let the C library keep the memory that a step frees for the next one, up to the largest that was needed.

    glibc would give each large tensor back to the system, which zeroes every page of the next one anew: a fifth of a
    training step on 2 CPU cores. Other libraries are not so eager, and have no such knobs.
    """
    if mallopt := _from_libc("mallopt"):
        for option, value in GLIBC_KEEPS.items():
            mallopt(option, value)


def give_memory_back() -> None:
    """Give what is kept back to the system, once: a process that is forked now would take a copy of it."""
    if malloc_trim := _from_libc("malloc_trim"):
        malloc_trim(0)


def _from_libc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def finish(device: torch.device) -> None:
    """Wait until a device has done what it was given; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def describe_device(device: torch.device) -> str:
    """For people: the GPU's name, or the CPU and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
