"""Several sources in one run: each is validated and tested for itself, beside the whole and the mean over them."""

import re
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import pytest
from conftest import ON_FILES, board, rows, run_into, summary, write_people
from tensorboard.plugins.custom_scalar import layout_pb2

from humanseg.modes.test import needed

MIXED = [*ON_FILES, "data=mix", "data.val_batch_size=4", "trainer.test=true", "trainer.monitor=val/mean_iou"]


def source(name: str, root: Path, *keys: str) -> list[str]:
    """The overrides that add a folder to a mix."""
    own = [f"+data.sources.{name}.{key}" for key in keys]
    return [f"+data@data.sources.{name}=folder", f"data.sources.{name}.root={root}", *own]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A run on three sources beside it. Six photographs of `near` validate, three of `far`, none of `more`."""
    root = tmp_path_factory.mktemp("mixed")
    near, far = write_people(root / "near", 16), write_people(root / "far", 9, size=(40, 60))
    cv2.imwrite(str(far / "masks" / "004.png"), np.zeros((40, 60), np.uint8))  # nobody
    more = write_people(root / "more", 4, size=(44, 44))
    overrides = [*source("near", near), *source("far", far, "weight=2", "val_split=3")]
    return run_into(root / "run", *MIXED, *overrides, *source("more", more, "only=train", "val_split=0"))


def test_the_values_of_each_source_join_those_of_all(mixed):
    table = rows(mixed)
    names = {name.removeprefix("val/") for name in table[0] if name.startswith("val/") and name.count("/") == 1}
    plain = {name for name in names if not name.startswith("mean_")}
    assert {"loss", "iou", "boundary_iou"} < plain and names == plain | {f"mean_{name}" for name in plain}
    for row in table:
        for name in plain:
            near, far = float(row[f"val/near/{name}"]), float(row[f"val/far/{name}"])
            assert float(row[f"val/mean_{name}"]) == pytest.approx((near + far) / 2)
        near, far = float(row["val/near/loss"]), float(row["val/far/loss"])
        assert float(row["val/loss"]) == pytest.approx((6 * near + 3 * far) / 9)
        assert min(float(row["val/near/iou"]), float(row["val/far/iou"])) <= float(row["val/iou"])
    told = summary(mixed)
    assert told["monitored"] == max(float(row["val/mean_iou"]) for row in table) == told["best"]["val/mean_iou"]


def test_photographs_and_scores_name_their_source(mixed):
    table, best = rows(mixed / "val_full_size", "per_image.csv"), summary(mixed)["best"]
    assert [row["source"] for row in table] == ["near"] * 6 + ["far"] * 3
    for name in ("near", "far"):
        assert all(f"/{name}/images/" in row["image"] for row in table if row["source"] == name)
        mean = fmean(float(row["iou"]) for row in table if row["source"] == name)
        assert best[f"val_full_size/{name}/iou_per_image"] == pytest.approx(mean)
    assert best["val_full_size/iou_per_image"] == pytest.approx(fmean(float(row["iou"]) for row in table))
    log = (mixed / "run.log").read_text()
    assert re.search(r"\n  0\.\d{4}  (near|far )  /", log)
    shown = [line.split() for line in log.split("by source")[1].splitlines()[1:5]]
    assert [line[0] for line in shown] == ["near", "far", "mean", "all"]
    assert shown[1][1:] == [f"{best[f'{split}/far/{name}']:.4f}" for split in ("val", "val_full_size") for name in ("iou", "boundary_iou")]  # fmt: skip


def test_a_run_says_what_it_was_given(mixed):
    log = (mixed / "run.log").read_text()
    assert "samples    20 train (26 a pass), 9 val" in log
    near, far = (re.search(rf"\n  {name} +(.*)", log)[1] for name in ("near", "far"))
    assert near.startswith("10 train, 6 val; people ") and far.startswith(
        "6 train (weight 2: 12 a pass), 3 val; people "
    )
    masks = [cv2.imread(str(path), 0) > 0 for path in sorted((mixed.parent / "far" / "masks").iterdir())]
    quartiles = 100 * np.quantile([mask.mean() for mask in masks if mask.any()], (0.25, 0.5, 0.75))
    told = far.split("people")[1]
    assert [float(one) for one in re.findall(r"[\d.]+", told)[:3]] == pytest.approx(list(quartiles), abs=1)
    assert told.endswith("1 of 9 empty, 0 % ignored")
    assert re.search(r"\n  more +4 train; people ", log)


def test_tensorboard_has_a_chart_of_all_sources_for_each_metric(mixed):
    shown = board(mixed)
    assert {"val/near/iou", "val/far/boundary_iou", "val/mean_iou"} < set(shown.Tags()["scalars"])
    layout = layout_pb2.Layout.FromString(shown.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    (charts,) = [category.chart for category in layout.category if category.title == "sources"]
    found = {chart.title: list(chart.multiline.tag) for chart in charts}
    assert found["iou"] == ["^val/near/iou$", "^val/far/iou$", "^val/mean_iou$"] and "loss" in found
    # the table of all runs has the metric that decides by source, and the others over all
    assert {"best/val/far/iou", "best/val/dice"} < set(shown.Tags()["scalars"])
    assert "best/val/far/dice" not in shown.Tags()["scalars"]


def test_a_test_does_not_open_a_source_that_only_trains(run, mixed):
    kept = mixed.parent / "more"
    kept.rename(mixed.parent / "away")
    try:
        done = run("mode=test", f"ckpt={mixed}", "trainer.precision=fp32", "metrics=[dice,iou]")
    finally:
        (mixed.parent / "away").rename(kept)
    found, best = summary(done.scored)["metrics"], summary(mixed)["best"]
    assert summary(done.scored)["monitor"] == "test/dice" and "samples    9 val (6 near, 3 far)" in done.stdout
    assert found["test/far/iou"] == pytest.approx(best["val_full_size/far/iou"], abs=1e-6)
    assert re.search(r"by source +test/dice +test/iou\n  near .*\n  far .*\n  mean .*\n  all ", done.stdout)


def mix(**sources: dict) -> dict:
    """The `data` config of a mix."""
    nodes = {name: {"_target_": "f"} | node for name, node in sources.items()}
    return {"_target_": "humanseg.data.mix.together", "val_split": 0.1, "sources": nodes}


def test_what_a_test_of_a_mix_opens():
    data = mix(a={"root": "A"}, b={"root": "B", "only": "train"}, c={"root": "C", "only": "test"})
    opened = {split: "".join(needed(data, split)["sources"]) for split in ("auto", "test", "val", "train")}
    assert opened == {"auto": "ac", "test": "ac", "val": "a", "train": "abc"}
    own = needed(mix(a={"root": "A", "test_root": "T"}, b={"root": "B"}), "auto")["sources"]
    assert own["a"] == {"_target_": "f", "root": None, "val_root": None, "test_root": "T"} and own["b"]["root"] == "B"
    listed = {"root": ["A", "B"], "weights": [1, 3], "test_root": "T"}
    assert needed(listed, "auto") == {"root": None, "val_root": None, "weights": None, "test_root": "T"}
    with pytest.raises(ValueError, match=r"split=auto: the sources a, b have no such samples"):
        needed(mix(a={"only": "train"}, b={"only": "train"}), "auto")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("trainer.monitor=val/mean_io", "no such value, did you mean val/mean_iou?"),
        ("trainer.monitor=val/fare/loss", "val/far/loss"),
        ("metrics=[iou,test_by_source.mean_iou]", "metrics: mean_iou is the mean over the sources of the data"),
    ],
)
def test_what_can_not_be_monitored_by_source_is_one_sentence(run, mixed, typed, sentence):
    sources = [*source("near", mixed.parent / "near"), *source("far", mixed.parent / "far")]
    told = run(*MIXED, *sources, typed, code=1).stderr
    assert sentence in told and len(told.strip().splitlines()) == 1


def mean_iou(counts) -> float:
    return 1.0
