"""A tracker gets each value once and in order, whatever it does; training neither waits for it nor ends of it."""

import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY, board, broken_off, rows, run_into, summary, the_sweep, weights

from humanseg import build
from humanseg.logs.callback_list import CallbackList
from humanseg.logs.steps import StepValues
from humanseg.logs.trackers import contents, delivery, mlflow, receipt, wandb
from humanseg.logs.trackers.receipt import Receipt
from humanseg.loop import Record
from humanseg.processes.signals import Interrupted
from humanseg.runs import locks
from humanseg.runs.run_info import RunInfo

CONFIG = {"tags": [], "trainer": {"epochs": 2}}


class Told:
    """A tracker that notes what it is told. `ready` decides when it answers, `failures` how often it fails first."""

    wait = 60

    def __init__(self, failures: int = 0):
        self.calls, self.failures, self.ready = [], failures, threading.Event()
        self.ready.set()

    def start(self, run: RunInfo) -> str:
        self._note("start", run.tracked)
        return "an-id"

    def log(self, values: dict[str, float], step: int, epoch: int) -> None:
        self._note(step, epoch)

    def end(self, run: RunInfo) -> None:
        self._note("end", run.status)

    def _note(self, *call) -> None:
        self.ready.wait(60)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody answers")
        self.calls.append(call)


def tracked(folder: Path, tracker: object, *places: tuple[int, int], status: str = "completed") -> None:
    """A run that logs after so many steps and epochs."""
    run = RunInfo(folder, CONFIG, [], {})
    callbacks = CallbackList({"mine": tracker}, strict=True)
    callbacks.start(run)
    for step, epoch in places:
        callbacks.log(step, epoch, {"loss": 1.0})
    callbacks.end(RunInfo(folder, CONFIG, [], {}, status=status))


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_one_that_fails_is_told_once_and_misses_nothing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(delivery, "PAUSE", 0.001)
    tracker = Told(failures=3)
    callbacks = CallbackList({"mine": tracker}, strict=True)
    with caplog.at_level("INFO"):
        callbacks.start(RunInfo(tmp_path, CONFIG, [], {}))
        callbacks.log(1, 0, {})
        callbacks.log(2, 1, {})
        while len(tracker.calls) < 3:  # it is given up at the end
            time.sleep(0.01)
        callbacks.end(RunInfo(tmp_path, CONFIG, [], {}, status="completed"))
    assert tracker.calls == [("start", None), (1, 0), (2, 1), ("end", "completed")]
    (told,) = warnings(caplog)
    assert told.startswith("callbacks.mine failed: ConnectionError: nobody answers") and "works again" in caplog.text


def test_one_that_is_away_is_told_once_and_tried_to_the_end(tmp_path, caplog):
    tracker = Told(failures=100)
    tracked(tmp_path, tracker, (1, 0), (2, 1))
    assert len(warnings(caplog)) == 1 and not tracker.calls and 98 <= tracker.failures <= 99


def test_ones_that_never_answer_cost_their_wait_once(tmp_path, caplog):
    silent = {name: Told() for name in "abc"}
    for tracker in silent.values():
        tracker.ready.clear()
        tracker.wait = 0.2
    silent["a"].ready.set()
    callbacks = CallbackList(silent, strict=False)
    callbacks.start(RunInfo(tmp_path, CONFIG, [], {}))
    while not receipt.path(tmp_path, "a").exists():
        time.sleep(0.01)
    silent["a"].ready.clear()  # it begins, and gets no value
    callbacks.log(1, 0, {})
    started = time.monotonic()
    callbacks.end(RunInfo(tmp_path, CONFIG, [], {}, status="completed"))
    assert time.monotonic() - started < 30 and len(warnings(caplog)) == 3  # a call takes 60 seconds
    assert "callbacks.a has not got all values within 0.2 s of the run's end; callbacks.a.wait= gives" in caplog.text
    assert "callbacks.b has not answered, nor got any value, within 0.2 s of the run's end" in caplog.text
    for tracker in silent.values():
        tracker.ready.set()
    for one in callbacks.trackers.values():
        one._thread.join(5)
    assert receipt.load(receipt.path(tmp_path, "a")) == Receipt("an-id")  # the folder may be another's by now
    assert not receipt.path(tmp_path, "b").exists()


