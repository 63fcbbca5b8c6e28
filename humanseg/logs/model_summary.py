"""A network in numbers: its stages, parameters and multiply-adds."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from humanseg import terminal
from humanseg.compute import as_list


def summarise_model(
    model: nn.Module, size: int, classes: int, smaller: Sequence[int] = ()
) -> tuple[str, dict[str, float]]:
    """Layers by stage as a table; parameters, trainable parameters and multiply-adds for one size x size image.

    Args:
        smaller: further sizes that it is trained at.

    Raises:
        ValueError: the network can't take one of the sizes, or gives something else than logits of the classes.
    """
    counter, was_training = FlopCounterMode(display=False), model.training
    model.eval()
    for side in sorted({*smaller}):
        _refuse_unfit(model, side, classes, "trainer.sizes")
    with counter:
        _refuse_unfit(model, size, classes, "data.image_size")
    model.train(was_training)
    flops = {name.split(".", 1)[-1]: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    rows = [f"{'stage':<32} {'layers':>7} {'parameters':>12} {'M multiply-adds':>16}"]
    for name, stage in stages(model):
        layers = sum(not list(module.children()) for module in stage.modules())
        parameters = sum(parameter.numel() for parameter in stage.parameters())
        rows.append(f"{name:<32} {layers:>7} {parameters:>12,} {flops.get(name, 0) / 2e6:>16.1f}")
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "multiply_adds": counter.get_total_flops() // 2,
    }
    return terminal.lines(rows), facts


@torch.no_grad()
def _refuse_unfit(model: nn.Module, size: int, classes: int, key: str) -> None:
    try:
        logits = as_list(model(torch.zeros(1, 3, size, size, device=next(model.parameters()).device)))[0]
    except RuntimeError as error:
        image = f"{type(model).__name__} can't take a 3x{size}x{size} image"
        raise ValueError(f"{key}={size}: {image}: {error}") from error
    if logits.shape != (1, classes, size, size):
        raise ValueError(
            f"{type(model).__name__} gives {tuple(logits.shape)} for a 3x{size}x{size} image: its first output must be logits "
            f"{classes}x{size}x{size}, as model.classes={classes} says"
        )


def stages(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The parts of a network that people speak of: the children of encoder and decoder that have parameters."""
    found = []
    for name, part in model.named_children():
        children = _unwrapped(part)
        found += [(f"{name}.{child}", module) for child, module in children] or [(name, part)]
    return [(name, module) for name, module in found if any(True for _ in module.parameters())]


def _unwrapped(part: nn.Module) -> list[tuple[str, nn.Module]]:
    """The children, or their children where one container holds them all, as MobileNetV2's `features` does."""
    children = [(name, child) for name, child in part.named_children() if any(True for _ in child.parameters())]
    if len(children) == 1 and isinstance(children[0][1], nn.Sequential | nn.ModuleList):
        return [(f"{children[0][0]}.{name}", child) for name, child in _unwrapped(children[0][1])]
    return children
