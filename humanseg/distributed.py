"""Processes that work on one run: how they find each other, and what they agree on.

All is torch.distributed's. Where there is one process, each function does at once what it would do among several.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from humanseg import device

SILENCE = timedelta(hours=2)  # until a process that answers no more is given up: another may still fill its cache
DELAY = 2  # seconds

_store: dist.Store | None = None  # what the processes tell each other, and those that come after a restart


def rank() -> int:
    """This process' number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes work on this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def no_bar() -> bool | None:
    """tqdm's `disable`: a bar on a terminal, of the main process alone."""
    return None if is_main() else True


def join(gpus: list[int] | None, minutes: float, sharers: int = 1) -> None:
    """Meet the others, as torchrun's environment variables tell: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, ...

    Args:
        gpus: of this machine, one for each of its processes; None: they share the CPU.
        sharers: runs that share this machine's cores.

    Raises:
        ValueError: the others do not come within so many minutes.
    """
    try:
        store, number, count = next(dist.rendezvous("env://", timeout=timedelta(minutes=minutes)))
    except dist.DistError as error:
        where, count = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT")), "WORLD_SIZE"
        raise ValueError(
            f"the {os.environ[count]} processes did not meet at {where} within {minutes:g} minutes; "
            "trainer.join_minutes= waits longer"
        ) from error
    global _store
    _store = dist.PrefixStore("humanseg", store)
    # After a restart it still knows the addresses of those that have died. Several machines count restarts each for itself.
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    if int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1:
        attempt = (_store.add("arrivals", 1) - 1) // count
    store = dist.PrefixStore(str(attempt), store)
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    dist.init_process_group(backend, timeout=SILENCE, rank=number, world_size=count, store=store)
    store.set_timeout(SILENCE)  # NCCL takes it where the first GPU waits for one that still fills its cache
    place = device.own_cores()
    device.give([gpus[int(os.environ["LOCAL_RANK"])]] if gpus else [], gathered(place).count(place) * sharers)


def leave() -> None:
    """Part from the others, which do the same.

    NCCL wants that at once. Where there is gloo alone the last goes first: it can abort a process while that closes its
    end of a connection and the other end goes, too.
    """
    own, after = f"left {rank()}", f"left {rank() + 1}"
    if rank() + 1 < size() and dist.get_backend() == "gloo":
        _store.wait([after], timedelta(minutes=1))
    dist.destroy_process_group()
    _store.set(own, "")


def remember(text: str) -> None:
    """Tell it to the processes that torchrun starts in the place of these if one of them dies."""
    _store.set("remembered", text)


def remembered() -> str | None:
    """What was told before the restart that this process comes from."""
    return _store.get("remembered").decode() if _store and _store.check(["remembered"]) else None


def from_main(value: Any = None) -> Any:
    """The main process' value, for all."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
    return box[0]


def made_by_main(make: Callable[[], Any]) -> Any:
    """What `make` gives in the main process, for all; the others don't call it."""
    return from_main(make() if is_main() else None)


def gathered(value: Any) -> list:
    """Each process' value, for all; tensors have to be on the CPU."""
    if size() == 1:
        return [value]
    values = [None] * size()
    dist.all_gather_object(values, value)
    return values


def in_turns(own: list) -> list:
    """What the processes made of every size()-th item of a list, put together again."""
    missing = object()
    rounds = zip_longest(*gathered(own), fillvalue=missing)
    return [item for item in chain.from_iterable(rounds) if item is not missing]


def most(*numbers: int) -> list[int]:
    """The largest of all processes, number by number: none goes on before all have come here."""
    if size() == 1:
        return list(numbers)
    held = torch.tensor(numbers)
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return held.tolist()


def wait() -> None:
    """Wait until all have come here."""
    most(0)


@contextmanager
def main_first() -> Iterator[None]:
    """Inside comes the main process first; what it prepares, the others find."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def to_main(sums: Iterable[Tensor]) -> None:
    """Bring sums together in the main process, in place; in the others they begin anew."""
    if size() == 1:
        return
    for tensor in sums:
        dist.reduce(tensor, 0)
        if not is_main():
            tensor.zero_()


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace floating tensors by their mean over the processes, in place."""
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    if size() == 1 or not floating:
        return
    together = torch.cat([tensor.flatten() for tensor in floating])
    dist.all_reduce(together)
    parts = (together / size()).split([tensor.numel() for tensor in floating])
    for tensor, part in zip(floating, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def draw_apart(seed: int, step: int) -> None:
    """Give the processes beside the main one random numbers of their own for a step, for dropout."""
    if not is_main():
        torch.manual_seed(hash((seed, rank(), step)))


def parallel(network: nn.Module, forward: Callable[[], Tensor]) -> nn.Module:
    """A network whose backward averages its gradients over the processes; it stays itself, and its keys too.

    Args:
        forward: gives the network's output for any input; what that does not use gets no gradient in training either.
    """
    if size() == 1:
        return network
    partly = _is_used_partly(network, forward)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # its newer name is not in torch 2.11
        return DistributedDataParallel(
            network, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=partly
        )


def _is_used_partly(network: nn.Module, forward: Callable[[], Tensor]) -> bool:
    """Whether parameters get no gradient: PSPNet's decoder, say, takes none but the encoder's first stages."""
    network.eval()  # for the statistics to stay
    forward().sum().backward()
    unused = any(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    network.zero_grad(set_to_none=True)
    return unused


def unsynchronised(network: nn.Module, wanted: bool) -> AbstractContextManager:
    """Inside, gradients of a `parallel` network only add up: another batch follows in the same step."""
    return network.no_sync() if wanted and size() > 1 else nullcontext()


def is_lost(error: RuntimeError) -> bool:
    """Whether an error tells of another process' end, as gloo and NCCL do."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


@contextmanager
def root_cause_first() -> Iterator[None]:
    """Inside, what may come of another process' end is raised with a delay: what ended that one is to be told first."""
    try:
        yield
    except RuntimeError as error:
        if is_lost(error):
            time.sleep(DELAY)
        raise