def test_the_oldest_values_give_way_where_too_many_wait(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(delivery, "HELD", 3)
    tracker = Told()
    tracker.ready.clear()
    callbacks = CallbackList({"mine": tracker}, strict=False)
    callbacks.start(RunInfo(tmp_path, CONFIG, [], {}))
    for step in range(1, 9):
        callbacks.log(step, 0, {})
    tracker.ready.set()
    callbacks.end(RunInfo(tmp_path, CONFIG, [], {}))
    assert tracker.calls[1:-1][-3:] == [(6, 0), (7, 0), (8, 0)] and "values of steps were dropped" in caplog.text


def test_a_run_that_goes_on_sends_nothing_twice(tmp_path):
    tracked(tmp_path, Told(), (5, 0), (10, 0), (10, 1), (15, 1), status="interrupted")
    after = Told()
    tracked(tmp_path, after, (10, 1), (15, 1), (20, 1), (20, 2))
    assert after.calls == [("start", "an-id"), (20, 1), (20, 2), ("end", "completed")]


def test_what_a_kill_may_take_is_sent_again(tmp_path):
    tracker, file = Told(), receipt.path(tmp_path, "mine")
    tracker.settles = 1000
    callbacks = CallbackList({"mine": tracker}, strict=False)
    callbacks.start(RunInfo(tmp_path, CONFIG, [], {}))
    callbacks.log(1, 0, {})
    while len(tracker.calls) < 2:
        time.sleep(0.01)
    assert receipt.load(file) == Receipt("an-id")
    callbacks.end(RunInfo(tmp_path, CONFIG, [], {}))
    assert receipt.load(file) == Receipt("an-id", 1, 0)


@pytest.mark.parametrize(
    "told",
    [
        {"id": "../../x", "epoch": 1, "step": 1},
        {"id": "http://evil/", "epoch": 1, "step": 1},
        {"id": "x" * 65, "epoch": 1, "step": 1},
        {"id": ["x"], "epoch": 1, "step": 1},
        {"id": "x", "epoch": True, "step": 2**41},
        {"id": "x", "epoch": 1},
        [1],
    ],
)
def test_a_strange_receipt_begins_a_new_tracked_run(tmp_path, caplog, told):
    file = receipt.path(tmp_path, "mine")
    file.parent.mkdir()
    file.write_text(json.dumps(told))
    tracker = Told()
    tracked(tmp_path, tracker, (1, 0))
    assert tracker.calls[0] == ("start", None) and len(tracker.calls) == 3 and len(warnings(caplog)) == 1
    assert receipt.load(file) == Receipt("an-id", 1, 0)


def test_a_receipt_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere.json").write_text('{"id": "x", "epoch": 1, "step": 1}')
    receipt.path(tmp_path, "mine").parent.mkdir()
    receipt.path(tmp_path, "mine").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ValueError, match="mine.json can't be read"):
        receipt.load(receipt.path(tmp_path, "mine"))


def test_the_link_that_wandb_makes_keeps_no_run_from_going_on(tmp_path):
    logs = tmp_path / "wandb" / "run-20261126_101010-an-id" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(tmp_path / "gone")
    locks.refuse_links(tmp_path)
    (logs / "debug.log").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match="debug.log is a link"):
        locks.refuse_links(tmp_path)


