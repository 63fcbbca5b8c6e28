"""What plugs into Hydra: a run's folder before it starts, a job's end, a sweep's leaderboard."""

import importlib
import logging
import math
import os
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write

log = logging.getLogger(__name__)


def run_job(config: DictConfig) -> float | None:
    """Hand the config to its mode; a user's mistake ends in one sentence, the traceback in run.log.

    A job of a sweep never raises: it writes its summary.json, a line to the terminal, and returns NaN.
    """
    from humanseg import runs

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    in_sweep = hydra.mode == RunMode.MULTIRUN
    mode = importlib.import_module(f"humanseg.modes.{config.mode}")
    try:
        return mode.run(config)
    except Exception as error:
        sentence = one_sentence(error)
        _to_run_log(folder, error)
        runs.fail(folder, sentence)
        if in_sweep:
            print(f"job {hydra.job.num} failed: {sentence}", file=sys.stderr, flush=True)
            return math.nan
        if isinstance(error, ValueError):
            sys.exit(f"error: {sentence}")
        raise


def one_sentence(error: Exception) -> str:
    """An error's message; of one that a DataLoader worker raised, its last lines without the worker's traceback."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.rpartition("Error: ")[2]
    text = text.strip() or type(error).__name__
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _to_run_log(folder: Path, error: Exception) -> None:
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)]
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, "the run failed", (), sys.exc_info())
    for handler in handlers:
        handler.handle(record)


class Runs(Callback):
    """Gives each run and sweep a folder of its own; ranks a sweep's jobs when it ends.

    Hydra turns what a callback raises into a warning, except SystemExit.
    """

    def on_run_start(self, config: DictConfig, **kwargs) -> None:
        _claim(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        _claim(config, "sweep")
        typed = OverridesParser.create().parse_overrides(config.hydra.overrides.task)
        swept = {override.key_or_group for override in typed if override.is_sweep_override()}
        constant = [override.key_or_group for override in typed if override.key_or_group not in swept]
        _for_all_jobs(config, f"hydra.job.config.override_dirname.exclude_keys={_quoted(constant)}")

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        from humanseg import runs

        folder = Path(config.hydra.sweep.dir)
        jobs = runs.rank(runs.read_jobs(folder))
        print(leaderboard(folder, jobs), flush=True)
        if any(job.get("status") != "completed" for job in jobs):
            sys.exit(1)


def leaderboard(folder: Path, jobs: list[dict]) -> str:
    """Write leaderboard.csv, best job first, and return the table for the terminal."""
    from humanseg import runs

    rows = []
    for place, job in enumerate(jobs, 1):
        overrides = job.get("overrides", [])
        best = job.get("best") or job.get("metrics") or {}
        shown = {name: value for name, value in best.items() if name.startswith(("val/", "test/"))}
        row = {"rank": place, "job": job["folder"].name, "status": job.get("status"), "epoch": best.get("epoch")}
        rows.append(row | shown | {"seconds": job.get("seconds"), "overrides": " ".join(overrides)})
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "overrides")) + ["overrides"]
    runs.write_table(folder / "leaderboard.csv", columns, rows)

    monitor = next((job["monitor"] for job in jobs if job.get("monitor")), "monitor")
    lines = [f"{'rank':>4}  {monitor:>10}  {'epoch':>5}  {'seconds':>8}  {'status':<11} job"]
    for row, job in zip(rows, jobs, strict=True):
        value = "" if job.get("monitored") is None else f"{job['monitored']:.4f}"
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        lines.append(
            f"{row['rank']:>4}  {value:>10}  {row['epoch'] or '':>5}  {seconds:>8}  {row['status']:<11} {row['job']}"
        )
    lines += [f"table: {folder / 'leaderboard.csv'}", f"next:  python run.py mode=test ckpt={folder}"]
    return "\n".join(lines)


def _claim(config: DictConfig, kind: str) -> None:
    """Create the folder of a run or sweep: a new one beside one of the same second; a typed one may hold no checkpoint."""
    folder = Path(config.hydra[kind].dir)
    if any(override.startswith(f"hydra.{kind}.dir=") for override in config.hydra.overrides.hydra):
        if found := next(folder.glob("**/checkpoints/*.pt"), None):
            sys.exit(f"error: hydra.{kind}.dir={folder} holds {found.name} already: continue it with resume={folder}")
        return
    free, number = folder, 1
    while True:
        try:
            os.makedirs(free)
            break
        except FileExistsError:
            number += 1
            free = folder.with_name(f"{folder.name}_{number}")
    with read_write(config), open_dict(config):
        config.hydra[kind].dir = str(free)
    if kind == "sweep":
        _for_all_jobs(config, f"hydra.sweep.dir={_quoted(str(free))}")


def _for_all_jobs(config: DictConfig, override: str) -> None:
    """Hydra composes each job's config anew, from the overrides of the sweep."""
    with read_write(config), open_dict(config):
        config.hydra.overrides.hydra.append(override)


def _quoted(value: str | list[str]) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_quoted(item) for item in value) + "]"
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
