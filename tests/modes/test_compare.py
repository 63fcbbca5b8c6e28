"""``mode=compare``: networks beside each other on the same photographs."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import ON_FILES, Done, rows, run_into, summary, write_people

from humanseg.runs.atomic import write_json, write_table


@pytest.fixture(scope="module")
def other_once(trained_once, tmp_path_factory) -> Path:
    """A run on the photographs of `trained_once` that has scored them at its end."""
    data = ["data=folder", f"data.root={trained_once.parent}/people"]
    return run_into(tmp_path_factory.mktemp("other") / "run", *ON_FILES, *data, "seed=1", "trainer.test=true")


@pytest.fixture
def other(other_once, tmp_path) -> Path:
    return Path(shutil.copytree(other_once, tmp_path / "other"))


def told(done: Done) -> dict[tuple, dict]:
    """The differences in compare.json by label, source and metric."""
    found = json.loads((done.folder / "compare.json").read_text())["differences"]
    return {(row["second"], row["source"], row["metric"]): row for row in found}


def earlier(run: Path) -> Path:
    """Make a run's scores those of an earlier version."""
    file = run / "val_full_size" / "per_image.csv"
    table = [{name: cell for name, cell in row.items() if "/" not in name} for row in rows(file.parent, file.name)]
    write_table(file, list(table[0]), table)
    return run


def test_two_runs_are_compared_on_their_validation_photographs(run, trained_once, other_once):
    done = run("mode=compare", f"a={trained_once}", f"b={other_once}", "draws=500")
    found, best = told(done), summary(other_once)["best"]
    assert len(done.stdout.splitlines()) <= 25 and "compared   6 photographs, 500 draws" in done.stdout
    assert re.search(r"^a .*scored now on val$", done.stdout, re.M)
    assert re.search(r"^b .*scores of .*val_full_size/per_image.csv$", done.stdout, re.M)
    for (_, _, metric), row in found.items():
        assert row["b"] == pytest.approx(best[f"val_full_size/{metric}"], abs=1e-6)
        assert row["difference"] == pytest.approx(row["b"] - row["a"]) and row["photographs"] == 6
    assert len(found) == 8 and len(rows(done.folder, "compare.csv")) == 8
    table = rows(done.folder, "photographs.csv")
    gains = [float(row["iou/b"]) - float(row["iou/a"]) for row in table]
    assert gains == sorted(gains, reverse=True) and float(table[0]["b - a"]) == pytest.approx(gains[0])
    assert summary(done.folder)["difference"] == found["b", "", "iou"]["difference"]
    again = run("mode=test", f"ckpt={trained_once}", "trainer.precision=fp32")
    assert found["b", "", "dice"]["a"] == pytest.approx(summary(again.scored)["metrics"]["test/dice"], abs=1e-6)


def test_the_page_shows_photographs_and_loads_nothing(run, trained_once, other_once):
    page = (
        run("mode=compare", f"a={trained_once}", f"b={other_once}", "draws=100").folder / "compare.html"
    ).read_text()
    assert page.count('src="data:image/jpeg;base64,') == 5 * page.count("<figure>") > 0
    assert "default-src 'none'" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_what_is_typed_is_scored_by_both(run, trained_once, other_once, tmp_path):
    data = write_people(tmp_path / "more", 7, size=(40, 60))
    done = run("mode=compare", f"a={trained_once}", f"b={other_once}", f"data.test_root={data}", "metrics=[dice,iou]")
    assert "compared   7 photographs" in done.stdout and done.stdout.count("scored now on test") == 2
    assert list(told(done)) == [("b", "", "dice"), ("b", "", "iou")]
    assert {row["truth/width"] for row in rows(done.folder / "a", "per_image.csv")} == {"60"}


def test_masks_are_compared_as_they_are_drawn(run, trained_once, other_once):
    typed = ["refine=true", "metrics=[boundary_iou_per_image]", "trainer.precision=fp32"]
    done = run("mode=compare", f"a={trained_once}", f"b={other_once}", *typed, "draws=100")
    tested = summary(run("mode=test", f"ckpt={trained_once}", *typed).scored)["metrics"]
    [row] = told(done).values()
    assert row["a"] == pytest.approx(tested["test/boundary_iou_per_image"], abs=1e-6) and row["low"] is not None
    assert "page shows no photographs" not in done.stdout


