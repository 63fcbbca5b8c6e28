"""A sweep that is cut off anywhere is finished by ``resume=``: nothing runs twice, nothing is lost, nothing is mixed up."""

import csv
import gc
import json
import shutil
import signal
import weakref
from pathlib import Path

import conftest
import pytest
import yaml
from conftest import TINY, jobs, the_sweep
from killing import finish, kill_at

SHORT = [*TINY, "trainer.epochs=1"]
TIMES = ("seconds", "images_per_second")


def summaries(folder: Path) -> dict[int, dict]:
    return {int(name.split("_")[0]): told for name, told in jobs(folder).items()}


def status(folder: Path) -> str:
    return json.loads((folder / "sweep.json").read_text())["status"]


def board(folder: Path) -> list[dict]:
    """The leaderboard, times and places aside."""
    rows = list(csv.DictReader((folder / "leaderboard.csv").open()))
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def written(folder: Path, job: int) -> int:
    """When a job's last checkpoint was written."""
    (last,) = folder.glob(f"{job}_*/checkpoints/last.pt")
    return last.stat().st_mtime_ns


def broken_off(folder: Path, unbegun: tuple[int, ...] = (), running: tuple[int, ...] = ()) -> Path:
    """Make a finished sweep look like one that was killed: jobs that had not begun, and ones that had not ended."""
    told = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps(told | {"status": "running"}))
    for job in folder.glob("[0-9]*_*"):
        number = int(job.name.split("_")[0])
        if number in unbegun:
            shutil.rmtree(job)
        elif number in running:
            conftest.broken_off(job)
    return folder


def test_a_sweep_that_is_killed_three_times_ends_as_one_that_was_not(tmp_path):
    log = tmp_path / "log"
    swept = ["optimizer.lr=0.1,0.01", "loss=dice,bce_dice"]
    arguments = ["-m", *TINY, f"out={tmp_path}", *swept, "trainer.save_minutes=0"]
    finish(log, *arguments, f"hydra.sweep.dir={tmp_path}/straight")
    folder = tmp_path / "killed"
    kill_at("humanseg.loop:total_loss", log, *arguments, f"hydra.sweep.dir={folder}", call=7)  # in the second job
    kill_at("humanseg.cli.job:progress", log, f"resume={folder}")  # between two jobs
    first = written(folder, 0)
    kill_at("humanseg.runs.atomic:_link", log, f"resume={folder}")  # in a checkpoint of the third
    told = finish(log, f"resume={folder}")
    assert "goes on    2 of 4 jobs are completed" in told and "job 2 done: " in told and "job 0 done" not in told
    assert written(folder, 0) == first and status(folder) == "completed"
    assert board(folder) == board(tmp_path / "straight")
    assert f"{folder} is finished" in finish(log, f"resume={folder}")


