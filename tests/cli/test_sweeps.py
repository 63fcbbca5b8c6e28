"""Sweeps: folders by number and override, a failing job that stops nobody, a ranked table."""

import re
import shutil

import pytest
from conftest import TINY, jobs, rows, the_sweep

from humanseg.runs import find


def test_a_sweep_is_ranked_and_its_winner_can_be_tested(run, tmp_path):
    done = run("-m", *TINY, "optimizer.lr=0.1,0.0001", "loss=dice,bce_dice", "name=lr loss")
    folder = the_sweep(tmp_path)
    assert re.fullmatch(r"\d\d-\d\d-\d\d_lr-loss", folder.name)
    found = jobs(folder)
    assert list(found) == [
        "0_loss-dice_optimizer.lr-0.1",
        "1_loss-bce_dice_optimizer.lr-0.1",
        "2_loss-dice_optimizer.lr-0.0001",
        "3_loss-bce_dice_optimizer.lr-0.0001",
    ]
    table = rows(folder, "leaderboard.csv")
    values = [float(row["val/iou"]) for row in table]
    assert values == sorted(values, reverse=True) and [row["rank"] for row in table] == ["1", "2", "3", "4"]
    assert all(float(row["val/iou"]) == found[row["job"]]["monitored"] for row in table)
    assert table[0]["job"] in done.stdout and "epoch 1/2" not in done.stdout

    scored = run("mode=test", f"ckpt={folder}")
    assert f"checkpoint {folder / table[0]['job'] / 'checkpoints' / 'best.pt'}" in scored.stdout


def test_a_failing_job_stops_nobody(run, tmp_path):
    done = run("-m", *TINY, "data.batch_size=4,999,8", code=1)
    folder = the_sweep(tmp_path)
    found = jobs(folder)
    assert [job["status"] for job in found.values()] == ["completed", "failed", "completed"]
    assert "don't fill one batch" in found["1_data.batch_size-999"]["error"]
    assert done.stderr.splitlines() == [
        f"job 1 failed: {found['1_data.batch_size-999']['error']}",
        f"mend what failed, then: python run.py resume={folder}",
    ]
    assert "Traceback" in (folder / "1_data.batch_size-999" / "run.log").read_text()
    table = rows(folder, "leaderboard.csv")
    assert [row["status"] for row in table] == ["completed", "completed", "failed"]


def test_a_failing_job_of_a_mode_that_takes_no_resume_is_typed_again(run, tiny_once, tmp_path):
    done = run("-m", "mode=predict", f"ckpt={tiny_once}", "input=nowhere,nothing", code=1)
    assert done.stderr.splitlines()[-1] == "mend what failed, and type it again"
    with pytest.raises(ValueError, match="no run or sweep under .* is waiting to be continued"):
        find.unfinished("latest", f"{tmp_path}/outputs")


def test_a_sweep_over_checkpoints_ranks_them(run, tiny_once, tmp_path):
    folders = [tmp_path / "seed=0", tmp_path / "seed=1"]
    shutil.copytree(tiny_once, folders[0])
    run(*TINY, "seed=1", f'hydra.run.dir="{folders[1]}"')
    done = run("mode=test", f"""ckpt="{folders[0]}","{folders[1]}\"""", "-m")
    assert done.stdout.count("  completed ") == 2
    values = [float(row["test/iou"]) for row in rows(the_sweep(tmp_path), "leaderboard.csv")]
    assert values == sorted(values, reverse=True)
    assert "result " in run("mode=test", f'ckpt="{folders[0]}"').stdout  # Hydra's grammar wants `=` in quotes


def test_a_defect_in_a_job_stops_nobody_either(run, tmp_path):
    run(
        "-m", *TINY, "+callbacks.bad={_target_:test_sweeps.broken,_partial_:true},null", "callbacks.strict=true", code=1
    )
    assert [job["status"] for job in jobs(the_sweep(tmp_path)).values()] == ["failed", "completed"]


def broken(record, writer, step) -> None:
    raise RuntimeError("a defect of the user's own")


def test_folder_names_are_short_and_plain(run, tmp_path):
    long = "model.decoder_channels=[16,16,16,8,8],[16,16,16,16,8]"
    run(
        "-m",
        *[item for item in TINY if "decoder" not in item],
        f"+{long}",
        "tags=[x y z],[abc]",
        "+mark=" + "m" * 90,
        "trainer.epochs=1",
    )
    for name in jobs(the_sweep(tmp_path)):
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,80}", name), name
        assert "mark" not in name  # every job has it


def test_a_sweep_with_a_typo_starts_no_job(run, tmp_path):
    done = run("-m", *TINY, "optimizer.lrr=0.1,0.2", code=1)
    assert "optimizer.lrr" in done.stderr and "did you mean optimizer.lr" in done.stderr
