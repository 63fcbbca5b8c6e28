"""How long the suite takes before and beside training: its command line, its first step, each job of a sweep."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

from humanseg.benchmark.figures import ROUNDS, Figure, figure, in_turn
from humanseg.runs.overrides import literal

PROJECT = Path(__file__).parents[2]  # where this package lies
SUITE = ["-m", "humanseg"]  # for Python
BETWEEN_EPOCHS = "an epoch's checkpoint, logs and previews"
PERIOD = 5  # epochs, in which conf/callbacks draws histograms once
JOBS = 4  # of the sweep; the first one starts the process and does not count

# A bare Hydra app: --cfg job can't be faster than this.
BARE_APP = """import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    pass

main()
"""


def measure(overrides: list[str], folder: Path) -> list[Figure]:
    """Measure each figure in processes of its own, which write into `folder`.

    Args:
        overrides: of the runs, without mode and out.

    Raises:
        ValueError: a run fails; the sentence has its last line.
    """
    (folder / "bare" / "conf").mkdir(parents=True)
    (folder / "bare" / "conf" / "config.yaml").write_text("answer: 42\n")
    (folder / "bare" / "app.py").write_text(BARE_APP)
    commands = {"--cfg job": SUITE, "--cfg job of a bare Hydra app": [folder / "bare" / "app.py"]}
    for app in commands.values():
        _seconds(app, ["--cfg", "job"])  # a warm-up, which reads the files from the disk
    peers = {name: lambda app=app: _seconds(app, ["--cfg", "job"]) for name, app in commands.items()}
    turns = in_turn(peers, 2 * ROUNDS)
    found = [figure("start", name, "s", seconds) for name, seconds in turns.items()]
    beyond = [ours - bare for ours, bare in zip(*turns.values(), strict=True)]
    found.append(figure("start", "--cfg job beyond a bare Hydra app", "s", beyond))
    one_step = [*overrides, f"out={literal(str(folder))}", "trainer.steps_per_epoch=1", "trainer.accumulate=1"]
    found.append(figure("start", "to the end of the first step, saved", "s", _first_step(one_step)))
    found.append(figure("start", BETWEEN_EPOCHS, "s", _between_epochs([*one_step, "data.val_split=8"], folder / "run")))
    sweep = [*one_step, "trainer.epochs=1", "-m", "seed=" + ",".join(map(str, range(JOBS)))]
    return [
        *found,
        figure("start", "a sweep's job beyond its training", "s", _between_jobs(sweep, folder / "sweep")),
    ]


def _seconds(app: list, arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *app, *arguments], capture_output=True, check=True, env=_environment())
    return time.perf_counter() - started


def _first_step(arguments: list[str]) -> list[float]:
    """For each of two runs, the seconds from the command to the line that its first epoch, one step long, writes."""
    found = []
    for _ in range(2):
        started = time.perf_counter()
        with _started([*arguments, "trainer.epochs=2", "trainer.val_every=2", "callbacks=none"]) as run:
            _await_line(run, "epoch 1/2")
            found.append(time.perf_counter() - started)
            run.terminate()
    return found


def _between_epochs(arguments: list[str], folder: Path) -> list[float]:
    """Two means over PERIOD epochs: the seconds from one epoch's end to the next's, minus the next one's `_trained`."""
    epochs, ends = 1 + 2 * PERIOD, []
    with _started([*arguments, f"trainer.epochs={epochs}", f"hydra.run.dir={literal(str(folder))}"]) as run:
        for number in range(1, epochs + 1):
            _await_line(run, f"epoch {number:>{len(str(epochs))}}/{epochs}")
            ends.append(time.perf_counter())
    trained = _trained(folder)
    between = [ends[number] - ends[number - 1] - trained[number] for number in range(1, epochs)]
    return [sum(between[:PERIOD]) / PERIOD, sum(between[PERIOD:]) / PERIOD]


def _between_jobs(arguments: list[str], folder: Path) -> list[float]:
    """The seconds from one job's end to the next's, minus the training and validation that the next one's log has."""
    ends = []
    with _started([*arguments, f"hydra.sweep.dir={literal(str(folder))}"]) as sweep:
        for number in range(JOBS):
            _await_line(sweep, f"job {number} done")
            ends.append(time.perf_counter())
    trained = [sum(_trained(next(folder.glob(f"{number}_*")))) for number in range(JOBS)]
    return [ends[number] - ends[number - 1] - trained[number] for number in range(1, JOBS)]


def _trained(run: Path) -> list[float]:
    """Seconds of training and validation of each epoch."""
    with (run / "metrics.csv").open() as file:
        logs = list(csv.DictReader(file))
    return [float(log["time/train_seconds"] or 0) + float(log["time/validation_seconds"] or 0) for log in logs]


def _started(arguments: list[str]) -> subprocess.Popen:
    command = [sys.executable, *SUITE, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment())


def _environment() -> dict[str, str]:
    """That of this process, and where its children find this package."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}


def _await_line(run: subprocess.Popen, beginning: str) -> str:
    """The next line that begins with `beginning`.

    Raises:
        ValueError: the process ends without such a line.
    """
    before = ""
    for line in run.stdout:
        if line.startswith(beginning):
            return line
        before = line.strip() or before
    raise ValueError(f"the benchmark's own run ended without `{beginning}`: {before}")
