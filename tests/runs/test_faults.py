"""What may go wrong around a run costs the last minutes at most: one sentence, and ``resume=`` goes on."""

import errno
import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from conftest import ON_FILES, TINY, summary, weights
from killing import finish, start

from humanseg import checkpoint
from humanseg.logs import handlers, tensorboard
from humanseg.runs import atomic

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


def no_room_for(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the disk be full for files of these names."""
    unused = atomic._unused
    patch.setattr(atomic, "_unused", lambda path: full() if path.name in names else unused(path))


@pytest.mark.parametrize(
    ("name", "whole"),  # the checkpoints that are left
    [("last.pt", set()), ("metrics.csv", {"last.pt", "previous.pt", "best.pt"}), ("config.yaml", set())],
)
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_with_room(run, tiny_once, tmp_path, name, whole):
    with pytest.MonkeyPatch.context() as patch:
        no_room_for(patch, name)
        done = run(*TINY, code=1)
    folder = the_run(tmp_path)
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"{name} can't be written" in told and "No space left on device" in told and "Traceback" not in done.stderr
    assert (folder / "summary.json").exists() is False or summary(folder)["status"] != "completed"
    left = {file.name for file in folder.rglob("checkpoints/*") if checkpoint.load(file)}  # it raises at half a one
    assert left == whole and not [*folder.rglob("*.part")]
    run(f"resume={folder}")
    torch.testing.assert_close(weights(folder), weights(tiny_once), rtol=0, atol=0)
    assert summary(folder)["status"] == "completed" and "error" not in summary(folder)


def test_training_goes_on_without_pictures_tensorboard_and_run_log(run, tiny_once, tmp_path, monkeypatch):
    no_room_for(monkeypatch, "train_batch.png", "best_and_worst.png")
    monkeypatch.setattr(tensorboard.RecordWriter, "write", full)
    monkeypatch.setattr(handlers.RunLog, "_open", lambda self: open("/dev/full", "w"))  # noqa: SIM115
    done = run(*TINY)
    folder = the_run(tmp_path)
    torch.testing.assert_close(weights(folder), weights(tiny_once), rtol=0, atol=0)
    assert summary(folder)["status"] == "completed" and "Traceback" not in done.stdout + done.stderr
    for name in ("train_batch.png", "best_and_worst.png", "tfevents", "run.log"):
        (told,) = [line for line in (done.stdout + done.stderr).splitlines() if f"{name}" in line]  # once
        assert "can't be written: No space left on device" in told and str(folder) in told


def test_a_terminal_that_takes_nothing_is_told_once(capsys):
    handler = handlers.Terminal(open("/dev/full", "w"))  # noqa: SIM115
    for _ in range(3):
        handler.handle(logging.makeLogRecord({"msg": "a line"}))
    assert capsys.readouterr().err == "the output can't be written: No space left on device; the run goes on\n"
    with suppress(OSError):
        handler.stream.close()


def test_what_hydra_can_not_write_is_one_sentence_with_its_folder(run, tmp_path, monkeypatch):
    monkeypatch.setattr("hydra.core.utils._save_config", full)
    told = run(*TINY, code=1).stderr
    assert f"{the_run(tmp_path)} can't be written: No space left on device" in told and "Traceback" not in told


@pytest.mark.parametrize("name", ["per_image.csv", "contact_sheet.png", "summary.json"])
def test_a_test_that_can_not_be_written_is_one_sentence(run, tiny_once, monkeypatch, name):
    no_room_for(monkeypatch, name)
    told = run("mode=test", f"ckpt={tiny_once}", code=1).stderr
    assert f"{name} can't be written: No space left on device" in told and "Traceback" not in told


def test_a_sweep_on_a_full_disk_is_one_sentence(run, tmp_path, monkeypatch):
    no_room_for(monkeypatch, "sweep.json")
    told = run("-m", *TINY, "seed=0,1", code=1).stderr
    assert f"{tmp_path}/outputs/multirun" in told and "sweep.json can't be written: No space left" in told
    assert "Traceback" not in told


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