def test_a_signal_stops_a_sweep_and_its_resume_is_named(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "sweep"
    arguments = ["-m", *TINY, "seed=0,1", f"hydra.sweep.dir={folder}"]
    told = finish(log, *arguments, at="torch.optim:SGD.step", calls=(2,), number=signal.SIGTERM, code=143)
    assert f"interrupted: python run.py resume={folder} goes on" in told
    assert {number: job["status"] for number, job in summaries(folder).items()} == {0: "interrupted"}
    finish(log, f"resume={folder}")
    assert {job["status"] for job in summaries(folder).values()} == {"completed"}


@pytest.mark.parametrize(
    "swept",
    [
        ["seed=range(0,2)", "tags=[a b],[c]", "+mark='x=1,2'"],  # one with commas is killed three times above
        [
            "scheduler=glob(co*)",
            "trainer.save_every=${data.batch_size}",
        ],  # what Hydra computes is recorded as its result
        pytest.param(
            ["experiment=debug,overfit", "trainer.epochs=1", "trainer.steps_per_epoch=1"], marks=pytest.mark.slow
        ),
        ["experiment=sweep_lr_loss"],  # a file that makes it a sweep
    ],
    ids=lambda swept: swept[0],
)
def test_every_kind_of_sweep_goes_on(run, tmp_path, swept):
    run(*([] if swept == ["experiment=sweep_lr_loss"] else ["-m"]), *SHORT, *swept)
    folder = the_sweep(tmp_path)
    expected, names = board(folder), sorted(job.name for job in folder.iterdir() if job.is_dir())
    last = len(names) - 1
    untouched = written(folder, last - 1)
    broken_off(folder, unbegun=(last,), running=(0,) if last > 1 else ())
    run("resume=latest")
    assert board(folder) == expected and status(folder) == "completed" and written(folder, last - 1) == untouched
    assert sorted(job.name for job in folder.iterdir() if job.is_dir()) == names
    (job,) = broken_off(folder, running=(0,)).glob("0_*")
    assert run(f"resume={job}").folder == job and summaries(folder)[0]["status"] == "completed"  # one alone


def test_what_failed_is_tried_again_and_what_is_typed_for_all_reaches_it(run, tmp_path):
    run("-m", *SHORT, "trainer.device=cpu,meta,cpu", "seed=0", code=1)
    folder = the_sweep(tmp_path)
    assert [job["status"] for job in summaries(folder).values()].count("failed") == 1 and status(folder) == "failed"
    done = run(f"resume={folder}", code=1)
    assert "goes on    2 of 3 jobs are completed" in done.stdout and done.stderr.count("failed: ") == 1


@pytest.fixture(scope="module")
def over_seeds(tmp_path_factory) -> Path:
    """A finished sweep of three jobs, of which tests break copies."""
    root = tmp_path_factory.mktemp("over_seeds")
    with pytest.MonkeyPatch.context() as patch:
        conftest.call_run_py(patch, "-m", *SHORT, "seed=0,1,2", f"out={root}", f"hydra.sweep.dir={root}/sweep")
    return root / "sweep"


@pytest.fixture
def sweep(over_seeds, tmp_path) -> Path:
    """Such a copy, whose third job had not begun."""
    return broken_off(Path(shutil.copytree(over_seeds, tmp_path / "sweep")), unbegun=(2,))


def test_typed_threads_stay_and_a_second_resume_still_fits(run, sweep):
    folder = sweep
    run(f"resume={folder}", "trainer.threads=1", "seed=0,1,2")
    assert "trainer.threads=1" in summaries(folder)[2]["overrides"]
    broken_off(folder, unbegun=(2,))
    run(f"resume={folder}")
    assert "trainer.threads=1" in summaries(folder)[2]["overrides"]


def test_what_does_not_fit_is_told_and_nothing_is_touched(run, sweep):
    folder, told = sweep, (sweep / "sweep.json").read_text()

    def refused(*typed: str) -> str:
        before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != ".lock"}
        said = run(f"resume={folder}", *typed, code=1).stderr
        assert {file: file.read_bytes() for file in before} == before and len(summaries(folder)) == 2
        return said

    assert "optimizer.lr=1 would change the jobs" in refused("optimizer.lr=1")
    assert "takes no sweep beside it" in refused("trainer.threads=1,2")
    (folder / "sweep.json").write_text(told.replace('"seed=1"', '"seed=7"'))
    assert "1_seed-1 holds another job than number 1 of this sweep" in refused()
    (folder / "sweep.json").write_text(told.replace('"seed=1"', '"loss=gone"'))
    assert "loss=gone: conf/ has no such YAML now, so put it back" in refused()
    (folder / "sweep.json").write_text(told[:50])
    assert "sweep.json can't be read" in refused()
    (folder / "sweep.json").write_text(told)
    (folder / "1_seed-1").rename(folder / "5_seed-1")
    assert "5_seed-1 is no job of this sweep" in refused()
    (folder / "5_seed-1").rename(folder / "2_seed-1")
    assert "2_seed-1 is no job of this sweep, or was renamed" in refused()


def as_if_changed(folder: Path, key: str, value: object, jobs: tuple[int, ...] = (0, 1, 2)) -> None:
    """Make a sweep's plan look as if a YAML had another value since."""
    told = json.loads((folder / "planned.json").read_text())
    group, _, name = key.partition(".")
    for number in jobs:
        told["jobs"][number]["config"][group][name] = value
    (folder / "planned.json").write_text(json.dumps(told))


def config(folder: Path, job: int) -> dict:
    (file,) = folder.glob(f"{job}_*/config.yaml")
    return yaml.safe_load(file.read_text())


def test_the_plan_of_a_sweep_is_what_its_jobs_train(over_seeds):
    plans = json.loads((over_seeds / "planned.json").read_text())["jobs"]
    assert [plan["config"] for plan in plans] == [config(over_seeds, number) for number in range(3)]


