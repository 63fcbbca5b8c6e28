"""How one job ends: its result, a sentence for a user's mistake, or the command that goes on with it."""

import gc
import math
import re
import shlex
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from humanseg import terminal
from humanseg.cli import grammar, launch, launchers, planned, typed
from humanseg.processes import signals
from humanseg.runs import trials
from humanseg.runs.atomic import NotWritten
from humanseg.runs.conf import command
from humanseg.runs.locks import lock
from humanseg.runs.summary import ENDED, FINISHED, MODES, job_number, mark, read_jobs, read_summary, read_sweep

HINTS = {
    r"DataLoader worker \(pid": "it is killed where memory runs out: try a smaller data.num_workers",
    "out of memory": "try a smaller data.batch_size, with trainer.accumulate for the same step",
}


def run(config: DictConfig) -> float | None:
    """Run the config's mode; a user's mistake ends in one sentence, with the traceback in run.log.

    A job of a sweep never raises: it writes its summary.json and a line to the terminal, and returns NaN. A job that was
    completed before the sweep was resumed returns its result; another one goes on where it was.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if hydra.mode != RunMode.MULTIRUN:
        with lock(folder):
            return _run(config, folder, folder)
    sweep = read_sweep(folder.parent)
    launchers.note_signals(hydra, sweep["jobs"])
    before = read_summary(folder)
    if before.get("status") in FINISHED:
        return before.get("monitored")
    gives_up = "search" not in sweep and has_failed_enough(folder.parent, config.sweep.max_failures)
    if launchers.stopped() or gives_up:
        return math.nan
    try:
        with lock(folder), launchers.share(config, hydra, folder.parent, sweep):
            result = _run(config, folder, folder.parent)
    except signals.Interrupted as stop:
        if not launchers.takes_jobs():
            sys.exit(stop.code)
        return math.nan
    except Exception as error:
        terminal.say(*f"job {hydra.job.num} failed: {one_sentence(error)}".splitlines(), file=sys.stderr)
        result = math.nan
    else:
        terminal.say(progress(folder))
    _free_memory()
    return result


def _run(config: DictConfig, folder: Path, resumable: Path) -> float | None:
    """Run the mode and write into summary.json how it ended; `resumable` is the folder that `resume=` goes on with."""
    try:
        with signals.raised():
            if resumable != folder:
                hydra = HydraConfig.get()
                config = planned.as_planned(config, resumable, hydra.job.num, list(hydra.overrides.task))
            return launch.run(config)
    except signals.Interrupted as stop:
        traceback.clear_frames(stop.__traceback__)  # they hold DataLoader workers, which the exit would wait for
        _mark(folder, "interrupted", mode=config["mode"])  # it may have begun nothing, and `resume=latest` looks for it
        if launchers.takes_jobs():
            launchers.take_no_more(stop.number)
        else:
            say_how_to_go_on(resumable, config["mode"])
        launchers.requeue(stop.number)
        raise
    except Exception as error:
        launch.to_run_log("the run")
        traceback.clear_frames(error.__traceback__)
        _mark(folder, "failed", error=one_sentence(error))
        if resumable == folder and (isinstance(error, ValueError | OSError) or _hint(str(error))):
            kept = (folder / "checkpoints" / "last.pt").exists()
            how = f"{command()} resume={shlex.quote(str(folder))} goes on from the last checkpoint"
            sys.exit("\n".join([f"error: {one_sentence(error)}", *[terminal.visible(how)] * kept]))
        raise


def _mark(folder: Path, status: str, **facts) -> None:
    with suppress(NotWritten):  # what has ended the run, as a full disk, may keep this from being written too
        mark(folder, status, **facts)


def say_how_to_go_on(folder: Path, mode: str = "train") -> None:
    """Print the command that goes on with a run or sweep."""
    resumed = f"{command()} resume={shlex.quote(str(folder))} goes on"
    terminal.say(
        f"interrupted: {resumed if mode in MODES else f'mode={mode} takes no resume=, type the command again'}"
    )


def progress(job: Path) -> str:
    """A finished job in one line: its overrides, its result, and how much is left of its sweep."""
    summary, sweep = read_summary(job), read_sweep(job.parent)
    number, planned, search = job_number(job.name), sweep["jobs"], sweep.get("search")
    own = [item for item in summary["overrides"] if not planned or any(item not in other for other in planned)]
    if search:
        own = trials.own(summary["overrides"], search["constant"])
    result = "" if summary.get("monitored") is None else f"  {summary['monitor']} {summary['monitored']:.4f}"
    how = f"pruned after epoch {summary['epochs']}" if summary["status"] == "pruned" else "done"
    line = f"job {number} {how}: {' '.join(own)}{result}  {summary['seconds']:.1f} s"
    if not planned:
        return line
    ended = sum(one.get("status") in ENDED for one in read_jobs(job.parent))
    total = search["trials"] if search else len(planned)
    left = total - ended
    since = max(time.time() - sweep["started"], 0)  # the clock may have been put back
    minutes = since / max(ended - sweep["ended_before"], 1) * left / 60
    return f"{line}  ({left} of {total} left, about {minutes:.0f} min)" if left else f"{line}  (the last)"


def has_failed_enough(sweep: Path, limit: int | None) -> bool:
    """Whether the last `limit` jobs of a sweep, by number, all failed."""
    states = [job.get("status") for job in read_jobs(sweep)]
    ended = [state for state in states if state in ENDED]
    return limit is not None and len(ended) >= limit and set(ended[-limit:]) == {"failed"}


def one_sentence(error: Exception) -> str:
    """An error's message. An error that a DataLoader worker raised brings the worker's traceback, which is left out."""
    text = terminal.message(error)
    if "Original Traceback" in text:
        text = text.rpartition("Error: ")[2]
    text = grammar.explain_interpolation(error, typed.overrides()) or text or type(error).__name__
    if isinstance(error, OSError) and error.filename:
        text = text if isinstance(error, NotWritten) else terminal.visible(f"{error.filename}: {error.strerror}")
    elif not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    return text + _hint(text)


def _hint(text: str) -> str:
    """What to do about an error that is no defect, though it is no ValueError."""
    return next((f" ({hint})" for pattern, hint in HINTS.items() if re.search(pattern, text)), "")


def _free_memory() -> None:
    """Free what a job has used, so that the next one has it; a job may have failed of a lack of memory."""
    gc.collect()
    gc.freeze()  # what is loaded by now stays: going through it takes a quarter of a second after each job
    if (torch := sys.modules.get("torch")) and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
