"""Jobs of a sweep at once: the same results as one after another, a GPU each, and nothing lost when they are stopped."""

import multiprocessing
import os
import shutil
import signal
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
import torch
from conftest import TINY, composed, jobs, rows, weights
from hydra.core.plugins import Plugins
from killing import finish
from omegaconf import OmegaConf

from humanseg.cli import launchers
from humanseg.processes import hardware
from humanseg.runs import locks

JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
SWEEP = ["-m", *TINY, "trainer.threads=1", "data.batch_size=4,5,999"]  # the third one fails
NOT_COMPARED = ("seconds", "images_per_second", "overrides")  # times and places


def statuses(sweep: Path) -> list[str]:
    return [told["status"] for told in jobs(sweep).values()]


def ranked(sweep: Path) -> list[dict]:
    """The leaderboard, times and places aside."""
    return [
        {key: value for key, value in row.items() if key not in NOT_COMPARED} for row in rows(sweep, "leaderboard.csv")
    ]


def assert_same(sweep: Path, other: Path) -> None:
    """To the bit, for each of the sweep's jobs that has ended well."""
    for name, told in jobs(sweep).items():
        if told["status"] == "completed":
            torch.testing.assert_close(weights(sweep / name), weights(other / name), rtol=0, atol=0)


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory) -> Path:
    """The sweep's folder where its jobs ran one after another and none was stopped."""
    folder = tmp_path_factory.mktemp("in_turn")
    (folder / "stopped").touch()
    typed = [*SWEEP, stop_of(folder), f"out={folder}", f"hydra.sweep.dir={folder}/sweep"]
    here = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    finish(folder / "log", *typed, code=1, environment={"PYTHONPATH": here})
    return folder / "sweep"


def stop_of(folder: Path) -> str:
    return stopping(folder / "stopped", signal.SIGTERM, parent=True)


def stop_once(record, writer, step, marker: str, number: int, parent: bool) -> None:
    """A callback that sends a signal to its own process, or to the sweep's."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getppid() if parent else os.getpid(), number)


def stopping(marker: Path, number: int, parent: bool = False) -> str:
    facts = f"marker:'{marker}',number:{int(number)},parent:{str(parent).lower()}"
    return f"+callbacks.stop={{_target_:test_launchers.stop_once,_partial_:true,{facts}}}"


@pytest.fixture
def importable(monkeypatch):
    """Other processes find the callbacks of this file."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]]))
    return {"PYTHONPATH": os.environ["PYTHONPATH"]}


def test_jobs_of_joblib_give_the_same_and_a_sweep_that_is_stopped_goes_on(importable, cli, in_turn, tmp_path):
    sweep = tmp_path / "sweep"
    stop = stop_of(in_turn.parent)
    (in_turn.parent / "stopped").unlink()
    told = cli(*SWEEP, *JOBLIB, f"hydra.sweep.dir={sweep}", stop, code=143)  # joblib's processes outlive a forked one
    assert f"interrupted: python run.py resume={sweep} goes on" in told.stdout and "Traceback" not in told.stderr
    assert "interrupted" in statuses(sweep) and len(jobs(sweep)) < 3  # those at work have saved, no other was begun
    (first,) = in_turn.glob("0_*")
    shutil.rmtree(sweep / first.name)
    done = shutil.copytree(first, sweep / first.name) / "checkpoints" / "last.pt"  # as if it had been completed
    written = done.stat().st_mtime_ns

    told = cli(f"resume={sweep}", stop, code=1)
    assert statuses(sweep) == ["completed", "completed", "failed"] and "mend what failed" in told.stderr
    assert ranked(sweep) == ranked(in_turn) and done.stat().st_mtime_ns == written
    assert_same(sweep, in_turn)


def test_a_job_of_submitit_that_is_pre_empted_is_queued_again_and_goes_on(importable, in_turn, tmp_path):
    sweep, stop = tmp_path / "sweep", stopping(tmp_path / "stopped", signal.SIGUSR2)
    swept = ["data.batch_size=4,5", "hydra/launcher=submitit_local", f"hydra.sweep.dir={sweep}"]
    told = finish(tmp_path / "log", *SWEEP[:-1], *swept, stop, environment=importable)
    assert statuses(sweep) == ["completed"] * 2 and "runs:  2 completed" in told
    states = jobs(sweep).values()
    assert sum("earlier" in one for one in states) == 1  # began twice
    assert all(
        "batch_size=4,5" in one["environment"]["command"] for one in states
    )  # what was typed, not submitit's own
    assert_same(sweep, in_turn)


class Submitit:
    """What submitit's class of handlers has, as far as it is used."""

    def bypass(self, number, frame):
        pass

    def checkpoint_and_try_requeue(self, number, frame):
        raise SystemExit


