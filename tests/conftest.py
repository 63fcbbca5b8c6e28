"""Small data and two ways to call the suite as a user does: in this process, and in one of its own."""

import csv
import json
import logging
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

# Before torch is imported, so that the processes which the tests start inherit them.
os.environ["OMP_NUM_THREADS"] = "1"  # pytest-xdist has a process for each core already
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # a run with more threads does not spin while others need the core
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))

import cv2
import numpy as np
import pytest
import torch
from conf_once import read_once
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from humanseg.cli import commandline  # noqa: F401  registers the resolvers that the YAMLs use
from humanseg.data import opening
from humanseg.media.video_writer import VideoWriter
from humanseg.runs import conf

read_once()

# Hydra clears all handlers of logging, and absl's then closes the stderr that it was imported with: pytest's would be gone.
with redirect_stderr(sys.__stderr__):
    import absl.logging  # noqa: F401  openvino does so too

ROOT = Path(__file__).parent.parent
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "eg1800"
HEIC = pytest.param("heic", marks=pytest.mark.skipif(not opening.HEIC, reason="the extra `heic` is not installed"))

# A run that takes less than a second: the default network with a narrow decoder at 32 px on a handful of drawn people.
TINY = [
    "+model.decoder_channels=[32,16,16,8,8]",
    "data.samples=24",
    "data.image_size=32",
    "data.batch_size=4",
    "data.val_split=6",
    "data.num_workers=0",
    "trainer.epochs=2",
    "trainer.steps_per_epoch=2",
    "trainer.precision=fp32",
    "callbacks=none",
]
ON_FILES = [item for item in TINY if item != "data.samples=24"]


@dataclass
class Done:
    """What a call of run.py left behind."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def folder(self) -> Path:
        """The run's folder, as its first line names it."""
        (line,) = [line for line in self.stdout.splitlines() if line.startswith("run        ")]
        return Path(line.split(maxsplit=1)[1])

    @property
    def scored(self) -> Path:
        """The folder of a test, as the line that names its pictures has it."""
        (line,) = [line for line in self.stdout.splitlines() if line.startswith("pictures ")]
        return Path(line.split(maxsplit=1)[1]).parent


def summary(folder: Path) -> dict:
    """A run's summary.json."""
    return json.loads((folder / "summary.json").read_text())


def rows(folder: Path, name: str = "metrics.csv") -> list[dict]:
    """The rows of a table in a run's folder."""
    return list(csv.DictReader((folder / name).open()))


def saved(folder: Path, name: str = "last.pt") -> dict:
    """A checkpoint of a run, as anybody can open it."""
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def weights(folder: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    """The network's tensors in a checkpoint of a run."""
    return saved(folder, name)["model"]


def board(folder: Path) -> EventAccumulator:
    """What TensorBoard shows of a run."""
    return EventAccumulator(str(folder)).Reload()


def the_sweep(root: Path) -> Path:
    """The folder of the one sweep that a test has begun below its tmp_path."""
    (folder,) = (root / "outputs" / "multirun").glob("*/*")
    return folder


def jobs(sweep: Path) -> dict[str, dict]:
    """The summaries of a sweep's jobs by their folder's name, in order."""
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(sweep.glob("*/summary.json"))}


def broken_off(folder: Path) -> Path:
    """Make a finished run look like one that was killed after its last checkpoint."""
    (folder / "summary.json").write_text(json.dumps(summary(folder) | {"status": "running"}))
    return folder


def call_run_py(monkeypatch: pytest.MonkeyPatch, *arguments: str, root: Path = ROOT) -> None:
    """``python run.py`` of the suite, or of a copy of it, in this process."""
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)  # an earlier call's
    monkeypatch.setenv(conf.VARIABLE, "[]")  # what this call leaves there ends with the test
    GlobalHydra.instance().clear()
    try:
        runpy.run_path(str(root / "run.py"), run_name="__main__")
    finally:
        _close_run_log()


def _close_run_log() -> None:
    """Hydra leaves the logger to a process' end; the next test's messages would open the file again, in a folder that is gone."""
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, logging.FileHandler)]:
        root.removeHandler(handler)
        handler.close()