def test_a_config_that_has_changed_since_is_refused_by_name_or_kept(run, sweep):
    as_if_changed(sweep, "data.num_workers", 1)  # this machine's own
    as_if_changed(sweep, "optimizer.momentum", 0.5)
    told = run(f"resume={sweep}", code=1).stderr
    assert "since this sweep began: optimizer.momentum (0.5 -> 0.9). " in told and "sweep.changed=keep" in told
    assert len(summaries(sweep)) == 2
    done = run(f"resume={sweep}", "sweep.changed=keep")
    assert "job 2 keeps what was planned: optimizer.momentum (0.5 -> 0.9)" in done.stdout
    assert config(sweep, 2)["optimizer"]["momentum"] == 0.5 and config(sweep, 2)["data"]["num_workers"] == 0
    assert config(sweep, 2)["seed"] == 2 and status(sweep) == "completed"


def test_a_mistake_in_a_yaml_that_failed_jobs_can_be_mended_and_no_more_than_that(run, sweep):
    """What differs in a job that failed before it trained, and in none that trained, is taken by those that are left."""
    as_if_changed(sweep, "optimizer.momentum", -1, jobs=(2,))
    told = run(f"resume={sweep}", "sweep.changed=keep", code=1).stderr
    assert "job 2 failed: " in told and "mend what failed, then: " in told
    as_if_changed(sweep, "optimizer.lr", 0.5)  # for the jobs that trained, too
    told = run(f"resume={sweep}", "sweep.changed=refuse", code=1).stderr
    assert "since this sweep began: optimizer.lr (0.5 -> " in told and "momentum" not in told
    as_if_changed(sweep, "optimizer.lr", config(sweep, 0)["optimizer"]["lr"])
    done = run(f"resume={sweep}", "sweep.changed=refuse")
    assert done.stdout.count("mended     optimizer.momentum (-1 -> 0.9)") == 1 and status(sweep) == "completed"
    assert config(sweep, 2)["optimizer"]["momentum"] == 0.9


def test_a_plan_chooses_no_code_and_no_place(run, sweep, tmp_path):
    as_if_changed(sweep, "loss._target_", "os.mkdir")
    told = json.loads((sweep / "planned.json").read_text())
    told["jobs"][2]["config"] |= {"out": str(tmp_path / "elsewhere"), "mode": "predict"}
    (sweep / "planned.json").write_text(json.dumps(told))
    done = run(f"resume={sweep}", "sweep.changed=keep", code=1)
    assert "job 2 failed: the recorded config holds what no YAML of conf/ has: loss._target_=os.mkdir" in done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_jobs_that_have_begun_go_on_as_they_were_whatever_has_changed(run, sweep):
    run(f"resume={sweep}")
    as_if_changed(broken_off(sweep, running=(2,)), "optimizer.momentum", 0.5)
    run(f"resume={sweep}")
    assert status(sweep) == "completed"


def test_a_sweep_of_an_earlier_version_divides_by_its_seed(run, sweep):
    (sweep / "planned.json").unlink()
    run(f"resume={sweep}")
    assert config(sweep, 2)["data"] | {"split_seed": 2, "duplicates": "ignore"} == config(sweep, 2)["data"]


def test_a_sweep_in_another_place_goes_on_there(run, sweep, tmp_path):
    shutil.copytree(sweep, tmp_path / "copy of it")
    run(f"resume={tmp_path}/copy of it")
    assert len(summaries(tmp_path / "copy of it")) == 3 and len(summaries(sweep)) == 2


def test_a_sweep_whose_every_job_fails_is_stopped(run, tmp_path):
    done = run("-m", *SHORT, "data.batch_size=991,992,993,994", "sweep.max_failures=2", code=1)
    folder = the_sweep(tmp_path)
    assert [job["status"] for job in summaries(folder).values()] == ["failed", "failed"]
    assert "2 jobs in a row failed, 2 were not started" in done.stderr
    done = run(f"resume={folder}", "sweep.max_failures=null", code=1)
    assert len(summaries(folder)) == 4 and done.stderr.count("failed: ") == 4


_networks = []


def out_of_memory(record, writer, step) -> None:
    gc.collect()
    assert not [network for network in _networks if network() is not None]
    _networks.append(weakref.ref(record.trained))
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_a_job_that_ran_out_of_memory_leaves_nothing_to_the_next(run, tmp_path):
    bad = "+callbacks.bad={_target_:test_sweep_resume.out_of_memory,_partial_:true}"
    done = run("-m", *SHORT, bad, "callbacks.strict=true", "seed=0,1", code=1)
    for number in (0, 1):
        assert f"job {number} failed: callbacks.bad failed: RuntimeError: CUDA out of memory" in done.stderr
    assert "try a smaller data.batch_size" in summaries(the_sweep(tmp_path))[1]["error"]
