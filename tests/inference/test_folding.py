import pytest
import torch
from segmentation_models_pytorch import Unet
from torch import nn

from humanseg.inference.folding import folded


def used(network: nn.Module) -> nn.Module:
    """A network whose batch norm has seen something."""
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(2, 3, 64, 64) * 2 + 1)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_a_folded_network_predicts_the_same_and_the_one_it_came_from_is_left_as_it_was():
    network = used(Unet("mobilenet_v2", encoder_weights=None))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    quick, images = folded(network), torch.randn(2, 3, 64, 64)
    assert norms(network) > 50
    assert norms(quick) == 0
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(quick(images), network.eval()(images), rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize(
    "make",
    [
        Twice,
        repeated,
        hooked,
        lambda: Backwards(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)),
    ],
    ids=["shared", "repeated", "hooked", "another order", "no statistics", "apart"],
)
def test_what_can_not_be_folded_stays_as_it_is(make):
    network = used(make()).eval()
    quick, images = folded(network), torch.randn(2, 3, 64, 64)
    assert norms(quick) == 1
    assert torch.equal(quick(images), network(images))
