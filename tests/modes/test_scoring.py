"""``mode=test``: a checkpoint scored at the photographs' own size."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import ON_FILES, TINY, rows, summary, write_people
from sklearn.metrics import jaccard_score

from humanseg.evaluation import choose_split
from humanseg.predictor import Predictor


def test_it_scores_photographs_at_their_own_size(run, trained_once, tmp_path):
    other = write_people(tmp_path / "other", 5, size=(61, 90))
    done = run("mode=test", f"ckpt={trained_once}", "data=folder", f"data.test_root={other}", "trainer.precision=fp32")
    folder = done.scored
    predictor, found, truth = Predictor(trained_once, precision="fp32", backend="torch", refine=False), [], []
    for number in range(5):
        image = cv2.cvtColor(cv2.imread(str(other / "images" / f"{number:03d}.png")), cv2.COLOR_BGR2RGB)
        found.append(predictor(image) > 0.5)
        truth.append(cv2.imread(str(other / "masks" / f"{number:03d}.png"), cv2.IMREAD_GRAYSCALE) > 0)
    expected = jaccard_score(np.ravel(truth), np.ravel(found))
    scored = summary(folder)
    assert scored["metrics"]["test/iou"] == pytest.approx(expected, abs=1e-6)
    assert scored["status"] == "completed" and scored["split"] == "test" and scored["ckpt"].endswith("best.pt")

    table = rows(folder, "per_image.csv")
    assert len(table) == 5 and float(table[0]["iou"]) == pytest.approx(
        jaccard_score(truth[0].ravel(), found[0].ravel())
    )
    assert cv2.imread(str(folder / "contact_sheet.png")) is not None
    worst = [float(line.split()[0]) for line in done.stdout.split("worst ")[1].splitlines()[1:6]]
    assert worst == sorted(worst)


def test_data_of_its_own_needs_no_training_data(run, people, tmp_path):
    trained = run(*ON_FILES, "data=folder", f"data.root={people}").folder
    people.rename(tmp_path / "moved")
    for typed in (["data=folder"], []):
        done = run("mode=test", f"ckpt={trained}", *typed, f"data.test_root={tmp_path}/moved")
        assert summary(done.scored)["split"] == "test"
    assert "people/images does not exist" in run("mode=test", f"ckpt={trained}", code=1).stderr


def test_without_test_data_it_scores_the_runs_own_validation_split(run, trained_once):
    done = run("mode=test", f"ckpt={trained_once}")
    names = {row["image"] for row in rows(done.scored, "per_image.csv")}
    assert len(names) == 6 and summary(done.scored)["split"] == "val"
    again = run("mode=test", f"ckpt={trained_once / 'checkpoints' / 'last.pt'}", "split=val", "worst=2")
    assert {row["image"] for row in rows(again.scored, "per_image.csv")} == names
    assert len(rows(run("mode=test", f"ckpt={trained_once}", "split=train").scored, "per_image.csv")) == 6


def test_latest_is_the_newest_run(run, finished):
    newest = Path(shutil.copytree(finished, finished.parent / "another"))
    os.utime(finished / "checkpoints" / "best.pt", (0, 0))
    assert summary(run("mode=test", "ckpt=latest").scored)["ckpt"] == str(newest / "checkpoints" / "best.pt")


def test_the_end_of_training_can_test(run):
    done = run(*TINY, "data.test_split=4", "trainer.test=true")
    assert (done.folder / "test" / "contact_sheet.png").is_file()
    best = summary(done.folder)["best"]
    again = run("mode=test", f"ckpt={done.folder}", "trainer.precision=fp32")
    assert summary(again.scored)["metrics"]["test/iou"] == pytest.approx(best["test/iou"], abs=1e-6)


def test_metrics_can_be_others(run, trained_once):
    done = run("mode=test", f"ckpt={trained_once}", "metrics=[dice,average_precision]")
    assert set(summary(done.scored)["metrics"]) == {"test/dice", "test/average_precision"}


def test_the_masks_that_are_drawn_can_be_scored_photograph_by_photograph(run, trained_once, people):
    typed = ["trainer.precision=fp32", "metrics=[iou_per_image,boundary_iou_per_image]", "refine=true"]
    done = run("mode=test", f"ckpt={trained_once}", "data=folder", f"data.test_root={people}", *typed)
    predictor, scores = Predictor(trained_once, precision="fp32", backend="torch"), []
    for number in range(12):
        person = predictor(people / "images" / f"{number:03d}.png") > 0.5
        truth = cv2.imread(str(people / "masks" / f"{number:03d}.png"), cv2.IMREAD_GRAYSCALE) > 0
        scores.append(jaccard_score(truth.ravel(), person.ravel()))
    table, means = rows(done.scored, "per_image.csv"), summary(done.scored)["metrics"]
    assert [float(row["iou_per_image"]) for row in table] == pytest.approx(scores)
    for name in ("iou_per_image", "boundary_iou_per_image"):
        assert means[f"test/{name}"] == pytest.approx(np.mean([float(row[name]) for row in table])), name
    assert "refine=maybe: give true or false" in run("mode=test", f"ckpt={trained_once}", "refine=maybe", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mode=test"], "mode=test needs ckpt=PATH"),
        (["mode=test", "ckpt=nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["mode=test", "ckpt=latest"], "ckpt=latest: no run under"),
        (["mode=test", "ckpt=[A,B]"], "ckpt=['A', 'B']: give one checkpoint"),
        (["mode=predict", "input=run.py", "ckpt=[A,B]"], "ckpt=['A', 'B']: give one checkpoint"),
        (["mode=check", "ckpt=[A,B]"], "ckpt=['A', 'B']: give one checkpoint"),
        (["mode=compare", "a=latest", "b=latest"], "a=latest: no run under"),
        (["loss=distill", "distill=latest"], "distill=latest: no run under"),
        (["split=val"], "split belongs to mode=compare or mode=test: add it"),
    ],
)
def test_what_names_no_checkpoint_is_one_sentence(run, arguments, sentence):
    assert sentence in run(*arguments, code=1).stderr


def test_what_does_not_fit_a_checkpoint(run, trained_once):
    for typed, sentence in (
        ("model.encoder_name=resnet18", "does not fit"),
        ("split=test", "there are samples in val, train"),
        ("experiment=debug", "experiment= can't be typed beside ckpt="),
        ("data.test_root=nowhere", "nowhere/images does not exist"),
    ):
        assert sentence in run("mode=test", f"ckpt={trained_once}", typed, code=1).stderr, typed


def test_a_split_that_a_data_function_adds_is_scored_when_it_is_named():
    data = SimpleNamespace(splits={"train": [1], "val": [1], "night": [1, 2], "empty": []})
    assert choose_split(data, "auto") == "val" and choose_split(data, "night") == "night"
    with pytest.raises(ValueError, match="split=empty: there are samples in val, train, night"):
        choose_split(data, "empty")