def test_artifacts_are_files_of_the_runs_folder(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "secret").write_text("")
    for name in ("summary.json", "a.png", "checkpoints/best.pt"):
        (tmp_path / "run" / name).write_text("")
    (tmp_path / "run" / "b.png").symlink_to(tmp_path / "secret")
    (tmp_path / "run" / "out").symlink_to(tmp_path)
    run = RunInfo(tmp_path / "run", CONFIG, [], {}, status="completed")
    found = contents.files(run, ["*.json", "*.png", "**/*", "out/*"])
    assert [file.relative_to(run.folder).as_posix() for file in found] == [
        "a.png",
        "checkpoints/best.pt",
        "summary.json",
    ]
    for pattern in ("../secret", "/etc/passwd", "checkpoints/../../secret"):
        with pytest.raises(ValueError, match="does not stay within the run's folder"):
            contents.refuse_outside([pattern])
    for pattern in (".", "a**b"):
        with pytest.raises(ValueError, match=r"is no name or pattern"):
            contents.refuse_outside(["**/*.png", pattern])


class Ends:
    """A callback that fails at the start and at the end, and sees no epoch."""

    def start(self, run: RunInfo) -> None:
        raise KeyError(run.overrides[0])

    def end(self, run: RunInfo) -> None:
        raise KeyError(run.status)


def test_a_callback_that_fails_at_the_start_is_told_once(tmp_path, caplog):
    run = RunInfo(tmp_path, CONFIG, ["seed=1"], {})
    callbacks = CallbackList({"mine": Ends()}, strict=False)
    callbacks.start(run)
    callbacks.end(run)
    assert warnings(caplog) == ["callbacks.mine failed at the start: KeyError: 'seed=1'"]
    with pytest.raises(ValueError, match="callbacks.mine failed: KeyError"):
        CallbackList({"mine": Ends()}, strict=True).start(run)