@pytest.mark.parametrize(
    ("number", "preempted", "again"),
    [(signal.SIGUSR2, False, True), (signal.SIGTERM, True, True), (signal.SIGTERM, False, False), (signal.SIGINT, True, False)],
)  # fmt: skip
def test_a_job_is_queued_again_where_slurm_warns_or_pre_empts_it_and_not_where_it_is_cancelled(
    monkeypatch, number, preempted, again
):
    handlers = Submitit()
    monkeypatch.setattr(launchers.slurm, "preempts", lambda: preempted)
    answer = handlers.checkpoint_and_try_requeue if number == signal.SIGUSR2 else handlers.bypass
    before = signal.signal(number, answer)
    try:
        with pytest.raises(SystemExit) if again else nullcontext():
            launchers.requeue(number)
    finally:
        signal.signal(number, before)


def test_what_sbatch_refuses_is_told():
    told = launchers.explain(RuntimeError("sbatch: error: invalid partition specified: gpu\nsbatch: error: Batch job"))
    assert told.startswith("hydra.launcher: sbatch takes no such job (invalid partition specified: gpu); ")


def hydra(launcher: str, **settings) -> OmegaConf:
    return OmegaConf.create({"launcher": {"_target_": f"hydra_plugins.{launcher}", **settings}})


@pytest.mark.parametrize(
    ("launcher", "settings", "expected"),
    [("x.BasicLauncher", {}, 1), ("x.JoblibLauncher", {"n_jobs": 3}, 3), ("x.JoblibLauncher", {"n_jobs": 9}, 4),
     ("x.LocalLauncher", {}, 4), ("x.SlurmLauncher", {}, 1)],
)  # fmt: skip
def test_jobs_at_once_are_as_many_as_the_launcher_starts(launcher, settings, expected):
    assert launchers.jobs_at_once(hydra(launcher, **settings), [["seed=0"]] * 4) == expected


def take(folder: Path, wanted: int, told, over) -> None:
    with ExitStack() as held:
        told.put(launchers._take_gpus(folder, [2, 3], wanted, held))
        over.wait(60)


def test_each_job_has_the_gpu_that_the_fewest_others_have(tmp_path):
    context = multiprocessing.get_context("fork")
    told, over = context.Queue(), context.Event()
    found, processes = [], []
    for wanted in (1, 1, 1, 2):
        processes.append(context.Process(target=take, args=(tmp_path / "gpus", wanted, told, over)))
        processes[-1].start()
        found.append(told.get(timeout=60))
    assert found == [[2], [3], [2], [3, 2]]
    over.set()
    for process in processes:
        process.join()
    with ExitStack() as held:  # what has ended holds nothing
        assert launchers._take_gpus(tmp_path / "gpus", [2, 3], 1, held) == [2]


def shared(tmp_path: Path, monkeypatch, *overrides: str) -> tuple[str, int]:
    """The device and the cores of a job among two, on a machine with four GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8))
    monkeypatch.setattr(sys, "orig_argv", [])
    config = OmegaConf.create(composed(*overrides))
    sweep = {"jobs": [["seed=0"], ["seed=1"]], "environment": {"command": "python run.py"}}
    with launchers.share(config, hydra("x.LocalLauncher"), tmp_path, sweep):
        return str(hardware.choose_device(config.trainer.device)), hardware.cores()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [([], "cuda:0"), (["sweep.gpus=[3]"], "cuda:3"), (["trainer.device=cuda:1"], "cuda:1"),
     (["trainer.device=cpu"], "cpu"), (["sweep.gpus=null"], "cuda")],
)  # fmt: skip
def test_a_job_among_others_has_its_share_of_the_machine(tmp_path, monkeypatch, overrides, expected):
    assert shared(tmp_path, monkeypatch, *overrides) == (expected, 4)
    assert hardware.sharers() == 1  # given back


def test_a_gpu_that_is_not_there_can_not_be_shared(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="sweep.gpus=.*7.*: this machine has 4 CUDA"):
        shared(tmp_path, monkeypatch, "sweep.gpus=[1,7]")


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm"])
@pytest.mark.parametrize("discovered", [True, False])
def test_a_launcher_whose_package_is_missing_names_the_extra(run, monkeypatch, tmp_path, name, discovered):
    package = name.split("_")[0]
    for module in [name for name in sys.modules if name.startswith(f"hydra_plugins.hydra_{package}_launcher")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, f"hydra_plugins.hydra_{package}_launcher", None)
    monkeypatch.setitem(sys.modules, package, None)
    if not discovered:  # Hydra looks for its plugins once a process: in a fresh one it has not seen this one's
        plugins = Plugins.instance()
        seen = {name: one for name, one in plugins.class_name_to_class.items() if package not in name}
        monkeypatch.setattr(plugins, "class_name_to_class", seen)
    told = run("-m", *TINY, f"hydra/launcher={name}", "seed=0,1", code=1).stderr
    assert f'error: the package hydra-{package}-launcher is missing: pip install -e ".[{package}]"' in told
    assert "Traceback" not in told and "raised" not in told
    assert not list(tmp_path.rglob("sweep.json"))  # no sweep is left that seems to run


def test_the_link_that_submitit_makes_on_slurm_keeps_no_sweep_from_going_on(tmp_path):
    folder = tmp_path / ".submitit" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / ".submission_file_0123456789abcdef0123456789abcdef.sh").symlink_to(folder / "1" / "1_submission.sh")
    locks.refuse_links(tmp_path)
    (folder / "1").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="1 is a link"):
        locks.refuse_links(tmp_path)
