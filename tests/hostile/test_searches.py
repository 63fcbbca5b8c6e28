"""The folder of a search that comes from a stranger: its record and its journal choose nothing outside of conf/ and the space."""

import json
import os
from pathlib import Path

import pytest
from conftest import TINY

from humanseg.runs import trials
from humanseg.runs.atomic import write_json
from humanseg.runs.summary import read_sweep

optuna = pytest.importorskip("optuna")

RATE = {"low": 1e-4, "high": 1e-1, "step": None, "log": True, "whole": False}
LOSSES = {"choices": ["dice", "bce_dice"]}
RECORD = {
    "space": {"optimizer.lr": RATE, "loss": LOSSES},
    "constant": [*TINY, "trainer.epochs=1"],
    "objectives": {"val/iou": "max"},
    "trials": 1,
    "left": 1,
}


def lay(folder: Path, record: dict, params: dict, distributions: dict, **told) -> Path:
    """A search that was killed when it had asked for its first trial."""
    folder.mkdir()
    sweep = {
        "jobs": [],
        "overrides": [],
        "hydra": ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1"],
        "status": "running",
    }
    write_json(folder / "sweep.json", sweep | {"search": record} | told)
    study = trials.open_study(folder, ["maximize"])
    running = optuna.trial.TrialState.RUNNING
    study.add_trial(optuna.trial.create_trial(state=running, params=params, distributions=distributions))
    return folder


def honest(folder: Path, record: dict = RECORD, **told) -> Path:
    of = {"optimizer.lr": trials.distribution(RATE), "loss": trials.distribution(LOSSES)}
    return lay(folder, record, {"optimizer.lr": 0.01, "loss": "bce_dice"}, of, **told)


def refused(run, folder: Path, tmp_path: Path) -> str:
    told = run(f"resume={folder}", code=1).stderr
    assert told.startswith("error: ") and "Traceback" not in told, told
    assert not (tmp_path / "marker").exists() and not list(folder.glob("0*"))
    return told


