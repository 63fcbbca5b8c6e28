"""Several processes train, score and draw what one does; what ends one of them ends all, in a sentence."""

import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ON_FILES, ROOT, board, rows, run_into, saved, summary, write_people
from killing import CONTEXT, start

from humanseg import build, checkpoint, metrics, tally
from humanseg.compositing.results import Results
from humanseg.compute import Compute
from humanseg.metrics import Counts
from humanseg.modes import PRELOAD
from humanseg.networks import DeepUnet
from humanseg.processes import distributed, elastic
from humanseg.tally import Tally

TWO = "trainer.devices=2"
PLAN = elastic.Group(2, preload=PRELOAD)
SHARED = [item for item in ON_FILES if not item.startswith(("data.batch_size", "data.val_split", "+model"))]
SHARED += ["data=folder", "data.val_split=9", "data.val_batch_size=2", "augment=portrait"]  # 16 to train, 5 val batches


class Runs:
    """Runs that share photographs, in a folder of their own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.base = [*SHARED, f"data.root={write_people(folder / 'people', 25)}"]

    def __call__(self, name: str, *arguments: str) -> Path:
        return run_into(self.folder / name, *self.base, *arguments)


@pytest.fixture(scope="module", autouse=True)
def ready():
    """The processes of these runs are forked from the server that killing.py begins: the first run would begin a slower one."""
    CONTEXT.set_forkserver_preload(["ready"])
    CONTEXT.Process(target=int).start()


def test_what_all_processes_import_once_is_there():
    for name in PRELOAD:  # the server says nothing of one that is missing
        importlib.import_module(name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def by_two(runs) -> Path:
    """A run by two processes that have four samples of each batch."""
    return runs("two", TWO, "data.batch_size=8", "trainer.test=true", "trainer.log_every=1")


@pytest.fixture(scope="module")
def by_one(runs) -> Path:
    """The same by one process that accumulates the two's parts."""
    return runs("one", "data.batch_size=4", "trainer.accumulate=2", "trainer.test=true", "trainer.log_every=1")


def trained(saved: dict) -> dict[str, torch.Tensor]:
    """The weights; batch norm's statistics are those of other batches where others have seen them."""
    return {name: value for name, value in saved["model"].items() if "running_" not in name and "num_" not in name}


def same_training(one: Path, other: Path) -> None:
    a, b = saved(one), saved(other)
    assert a["step"] == b["step"] > 1
    torch.testing.assert_close(trained(a), trained(b), rtol=1e-4, atol=1e-6)
    for row, twin in zip(a["history"], b["history"], strict=True):
        if "averaged" in row:
            assert row["averaged"] == twin["averaged"] == 2
            continue
        for name in ("train/loss", "train/iou", "grad_norm", "lr"):
            assert row[name] == pytest.approx(twin[name], rel=1e-4)


def test_two_processes_train_as_one_that_accumulates_their_parts(by_two, by_one):
    same_training(by_two, by_one)
    assert summary(by_two)["processes"] == 2 and summary(by_one)["processes"] == 1
    # one folder, one log, one event file, one of everything
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (by_two, by_one)]
    left, right = ([name for name in found if "tfevents" not in name] for found in names)
    assert left == right
    assert len(list(by_two.glob("events.*"))) == 1
    assert (by_two / "run.log").read_text().count("run        ") == 1
    assert len(rows(by_two / "val_full_size", "per_image.csv")) == 9


def test_the_values_of_a_step_are_those_of_all_processes_and_logged_once(by_two, by_one):
    for name in ("step/loss", "step/grad_norm"):
        two, one = (board(folder).Scalars(name) for folder in (by_two, by_one))
        assert [event.step for event in two] == [1, 2, 3, 4]
        assert [event.value for event in two] == pytest.approx([event.value for event in one], rel=1e-3)


def test_processes_accumulate_too(runs):
    gentle = ["trainer.steps_per_epoch=1", "optimizer.lr=0.001", "trainer.grad_clip=1"]  # rounding stays rounding
    gentle += [
        "trainer.freeze_encoder=1",
        "trainer.average_last=2",
        "trainer.reestimate_batchnorm=2",
        "trainer.hard=0.5",
    ]
    two = runs("two_twice", TWO, "data.batch_size=8", "trainer.accumulate=2", *gentle)
    same_training(two, runs("four_times", "data.batch_size=4", "trainer.accumulate=4", *gentle))


