"""A photograph is normalised as those that the encoder was pretrained on; a recipe of one's own leaves pixels as they are."""

import pytest
from conftest import ON_FILES, composed, run_into, saved

from humanseg.normalisation import IMAGENET, of_encoder

HALF = [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("encoder", "weights", "mean"),
    [
        ("mobilenet_v2", "imagenet", IMAGENET["mean"]), ("mit_b0", None, IMAGENET["mean"]), ("xception", None, HALF),
        ("tu-tf_efficientnet_lite0", None, HALF), ("tu-resnet18.a1_in1k", "imagenet", IMAGENET["mean"]),
        ("timm-efficientnet-b0", "advprop", HALF), ("timm-efficientnet-b0", "noisy-student", IMAGENET["mean"]),
        ("timm-tf_efficientnet_lite0", "imagenet", HALF), ("dpn68", None, [124 / 255, 117 / 255, 104 / 255]),
        ("tu-no_such_encoder", None, IMAGENET["mean"]), (None, None, IMAGENET["mean"]),
    ],
)  # fmt: skip
def test_mean_of(encoder, weights, mean):
    assert of_encoder(encoder, weights)["mean"] == pytest.approx(mean)


def test_what_is_typed_wins_and_numbers_are_recorded(tmp_path):
    data = composed("model.encoder_name=xception", "data.std=[0.1,0.2,0.3]")["data"]
    assert (data["mean"], data["std"]) == (HALF, [0.1, 0.2, 0.3])
    encoder = "model.encoder_name=tu-tf_mobilenetv3_small_minimal_100"
    folder = run_into(tmp_path / "run", *ON_FILES, "data.samples=24", encoder, "trainer.epochs=1")
    assert saved(folder)["config"]["data"]["mean"] == HALF


@pytest.mark.parametrize(
    ("transform", "left"),
    [
        ("albumentations.Normalize", "image as float32 40x33x3,"),
        ("albumentations.pytorch.ToTensorV2", "image as torch.uint8 3x40x33,"),
        ("albumentations.ToGray,num_output_channels:1", "image as uint8 40x33,"),
    ],
)
def test_a_recipe_that_leaves_no_uint8_picture_is_one_sentence(run, people, transform, left):
    recipe = f"augment.transforms=[{{_target_:{transform},p:1.0}}]"
    done = run(*ON_FILES, "data=folder", f"data.root={people}", recipe, "trainer.epochs=1", code=1)
    assert done.stderr.startswith(f"error: augment leaves the {left}") and done.stderr.count("\n") == 1