def test_what_is_no_callback_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="callbacks.mine is a str: name a function"):
        CallbackList({"mine": "text"}, strict=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pytest.importorskip("mlflow")
    with pytest.raises(ValueError, match="callbacks.mlflow: the environment names no server: set MLFLOW_TRACKING_URI="):
        build.callbacks({"mlflow": {"_target_": "humanseg.logs.trackers.mlflow.MLflow"}})


class Event:
    """A copy that is on its way until somebody waits for it."""

    def __init__(self):
        self.happened = False

    def query(self) -> bool:
        return self.happened

    def synchronize(self) -> None:
        self.happened = True


def test_values_that_are_on_their_way_make_nobody_wait():
    values, event = StepValues(), Event()
    for step in (1, 2):
        values.add(step, 0, {"lr": 0.5}, {"loss": torch.tensor(step)})
        values._left[-1] = values._left[-1]._replace(copied=event)
    assert [*values.read()] == []
    assert [*values.read(wait=True)] == [(step, 0, {"step/lr": 0.5, "step/loss": step}) for step in (1, 2)]


@pytest.fixture(scope="module")
def by_step(tmp_path_factory) -> Path:
    """The run of `tiny_once`, with the values of each step."""
    return run_into(tmp_path_factory.mktemp("steps") / "run", *TINY, "trainer.log_every=1")


def steps(folder: Path, name: str = "step/loss") -> list[int]:
    return [event.step for event in board(folder).Scalars(name)]


def test_values_of_steps_change_no_bit_and_no_table(by_step, tiny_once):
    torch.testing.assert_close(weights(by_step), weights(tiny_once), rtol=0, atol=0)
    assert [row.keys() for row in rows(by_step)] == [row.keys() for row in rows(tiny_once)]
    assert "step/loss" not in board(tiny_once).Tags()["scalars"]  # it has fewer than 50 steps


def test_values_of_steps_make_up_those_of_the_epoch(by_step):
    for mean, name in (("train/loss", "step/loss"), ("grad_norm", "step/grad_norm")):
        of_steps = [event.value for event in board(by_step).Scalars(name)]
        for epoch, row in enumerate(rows(by_step)):
            assert sum(of_steps[2 * epoch : 2 * epoch + 2]) / 2 == pytest.approx(float(row[mean]), rel=1e-4)
    assert board(by_step).Scalars("step/lr")[-1].value == pytest.approx(float(rows(by_step)[-1]["lr"]))
    assert steps(by_step) == [1, 2, 3, 4]


TRACKED = Told()  # of a run of this process
stops = iter(())


def stop_once(record: Record, writer: object, step: int) -> None:
    if record.epoch == next(stops, None):
        raise Interrupted(signal.SIGTERM)


def the_told() -> Told:
    return TRACKED


def test_a_run_that_was_stopped_and_goes_on_logs_each_step_once(run, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "stops", iter([None, 2]))
    own = ["+callbacks.told={_target_:test_trackers.the_told}", "trainer.log_every=1",
           "+callbacks.stop={_target_:test_trackers.stop_once,_partial_:true}"]  # fmt: skip
    run(*TINY, *own, code=143)
    (folder,) = (tmp_path / "outputs" / "train").glob("*/*")
    assert TRACKED.calls == [("start", None), (1, 0), (2, 0), (2, 1), (3, 1), (4, 1), ("end", "interrupted")]
    TRACKED.calls.clear()
    run(f"resume={folder}", *own)  # from the end of the first epoch
    assert TRACKED.calls == [("start", "an-id"), (4, 2), ("end", "completed")]
    assert steps(folder) == [1, 2, 3, 4] and steps(folder, "train/loss") == [2, 4]


def test_a_start_that_is_tried_again_goes_on_with_the_run_that_it_created(tmp_path, monkeypatch):
    created, asked = [], []

    class Client:
        tracking_uri = "of a server that was away once"

        def create_run(self, *_, **__):
            created.append(f"run{len(created)}")
            return self.get_run(created[-1])

        def get_run(self, tracked):
            info = SimpleNamespace(run_id=tracked, lifecycle_stage="active")
            return SimpleNamespace(info=info, data=SimpleNamespace(params={}, tags={}))

        def get_experiment_by_name(self, _):
            return SimpleNamespace(experiment_id="1")

        def log_batch(self, tracked, **_):
            asked.append(tracked)
            if len(asked) == 1:
                raise ConnectionError

        def update_run(self, *_):
            pass

    def init(id, **_):
        asked.append(id)
        if len(asked) == 1:
            raise ConnectionError
        return SimpleNamespace(id=id, url="its page")

    package = {
        "MlflowClient": Client,
        "init": init,
        "login": lambda **_: True,
        "Settings": dict,
        "MlflowException": OSError,
    }
    package |= dict.fromkeys(("Param", "RunTag"), lambda *pair: pair)
    for name in ("mlflow", "mlflow.entities", "mlflow.exceptions", "wandb"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**package))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nowhere")
    for module, tracker in ((mlflow, "MLflow"), (wandb, "Wandb")):
        asked.clear()
        monkeypatch.setattr(module, "require", lambda _: None)
        one, run = getattr(module, tracker)(), RunInfo(tmp_path, CONFIG, [], {})
        with pytest.raises(ConnectionError):
            one.start(run)
        assert one.start(run) == asked[0] == asked[1]
    assert len(created) == 1


WAIT = 120  # seconds that a tracker may take where cores are busy


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """MLflow's own server on a SQLite file. It needs the whole of mlflow, which $MLFLOW_SITE may have: a folder of pip's --target."""
    root, site = tmp_path_factory.mktemp("mlflow"), os.environ.get("MLFLOW_SITE", "")
    environment = os.environ | {"PYTHONPATH": site, "MLFLOW_DISABLE_TELEMETRY": "true"}
    if subprocess.run(
        [sys.executable, "-c", "import mlflow.server, sqlalchemy, flask"], env=environment, capture_output=True
    ).returncode:
        pytest.skip("the whole of mlflow is not installed: pip install --target DIR mlflow, then MLFLOW_SITE=DIR")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [f"--backend-store-uri=sqlite:///{root}/mlflow.db", f"--artifacts-destination={root}/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", *options, f"--port={port}", "--workers=1"]
    address = f"http://127.0.0.1:{port}"
    with (root / "log").open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=root, stdout=output, stderr=output, start_new_session=True
        )
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
                break
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def history(client, tracked: str, name: str) -> list[int]:
    return [metric.step for metric in client.get_metric_history(tracked, name)]


