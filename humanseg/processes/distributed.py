"""The processes that work on one run: how they find each other, and what they exchange.

All of it is torch.distributed's. With one process each function returns at once what it would return among several.
The process of rank 0 is the main process: it alone writes and prints.
"""

import functools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from humanseg.processes import hardware, torch_private

TIMEOUT = timedelta(hours=2)  # until a process that does not answer is given up: another one may still fill its cache
DELAY = 2  # seconds by which the error of a lost connection is held back

_store: dist.Store | None = None  # what the processes tell each other, and those that a restart brings


class Share(NamedTuple):
    """The part of the work that is this process': number `rank` of `world_size`."""

    rank: int = 0
    world_size: int = 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work on this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share() -> Share:
    """This process' part of the run's work."""
    return Share(rank(), world_size())


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def rank_zero_only(function: Callable) -> Callable:
    """Decorate a function that writes or prints: in all processes but the main one it does nothing and returns None."""

    @functools.wraps(function)
    def called(*arguments, **named):
        return function(*arguments, **named) if is_main() else None

    return called


def hides_bar() -> bool | None:
    """tqdm's `disable`: the main process alone shows a progress bar, and on a terminal only."""
    return None if is_main() else True


def init(gpus: list[int] | None, minutes: float, sharers: int = 1) -> None:
    """Meet the others, as torchrun's environment variables say: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and so on.

    Args:
        gpus: of this machine, one for each of its processes; None: they share the CPU.
        sharers: how many runs share this machine's cores.

    Raises:
        ValueError: the others do not come within so many minutes.
    """
    try:
        store, number, count = next(dist.rendezvous("env://", timeout=timedelta(minutes=minutes)))
    except dist.DistError as error:
        where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise ValueError(
            f"the {os.environ['WORLD_SIZE']} processes did not meet at {where} within {minutes:g} minutes; "
            "trainer.join_minutes= waits longer"
        ) from error
    global _store
    _store = dist.PrefixStore("humanseg", store)
    # After a restart the store still has the addresses of the processes that died, so each attempt has its own names.
    # Several machines count their restarts separately; there the number of arrivals tells the attempt.
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    if int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1:
        attempt = (_store.add("arrivals", 1) - 1) // count
    store = dist.PrefixStore(str(attempt), store)
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT, rank=number, world_size=count, store=store)
    store.set_timeout(TIMEOUT)  # NCCL uses it where the first GPU waits for one that still fills its cache
    place = hardware.own_cores()
    own = [gpus[int(os.environ["LOCAL_RANK"])]] if gpus else []
    hardware.give(own, all_gather(place).count(place) * sharers)


def leave() -> None:
    """Part from the others, which do the same.

    NCCL needs all of them to leave at once. With gloo alone the last rank leaves first: gloo can abort a process whose
    other end closes the connection at the same moment.
    """
    own, after = f"left {rank()}", f"left {rank() + 1}"
    if rank() + 1 < world_size() and dist.get_backend() == "gloo":
        _store.wait([after], timedelta(minutes=1))
    dist.destroy_process_group()
    _store.set(own, "")


def remember(text: str) -> None:
    """Leave a text for the processes that torchrun starts in the place of these if one of them dies."""
    _store.set("remembered", text)


def remembered() -> str | None:
    """The text that was left before the restart that this process comes from."""
    return _store.get("remembered").decode() if _store and _store.check(["remembered"]) else None


def broadcast(value: Any = None) -> Any:
    """The main process' value, in all processes."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
    return box[0]


def made_by_main(make: Callable[[], Any]) -> Any:
    """What `make` returns in the main process, in all processes; the others do not call it."""
    return broadcast(make() if is_main() else None)


def all_gather(value: Any) -> list:
    """Each process' value by rank, in all processes; tensors have to be on the CPU."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def all_gather_in_turns(own: list) -> list:
    """One list in its first order, of which each process holds every world_size-th item."""
    missing = object()
    rounds = zip_longest(*all_gather(own), fillvalue=missing)
    return [item for item in chain.from_iterable(rounds) if item is not missing]


def all_reduce_max(*numbers: int) -> list[int]:
    """The largest of all processes, number by number. No process goes on before all have come here."""
    if world_size() == 1:
        return list(numbers)
    held = torch.tensor(numbers)
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return held.tolist()


def barrier() -> None:
    """Wait until all processes have come here."""
    all_reduce_max(0)


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process run the body first; the others run it when that one is through, and find what it prepared."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def reduce_to_main(sums: Iterable[Tensor]) -> None:
    """Add sums up in the main process, in place; in the others they become zero."""
    if world_size() == 1:
        return
    for tensor in sums:
        dist.reduce(tensor, 0)
        if not is_main():
            tensor.zero_()


@torch.no_grad()
def all_reduce_mean(tensors: Iterable[Tensor]) -> None:
    """Replace floating tensors by their mean over the processes, in place."""
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    if world_size() == 1 or not floating:
        return
    together = torch.cat([tensor.flatten() for tensor in floating])
    dist.all_reduce(together)
    parts = (together / world_size()).split([tensor.numel() for tensor in floating])
    for tensor, part in zip(floating, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def seed_rank(seed: int, step: int) -> None:
    """Give each process but the main one random numbers of its own for a step, for dropout."""
    if not is_main():
        torch.manual_seed(hash((seed, rank(), step)))


def parallel(network: nn.Module, forward: Callable[[], Tensor]) -> nn.Module:
    """A network whose backward pass averages its gradients over the processes; the network and its keys stay the same.

    Args:
        forward: returns the network's output, or the sum of its outputs, for some input. Parameters that do not take
            part in it are expected to get no gradient in training either.
    """
    if world_size() == 1:
        return network
    partly = _is_used_partly(network, forward)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch 2.11 has not its newer name
        return DistributedDataParallel(
            network, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=partly
        )


def _is_used_partly(network: nn.Module, forward: Callable[[], Tensor]) -> bool:
    """Whether some parameters get no gradient. PSPNet's decoder, for instance, uses the encoder's first stages alone."""
    network.train()  # some of its outputs may be for training alone
    for module in network.modules():
        if isinstance(module, torch_private.NORMS):
            module.eval()  # so that the statistics of batch norm stay
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):  # what dropout draws here is forgotten
        forward().sum().backward()
    unused = any(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    network.zero_grad(set_to_none=True)
    return unused


def no_sync(network: nn.Module, wanted: bool) -> AbstractContextManager:
    """Let the gradients of a `parallel` network only add up: another batch of the same step follows."""
    return network.no_sync() if wanted and world_size() > 1 else nullcontext()


def is_lost(error: RuntimeError) -> bool:
    """Whether an error says that another process has ended, as gloo and NCCL say it."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


@contextmanager
def root_cause_first() -> Iterator[None]:
    """Delay errors that say that another process has ended, so that the error which ended that process is shown first."""
    try:
        yield
    except RuntimeError as error:
        if is_lost(error):
            time.sleep(DELAY)
        raise
