"""A search: what is tried follows from its seed, hopeless trials are stopped, and a kill loses none of what it has learned."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY, jobs, rows, summary
from killing import finish, kill_after, kill_at

from humanseg.cli import hydra_private, space
from humanseg.runs import trials

optuna = pytest.importorskip("optuna")

SHORT = [*TINY, "trainer.epochs=3", "trainer.steps_per_epoch=1", "data.samples=12"]
SPACE = ["optimizer.lr=tag(log,interval(1e-4,1e-1))", "loss=choice(dice,bce_dice,lovasz)"]
SEARCH = [
    "-m",
    *SHORT,
    "hydra/sweeper=optuna",
    "hydra/sweeper/pruner=halving",
    *SPACE,
]  # which stops some of six trials


def study(sweep: Path) -> optuna.Study:
    return trials.open_study(sweep)


def told(sweep: Path) -> list[tuple]:
    """All that a search knows of its trials but times."""
    return [(one.state.name, one.params, one.values, one.intermediate_values) for one in study(sweep).trials]


def asked(sweep: Path) -> list[dict]:
    return [one.params for one in study(sweep).trials]


def record(sweep: Path) -> dict:
    return json.loads((sweep / "sweep.json").read_text())


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    """The folder of a search of six trials, for tests that only read it."""
    root = tmp_path_factory.mktemp("searched")
    arguments = [*SEARCH, "hydra.sweeper.n_trials=6", f"out={root}", f"hydra.sweep.dir={root}/sweep"]
    started = time.monotonic()
    finish(root / "log", *arguments)
    (root / "seconds").write_text(str(time.monotonic() - started))
    return root / "sweep"


@pytest.fixture
def copied(searched, tmp_path) -> Path:
    """A copy of it of one's own."""
    return Path(shutil.copytree(searched, tmp_path / "sweep"))


def test_a_search_stops_hopeless_trials_and_counts_them_as_pruned(searched):
    states = [told["status"] for told in jobs(searched).values()]
    assert states.count("pruned") >= 1 and {*states} == {"completed", "pruned"} and len(states) == 6
    assert [one.state.name for one in study(searched).trials].count("PRUNED") == states.count("pruned")
    for name, job in jobs(searched).items():
        assert (len(rows(searched / name)) < 3) == (job["status"] == "pruned")
        assert job["trial"] == int(name.split("_")[0])
    assert record(searched)["status"] == "completed" and record(searched)["search"]["left"] == 0
    assert [row["status"] for row in rows(searched, "leaderboard.csv")][-1] == "pruned"


def test_trials_report_each_epoch_once(searched):
    for trial, name in zip(study(searched).trials, jobs(searched), strict=True):
        ious = {int(row["epoch"]): float(row["val/iou"]) for row in rows(searched / name)}
        assert trial.intermediate_values == pytest.approx(ious)


def test_a_search_that_is_finished_is_left_alone_and_more_trials_can_be_typed(run, copied):
    before = told(copied)
    for typed in ("hydra.sweeper.objectives=[val/dice]", "hydra/sweeper=basic"):
        assert f"{typed} would make another search of" in run(f"resume={copied}", typed, code=1).stderr
    assert "is finished" in run(f"resume={copied}").stdout
    run(f"resume={copied}", "hydra.sweeper.n_trials=7")
    assert told(copied)[:6] == before and len(told(copied)) == 7 and record(copied)["search"]["left"] == 0


def test_the_winner_is_an_experiment_that_gives_the_same_again(searched, run):
    winner = max(
        (one for one in jobs(searched).values() if one["status"] == "completed"), key=lambda one: one["monitored"]
    )
    told = yaml.safe_load((searched / "experiment" / "best.yaml").read_text())
    assert (searched / "best.yaml").read_text() == (searched / "experiment" / "best.yaml").read_text()
    assert f"override /loss: {winner['choices']['loss']}" in (searched / "best.yaml").read_text()
    assert told["trainer"]["epochs"] == 3 and "num_workers" not in told["data"]
    again = run("--config-dir", str(searched), "experiment=best", "data.num_workers=0")
    assert summary(again.folder)["monitored"] == winner["monitored"]


PHASES = [  # in the order in which a search comes through them, and the call of it that is its last
    ("humanseg.runs.trials:open_study", 1),  # before there is a journal
    ("optuna.study:Study.add_trial", 1),  # a trial is asked, and nothing says so
    ("humanseg.loop:total_loss", 1),  # in the first trial
    ("humanseg.loop:validate", 2),
    ("optuna.trial:Trial.report", 2),  # a checkpoint is written, and not reported
    ("optuna.trial:Trial.should_prune", 1),
    ("optuna.study:Study.tell", 1),  # a trial has ended, and the study does not know
    ("humanseg.cli.search:write_json", 2),
    ("optuna.study:Study.tell", 2),
    ("humanseg.cli.search:experiment", 1),
]


