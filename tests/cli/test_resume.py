"""``resume=``: what goes on, what wins, what is refused, and what a damaged checkpoint costs."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import conftest
import pytest
import torch
import yaml
from conftest import (
    ON_FILES,
    TINY,
    broken_off,
    call_run_py,
    composed,
    rows,
    run_into,
    saved,
    summary,
    weights,
    write_people,
)
from PIL import Image

from humanseg.cli import resume
from humanseg.runs import recorded

ONE_EPOCH = [*TINY, "trainer.epochs=1", "scheduler=constant"]


def content(folder: Path) -> dict:
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".lock"}


@pytest.fixture(scope="module")
def one_epoch_once(tmp_path_factory) -> Path:
    """A finished run of one epoch, which no test changes."""
    return run_into(tmp_path_factory.mktemp("one_epoch") / "run", *ONE_EPOCH)


@pytest.fixture
def one_epoch(one_epoch_once, tmp_path) -> Path:
    """A copy of it of one's own."""
    return Path(shutil.copytree(one_epoch_once, tmp_path / "run"))


def test_a_finished_run_says_so_and_is_left_alone(run, one_epoch):
    folder = one_epoch
    before = content(folder)
    for typed in (folder, folder / "checkpoints" / "last.pt"):
        assert f"{folder} is finished" in run(f"resume={typed}").stdout
    assert content(folder) == before


def test_more_epochs_go_on_in_the_same_folder(run):
    folder = run(*ONE_EPOCH, "tags=[x]").folder
    straight = run(*ONE_EPOCH, "trainer.epochs=3").folder
    done = run("trainer.epochs=3", f"resume={folder}")
    assert done.folder == folder and "goes on    from epoch 1, step 2" in done.stdout
    assert "schedule   computed anew for 3 epochs instead of 1" in done.stdout
    assert [row["epoch"] for row in rows(folder)] == ["1", "2", "3"]
    torch.testing.assert_close(weights(folder), weights(straight), rtol=0, atol=0)

    found = summary(folder)
    assert found["status"] == "completed" and found["epochs"] == 3 and found["tags"] == ["x"]
    assert len(found["earlier"]) == 1 and found["seconds"] > 0
    overrides = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
    assert "trainer.epochs=3" in overrides and "trainer.epochs=1" not in overrides and "callbacks=none" in overrides
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["epochs"] == 3
    assert f"{folder} is finished" in run(f"resume={folder}").stdout


def test_tensorboard_has_no_gap_and_nothing_twice(run, monkeypatch):
    folder = run(*TINY, "scheduler=constant", "callbacks=default").folder
    (first,) = folder.glob("events.*")
    monkeypatch.setattr("time.time", lambda: 86_400.0)  # the clock was put back by years
    run(f"resume={folder}", "trainer.epochs=4")
    board = conftest.board(folder)
    for events in (board.Scalars("val/iou"), board.Images("previews")):
        assert [event.step for event in events] == [2, 4, 6, 8]
    assert len(board.Scalars("best/val/iou")) == 1
    assert len(list(folder.glob("events.*"))) == 2 and not first.exists()


def test_latest_is_the_newest_that_is_not_completed(run, one_epoch, tmp_path):
    places = [tmp_path / "outputs" / "train" / "day" / name for name in ("first", "second", "finished")]
    first, second, finished = (Path(shutil.copytree(one_epoch, place)) for place in places)
    for number, folder in enumerate((first, second, finished)):
        for file in folder.rglob("*"):
            os.utime(file, (number, number))
    broken_off(first), broken_off(second)
    done = run("resume=latest")
    assert done.folder == second and summary(second)["status"] == "completed"
    assert run("resume=latest").folder == first and summary(finished)["epochs"] == 1
    assert "no run or sweep under" in run("resume=latest", code=1).stderr


def test_rates_typed_beside_it_win(run):
    folder = run(*ONE_EPOCH, "optimizer=encoder_decoder").folder
    run(f"resume={folder}", "trainer.epochs=2", "optimizer.parts.encoder.lr=0.125")
    assert [float(row["lr/encoder"]) for row in rows(folder)][1] == 0.125
    assert rows(folder)[0]["lr/decoder"] == rows(folder)[1]["lr/decoder"]


