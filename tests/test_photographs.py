"""On real photographs, where they are at hand beside the project."""

import json

import pytest
from conftest import PHOTOGRAPHS

WEIGHTS = PHOTOGRAPHS.parent.parent / "weights" / "mobilenet_v2_imagenet.pth"

pytestmark = pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason=f"needs the photographs of {PHOTOGRAPHS}")


def test_the_portrait_recipe_learns(run):
    done = run(
        "experiment=portrait", f"data.root={PHOTOGRAPHS}", f"model.encoder_weights={WEIGHTS}", "data.limit=128",
        "data.val_split=32", "data.image_size=96", "trainer.epochs=4", "callbacks=none",
    )  # fmt: skip
    best = json.loads((done.folder / "summary.json").read_text())["best"]
    assert best["val/iou"] > 0.75


@pytest.mark.slow
def test_the_portrait_recipe_reaches_its_figure(run):
    done = run("experiment=portrait", f"data.root={PHOTOGRAPHS}", f"model.encoder_weights={WEIGHTS}")
    assert json.loads((done.folder / "summary.json").read_text())["best"]["val/iou"] >= 0.955