def test_several_are_compared_with_the_first(run, trained_once, other_once):
    last = trained_once / "checkpoints" / "last.pt"
    done = run("mode=compare", f"a={trained_once}", f"b=[{other_once},{last}]", "draws=100")
    assert (
        [key[0] for key in told(done)] == ["b1"] * 8 + ["b2"] * 8
        and "6 more rows in compare.csv" in done.stdout
        and re.search(r"^(wins  |losses)  b1 iou [+-]0", done.stdout, re.M)
        and len(done.stdout.splitlines()) <= 25
    )
    assert "<h2>b2 against a</h2>" in (done.folder / "compare.html").read_text()


def test_sources_are_compared_each_for_itself(run, trained_once, other_once, tmp_path):
    near, far = write_people(tmp_path / "near", 5), write_people(tmp_path / "far", 4, size=(40, 60))
    roots = f"data.test_root=[{near},{far}]"
    done = run("mode=compare", f"a={trained_once}", f"b={other_once}", roots, "draws=100", "metrics=[iou]")
    found = told(done)
    assert {key[1]: row["photographs"] for key, row in found.items()} == {"": 9, "near": 5, "far": 4}
    assert "near/iou" in done.stdout and "far/iou" in done.stdout


def test_a_tests_folder_is_enough_and_an_earlier_one_is_not(run, trained_once, other, capsys):
    tested = run("mode=test", f"ckpt={trained_once}").scored
    done = run("mode=compare", f"a={tested}", f"b={other}", "draws=100")
    assert "the page shows no photographs: a is a test's folder" in done.stdout
    earlier(other)
    done = run("mode=compare", f"a={tested}", f"b={other}", "draws=100")
    assert "scores     b anew:" in done.stdout and "has no counts, as those of earlier versions" in done.stdout
    shutil.copy(other / "val_full_size" / "per_image.csv", tested)
    refused = run("mode=compare", f"a={tested}", f"b={other}", code=1).stderr
    assert "a: " in refused and "has no counts" in refused and len(refused.strip().splitlines()) == 1


def test_scores_of_another_state_of_the_network_are_not_used(run, trained_once, other):
    changed = summary(other)
    changed["best"]["val_full_size/iou"] += 0.01
    write_json(other / "summary.json", changed)
    done = run("mode=compare", f"a={trained_once}", f"b={other}", "draws=100")
    assert re.search(r"scores     b anew: .* gives iou 0\.\d+, and summary.json 0\.\d+", done.stdout)


def test_other_photographs_are_refused_before_any_is_scored(run, trained_once, other_once, tmp_path):
    mixed = run(*ON_FILES, "data=folder", f"data.root={trained_once.parent}/people", "data.split_seed=5").folder
    for one, scored in ((trained_once, 0), (other_once, 1)):  # the latter has its scores
        done = run("mode=compare", f"a={one}", f"b={mixed}", code=1)
        assert "b and a are scored on other photographs: the photographs differ:" in done.stderr
        assert "data=folder data.test_root=DIR" in done.stderr and len(done.stderr.strip().splitlines()) == 1
        assert len([*tmp_path.glob("outputs/compare/*/*/*/per_image.csv")]) == scored


def test_what_can_not_be_opened_is_told_before_any_is_scored(run, trained_once, tmp_path):
    (tmp_path / "b.pt").write_bytes(b"x")
    assert (
        "b.pt is truncated, damaged or no checkpoint"
        in run("mode=compare", f"a={trained_once}", f"b={tmp_path}/b.pt", code=1).stderr
    )
    assert not [*tmp_path.glob("outputs/compare/*/*/*/per_image.csv")]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ([], "a=None: give a checkpoint"),
        (["a=nowhere.pt", "b=nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["a=x.onnx", "b=x.onnx"], "says nothing of its data"),
        (["a=x.onnx", "b=x.onnx", "draws=3"], "draws=3: give a whole number of at least 100"),
    ],
)
def test_what_a_comparison_needs(run, typed, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.onnx").touch()
    assert sentence in run("mode=compare", *typed, code=1).stderr


@pytest.mark.slow
def test_an_exported_file_is_compared_on_the_runs_photographs(run, trained_once, tmp_path):
    run("mode=export", f"ckpt={trained_once}", f"output={tmp_path}/model.onnx", "format=onnx")
    done = run("mode=compare", f"a={trained_once}", f"b={tmp_path}/model.onnx", "trainer.precision=fp32")
    assert abs(told(done)["b", "", "iou"]["difference"]) < 1e-3
