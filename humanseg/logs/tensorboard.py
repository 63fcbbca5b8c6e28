"""TensorBoard's event file of a run."""

import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
import yaml
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from humanseg.pictures import png
from humanseg.processes import torch_private
from humanseg.runs.value_names import MEAN

log = logging.getLogger(__name__)

VERSION = "brain.Event:2"  # of the format, as each file begins
BINS = 64  # of a histogram; TensorBoard draws 30
NOT_IN_HPARAMS = ("callbacks", "mode", "name", "out", "tags", "trainer")


class EventFile:
    """The file that TensorBoard reads. Where it can't be written, that is said once, and the run goes on without it.

    TensorBoard's own writer has a thread. Its errors come later, out of whatever is added next.
    """

    def __init__(self, folder: Path):
        name = (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
        )
        self.path, self._file = folder / name, None
        with self._unless_lost():
            self._file = self.path.open("xb")
            self._records = RecordWriter(self._file)
        self.add_event(Event(wall_time=time.time(), file_version=VERSION))

    def add_event(self, event: Event) -> None:
        with self._unless_lost():
            if self._file:
                self._records.write(event.SerializeToString())

    def flush(self) -> None:
        with self._unless_lost():
            if self._file:
                self._file.flush()

    def close(self) -> None:
        with self._unless_lost():
            if self._file:
                self._file.close()
                self._file = None

    @contextmanager
    def _unless_lost(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("%s can't be written: %s; the run goes on without TensorBoard", self.path, error.strerror)
            if self._file:
                with suppress(OSError):  # what it still holds can't be written either
                    self._file.close()
            self._file = None


def open_board(
    folder: Path, config: dict, metrics: Iterable[str], sources: Iterable[str], kept: int | None = None
) -> SummaryWriter:
    """An event file in the run's folder, with the config as text and training beside validation on one chart.

    Args:
        sources: those of several that validate; a metric of all of them is one chart.
        kept: the last step whose events stay, in a folder that has some; TensorBoard drops the events after it.
    """
    earlier = sorted(folder.glob("events.out.tfevents.*"))
    for number, file in enumerate(earlier):  # TensorBoard reads them by name: the clock may have been put back
        file.rename(file.with_name(re.sub(r"tfevents\.\d+", f"tfevents.{number:010d}", file.name)))
    file = EventFile(folder)
    if earlier:
        step = 0 if kept is None else kept + 1
        file.add_event(Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START)))
    writer = torch_private.BoardWriter(str(folder), file)
    if kept is not None:
        return writer
    writer.add_text("config", "```yaml\n" + yaml.safe_dump(config, sort_keys=False) + "```")
    names = ["loss", *metrics]
    charts = {"training and validation": {name: [f"^train/{name}$", f"^val/{name}$"] for name in names}}
    if sources:
        charts["sources"] = {
            name: [f"^val/{source}/{name}$" for source in sources] + [f"^val/{MEAN}{name}$"] for name in names
        }
    writer.add_custom_scalars(
        {title: {name: ["Multiline", tags] for name, tags in lines.items()} for title, lines in charts.items()}
    )
    return writer


def log_values(writer: SummaryWriter, values: dict[str, float], step: int) -> None:
    """Values of an epoch or a step under their names, over optimizer steps."""
    for name, value in values.items():
        if name not in ("epoch", "step"):
            writer.add_scalar(name, value, step)
    writer.flush()


def log_hparams(
    writer: SummaryWriter, choices: dict[str, str], overrides: list[str], best: dict[str, float], step: int
) -> None:
    """The run's row for the HPARAMS tab: the choices of the groups, the overrides and the metrics of the best epoch.

    SummaryWriter.add_hparams would write a second run for each job; the plugin's own summaries join this one. Without a
    summary of the experiment TensorBoard shows the columns of all runs instead of the first one's only.
    """
    given = dict(override.lstrip("+~").split("=", 1) for override in overrides if "=" in override)
    values = {name: str(value) for name, value in choices.items()} | {key: _number(v) for key, v in given.items()}
    values = {name: value for name, value in values.items() if name not in NOT_IN_HPARAMS}
    for name, value in best.items():
        if name.startswith(("val", "test")):
            writer.add_scalar(f"best/{name}", value, step)
    torch_private.add_summary(writer, hparams.hparams_pb(values, start_time_secs=time.time()))
    writer.flush()


def add_picture(writer: SummaryWriter, tag: str, picture: np.ndarray, step: int | None = None) -> None:
    """uint8 HxWx3 RGB to TensorBoard; SummaryWriter.add_image takes six times as long to compress it."""
    image = Summary.Image(height=len(picture), width=picture.shape[1], colorspace=3, encoded_image_string=png(picture))
    torch_private.add_summary(writer, Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def add_histogram(writer: SummaryWriter, tag: str, parts: list[Tensor], step: int) -> None:
    """The finite values of some tensors, counted on their device; SummaryWriter.add_histogram sorts them on the CPU."""
    values = torch.cat(parts).float() if parts else torch.zeros(0)
    if len(values) and not torch.stack(values.aminmax()).isfinite().all():
        values = values[torch.isfinite(values)]
    if not len(values):
        return
    low, high = (end.item() for end in values.aminmax())
    left, right = (low, high) if low < high else (low - 0.5, low + 0.5)
    edges = torch.linspace(left, right, BINS + 1)[1:].tolist()
    counts = torch.histc(values, BINS, left, right).tolist()
    sums = values.sum().item(), torch.dot(values, values).item()
    writer.add_histogram_raw(tag, low, high, len(values), *sums, edges, counts, step)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.encode(errors="backslashreplace").decode()  # a file's name may hold bytes that are no UTF-8
