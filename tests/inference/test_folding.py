import pytest
import torch
from segmentation_models_pytorch import Unet
from torch import nn

from humanseg.inference.folding import fold_batchnorm


def used(network: nn.Module) -> nn.Module:
    """A network whose batch norm has seen something."""
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(2, 3, 64, 64) * 2 + 1)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_a_folded_network_predicts_the_same():
    network, images = used(Unet("mobilenet_v2", encoder_weights=None)).eval(), torch.randn(2, 3, 64, 64)
    assert norms(network) > 50
    with torch.no_grad():
        before = network(images)
        torch.testing.assert_close(fold_batchnorm(network)(images), before, rtol=1e-4, atol=1e-5)
    assert norms(network) == 0


class Twice(nn.Module):
    """A convolution that is used with a batch norm and, elsewhere, without."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.normed = nn.Sequential(self.conv, nn.BatchNorm2d(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.normed(self.conv(images))


def repeated() -> nn.Module:
    conv = nn.Conv2d(3, 3, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(3), conv)


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
    network[0].register_forward_hook(lambda module, given, found: found * 2)
    return network


class Backwards(nn.Sequential):
    """Its children are not called in their order."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self[0](self[1](images))


class AlwaysTraining(nn.Sequential):
    """Its batch norm takes each batch's own statistics."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(True)


@pytest.mark.parametrize(
    "make",
    [
        Twice,
        repeated,
        hooked,
        lambda: Backwards(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)),
        lambda: AlwaysTraining(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), nn.BatchNorm2d(3)),
    ],
    ids=["shared", "repeated", "hooked", "another order", "in training", "no statistics", "apart", "parametrized"],
)
def test_what_can_not_be_folded_stays_as_it_is(make):
    network, images = used(make()).eval(), torch.randn(2, 3, 64, 64)
    before = network(images)
    assert norms(fold_batchnorm(network)) == 1
    assert torch.equal(network(images), before)