def counted(folder: Path) -> tuple[dict, list, list]:
    """What the validation samples give with a checkpoint: metrics, counts, each sample's IoU."""
    found = checkpoint.load(folder / "checkpoints" / "last.pt")
    cfg = found["config"]
    classes = cfg["model"]["classes"]
    data = build.data(cfg["data"], None, classes, cfg["seed"])
    compute = build.compute(cfg["trainer"], cfg["data"])
    network = build.model(cfg["model"])
    checkpoint.load_weights(network, found, folder)
    placed = compute.place(network)
    outputs = {
        part.name: tally.network_outputs(placed, data.eval_batches("val", part=part), compute)
        for part in data.splits["val"].parts
    }
    values, counts, ious = tally.evaluate(outputs, metrics.find(cfg["metrics"]), build.loss(cfg["loss"], classes))
    return values, [value.tolist() for value in vars(counts).values()], ious.tolist()


def test_validation_counts_each_sample_once(by_two):
    alone, together = counted(by_two), elastic.launch(counted, (by_two,), PLAN)
    assert len(together[2]) == 9 and together[2] == pytest.approx(alone[2], abs=1e-4)
    for mine, theirs in zip(alone[1], together[1], strict=True):
        mine, theirs = torch.tensor(mine, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64)
        assert mine.sum() == pytest.approx(theirs.sum())
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=0.5)
    assert together[0] == pytest.approx(alone[0], rel=1e-4)


def test_sources_are_scored_for_themselves_by_several_processes(run, runs, tmp_path):
    """One of the sources is a single batch, so that one of the processes has none of it."""
    few = write_people(runs.folder / "few", 4, size=(40, 60))
    roots = [f"data.root=[{runs.folder / 'people'},{few}]", "data.val_split=2"]
    mixed = runs("mixed", *roots, "trainer.epochs=1", "trainer.steps_per_epoch=1")
    alone, together = counted(mixed), elastic.launch(counted, (mixed,), PLAN)
    assert together[0] == pytest.approx(alone[0], rel=1e-4) and together[2] == pytest.approx(alone[2], abs=1e-4)
    assert {"people/iou", "few/loss", "mean_boundary_iou"} < set(alone[0])
    scored = []
    for count in (1, 2):
        folder = tmp_path / f"scored by {count}"
        run("mode=test", f"ckpt={mixed}", f"trainer.devices={count}", f"hydra.run.dir='{folder}'")
        scored.append((summary(folder)["metrics"], (folder / "per_image.csv").read_text()))
    assert scored[0] == scored[1] and scored[0][1].count(",few,") == 2


def test_test_and_predict_give_what_one_process_gives(run, runs, by_two, tmp_path):
    scored = []
    for count in (1, 2):
        folder = tmp_path / f"scored by {count}"
        run("mode=test", f"ckpt={by_two}", f"trainer.devices={count}", f"hydra.run.dir='{folder}'")
        scored.append((summary(folder)["metrics"], (folder / "per_image.csv").read_text()))
    assert scored[0] == scored[1] and len(scored[0][1].splitlines()) == 10

    photographs = runs.folder / "people" / "images"
    drawn = []
    for count in (1, 2):
        arguments = [f"input={photographs}", f"output={tmp_path}/{count}", f"trainer.devices={count}", "backend=torch"]
        run("mode=predict", f"ckpt={by_two}", *arguments)
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / str(count)).glob("*.png")})
    assert len(drawn[0]) == 25 and drawn[0] == drawn[1]
    assert all(Results(tmp_path / "2").hold(tmp_path / "2" / name) for name in drawn[1])


def test_a_photograph_that_one_of_two_can_not_read_stops_no_other(run, by_two, tmp_path):
    people = write_people(tmp_path / "people", 4) / "images"
    (people / "broken.png").write_bytes(b"")
    told = run("mode=predict", f"ckpt={by_two}", f"input={people}", f"output={tmp_path}/drawn", TWO, code=1).stderr
    assert "1 of 5 photographs failed" in told and "Traceback" not in told
    assert "broken.png can't be read: it is empty" in told
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 4


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(run, by_two, by_one, tmp_path, before, after):
    folder = tmp_path / "run"
    shutil.copytree(by_two if before == 2 else by_one, folder)
    run(f"resume={folder}", f"trainer.devices={after}", "trainer.epochs=3")
    assert f"processes {before} -> {after}" in (folder / "run.log").read_text()
    found = saved(folder)
    assert found["step"] == 6 and [row["step"] for row in found["history"]] == [2, 4, 6]
    assert len(rows(folder)) == 3


def gone_on_with() -> tuple[float, int]:
    """The sums of an unfinished epoch, as they are saved again after two processes have restored them."""
    tally = Tally(torch.device("cpu"))
    sums = {"sums": {"loss": torch.tensor(3.0)}, "counts": vars(Counts.zeros(2, torch.device("cpu")))}
    tally.load_state_dict(sums | {"batches": 4, "seconds": 1.0, "waited": 0.0})
    tally.collect()
    return tally.sums["loss"].item(), tally.batches


