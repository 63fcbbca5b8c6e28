"""Sweeps: folders by number and override, a failing job that stops nobody, a ranked table."""

import csv
import json
import re

import pytest
from conftest import TINY


def jobs(folder) -> dict[str, dict]:
    found = {job.name: job / "summary.json" for job in sorted(folder.iterdir()) if job.is_dir()}
    return {name: json.loads(file.read_text()) for name, file in found.items()}


def sweep(tmp_path):
    (folder,) = (tmp_path / "outputs" / "multirun").glob("*/*")
    return folder


def test_a_sweep_is_ranked_and_its_winner_can_be_tested(run, tmp_path):
    done = run("-m", *TINY, "optimizer.lr=0.1,0.0001", "loss=dice,bce_dice", "name=lr loss")
    folder = sweep(tmp_path)
    assert re.fullmatch(r"\d\d-\d\d-\d\d_lr-loss", folder.name)
    found = jobs(folder)
    assert list(found) == [
        "0_loss-dice_optimizer.lr-0.1",
        "1_loss-bce_dice_optimizer.lr-0.1",
        "2_loss-dice_optimizer.lr-0.0001",
        "3_loss-bce_dice_optimizer.lr-0.0001",
    ]
    table = list(csv.DictReader((folder / "leaderboard.csv").open()))
    values = [float(row["val/iou"]) for row in table]
    assert values == sorted(values, reverse=True) and [row["rank"] for row in table] == ["1", "2", "3", "4"]
    assert all(float(row["val/iou"]) == found[row["job"]]["monitored"] for row in table)
    assert table[0]["job"] in done.stdout and "epoch 1/2" not in done.stdout

    scored = run("mode=test", f"ckpt={folder}")
    assert f"checkpoint {folder / table[0]['job'] / 'checkpoints' / 'best.pt'}" in scored.stdout


def test_a_failing_job_stops_nobody(run, tmp_path):
    done = run("-m", *TINY, "data.batch_size=4,999,8", code=1)
    folder = sweep(tmp_path)
    found = jobs(folder)
    assert [job["status"] for job in found.values()] == ["completed", "failed", "completed"]
    assert "don't fill one batch" in found["1_data.batch_size-999"]["error"]
    assert done.stderr.splitlines() == [
        f"job 1 failed: {found['1_data.batch_size-999']['error']}",
        f"mend what failed, then: python run.py resume={folder}",
    ]
    assert "Traceback" in (folder / "1_data.batch_size-999" / "run.log").read_text()
    table = list(csv.DictReader((folder / "leaderboard.csv").open()))
    assert [row["status"] for row in table] == ["completed", "completed", "failed"]


def test_a_sweep_over_checkpoints_ranks_them(run, tmp_path):
    folders = [run(*TINY, f"seed={seed}", f'hydra.run.dir="{tmp_path}/seed={seed}"').folder for seed in (0, 1)]
    done = run("mode=test", f"""ckpt="{folders[0]}","{folders[1]}\"""", "-m")
    assert done.stdout.count("  completed ") == 2
    (table,) = (tmp_path / "outputs" / "multirun").glob("*/*/leaderboard.csv")
    values = [float(row["test/iou"]) for row in csv.DictReader(table.open())]
    assert values == sorted(values, reverse=True)
    assert "result " in run("mode=test", f'ckpt="{folders[0]}"').stdout  # Hydra's grammar wants `=` in quotes


def test_a_defect_in_a_job_stops_nobody_either(run, tmp_path):
    run("-m", *TINY, "+callbacks.bad={_target_:test_sweeps.broken,_partial_:true},null", code=1)
    assert [job["status"] for job in jobs(sweep(tmp_path)).values()] == ["failed", "completed"]


def broken(record, writer, step) -> None:
    raise RuntimeError("a defect of the user's own")


def test_folder_names_are_short_and_plain(run, tmp_path):
    long = "+model.decoder_channels=[128,64,32,16,8],[64,32,16,16,8]"
    run("-m", *TINY, long, "tags=[x y z],[abc]", "+mark=" + "m" * 90, "trainer.epochs=1")
    for name in jobs(sweep(tmp_path)):
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,80}", name), name
        assert "mark" not in name  # every job has it


def test_a_sweep_with_a_typo_starts_no_job(run, tmp_path):
    done = run("-m", *TINY, "optimizer.lrr=0.1,0.2", code=1)
    assert "optimizer.lrr" in done.stderr and "did you mean optimizer.lr" in done.stderr


@pytest.mark.parametrize("name", ["sweep_lr_loss"])
def test_a_sweep_as_a_file(run, tmp_path, name):
    run(*TINY, f"experiment={name}", "trainer.epochs=1")
    assert len(jobs(sweep(tmp_path))) == 4