@pytest.mark.parametrize(
    ("typed", "sentences"),
    [
        (["model.encoder_name=resnet18", "seed=5"], ["model.encoder_name (mobilenet_v2 -> resnet18)", "seed (0 -> 5)"]),
        (["data.image_size=64", "trainer.accumulate=2"], ["data.image_size (32 -> 64)", "trainer.accumulate (1 -> 2)"]),
        (["trainer.output_weights=[1,2]"], ["trainer.output_weights (None -> [1, 2])"]),
        (["optimizer=adam"], ["optimizer._target_ (torch.optim.SGD -> torch.optim.Adam)", "ckpt=PATH"]),
        (["experiment=debug"], ["experiment= can't be typed beside resume="]),
        (["mode=test"], ["mode=test: resume= goes on with"]),
        (["trainer.epoch=5"], ["did you mean trainer.epochs?"]),
        (["-m", "seed=1,2"], ["seed"]),
    ],
    ids=lambda value: value[0],
)
def test_what_would_be_another_run_is_refused_and_nothing_is_touched(run, one_epoch, typed, sentences):
    folder = one_epoch
    before = content(folder)
    done = run(f"resume={folder}", *typed, code=1)
    assert done.stderr.startswith("error: ") and all(sentence in done.stderr for sentence in sentences), done.stderr
    assert content(folder) == before


def test_a_run_of_an_earlier_version_gets_no_newer_key_of_the_recipe(run, finished):
    folder = broken_off(finished)
    last = folder / "checkpoints" / "last.pt"
    payload = torch.load(last, weights_only=True)
    for key in ("hard", "sizes", "freeze_encoder"):
        del payload["config"]["trainer"][key]
    torch.save(payload, last)
    told = run(f"resume={folder}", "trainer.epochs=3", "trainer.hard=0.5", code=1).stderr
    assert "a run can't go on with another trainer.hard (None -> 0.5)" in told
    run(f"resume={folder}", "trainer.epochs=3")
    assert saved(folder)["config"]["trainer"]["hard"] is None and saved(folder)["epoch"] == 3


def test_other_samples_are_refused_and_the_right_ones_go_on_from_another_place(run, people, tmp_path):
    folder = run(*ON_FILES, "data=folder", f"data.root={people}").folder
    other = write_people(tmp_path / "other", 13)
    assert "samples are not those" in run(f"resume={folder}", f"data.root={other}", "trainer.epochs=3", code=1).stderr
    people.rename(tmp_path / "moved")
    done = run(f"resume={folder}", f"data.root={tmp_path}/moved", "trainer.epochs=3")
    assert summary(folder)["epochs"] == 3 and "read otherwise" not in done.stdout


def test_a_run_of_an_earlier_version_is_told_what_is_read_otherwise_by_now(run, people):
    hidden = Image.open(people / "images" / "003.png")
    hidden.putalpha(Image.open(people / "masks" / "003.png"))
    hidden.save(people / "images" / "003.png")
    folder = run(*ON_FILES, "data=folder", f"data.root={people}", "trainer.epochs=1").folder
    last = folder / "checkpoints" / "last.pt"
    payload = torch.load(last, weights_only=True)
    torch.save({key: value for key, value in payload.items() if key != "reading"}, last)
    done = run(f"resume={folder}", "trainer.epochs=2")
    assert "not exact  1 of 6 samples" in done.stdout and "003.png" in done.stdout
    assert "read otherwise" not in run(f"resume={folder}", "trainer.epochs=3").stdout


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_folder_in_another_place_goes_on_there(run, finished, tmp_path, how):
    folder = broken_off(finished)
    place = tmp_path / "else where" / "it's=here"
    place.parent.mkdir()
    if how == "moved":
        folder.rename(place)
    else:
        shutil.copytree(folder, place)
        before = content(folder)
    done = run(f"resume={place}", "trainer.epochs=3")
    assert done.folder == place and len(rows(place)) == 3
    assert not folder.exists() if how == "moved" else content(folder) == before


def test_a_config_that_was_changed_on_disk_since_does_not_change_the_run(run, monkeypatch):
    folder = broken_off(run(*ONE_EPOCH, "optimizer.lr=0.01").folder)
    told = summary(folder)
    (folder / "summary.json").write_text(json.dumps(told | {"overrides": ["trainer.epochs=2"]}))  # the rest is lost
    run(f"resume={folder}")
    assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"] == 0.01
    assert len(rows(folder)) == 2


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    data = bytearray(path.read_bytes())
    data[largest.header_offset + largest.file_size] ^= 1  # within a tensor: what lies between them means nothing
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_damaged_last_checkpoint_is_told_and_the_one_before_is_used(run, finished, damage):
    folder = broken_off(finished)
    expected, table = weights(folder), [row["val/iou"] for row in rows(folder)]
    damage(folder / "checkpoints" / "last.pt")
    done = run(f"resume={folder}")
    assert "goes on    from epoch 1, step 2" in done.stdout
    assert ("last.pt is truncated, damaged" in done.stdout) == (damage is not Path.unlink)
    torch.testing.assert_close(weights(folder), expected, rtol=0, atol=0)
    assert [row["val/iou"] for row in rows(folder)] == table


