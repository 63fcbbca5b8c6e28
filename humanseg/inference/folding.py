"""A network for prediction alone: what only training needs is folded away."""

from collections import Counter
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batchnorm(network: nn.Module) -> nn.Module:
    """A network, in evaluation, whose batch norm is made part of the convolutions before it (Jacob et al. 2018, 3.2).

    It predicts the same but for rounding, in less time, and can't be trained afterwards. Only what is certain is folded: a
    convolution and its batch norm that follow each other in a `nn.Sequential`, have no hooks and are used nowhere else.
    """
    used = Counter(id(child) for module in network.eval().modules() for child in module._modules.values())
    for module in network.modules():
        if type(module).forward is not nn.Sequential.forward:
            continue
        for (before, first), (after, second) in pairwise(list(module._modules.items())):
            if used[id(first)] > 1 or used[id(second)] > 1:
                continue
            if _is_plain(first, nn.Conv2d) and _is_plain(second, nn.BatchNorm2d) and second.track_running_stats:
                setattr(module, before, fuse_conv_bn_eval(first, second))
                setattr(module, after, nn.Identity())
    return network


def _is_plain(module: nn.Module, kind: type) -> bool:
    """Whether a module, in evaluation, is of a class itself, not of one that derives from it, and calls nothing else."""
    hooked = module._forward_pre_hooks or module._forward_hooks
    return type(module) is kind and not hooked and not module.training
