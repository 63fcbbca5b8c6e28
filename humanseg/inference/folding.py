"""A network for prediction alone, which takes less time than the one that was trained."""

import copy
from collections import Counter
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(network: nn.Module) -> nn.Module:
    """A copy of a network, in evaluation, whose batch norm is part of the convolutions before it (Jacob et al. 2018, 3.2).

    It predicts the same but for rounding. Only what is certain is folded: a convolution and its batch norm that follow each
    other in a `nn.Sequential`, have no hooks and are used nowhere else.
    """
    network = copy.deepcopy(network).eval()
    used = Counter(id(child) for module in network.modules() for child in module._modules.values())
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
    """Whether a module is of a class itself, not of one that derives from it, and calls nothing but its own forward pass."""
    return type(module) is kind and not (module._forward_pre_hooks or module._forward_hooks)