def test_when_all_are_damaged_it_is_one_sentence(run, finished):
    folder = broken_off(finished)
    for name in ("last.pt", "previous.pt"):
        flip_a_bit(folder / "checkpoints" / name)
    done = run(f"resume={folder}", code=1)
    assert "previous.pt is truncated, damaged" in done.stderr and "Traceback" not in done.stderr


def test_what_is_no_longer_exact_is_told(run, one_epoch, one_epoch_once, tmp_path):
    straight = shutil.copytree(one_epoch_once, tmp_path / "straight")
    assert "not exact" not in run(f"resume={straight}", "trainer.epochs=2").stdout
    done = run(f"resume={one_epoch}", "trainer.epochs=2", "trainer.precision=bf16", "trainer.threads=2")
    assert "not exact" in done.stdout and "precision fp32 -> bf16" in done.stdout and "threads 1 -> 2" in done.stdout


def test_strange_code_in_a_folder_is_not_run(run, one_epoch, tmp_path):
    folder = broken_off(one_epoch)
    told = summary(folder)
    told["overrides"].append(f"+callbacks.evil={{_target_:os.mkdir,_partial_:true,path:{tmp_path}/evil}}")
    (folder / "summary.json").write_text(json.dumps(told))
    assert "may not bring: +callbacks.evil={_target_:os.mkdir" in run(f"resume={folder}", code=1).stderr
    assert not (tmp_path / "evil").exists()


def test_a_run_that_was_moved_goes_on_where_it_is_now(trained_once, tmp_path, monkeypatch, capsys):
    new = tmp_path / "moved here"
    folder = Path(shutil.copytree(trained_once, new / "train" / "2026-01-02" / "03-04-05"))
    before = content(trained_once.parent)
    call_run_py(monkeypatch, f"resume='{folder}'", "trainer.epochs=3")
    assert f"tensorboard --logdir '{new}'" in capsys.readouterr().out
    assert yaml.safe_load((folder / "config.yaml").read_text())["out"] == str(new)
    assert [*(new / "cache").glob("*.pixels")] and summary(folder)["epochs"] == 3
    assert content(trained_once.parent) == before


@pytest.mark.parametrize(
    ("place", "out"),
    [
        ("a/train/2026-01-02/03-04-05_name", "a"),
        ("a/b/multirun/2026-01-02/03-04-05", "a/b"),
        ("outputs/train/2026-01-02/03-04-05", None),  # where it would be by itself
        ("mine", None),
        ("a/mine/2026-01-02/03-04-05", None),
    ],
)
def test_where_a_folder_was_moved_follows_from_its_place(tmp_path, monkeypatch, place, out):
    monkeypatch.chdir(tmp_path)
    for root in (Path(), tmp_path):
        found = resume._placed(root / place, ["seed=1"])
        assert found == ["seed=1", *([f"out='{root / out}'"] if out else [])]
    assert resume._placed(Path(place), ["out=typed"]) == ["out=typed"]


def own_callback(record, writer, step) -> None:
    record.log["val/mine"] = 1.0


def test_ones_own_code_is_typed_again(run):
    mine = "+callbacks.mine={_target_:test_resume.own_callback,_partial_:true}"
    folder = run(*ONE_EPOCH, mine).folder
    assert "test_resume.own_callback" in run(f"resume={folder}", "trainer.epochs=2", code=1).stderr
    run(f"resume={folder}", "trainer.epochs=2", mine)
    assert [row["val/mine"] for row in rows(folder)] == ["1.0", "1.0"]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("nowhere", "resume=nowhere: no run or sweep is there"),
        ("x.pt", "give a run's folder or its last.pt; ckpt= starts a new run"),
    ],
)
def test_where_there_is_nothing_to_go_on_with(run, typed, sentence):
    assert sentence in run(f"resume={typed}", code=1).stderr


def test_a_key_that_was_deleted_stays_deleted():
    typed = ["~loss.classes", "loss.loss.smooth=0.5"]
    merged = recorded.with_overrides(composed(), {}, composed(*typed), typed)
    assert "classes" not in merged["loss"] and merged["loss"]["loss"]["smooth"] == 0.5


def test_what_was_interpolated_is_recorded_as_its_result(run):
    folder = run(*ONE_EPOCH, "trainer.save_every=${data.batch_size}", "name=seed_${seed}").folder
    recorded = summary(folder)["overrides"]
    assert recorded == yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
    assert {"trainer.save_every=4", "name='seed_0'"} <= {*recorded}
    run(f"resume={folder}", "trainer.epochs=2")
    assert summary(folder)["status"] == "completed"


def test_a_value_that_no_record_may_hold_is_refused_at_the_start(run):
    assert "name holds an interpolation" in run(*ONE_EPOCH, r"name='\${seed}'", code=1).stderr
