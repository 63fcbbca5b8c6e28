"""Deep supervision: the network that predicts is SMP's own."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

from humanseg import build
from humanseg.networks import DeepUnet

SHAPE = {"encoder_name": "resnet18", "encoder_weights": None, "decoder_channels": [16, 8, 8, 8, 4]}


def test_it_is_smps_unet_with_heads_that_train():
    torch.manual_seed(0)
    plain = smp.Unet(**SHAPE, classes=2, aux_params={"classes": 1, "dropout": None})
    torch.manual_seed(0)
    deep = DeepUnet(2, **SHAPE, classes=2, aux_params={"classes": 1, "dropout": None})
    images = torch.rand(2, 3, 64, 96)
    outputs = deep(images)
    assert [tuple(one.shape) for one in outputs] == [(2, 2, 64, 96), (2, 2, 32, 48), (2, 2, 16, 24), (2, 1)]
    expected = plain(images)
    assert torch.equal(outputs[0], expected[0]) and torch.equal(outputs[3], expected[1])
    for ours, theirs in zip(deep.eval()(images), plain.eval()(images), strict=True):
        assert torch.equal(ours, theirs)
    sum(one.sum() for one in outputs).backward()
    assert all(parameter.grad is not None for parameter in deep.parameters())


@pytest.mark.parametrize("count", [0, 5])
def test_heads_that_the_decoder_has_no_stages_for_are_one_sentence(count):
    with pytest.raises(ValueError, match=f"model.deep_outputs={count}: the decoder has 5 stages"):
        DeepUnet(count, **SHAPE)


def test_a_checkpoint_chooses_its_encoder_of_the_libraries_own():
    config = {"_target_": "humanseg.networks.DeepUnet", "deep_outputs": 2, "encoder_name": "tu-none"}
    with pytest.raises(ValueError, match="model.encoder_name=tu-none: no encoder of segmentation-models-pytorch"):
        build.model_of({}, config, Path("last.pt"))
