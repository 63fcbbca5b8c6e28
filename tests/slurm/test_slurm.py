"""Runs and sweeps on a real SLURM, which cluster.sh starts on this machine: each case is one that ends jobs on a cluster.

A job of `low` is held in its first epoch until the test lets it go on, so that no clock decides what it is asked when.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, jobs, run_into, summary, weights

from humanseg.runs import trials
from humanseg.runs.atomic import write_text

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not shutil.which("sbatch"), reason="sbatch is missing: cluster.sh names the packages"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="there is one cluster: pytest -n 0 -m slurm"),
]

RUN = [sys.executable, str(ROOT / "run.py"), *TINY, "trainer.threads=1"]
ON_LOW = [
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.partition=low",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=1",
]
PATIENCE = 600  # seconds for what takes one on a machine that is not busy


def hold(record, writer, step, place: str) -> None:
    """A callback that stays here as long as the folder `place` is there, and leaves its process' number in it."""
    while (held := Path(place)).exists():
        (held / str(os.getpid())).touch()
        time.sleep(0.1)


def holding(place: Path) -> str:
    return f"+callbacks.hold={{_target_:test_slurm.hold,_partial_:true,place:'{place}'}}"


def slurm(*command: str) -> str:
    """What a command of SLURM's prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain; {slurm('squeue')}"
        time.sleep(0.5)


def waiting_to_begin() -> list[str]:
    """The jobs that were queued again: SLURM lets them begin after two minutes."""
    shown = slurm("squeue", "--noheader", "--array", "--format=%i %r").split("\n")
    return [line.split()[0] for line in shown if line.endswith(" BeginTime")]


def begin_now(number: int) -> None:
    """Wait until so many jobs are queued again, and let them begin."""
    until(lambda: len(waiting_to_begin()) == number)
    for job in waiting_to_begin():
        slurm("scontrol", "update", f"jobid={job}", "StartTime=now")


def printed(sweep: Path) -> list[str]:
    """The output of each of a sweep's jobs."""
    return [file.read_text() for file in sweep.glob(".submitit/*/*/*.out")]


def states(sweep: Path) -> list[str]:
    return [told["status"] for told in jobs(sweep).values()]


