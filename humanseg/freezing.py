"""An encoder that does not train in the first epochs."""

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer


def group_apart(network: nn.Module, optimizers: Iterable[Optimizer]) -> None:
    """Give the encoder's parameters groups of their own, before the first step of an encoder that is frozen at first.

    torch's fused SGD steps a group only where all of its parameters have a momentum, or none has.

    Raises:
        ValueError: the network has no encoder, or nothing else that trains.
    """
    if not isinstance(getattr(network, "encoder", None), nn.Module):
        parts = ", ".join(name for name, _ in network.named_children())
        raise ValueError(
            f"trainer.freeze_encoder: {type(network).__name__} has no encoder, its parts are {parts}; give null"
        )
    own = {id(parameter) for parameter in network.encoder.parameters()}
    for optimizer in optimizers:
        halves = [
            group | {"params": [one for one in group["params"] if (id(one) in own) == inside]}
            for group in optimizer.param_groups
            for inside in (False, True)
        ]
        optimizer.param_groups[:] = [group for group in halves if group["params"]]
    if not any(one.requires_grad and id(one) not in own for one in network.parameters()):
        raise ValueError(
            f"trainer.freeze_encoder: of {type(network).__name__} nothing but the encoder trains; give null"
        )


def change(encoder: nn.Module, optimizers: Iterable[Optimizer], frozen: bool) -> bool:
    """Freeze what optimizers hold of an encoder, or let it train; returns whether that changes something."""
    own = {id(parameter) for parameter in encoder.parameters()}
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    held = [one for group in groups for one in group["params"] if id(one) in own]
    changes = any(one.requires_grad == frozen for one in held)
    for one in held:
        one.requires_grad_(not frozen)
    return changes


def has_gradients(optimizer: Optimizer) -> bool:
    """Whether an optimizer has something to step. One that holds a frozen encoder alone has nothing."""
    return any(one.grad is not None for group in optimizer.param_groups for one in group["params"])