@pytest.mark.slow
def test_mlflow_has_a_sweep_that_was_killed_and_went_on(server, run, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    mlflow = pytest.importorskip("mlflow")
    own = [*TINY[:-1], "callbacks=mlflow", f"callbacks.mlflow.wait={WAIT}", "trainer.log_every=1",
           "callbacks.mlflow.artifacts=[summary.json,checkpoints/best.pt]"]  # fmt: skip
    run("-m", *own, "seed=0,1")
    sweep = the_sweep(tmp_path)
    first = next(sweep.glob("0_*"))
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("humanseg").experiment_id
    found = client.search_runs([experiment])
    assert {one.data.tags["sweep"] for one in found} == {"/".join(sweep.parts[-2:])} and len(found) == 2
    assert {one.data.params["seed"] for one in found} == {"0", "1"} and found[0].data.params["loss"] == "dice"
    file = receipt.path(first, "mlflow")
    tracked = receipt.load(file).id
    receipt.save(file, Receipt(tracked, 1, 0))  # as if a kill had come before the last receipts
    run(f"resume={broken_off(first)}", "trainer.epochs=3")
    (again,) = [one for one in client.search_runs([experiment]) if one.info.run_id == tracked]
    assert history(client, tracked, "step/loss") == [1, 2, 3, 4, 5, 6]
    assert history(client, tracked, "val/iou") == [2, 4, 6] and again.info.status == "FINISHED"
    assert again.data.params["trainer.epochs"] == "2" and again.data.tags["trainer.epochs"] == "3"
    assert again.data.metrics["best/val/iou"] == pytest.approx(summary(first)["best"]["val/iou"])
    assert {one.path for one in client.list_artifacts(tracked)} == {"checkpoints", "summary.json"}
    client.delete_run(tracked)
    run(f"resume={broken_off(first)}", "trainer.epochs=4")
    assert receipt.load(file).id != tracked
    assert history(client, receipt.load(file).id, "val/iou") == [2, 4, 6, 8]  # a new one, with the epochs so far


def wandb_records(file: Path) -> Iterator:
    """The records of W&B's offline file: protobuf in LevelDB's log format, blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def read(items) -> dict:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.mark.slow
def test_wandb_offline_has_a_run_that_went_on_under_one_id(run, tmp_path):
    pytest.importorskip("wandb")
    own = [*TINY[:-1], "callbacks=wandb", f"callbacks.wandb.wait={WAIT}", "callbacks.wandb.mode=offline"]
    folder = run(*own, "tags=[a]", "trainer.log_every=1", "callbacks.wandb.artifacts=[summary.json]").folder
    run(f"resume={broken_off(folder)}", "trainer.epochs=3")
    tracked = receipt.load(receipt.path(folder, "wandb")).id
    files = sorted(folder.glob(f"wandb/offline-run-*/run-{tracked}.wandb"))
    assert len(files) == 2
    rows, runs = {}, {}
    for number, file in enumerate(files):
        records = [*wandb_records(file)]
        rows[number] = [read(one.history.item) for one in records if one.WhichOneof("record_type") == "history"]
        artifacts = [one.artifact for one in records if one.WhichOneof("record_type") == "artifact"]
        assert [entry.path for one in artifacts for entry in one.manifest.contents] == ["summary.json"]
        runs[number] = next(one.run for one in records if one.WhichOneof("record_type") == "run")
    steps = [[row["_step"] for row in rows[number] if "step/loss" in row] for number in rows]
    assert steps == [[1, 2, 3, 4], [5, 6]] and [row["_step"] for row in rows[1] if "val/iou" in row] == [6]
    assert {one.run_id for one in runs.values()} == {tracked} and runs[0].project == "humanseg"
    assert [list(one.tags) for one in runs.values()] == [["a"], ["a", "trainer.epochs=3"]]
    assert read(runs[0].config.update)["loss"] == "dice"