def run_into(folder: Path, *arguments: str) -> Path:
    """``python run.py`` in this process, for fixtures that several tests share; returns the run's folder."""
    with pytest.MonkeyPatch.context() as patch:
        call_run_py(patch, f"out={folder.parent}/outputs", f"hydra.run.dir={folder}", *arguments)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory) -> Iterator[Path]:
    """The user's folder for state, which is not that of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory) -> Path:
    """The folder of a run on photographs in files (`people` beside it), for tests that only read it."""
    root = tmp_path_factory.mktemp("trained")
    people = write_people(root / "people", 12)
    return run_into(root / "run", *ON_FILES, "data=folder", f"data.root={people}")


@pytest.fixture(scope="session")
def tiny_once(tmp_path_factory) -> Path:
    """The folder of a finished run of `TINY`, for tests that only read it."""
    return run_into(tmp_path_factory.mktemp("tiny") / "run", *TINY)


@pytest.fixture
def finished(tiny_once, tmp_path) -> Path:
    """A copy of it of one's own, below the test's `out`."""
    return Path(shutil.copytree(tiny_once, tmp_path / "outputs" / "train" / "day" / "finished"))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call ``python run.py`` in this process; outputs go to tmp_path/outputs."""

    def call(*arguments: str, code: int = 0) -> Done:
        capsys.readouterr()
        returned = 0
        try:
            call_run_py(monkeypatch, f"out={tmp_path}/outputs", *arguments)
        except SystemExit as end:
            returned = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        out, err = capsys.readouterr()
        assert returned == code, f"exit code {returned}\n{out}\n{err}"
        return Done(returned, out, err)

    return call


@pytest.fixture
def cli(tmp_path):
    """Call ``python run.py`` in a process of its own, from a directory of its own."""

    def call(*arguments: str, code: int = 0) -> Done:
        command = [sys.executable, str(ROOT / "run.py"), f"out={tmp_path}/outputs", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr)

    return call


def composed(*overrides: str) -> dict:
    """The resolved config of a command line."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)


def experiments(several: bool) -> list[str]:
    """The names of the experiments on `several` sources together, which lie in folders, or of those on one.

    One that is a sweep is left out.
    """
    names = [name for name in conf.choices("experiment") if "hydra" not in conf.choice("experiment", name)]
    return [name for name in names if ("/" in name) == several]


def write_people(root: Path, count: int = 6, size: tuple[int, int] = (48, 40)) -> Path:
    """A data folder of `count` photographs, height x width: bright ellipses on noise, PNG."""
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    height, width = size
    for number in range(count):
        mask = np.zeros(size, np.uint8)
        centre = [int(generator.integers(side // 3, 2 * side // 3)) for side in (width, height)]
        cv2.ellipse(mask, centre, (width // 5, height // 4), 0, 0, 360, 255, -1)
        image = generator.integers(0, 120, (*size, 3), dtype=np.uint8)
        image[mask > 0] += 100
        cv2.imwrite(str(root / "images" / f"{number:03d}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{number:03d}.png"), mask)
    return root


def film(path: Path, frames: int = 12, size: tuple[int, int] = (48, 64)) -> Path:
    """A video of a bright ellipse that moves to the right over a noise that stands still."""
    noise = np.random.default_rng(0).integers(0, 120, (*size, 3), dtype=np.uint8)
    with VideoWriter(path, size[1], size[0], Fraction(25)) as writer:
        for number in range(frames):
            frame = noise.copy()
            cv2.ellipse(frame, (10 + 2 * number, size[0] // 2), (8, 16), 0, 0, 360, (220, 200, 180), -1)
            writer.write(frame)
    return path


@pytest.fixture
def people(tmp_path) -> Path:
    return write_people(tmp_path / "people", 12)


@pytest.fixture(autouse=True)
def one_thread():
    """Results are the same to the bit for the same number of threads only; one does not spin where cores are taken."""
    torch.set_num_threads(1)
