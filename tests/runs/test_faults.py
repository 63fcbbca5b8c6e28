"""What may go wrong around a run costs the last minutes at most: one sentence, and ``resume=`` goes on."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import ON_FILES, TINY, summary, weights
from killing import finish, start
from tensorboard.compat.tensorflow_stub.io import gfile

from humanseg import checkpoint
from humanseg.runs import summary as summary_file

LONG = [item for item in TINY if "steps_per_epoch" not in item]


def the_run(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "outputs" / "train").glob("*/*")
    return folder


def full(*arguments, **named):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fails_later(real, good: int, fault=full):
    """A function that fails from its call number `good` + 1 on."""
    calls = iter(range(good))
    return lambda *arguments, **named: fault() if next(calls, None) is None else real(*arguments, **named)


@pytest.mark.parametrize(
    ("owner", "name", "good", "whole"),  # the checkpoints that are left for sure
    [
        (os, "fsync", 4, set()),  # the first epoch's checkpoint
        (summary_file, "write_table", 1, {"last.pt", "previous.pt", "best.pt"}),  # the second epoch's metrics.csv
        (gfile.GFile, "write", 0, set()),  # TensorBoard's events, which a thread writes: at any time
    ],
    ids=["checkpoint", "csv", "event"],
)
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_with_room(run, tiny_once, tmp_path, owner, name, good, whole):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fails_later(getattr(owner, name), good))
        done = run(*TINY, code=1)
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    folder = the_run(tmp_path)
    assert summary(folder)["status"] != "completed"
    left = {file.name for file in folder.rglob("checkpoints/*") if checkpoint.load(file)}  # it raises at half a one
    assert whole <= left <= ({"last.pt", "previous.pt", "best.pt"} if name != "fsync" else set())
    run(f"resume={folder}")
    torch.testing.assert_close(weights(folder), weights(tiny_once), rtol=0, atol=0)
    assert summary(folder)["status"] == "completed" and "error" not in summary(folder)


def test_a_checkpoint_that_torch_can_not_end_keeps_the_one_before(run, tmp_path, monkeypatch):
    save, calls = torch.save, []

    def full_at_the_second(payload, file):
        calls.append(file)
        if len(calls) == 2:
            file.write(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        save(payload, file)

    monkeypatch.setattr(torch, "save", full_at_the_second)
    told = run(*TINY, code=1).stderr
    assert "can't be written" in told and "the checkpoint before it is whole" in told
    folder = the_run(tmp_path) / "checkpoints"
    assert checkpoint.load(folder / "last.pt")["epoch"] == 1
    assert sorted(file.name for file in folder.iterdir()) == ["best.pt", "last.pt"]


def test_a_folder_that_can_not_be_written_to_is_one_sentence(run):
    done = run(*TINY, "hydra.run.dir=/proc/nowhere", code=1)
    assert "/proc/nowhere can't be written to" in done.stderr and "Traceback" not in done.stderr
    done = run("-m", *TINY, "seed=0,1", "hydra.sweep.dir=/proc/nowhere", code=1)
    assert "/proc/nowhere can't be written to" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_run_that_became_read_only_is_one_sentence(run, finished):
    folder = finished
    folder.chmod(0o500)
    (folder / ".lock").chmod(0o400)
    assert f"{folder} can't be written to" in run(f"resume={folder}", "trainer.epochs=3", code=1).stderr
    folder.chmod(0o700)


def workers_of(pid: int) -> list[int]:
    """Child processes of a process, from Linux's /proc."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


def wait_for(what, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_a_data_worker_that_is_killed_is_one_sentence_and_the_run_goes_on(tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    workers = ["data.num_workers=2", "trainer.save_minutes=0"]
    process = start(log, *LONG, *workers, "trainer.epochs=500", f"hydra.run.dir={folder}")
    wait_for((folder / "checkpoints" / "last.pt").exists)
    os.kill(wait_for(lambda: workers_of(process.pid))[0], signal.SIGKILL)
    process.join(60)
    told = log.read_text()
    assert process.exitcode == 1 and "Traceback" not in told, told
    assert "DataLoader worker (pid" in told and "try a smaller data.num_workers" in told
    assert f"python run.py resume={folder} goes on from the last checkpoint" in told
    assert "DataLoader worker" in summary(folder)["error"]
    finish(log, f"resume={folder}", "trainer.epochs=1", "data.num_workers=0")
    assert summary(folder)["status"] == "completed"


def test_a_photograph_that_vanishes_is_named_and_the_run_goes_on_when_it_is_back(run, people, tmp_path):
    options = [*[item for item in ON_FILES if "steps_per" not in item], "data=folder", f"data.root={people}"]
    gone = people / "images" / "003.png"

    class Vanishing:
        @staticmethod
        def after_the_first_epoch(values, epochs, best) -> str:
            gone.rename(tmp_path / "aside.png")
            return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("humanseg.logs.journal.epoch_line", Vanishing.after_the_first_epoch)
        done = run(*options, "trainer.epochs=3", "data.val_split=0", "trainer.monitor=null", code=1)
    assert "003.png" in done.stderr and "Traceback" not in done.stderr
    folder = the_run(tmp_path)
    assert "003.png" in run(f"resume={folder}", code=1).stderr  # it is missed at once
    (tmp_path / "aside.png").rename(gone)
    run(f"resume={folder}")
    assert summary(folder)["status"] == "completed" and summary(folder)["epochs"] == 3


def test_a_clock_that_jumps_back_disturbs_nothing(run, finished):
    now = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: now - 10 * 86_400)
        run("-m", *TINY, "trainer.epochs=1", "seed=0,1")
        run(f"resume={finished}", "trainer.epochs=3")
    told = summary(finished)
    assert told["status"] == "completed" and told["epochs"] == 3 and told["seconds"] > 0