def test_an_unfinished_epoch_is_not_counted_by_each_process():
    assert gone_on_with() == elastic.launch(gone_on_with, (), PLAN) == (3.0, 4)


class Partly(torch.nn.Module):
    """A network with a part that it does not use."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.used(values)


def gradients() -> list:
    network = Partly()
    torch.nn.init.ones_(network.used.weight)
    together = distributed.parallel(network, lambda: network(torch.zeros(1, 2)))
    for _ in range(2):  # a gradient that one step has waited for in vain fails the next
        network.zero_grad()
        together(torch.full((1, 2), 1.0 + distributed.rank())).sum().backward()
    return [network.used.weight.grad.tolist(), network.unused.weight.grad]


def test_gradients_are_averaged_where_a_network_uses_a_part_of_itself():
    assert elastic.launch(gradients, (), PLAN) == [[[1.5, 1.5]], None]


def of_deep_outputs() -> tuple[bool, list]:
    """Whether all parameters are known to be used, with statistics and random numbers as they were; a gradient."""
    torch.manual_seed(0)
    shape = {"encoder_name": "resnet18", "encoder_weights": None, "decoder_channels": [8] * 5}
    network = DeepUnet(2, **shape, aux_params={"classes": 1, "dropout": 0.5})
    before = [torch.get_rng_state(), *(buffer.clone() for buffer in network.buffers())]
    together = build.parallel(network, Compute(torch.device("cpu"), "fp32", False, [0.5] * 3, [0.2] * 3), 32)
    same = all(map(torch.equal, before, [torch.get_rng_state(), *network.buffers()]))
    for _ in range(2):
        network.zero_grad()
        outputs = together.train()(torch.full((2, 3, 32, 32), 1.0 + distributed.rank()))
        sum(output.sum() for output in outputs).backward()
    return same and not together.find_unused_parameters, network.deep_heads[1][0].bias.grad.tolist()


def test_several_processes_train_several_outputs():
    assert elastic.launch(of_deep_outputs, (), PLAN) == (True, [2 * 8 * 8])


class Fails(torch.nn.Module):
    """A loss with which the second process dies once at its fifth batch, or fails."""

    def __init__(self, marker: str | None):
        super().__init__()
        self.calls, self.marker = 0, marker

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.calls += logits.requires_grad
        if distributed.rank() == 1 and self.calls == 5:
            if self.marker is None:
                raise ZeroDivisionError("the second process divides by zero")
            if not Path(self.marker).exists():
                Path(self.marker).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return logits.square().mean()


def fails_with(marker: Path | None) -> list[str]:
    named = f"'{marker}'" if marker else "null"
    return ["loss._target_=test_several_processes.Fails", "~loss.classes", "~loss.loss", f"+loss.marker={named}"]


def test_a_worker_that_dies_takes_the_run_down_or_comes_back_from_the_last_checkpoint(run, runs, tmp_path):
    arguments = ["trainer.epochs=4", "data.batch_size=8", "trainer.save_minutes=0", TWO]
    place = [f"hydra.run.dir={tmp_path}/down"]
    told = run(*runs.base, *arguments, *fails_with(tmp_path / "first"), *place, code=1).stderr
    assert "process 1 of 2 died (SIGKILL)" in told and "Traceback" not in told
    assert f"python run.py resume={tmp_path}/down goes on from the last checkpoint" in told
    assert summary(tmp_path / "down")["status"] == "failed"
    run(f"resume={tmp_path}/down", "loss._target_=test_several_processes.Fails")  # of no YAML: it has to be typed again

    back = runs("back", *arguments, *fails_with(tmp_path / "second"), "trainer.max_restarts=1")
    assert (tmp_path / "second").exists() and (back / "run.log").read_text().count("goes on    from epoch") == 1
    for folder in (tmp_path / "down", back):
        assert summary(folder)["status"] == "completed"
        assert [row["step"] for row in saved(folder)["history"]] == [2, 4, 6, 8]
    torch.testing.assert_close(saved(back)["model"], saved(tmp_path / "down")["model"], rtol=1e-5, atol=1e-6)


def test_an_exception_in_one_process_ends_all_and_is_shown(runs, tmp_path):
    with pytest.raises(RuntimeError, match="ZeroDivisionError: the second process divides by zero") as shown:
        runs("fails", "trainer.epochs=4", "data.batch_size=8", TWO, *fails_with(None))
    assert "in forward" in str(shown.value.__cause__)  # its traceback
    assert "ZeroDivisionError" in (runs.folder / "fails" / "run.log").read_text()
    assert summary(runs.folder / "fails")["status"] == "failed"


def several(folder: Path, *commands: tuple[list[str], dict[str, str]]) -> list[tuple[int, str]]:
    """Run run.py in as many processes at once, each with its arguments and environment; their codes and output."""
    folder.mkdir()
    logs = [folder / str(number) for number in range(len(commands))]
    started = [start(log, *typed, environment=given) for log, (typed, given) in zip(logs, commands, strict=True)]
    for process in started:
        process.join()
    return [(process.exitcode, log.read_text()) for process, log in zip(started, logs, strict=True)]


def srun(number: int, port: int) -> dict[str, str]:
    """The environment of task `number` of two that srun starts on one node."""
    return {
        "SLURM_JOB_ID": str(port - 20000),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
    }


@pytest.fixture
def port() -> int:
    """One that is free, of those that a SLURM job gets by its number."""
    return next(number for number in range(20000 + os.getpid() % 10000, 40000) if _is_free(number))


def _is_free(number: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("localhost", number)) != 0


def test_srun_starts_the_processes_itself(runs, by_two, tmp_path, port):
    arguments = [*runs.base, "data.batch_size=8", f"hydra.run.dir={tmp_path}/run"]
    done = several(tmp_path / "told", *((arguments, srun(number, port)) for number in (0, 1)))
    assert [code for code, _ in done] == [0, 0], done
    assert "2 processes on cpu" in done[0][1] and not done[1][1]  # one of them speaks
    same_training(tmp_path / "run", by_two)


def test_processes_that_were_started_with_different_configs_are_refused(runs, tmp_path, port):
    arguments = [*runs.base, f"hydra.run.dir={tmp_path}/run"]
    done = several(tmp_path / "told", *(([*arguments, f"seed={number}"], srun(number, port)) for number in (0, 1)))
    assert [code for code, _ in done] == [1, 1]
    assert "error: process 1 was started with " in done[0][1] and "start all with the same" in done[0][1]
    assert not (tmp_path / "run").exists() and "Traceback" not in done[0][1]


def test_a_mistake_is_told_by_one_of_the_processes(tmp_path, port):
    for number, (mistake, sentence) in enumerate(
        {"optimzer.lr=1": "did you mean optimizer", "mode=benchmark": "for one process"}.items()
    ):
        tasks = [([mistake, f"out={tmp_path}"], srun(rank, port + number)) for rank in (0, 1)]
        done = several(tmp_path / str(number), *tasks)
        assert done[0][0] == 1 and sentence in done[0][1] and "Traceback" not in done[0][1], done
        assert done[1] == (0, "")


def test_processes_that_never_meet_give_up_in_a_sentence(tmp_path, port):
    alone = ["trainer.join_minutes=0.05", f"hydra.run.dir={tmp_path}/run"], srun(0, port)
    ((code, told),) = several(tmp_path / "told", alone)
    assert code == 1 and "Traceback" not in told
    assert f"error: the 2 processes did not meet at localhost:{port} within 0.05 minutes" in told


@pytest.mark.slow
def test_torchrun_starts_again_what_has_died(runs, tmp_path):
    arguments = [*runs.base, "trainer.epochs=4", "data.batch_size=8", "trainer.save_minutes=0"]
    arguments += [*fails_with(tmp_path / "died"), f"out={tmp_path}/outputs"]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    command = [sys.executable, "-m", *torchrun, str(ROOT / "run.py"), *arguments]
    here = dict(os.environ)
    here.pop("HYDRA_FULL_ERROR", None)  # an earlier run in this process left it
    here["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), here["PYTHONPATH"]]
    )  # the config names a loss here
    done = subprocess.run(command, env=here, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "died").exists(), done.stdout + done.stderr
    (folder,) = (tmp_path / "outputs" / "train").glob("*/*")
    assert summary(folder)["status"] == "completed"
    assert [row["step"] for row in saved(folder)["history"]] == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trainer.devices=4096"], "trainer.devices=4096: torch finds no CUDA device, and this machine has"),
        (["trainer.devices=[0,1]"], "trainer.devices=[0, 1]: torch finds no CUDA device"),
        (["trainer.devices=0"], "trainer.devices=0: give a number of processes, all, or numbers of GPUs, as [2,3]"),
        ([TWO, "data.batch_size=5"], "data.batch_size=5 can't be shared by 2 processes: give a multiple of 2"),
        ([TWO, "trainer.sync_batchnorm=true"], "torch synchronises batch norm between GPUs alone"),
    ],
)
def test_what_processes_can_not_share_is_one_sentence(run, arguments, sentence):
    if torch.cuda.is_available():
        pytest.skip("the sentences of a machine without a GPU")
    told = run("trainer.device=cpu", *arguments, code=1).stderr
    assert sentence in told and "Traceback" not in told
