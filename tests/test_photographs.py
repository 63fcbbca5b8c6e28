"""The portrait recipe learns: on real photographs where they lie beside the project, on drawn people in files everywhere."""

import pytest
from conftest import PHOTOGRAPHS, summary, write_people

WEIGHTS = PHOTOGRAPHS.parent.parent / "weights" / "mobilenet_v2_imagenet.pth"
REAL = ["experiment=portrait", f"data.root={PHOTOGRAPHS}", f"model.encoder_weights={WEIGHTS}"]

needs_photographs = pytest.mark.skipif(
    not PHOTOGRAPHS.is_dir() or not WEIGHTS.is_file(),
    reason=f"never runs where {PHOTOGRAPHS} or {WEIGHTS} is not; the drawn people above stand in for them",
)


def test_the_portrait_recipe_learns_drawn_people(run, tmp_path):
    """From random weights, in a few dozen steps, as far as a small network comes with all of the recipe."""
    people = write_people(tmp_path / "people", 48, size=(64, 56))
    small = ["model.encoder_name=resnet18", "+model.encoder_depth=3", "+model.decoder_channels=[32,16,16]"]
    done = run(
        "experiment=portrait", f"data.root={people}", *small, "data.val_split=16", "data.image_size=64",
        "data.batch_size=8", "data.num_workers=0", "optimizer.lr=0.005", "trainer.epochs=10", "callbacks=none",
    )  # fmt: skip
    assert summary(done.folder)["best"]["val/iou"] > 0.6  # seeds gave 0.97, 0.88, 0.93; a person everywhere has 0.17


@needs_photographs
def test_the_portrait_recipe_learns(run):
    done = run(*REAL, "data.limit=64", "data.val_split=32", "data.image_size=96", "trainer.epochs=4", "callbacks=none")
    assert summary(done.folder)["best"]["val/iou"] > 0.7


@needs_photographs
@pytest.mark.slow
def test_the_portrait_recipe_reaches_its_figure(run):
    assert summary(run(*REAL).folder)["best"]["val/iou"] >= 0.955