class Sweep:
    """A sweep of jobs of SLURM's that goes on beside the test, each held in its first epoch."""

    def __init__(self, place: Path, *overrides: str):
        self.folder, self.held, self.log = place / "sweep", place / "held", place / "log"
        self.held.mkdir()
        command = [
            *RUN,
            "-m",
            *ON_LOW,
            holding(self.held),
            f"out={place}",
            f"hydra.sweep.dir={self.folder}",
            *overrides,
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def is_killed_and_goes_on(self) -> None:
        """SIGKILL, which its jobs outlive, and `resume=`, with what its record may not bring."""
        self.process.kill()
        self.process.wait()
        with self.log.open("w") as log:
            resumed = [*RUN[:2], f"resume={self.folder}", holding(self.held)]
            self.process = subprocess.Popen(resumed, stdout=log, stderr=log)

    def until_held(self, number: int) -> None:
        until(lambda: self.process.poll() is not None or len([*self.held.iterdir()]) == number)
        assert self.process.poll() is None, self.log.read_text()

    def first(self) -> Path:
        """The folder of its first job."""
        return next(self.folder.glob("0*"))

    def let_go(self) -> None:
        shutil.rmtree(self.held)

    def ends(self, code: int = 0) -> str:
        """Wait for its end; returns what it printed."""
        self.process.wait(PATIENCE)
        assert self.process.returncode == code, self.log.read_text()
        return self.log.read_text()


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Path]:
    """The folder of a cluster that SLURM's commands find, and jobs that find what this file has."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # pytest's own folders are closed to the daemons' users
    script = str(Path(__file__).with_name("cluster.sh"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYDRA_FULL_ERROR", "0")  # a run in this process sets it, and would leave it so
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(ROOT), os.environ["PYTHONPATH"]]))
        try:
            subprocess.run([script, "start", folder], check=True)
            yield folder
        finally:
            subprocess.run([script, "stop", folder], check=True)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Sweep]]:
    """Begins a sweep, and leaves nothing of it behind."""
    begun = []
    yield lambda *overrides: begun.append(Sweep(tmp_path, *overrides)) or begun[0]
    slurm("scancel", "--user=root")
    for sweep in begun:
        shutil.rmtree(sweep.held, ignore_errors=True)
        sweep.process.kill()
        sweep.process.wait()
    until(lambda: not slurm("squeue", "--noheader"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """A run that nothing touched, on this machine without SLURM."""
    return run_into(tmp_path_factory.mktemp("straight") / "run", *TINY, "trainer.threads=1")


def assert_same(folder: Path, other: Path) -> None:
    torch.testing.assert_close(weights(folder), weights(other), rtol=0, atol=0)


def test_a_sweep_of_four_jobs_gives_the_same_as_without_slurm(straight, tmp_path):
    command = [*RUN, "-m", *ON_LOW, "seed=0,1,2,3", f"out={tmp_path}", f"hydra.sweep.dir={tmp_path}/sweep"]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0 and "runs:  4 completed" in told.stdout, told.stdout + told.stderr
    assert states(tmp_path / "sweep") == ["completed"] * 4
    assert_same(tmp_path / "sweep" / "0_seed-0", straight)


def test_trials_of_a_search_are_jobs_that_are_pruned_and_outlive_a_kill_of_the_search(start):
    search = start(
        *("trainer.epochs=3", "trainer.steps_per_epoch=1", "hydra/sweeper=optuna", "hydra/sweeper/pruner=halving"),
        *("hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2"),
        *("optimizer.lr=tag(log,interval(1e-4,1e-1))", "loss=choice(dice,bce_dice,lovasz)"),
    )
    search.until_held(2)
    search.is_killed_and_goes_on()
    until(lambda: "goes on    0 of 6 trials have ended" in search.log.read_text())
    search.let_go()
    search.ends()
    told = jobs(search.folder)
    assert len(told) == 6 and {*states(search.folder)} == {"completed", "pruned"}
    assert not any("earlier" in one for one in told.values())  # each began once
    found = trials.open_study(search.folder).trials
    assert [one.state.name == "PRUNED" for one in found] == [one["status"] == "pruned" for one in told.values()]
    assert len({str(one.params) for one in found}) == 6 and (search.folder / "best.yaml").exists()


def test_srun_shares_a_run_on_one_node_and_on_two(tmp_path):
    for name, nodes in (("one", "--nodes=1"), ("two", "--nodes=2")):
        started = ["srun", nodes, "--ntasks=2", "--kill-on-bad-exit", *RUN, f"hydra.run.dir={tmp_path}/{name}"]
        assert "2 processes on cpu" in slurm(*started, f"out={tmp_path}")
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.fixture(params=["SIGTERM", "SIGUSR2"])
def preempting_by(cluster, request) -> Iterator[str]:
    """The signal that the cluster pre-empts by."""
    configuration = cluster / "slurm.conf"
    before = configuration.read_text()
    parameter = "SlurmctldParameters=preempt_send_user_signal\n" if request.param == "SIGUSR2" else ""
    reconfigure(configuration, before + parameter)
    yield request.param
    reconfigure(configuration, before)


def reconfigure(file: Path, text: str) -> None:
    """Give the daemons another configuration. They read it later, and end where they meet half of the next one."""
    write_text(file, text)
    slurm("scontrol", "reconfigure")


def test_jobs_that_are_pre_empted_are_queued_again_and_go_on(preempting_by, straight, start):
    sweep = start("seed=0,1")
    sweep.until_held(2)
    slurm("sbatch", "--partition=high", "--nodes=2", "--ntasks=4", "--output=/dev/null", "--wrap=true")
    until(lambda: sum(f"{preempting_by}: finishing the step" in text for text in printed(sweep.folder)) == 2)
    sweep.let_go()
    begin_now(2)
    assert "runs:  2 completed" in sweep.ends()
    assert all("earlier" in told for told in jobs(sweep.folder).values())  # each began twice
    assert_same(sweep.first(), straight)


def test_a_job_saves_before_its_time_is_over_and_goes_on(straight, start):
    sweep = start("seed=0", "hydra.launcher.timeout_min=4", "hydra.launcher.signal_delay_s=120")
    sweep.until_held(1)
    until(lambda: "SIGUSR2: finishing the step" in printed(sweep.folder)[0])
    sweep.let_go()
    begin_now(1)
    assert "runs:  1 completed" in sweep.ends() and "this job is timed-out" in printed(sweep.folder)[0]
    assert_same(sweep.first(), straight)


def test_a_job_that_is_cancelled_saves_and_is_not_queued_again(straight, start):
    sweep = start("seed=0")
    sweep.until_held(1)
    slurm("scancel", "--user=root")
    until(lambda: "SIGTERM: finishing the step" in printed(sweep.folder)[0])
    sweep.let_go()
    assert "error: a job has died" in sweep.ends(code=1)  # accounting has told submitit
    assert states(sweep.folder) == ["interrupted"] and not slurm("squeue", "--noheader")
    subprocess.run([*RUN[:2], f"resume={sweep.first()}", holding(sweep.held)], check=True)
    assert_same(sweep.first(), straight)


def test_a_second_copy_of_a_job_whose_node_went_down_leaves_the_first_one_alone(cluster, straight, start):
    sweep = start("seed=0")
    sweep.until_held(1)
    node = slurm("squeue", "--noheader", "--format=%N").strip()
    os.kill(int((cluster / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
    begin_now(1)  # on the other node
    assert "resume=" in sweep.ends(code=1) and "is in use by another process" in printed(sweep.folder)[0]
    sweep.let_go()
    until(lambda: summary(sweep.first())["status"] == "completed")
    assert_same(sweep.first(), straight)
    slurm("slurmd", "-N", node)