@pytest.mark.parametrize("phases", [PHASES[1::3], pytest.param(PHASES, marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_kill_in_each_phase_loses_no_trial_and_asks_for_none_twice(searched, tmp_path, phases):
    log, sweep = tmp_path / "log", tmp_path / "sweep"
    typed = [*SEARCH, "hydra.sweeper.n_trials=6", f"out={tmp_path}", f"hydra.sweep.dir={sweep}"]
    for at, call in phases:
        kill_at(at, log, *(typed if not (sweep / "sweep.json").exists() else [f"resume={sweep}"]), call=call)
    finish(log, f"resume={sweep}")
    assert told(sweep) == told(searched)
    assert (sweep / "best.yaml").read_text().splitlines()[2:] == (searched / "best.yaml").read_text().splitlines()[2:]


@pytest.mark.slow
def test_twenty_random_kills_lose_no_trial(searched, tmp_path):
    draw, log, sweep, killed = random.Random(0), tmp_path / "log", tmp_path / "sweep", 0
    whole = float((searched.parent / "seconds").read_text())
    typed = [*SEARCH, "hydra.sweeper.n_trials=6", f"out={tmp_path}", f"hydra.sweep.dir={sweep}"]
    while killed < 20:
        begun = (sweep / "sweep.json").exists()
        if not kill_after(draw.uniform(0.1, 0.5) * whole, log, *([f"resume={sweep}"] if begun else typed)):
            assert told(sweep) == told(searched)
            shutil.rmtree(sweep)
            continue
        killed += 1
    finish(log, *([f"resume={sweep}"] if (sweep / "sweep.json").exists() else typed))
    assert told(sweep) == told(searched)


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_a_trial_that_was_found_hopeless_and_killed_is_hopeless_when_it_goes_on(tmp_path, pruner):
    stops = {
        "median": optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0),
        "halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        "hyperband": optuna.pruners.HyperbandPruner(min_resource=1, max_resource=4, reduction_factor=2),
    }[pruner]
    opened, answers = trials.open_study(tmp_path, ["maximize"]), set()
    for number, iou in enumerate([0.5, 0.9, 0.4, 0.3, 0.2, 0.1]):
        opened.ask()
        history = [{"epoch": 1, "val/iou": iou}]
        again = {trials.Watched(tmp_path, number, stops).is_hopeless(history, "val/iou") for _ in range(3)}
        assert len(again) == 1, number
        answers |= again
        opened.tell(number, iou)
    assert answers == {False, True}


def test_half_a_line_is_cut_off_before_the_next_one(copied):
    journal = copied / trials.JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":9,"worker_id":"x","tri')
    assert len(study(copied).trials) == 6  # reading leaves it out
    study(copied).set_user_attr("told", 1)
    assert journal.read_bytes().startswith(whole) and study(copied).user_attrs == {"told": 1}
    journal.write_bytes(b"half")
    trials.cut_off_half_a_line(str(journal))
    assert journal.read_bytes() == b""


def test_the_lock_of_a_process_that_was_killed_is_taken_from_it(copied, monkeypatch):
    monkeypatch.setattr(trials, "GRACE", 1)
    monkeypatch.chdir(copied.parent)
    opened = trials.open_study(Path("sweep"))  # a relative path
    (copied / "journal.log.lock").touch()
    opened.set_user_attr("told", 1)
    assert trials.open_study(copied).user_attrs == {"told": 1} and not (copied / "journal.log.lock").exists()


def test_trials_of_joblib_are_pruned_too_and_a_process_that_dies_ends_nothing_else(tmp_path, searched):
    sweep = tmp_path / "sweep"
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    command = [sys.executable, str(ROOT / "run.py"), *SEARCH, "hydra.sweeper.n_trials=6", *launcher]
    done = subprocess.run([*command, f"out={tmp_path}", f"hydra.sweep.dir={sweep}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    states = [told["status"] for told in jobs(sweep).values()]
    assert len(states) == 6 and "pruned" in states and record(sweep)["status"] == "completed"
    assert asked(sweep)[:2] == asked(searched)[:2]  # at random, so whatever the other one has found


@pytest.mark.slow
def test_trials_are_jobs_of_submitit(tmp_path):
    sweep = tmp_path / "sweep"
    launcher = ["hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2"]
    command = [sys.executable, str(ROOT / "run.py"), *SEARCH, "hydra.sweeper.n_trials=6", *launcher]
    done = subprocess.run([*command, f"out={tmp_path}", f"hydra.sweep.dir={sweep}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(jobs(sweep)) == 6 and "pruned" in [told["status"] for told in jobs(sweep).values()]


def test_a_trial_that_fails_is_one_and_so_many_in_a_row_end_the_search(run, tmp_path):
    sizes = "data.batch_size=choice(4,991,992,993)"
    typed = ["-m", *SHORT, "trainer.epochs=1", "hydra/sweeper=optuna", sizes, f"hydra.sweep.dir={tmp_path}/sweep"]
    done = run(*typed, "sweep.max_failures=1", code=1)
    assert "1 trials in a row failed; mend what failed, then: " in done.stderr
    first = told(tmp_path / "sweep")
    assert first[-1][0] == "FAIL" and record(tmp_path / "sweep")["status"] == "interrupted"
    done = run(f"resume={tmp_path}/sweep", "sweep.max_failures=null")
    ended = told(tmp_path / "sweep")
    assert ended[: len(first)] == first and sorted(one[0] for one in ended) == ["COMPLETE", "FAIL", "FAIL", "FAIL"]
    assert (
        "all points of the space have been tried" in done.stdout and record(tmp_path / "sweep")["status"] == "completed"
    )


def conditional(trial) -> None:
    if trial.suggest_categorical("optimizer", ["sgd", "adamw"]) == "sgd":
        trial.suggest_float("optimizer.momentum", 0.5, 0.99)
    else:
        trial.suggest_float("optimizer.weight_decay", 1e-4, 1e-1, log=True)


def test_several_objectives_over_a_space_of_ones_own(run, tmp_path):
    sweep = tmp_path / "sweep"
    mine = ["hydra.sweeper.space=test_search.conditional", "hydra.sweeper.objectives=[val/iou,multiply_adds]"]
    widths = "model.decoder_channels=choice([32,16,16,8,8],[64,32,16,16,8])"
    arguments = [*SHORT, "trainer.epochs=1", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=5", *mine, widths]
    run("-m", *arguments, f"hydra.sweep.dir={sweep}")
    for number, params in enumerate(asked(sweep)):
        assert ("optimizer.momentum" in params) == (params["optimizer"] == "sgd"), number
    values = {one.number: one.values for one in study(sweep).trials}
    front = trials.front(values, ["max", "min"])
    assert {f"trial_{number}.yaml" for number in front} | {"best.yaml"} == {
        file.name for file in (sweep / "experiment").iterdir()
    }
    assert front and sorted(one.number for one in study(sweep).best_trials) == sorted(front)
    said = run(f"resume={sweep}", "hydra.sweeper.n_trials=6", code=1).stderr
    assert (
        "the recorded overrides hold what a record may not bring: hydra.sweeper.space=test_search.conditional" in said
    )
    run(f"resume={sweep}", "hydra.sweeper.n_trials=6", mine[0])
    assert len(asked(sweep)) == 6


def numbered(trial) -> None:
    trial.suggest_categorical("loss", [5])


def test_a_trial_that_cannot_be_composed_fails_alone(run):
    mine = ["hydra/sweeper=optuna", "hydra.sweeper.space=test_search.numbered", "hydra.sweeper.n_trials=1"]
    done = run("-m", *SHORT, *mine, code=1)
    assert "job 0 failed: " in done.stdout and done.stderr.startswith("no trial has been completed")


def test_time_ends_a_search_of_an_experiment_that_can_go_on(run, tmp_path):
    sweep, typed = tmp_path / "sweep", ["experiment=search", "hydra.sweeper.timeout=0.001", "loss=glob(bce*)"]
    done = run(*SHORT, "trainer.epochs=1", *typed, f"hydra.sweep.dir={sweep}")
    assert f"23 of 24 trials are left: python run.py resume={sweep}" in done.stdout
    assert record(sweep)["status"] == "interrupted" and len(jobs(sweep)) == 1
    assert "hydra" not in yaml.safe_load((sweep / "best.yaml").read_text())
    assert "bce_dice" in record(sweep)["search"]["space"]["loss"]["choices"]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["loss=choice(dice,bce_dcie)"], "bce_dcie"),
        (["optimizer.lrr=interval(0,1)"], "optimizer.lrr: there is no such key, did you mean optimizer.lr?"),
        (["trainer.epochs=interval(1,8)"], "a whole number of at least 1 (int(interval(1,8)) gives whole numbers)\n"),
        (["hydra.sweeper.space=nowhere.f"], "space=nowhere.f: give the dotted path of a function f(trial) (No module"),
        (["optimizer.lr=tag(log,interval(0,1))"], "optimizer.lr=tag(log,interval(0,1)): "),
        ([], "hydra/sweeper=optuna has nothing to search: give a key a range"),
        (["seed=choice(0,1)", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: give "),
        (["seed=choice(0,1)", "hydra.sweeper.objectives=[my/value]"], "my/value"),
        (["seed=choice(0,1)", "hydra/sweeper/sampler=tpee"], "tpee"),
    ],
    ids=str,
)
def test_a_mistake_is_told_before_any_trial(run, tmp_path, typed, sentence):
    done = run("-m", *SHORT, "hydra/sweeper=optuna", *typed, f"hydra.sweep.dir={tmp_path}/sweep", code=1)
    assert sentence in done.stderr and "Traceback" not in done.stderr and not list(tmp_path.glob("sweep/0*"))


def test_a_range_without_a_search_says_what_to_type(run, tmp_path):
    done = run("-m", *SHORT, "optimizer.lr=tag(log,interval(1e-4,1))", f"hydra.sweep.dir={tmp_path}/sweep", code=1)
    assert done.stderr.startswith(
        "error: optimizer.lr=tag(log,interval(1e-4,1)): such a range is searched: type hydra/s"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=choice(a,b)", {"choices": ["a", "b"]}),
        ("x=a,b", {"choices": ["a", "b"]}),
        ("x=tag(log,interval(1e-4,1))", {"low": 1e-4, "high": 1.0, "step": None, "log": True, "whole": False}),
        ("x=int(interval(1,8))", {"low": 1, "high": 8, "step": None, "log": False, "whole": True}),
        ("x=range(2,9,3)", {"low": 2, "high": 8, "step": 3, "log": False, "whole": True}),
        ("x=range(0,1,0.25)", {"low": 0.0, "high": 0.75, "step": 0.25, "log": False, "whole": False}),
        ("x=range(8,2,-2)", {"low": 4, "high": 8, "step": 2, "log": False, "whole": True}),
        ("x=range(0,1000000000)", {"low": 0, "high": 999999999, "step": 1, "log": False, "whole": True}),
        ("x=shuffle(range(0,3))", {"choices": ["0", "1", "2"]}),
    ],
)  # fmt: skip
def test_hydras_grammar_becomes_a_space(text, expected):
    (override,) = hydra_private.OverridesParser.create().parse_overrides([text])
    assert space.parameter(override) == expected


@pytest.mark.parametrize("text", ["x=range(2,2)", "x=range(1,10,0)", "x=interval(1,inf)", "x=range(nan,1)"])
def test_a_range_without_values_or_ends_is_named(text):
    (override,) = hydra_private.OverridesParser.create().parse_overrides([text])
    with pytest.raises(ValueError, match=re.escape(f"{text}: ")):
        space.parameter(override)


def test_without_the_extra_a_sentence_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setattr(space, "find_spec", lambda name: None)
    assert 'needs the package optuna: pip install -e ".[search]"' in run(*SEARCH, code=1).stderr


def test_composing_a_search_imports_no_optuna(tmp_path):
    code = (
        "import sys, runpy; sys.argv=['run.py', 'hydra/sweeper=optuna', '--cfg', 'hydra']\n"
        "runpy.run_path('run.py', run_name='__main__'); assert 'optuna' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_config_that_has_changed_since_is_refused_by_name_or_kept(run, copied):
    plan = json.loads((copied / "planned.json").read_text())
    plan["jobs"][0]["config"]["optimizer"]["momentum"] = 0.5
    (copied / "planned.json").write_text(json.dumps(plan))
    more = [f"resume={copied}", "hydra.sweeper.n_trials=7"]
    assert "since this sweep began: optimizer.momentum (0.5 -> 0.9). " in run(*more, code=1).stderr
    done = run(*more, "sweep.changed=keep")
    (job,) = copied.glob("6_*")
    trained = yaml.safe_load((job / "config.yaml").read_text())["optimizer"]
    assert "job 6 keeps what was planned: optimizer.momentum (0.5 -> 0.9)" in done.stdout
    assert trained["momentum"] == 0.5 and trained["lr"] == asked(copied)[6]["optimizer.lr"]