def test_an_honest_one_goes_on(run, tmp_path):
    folder = honest(tmp_path / "sweep")
    run(f"resume={folder}")
    assert len(list(folder.glob("0_*"))) == 1 and read_sweep(folder)["search"]["left"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"space": {"loss": {"choices": ["dice", "${oc.env:HOME}"]}}},
        {"space": {"loss": {"choices": ["dice,bce"]}}},
        {"space": {"+callbacks.x._target_": {"choices": ["os.mkdir", "os.rmdir"]}}},
        {"space": {"model._target_": {"choices": ["os.mkdir"]}}},
        {"space": {"metrics": {"choices": ["[os.getcwd]"]}}},
        {"space": {"hydra.run.dir": {"choices": ["marker"]}}},
        {"space": {"hydra.launcher.n_jobs": {"low": 1, "high": 2, "step": None, "log": False, "whole": True}}},
        {"space": {"out": {"choices": ["marker", "other"]}}},
        {"space": {"data.num_workers": RATE | {"low": 1, "high": 5000, "whole": True}}},
        {"space": {"optimizer.lr": RATE | {"low": "0.1"}}},
        {"space": {"optimizer.lr": RATE | {"high": 1e-5}}},
        {"space": {"optimizer.lr": {"low": 1}}},
        {"space": {"mode": {"choices": ["predict"]}}},
        {"space": []},
        {"constant": ["+callbacks.x={_target_:os.mkdir,path:marker}"]},
        {"constant": ["hydra.launcher.n_jobs=900"]},
        {"objectives": {"val/iou": "up"}},
        {"objectives": {}},
        {"trials": "many"},
        {"trials": 10**9},
    ],
    ids=lambda change: str(change)[:60],
)  # fmt: skip
def test_a_record_that_lies_is_one_sentence(run, tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    if "trials" in change and change["trials"] == 10**9:
        folder = honest(tmp_path / "sweep", hydra=["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1000000000"])
    else:
        folder = honest(tmp_path / "sweep", RECORD | change)
    refused(run, folder, tmp_path)


@pytest.mark.parametrize(
    "override",
    [
        "hydra.sweeper.space=os.mkdir",
        "hydra.sweeper.sampler._target_=os.mkdir",
        "+hydra.sweeper.sampler.x={_target_:os.mkdir,path:marker}",
        "hydra.sweeper.sampler={_target_:os.mkdir,path:marker}",
        "hydra/sweeper/sampler=../../evil",
        "hydra.sweeper.n_jobs=5000",
        "hydra.sweeper.objectives=[{_target_:os.mkdir}]",
    ],
)
def test_a_recorded_setting_of_the_search_chooses_no_code(run, tmp_path, monkeypatch, override):
    monkeypatch.chdir(tmp_path)
    folder = honest(tmp_path / "sweep", hydra=["hydra/sweeper=optuna", override])
    assert "recorded overrides" in refused(run, folder, tmp_path)


LINES = {
    "no JSON": "{",
    "a list": "[]",
    "another operation": '{"op_code":99}',
    "an operation that is a list": '{"op_code":[4]}',
    "attributes that are a number": '{"op_code":4,"study_id":0,"system_attrs":5}',
    "a study that is thrown away": '{"op_code":1,"study_id":0}',
    "deep nesting": "[" * 100_000,
    "a pickle": '{"op_code":9,"trial_id":0,"system_attr":{"cma:optimizer":"80049503"}}',
    "a pickle in a trial": '{"op_code":4,"study_id":0,"system_attrs":{"cma:n":1}}',
    "no trial of that number": '{"op_code":6,"trial_id":7}',
    "another distribution": '{"op_code":4,"study_id":0,"datetime_start":null,"distributions":{"x":"{\\"name\\":\\"os\\"}"}}',
}


@pytest.mark.parametrize("line", LINES)
def test_a_journal_with_anything_in_it_is_one_sentence(run, tmp_path, line):
    folder = honest(tmp_path / "sweep")
    with open(folder / trials.JOURNAL, "a") as journal:
        journal.write(LINES[line] + "\n")
    assert "journal" in refused(run, folder, tmp_path)


@pytest.mark.parametrize(
    ("name", "one", "value"),
    [
        ("loss", {"choices": ["dice", "os.mkdir"]}, "os.mkdir"),  # not the choices of the space
        ("loss", {"choices": ["bce_dice", "dice"]}, "dice"),
        ("model._target_", {"choices": ["os.mkdir"]}, "os.mkdir"),
        ("optimizer.lr", RATE | {"high": 5.0}, 2.0),
    ],
)
def test_a_trial_that_is_not_of_the_space_is_refused(run, tmp_path, name, one, value):
    folder = lay(tmp_path / "sweep", RECORD, {name: value}, {name: trials.distribution(one)})
    refused(run, folder, tmp_path)


def test_a_link_or_a_large_journal_is_not_read(run, tmp_path, monkeypatch):
    folder = honest(tmp_path / "sweep")
    monkeypatch.setattr(trials, "LARGEST", 100)
    assert "journal" in refused(run, folder, tmp_path)
    (folder / trials.JOURNAL).unlink()
    os.symlink("/etc/passwd", folder / trials.JOURNAL)
    assert "is a link" in refused(run, folder, tmp_path)


def test_a_report_of_anything_that_calls_itself_a_search_is_written(run, tmp_path):
    folder = honest(tmp_path / "sweep", RECORD | {"objectives": {"<script>": "min", "x\x1b[2J": "max"}})
    for number in range(5):
        values = {"<script>": number - 2, "x\x1b[2J": 10.0**number}
        told = {
            "status": "completed",
            "mode": "train",
            "ranked": True,
            "monitor": "x\x1b[2J",
            "monitored": 1.0,
            "best": values,
        }
        job = folder / f"{number}_x"
        job.mkdir()
        (job / "summary.json").write_text(
            json.dumps(told | {"overrides": [f"optimizer.lr=1e{number * 24}", "loss=</script>"]})
        )
    done = run("mode=report", f"runs={folder}")
    page = (folder / "report.html").read_text()
    assert '<script>"' not in page and "\x1b" not in done.stdout + page
